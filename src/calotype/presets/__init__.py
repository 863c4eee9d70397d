"""Named configurations, with the number to reproduce and its source where there is one."""

from calotype.presets.autoencoders import AUTOENCODERS, AutoencoderPreset
from calotype.presets.diffusion import DIFFUSION, DiffusionPreset
from calotype.presets.released import RELEASED
from calotype.utils.errors import UserError, nearest

__all__ = ["AUTOENCODERS", "DIFFUSION", "RELEASED", "AutoencoderPreset", "DiffusionPreset", "find_preset"]


def find_preset(name: str) -> AutoencoderPreset | DiffusionPreset:
    """Return the preset called ``name`` to train by.

    Raises:
        UserError: there is none; names the nearest.
    """
    every: dict[str, AutoencoderPreset | DiffusionPreset] = {**AUTOENCODERS, **DIFFUSION}
    if name in RELEASED and name not in every:
        raise UserError(
            f"{name} names released weights, not a preset to train by; `calotype presets {name}` tells more"
        )
    if name not in every:
        raise UserError(f"unknown preset {name!r}.{nearest(name, every)} `calotype presets` lists them")
    return every[name]
