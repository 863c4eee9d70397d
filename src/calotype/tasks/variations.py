"""Variations: images that are like a given one, drawn from its vector alone."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from calotype.conditioner import ImageEmbeddingConfig
from calotype.pipeline import LatentDiffusion
from calotype.utils.errors import UserError


def variations(
    model: LatentDiffusion, images: Float[Tensor, "n c h w"], *, seeds: Sequence[int], **options: Any
) -> Float[Tensor, "n c h w"]:
    """Draw an image like each of ``images``, in [-1, 1], with a seed for each; ``options`` are those of ``sample``.

    The image is seen by the frozen encoder that the model was trained with: what that does not tell is drawn freely.

    Raises:
        UserError: the model was not trained to, or as ``sample``.
    """
    configs = model.conditioner.config.embedders
    named = [each.field for each in configs if isinstance(each, ImageEmbeddingConfig) and each.encoder is not None]
    if not named:
        raise UserError("this model cannot vary images: train one with --task variations")
    return model.sample(seeds=seeds, **{named[0]: list(torch.unbind(images)), **options})
