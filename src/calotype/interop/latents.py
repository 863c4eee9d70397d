"""The statistics of latents, put where other libraries can take them: one factor, or into the 1x1 convolutions."""

import torch
from torch import Tensor

from calotype.models.autoencoder import Autoencoder, AutoencoderKL


def scaling_factor(model: Autoencoder) -> float | None:
    """Return the one factor that normalises the latents, or None where it takes more than that."""
    first = model.latent_scale[0].item()
    uniform = bool((model.latent_scale == first).all()) and not model.latent_shift.any()
    return first if uniform else None


def fold_statistics(model: AutoencoderKL, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return ``state`` (under the names of either side) with raw latents that are the normalised ones.

    With ``z' = (z - m) s``: the posterior's mean is ``(mean - m) s`` and its log-variance ``logvar + 2 log s``, both
    linear in what ``quant_conv`` says; ``post_quant_conv(z'/s + m)`` is linear in z'.
    """
    shift, scale = model.latent_shift.double(), model.latent_scale.double()
    weight, bias = state["quant_conv.weight"].double(), state["quant_conv.bias"].double()
    factor = torch.cat([scale, torch.ones_like(scale)])
    offset = torch.cat([-shift * scale, 2 * scale.log()])
    after_weight = state["post_quant_conv.weight"].double()
    after_bias = state["post_quant_conv.bias"].double() + after_weight[:, :, 0, 0] @ shift
    folded = {
        "quant_conv.weight": weight * factor[:, None, None, None],
        "quant_conv.bias": bias * factor + offset,
        "post_quant_conv.weight": after_weight / scale[None, :, None, None],
        "post_quant_conv.bias": after_bias,
    }
    return state | {key: tensor.to(state[key].dtype) for key, tensor in folded.items()}
