"""Semantic synthesis: images of label maps, of any size."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from calotype.conditioner import SpatialRescaler
from calotype.pipeline import LatentDiffusion
from calotype.tasks.windows import check_pixels, in_windows
from calotype.utils.errors import UserError


def semantic_synthesis(
    model: LatentDiffusion,
    labels: Int[np.ndarray, "h w"],
    *,
    seeds: Iterable[int],
    windows: bool = False,
    **options: Any,
) -> Float[Tensor, "n c h w"]:
    """Draw one label map, once per seed, at its size; pixels of -1 may become anything.

    A map that is larger than the images of training is drawn in one piece, as the network is convolutional
    (arXiv:2112.10752, section 4.3.2), or in ``windows`` of their size that overlap by half: these need less memory, and
    agree less on what a map leaves open (benchmarks/semantic.py). Sizes that do not fit the networks are drawn a little
    larger. ``options`` are those of ``model.sample``, further fields included.

    Raises:
        UserError: the model takes no label maps or does not know a label, the map is too large, or as ``model.sample``.
    """
    check_labels(model, labels)
    height, width = labels.shape
    check_pixels(height, width)
    multiple = model.autoencoder.factor * model.network.config.factor
    whole = np.pad(labels, ((0, -height % multiple), (0, -width % multiple)), mode="edge").astype(np.int64)
    size = (whole.shape[0], whole.shape[1])
    drawer, seeds = in_windows(model, size) if windows else model, list(seeds)
    images = drawer.sample(seeds=seeds, size=size, segmentation=[torch.from_numpy(whole)] * len(seeds), **options)
    return images[:, :, :height, :width]


def check_labels(model: LatentDiffusion, labels: Int[np.ndarray, "h w"]) -> None:
    """Refuse a map that the model cannot draw.

    Raises:
        UserError: it takes no label maps, or there is a label that it does not know.
    """
    embedder = model.conditioner.embedders["segmentation"] if "segmentation" in model.conditioner.fields else None
    if not isinstance(embedder, SpatialRescaler):
        takes = ", ".join(model.conditioner.fields) or "nothing"
        raise UserError(
            f"this model takes no label maps (it takes {takes}): train one with `calotype train --task semantic`"
        )
    highest, most = int(labels.max()), embedder.config.in_channels - 1
    if highest > most:
        row, column = np.unravel_index(int(labels.argmax()), labels.shape)
        raise UserError(f"the map has the label {highest} at x {column}, y {row}; this model knows 0 to {most}")
