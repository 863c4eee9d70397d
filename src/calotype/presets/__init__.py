"""Named configurations, with the number to reproduce and its source where there is one."""

from typing import TypeAlias

from calotype.presets.autoencoders import AUTOENCODERS, AutoencoderPreset
from calotype.presets.diffusion import DIFFUSION, DiffusionPreset
from calotype.presets.released import RELEASED
from calotype.presets.tiny_decoders import TINY_DECODERS, TinyDecoderPreset
from calotype.utils.errors import UserError, nearest

Preset: TypeAlias = AutoencoderPreset | DiffusionPreset | TinyDecoderPreset
PRESETS: dict[str, Preset] = {**AUTOENCODERS, **DIFFUSION, **TINY_DECODERS}
"""All that can be trained by, by name."""

__all__ = [
    "AUTOENCODERS",
    "DIFFUSION",
    "PRESETS",
    "RELEASED",
    "TINY_DECODERS",
    "AutoencoderPreset",
    "DiffusionPreset",
    "Preset",
    "TinyDecoderPreset",
    "find_preset",
]


def find_preset(name: str) -> Preset:
    """Return the preset called ``name`` to train by.

    Raises:
        UserError: there is none; names the nearest.
    """
    if name in RELEASED and name not in PRESETS:
        raise UserError(
            f"{name} names released weights, not a preset to train by; `calotype presets {name}` tells more"
        )
    if name not in PRESETS:
        raise UserError(f"unknown preset {name!r}.{nearest(name, PRESETS)} `calotype presets` lists them")
    return PRESETS[name]
