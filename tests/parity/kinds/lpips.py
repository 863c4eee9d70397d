import math

import numpy as np
import torch
from golden_file import Golden
from torch import Tensor, nn

from calotype.losses.vgg import LPIPS
from kinds import kind


@kind("lpips_formula_vgg")
def lpips(golden: Golden) -> dict[str, Tensor]:
    model = LPIPS()
    unset = model.load_state_dict(golden.state, strict=False)
    assert not unset.unexpected_keys
    assert all(name.startswith(("net.", "scaling_layer.")) for name in unset.missing_keys)
    _fill_vgg(model.net, golden.config["seed_offset"])
    model.freeze()

    x, y = golden.inputs["x"], golden.inputs["y"].clone().requires_grad_()
    distance = model(x, y)
    (gradient,) = torch.autograd.grad(distance.sum(), y)
    features = {f"feat{level}_mean_abs": tap.abs().mean() for level, tap in enumerate(model.taps(x))}
    return {"d": distance, "grad_y": gradient, **features}


def _fill_vgg(network: nn.Module, offset: int) -> None:
    convolutions = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    assert len(convolutions) == 13
    with torch.no_grad():
        for stream, convolution in enumerate(convolutions, start=offset):
            bound = math.sqrt(6 / (convolution.in_channels * 9))
            convolution.weight.copy_(_uniform(convolution.weight, stream) * bound)
            convolution.bias.copy_(_uniform(convolution.bias, stream + 100) * 0.05)


def _uniform(like: Tensor, stream: int) -> Tensor:
    """Numbers in [-1, 1) from splitmix64, float64, as the golden file's description defines them."""
    with np.errstate(over="ignore"):
        z = np.arange(1, like.numel() + 1, dtype=np.uint64) + np.uint64(stream * 2**32)
        z *= np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z ^= z >> np.uint64(31)
    return torch.from_numpy(2 * ((z >> np.uint64(11)) * 2.0**-53) - 1).view(like.shape)
