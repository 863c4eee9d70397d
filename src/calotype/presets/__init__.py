"""Named configurations, with the number to reproduce and its source where there is one."""

from calotype.presets.autoencoders import AUTOENCODERS, AutoencoderPreset
from calotype.presets.diffusion import DIFFUSION, DiffusionPreset
from calotype.utils.errors import UserError, nearest

__all__ = ["AUTOENCODERS", "DIFFUSION", "AutoencoderPreset", "DiffusionPreset", "find_preset", "preset_lines"]


def find_preset(name: str) -> AutoencoderPreset | DiffusionPreset:
    """Return the preset called ``name``.

    Raises:
        UserError: there is none; names the nearest.
    """
    every: dict[str, AutoencoderPreset | DiffusionPreset] = {**AUTOENCODERS, **DIFFUSION}
    if name not in every:
        raise UserError(f"unknown preset {name!r}.{nearest(name, every)} `calotype presets` lists them")
    return every[name]


def preset_lines() -> list[str]:
    """Return the table of presets as text."""
    presets: list[AutoencoderPreset | DiffusionPreset] = [*AUTOENCODERS.values(), *DIFFUSION.values()]
    rows = [(preset.name, preset.stage, preset.summary, preset.reproduces) for preset in presets]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, [*widths, 0], strict=True)).rstrip() for row in rows
    ]
