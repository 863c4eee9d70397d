import re
from fractions import Fraction
from typing import Any

import torch
from golden_file import Golden
from torch import Tensor

from calotype.diffusion import Conditioning, ScaledLinear
from calotype.tasks.tile import TiledDenoiser, Tiling
from kinds import kind


@kind("ldm_split_input")
def split_input(golden: Golden) -> dict[str, Tensor]:
    """``y`` is what the denoiser gives for all crops together; ``_ufN`` and ``_dfN`` are at N or 1/N times the size."""
    x, tiling = golden.inputs["x"], tiling_of(golden.config)
    height, width = x.shape[-2:]
    denoiser = TiledDenoiser(_eps, ScaledLinear(), "eps", tiling=tiling)
    found = {"y": denoiser.output(x, golden.inputs["t"].float(), Conditioning(context=golden.inputs.get("cond")))}
    for name in golden.outputs.keys() - {"y"}:
        quantity, direction, factor = re.fullmatch(r"(normalization|weighting)(?:_(uf|df)(\d+))?", name).groups()
        scale = {None: Fraction(1), "uf": Fraction(int(factor or 1)), "df": Fraction(1, int(factor or 1))}[direction]
        if quantity == "weighting":
            found[name] = tiling.weights(height, width, scale).movedim(0, -1)[None, None]
        else:
            found[name] = tiling.normalisation(height, width, scale)[None, None]
    return found


def tiling_of(config: dict[str, Any]) -> Tiling:
    """Our tiling for the reference's split_input_params."""
    return Tiling(
        size=tuple(config["ks"]),
        stride=tuple(config["stride"]),
        weight_range=(config["clip_min_weight"], config["clip_max_weight"]),
        crop_weights="central" if config["tie_braker"] else "equal",
        central_range=(config["clip_min_tie_weight"], config["clip_max_tie_weight"]),
    )


def _eps(x: Tensor, t: Tensor, context: Tensor | None = None) -> Tensor:
    mean = torch.zeros(len(x)) if context is None else context.flatten(1).mean(dim=1)
    return 0.3 * x + (0.1 * torch.sin(t / 100) + 0.05 * mean).view(-1, 1, 1, 1)
