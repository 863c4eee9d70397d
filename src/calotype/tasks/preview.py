"""A quick look at latents: while an image is being sampled, or without decoding it."""

from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from calotype.artifact import read_artifact
from calotype.models.tiny_decoder import TinyDecoder
from calotype.pipeline import LatentDiffusion, build_tiny_decoder
from calotype.utils.errors import UserError


@torch.no_grad()
def preview(
    model: LatentDiffusion, latents: Float[Tensor, "b c h w"], decoder: TinyDecoder | None = None
) -> Float[Tensor, "b d h2 w2"]:
    """Return images in [-1, 1] for normalised latents, of the size that ``model.decode`` gives, for much less.

    ``decoder`` is one that was distilled from the model's autoencoder (``tiny_decoder_for``). Without it, the linear
    map that is stored with the autoencoder gives one colour per latent position, enlarged.

        tiny = tiny_decoder_for(model, "runs/tiny")
        model.sample(seeds=[0], watch=lambda state: show(preview(model, state.x0, tiny)))

    Raises:
        UserError: there is neither a decoder nor a map.
    """
    if decoder is not None:
        return decoder(latents).float().clamp(-1, 1)
    if (rgb := model.first_stage.rgb) is None:
        raise UserError(
            "no linear map of latents to colours is stored with this model: "
            "give a tiny decoder (`calotype train tiny-decoder` makes one)"
        )
    scale = float(model.autoencoder.factor)
    return F.interpolate(rgb(latents.float()), scale_factor=scale, mode="bilinear").clamp(-1, 1)


def tiny_decoder_for(model: LatentDiffusion, path: Path | str) -> TinyDecoder:
    """Load the tiny decoder at ``path`` to the model's device.

    Raises:
        UserError: none is there, or it was distilled from an autoencoder of other latents than the model's.
    """
    artifact = read_artifact(path, kind="tiny_decoder")
    latent, autoencoder = artifact.config["latent"], model.autoencoder
    for name, ours in (("shift", autoencoder.latent_shift), ("scale", autoencoder.latent_scale)):
        if not torch.equal(torch.tensor(latent[name]), ours.cpu()):
            raise UserError(f"{path} was distilled from another autoencoder than this model has: train one from it")
    return build_tiny_decoder(artifact).to(model.device)
