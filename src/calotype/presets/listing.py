"""The presets as text."""

import json
from collections.abc import Mapping

from calotype.presets.autoencoders import AUTOENCODERS, AutoencoderPreset
from calotype.presets.diffusion import DIFFUSION, DiffusionPreset
from calotype.presets.released import RELEASED, ReleasedModel
from calotype.presets.tiny_decoders import TINY_DECODERS, TinyDecoderPreset
from calotype.utils.config import to_dict
from calotype.utils.errors import UserError, nearest

TRAINED: tuple[Mapping[str, AutoencoderPreset | DiffusionPreset | TinyDecoderPreset], ...] = (
    AUTOENCODERS,
    DIFFUSION,
    TINY_DECODERS,
)


def preset_lines() -> list[str]:
    """Return the tables: what can be trained, and whose original weights can be opened."""
    presets = [row for table in TRAINED for row in table.values()]
    trained = [(row.name, row.stage, row.summary, row.reproduces) for row in presets]
    released = [(row.name, f"{row.parameters / 1e6:.1f} M", row.summary, row.published) for row in RELEASED.values()]
    return [
        "to train: calotype train NAME --data PHOTOS --out runs/NAME",
        *_table(trained),
        "",
        "released weights: calotype sample --original CHECKPOINT --config NAME",
        "              or: calotype convert CHECKPOINT OUT --config NAME",
        "(parameters of the diffusion model, or of an autoencoder alone; numbers as published, none measured here)",
        *_table(released),
        "",
        "calotype presets NAME tells more of one.",
    ]


def preset_details(name: str) -> list[str]:
    """Return what is known of the presets called ``name``: their configurations, sources, numbers and usage.

    Raises:
        UserError: there is none; names the nearest.
    """
    tables = (*TRAINED, RELEASED)
    found = [row for table in tables if (row := table.get(name)) is not None]
    if not found:
        hint = nearest(name, [each for table in tables for each in table])
        raise UserError(f"unknown preset {name!r}.{hint} `calotype presets` lists them")
    return "\n\n".join("\n".join(_details(row)) for row in found).splitlines()


def _details(row: AutoencoderPreset | DiffusionPreset | TinyDecoderPreset | ReleasedModel) -> list[str]:
    if isinstance(row, ReleasedModel):
        return _released_details(row)
    needs = "" if isinstance(row, AutoencoderPreset) else " --autoencoder RUN"
    train = f"train: calotype train {row.name}{needs} --data PHOTOS --out runs/{row.name}"
    lines = [f"{row.name}: {row.summary}", train]
    if row.reproduces:
        lines.append(f"numbers: {row.reproduces}")
    if isinstance(row, AutoencoderPreset):
        if row.starts_warm(3):
            lines.append("starts from: general-purpose weights that come with the package (--from-scratch: from none)")
        lines.append(json.dumps({"autoencoder": to_dict(row.autoencoder), "loss": to_dict(row.loss)}, indent=2))
    return lines


def _released_details(row: ReleasedModel) -> list[str]:
    condition = f" --{row.takes} ..." if row.takes in ("class", "caption") else ""
    lines = [f"{row.name} (released weights): {row.summary}", f"checkpoint: {row.checkpoint}"]
    lines += [f"parameters: {row.parameters:,}", f"published: {row.published}"]
    if row.takes and not condition:
        lines.append(f"takes: {row.takes} (from Python: ldm.sample({row.takes}=[...], seeds=[...]))")
    if row.original.diffusion is not None:
        lines.append(f"sample: calotype sample --original CHECKPOINT --config {row.name}{condition} --seeds 0-3")
    lines.append(f"convert: calotype convert CHECKPOINT runs/{row.name} --config {row.name}")
    return [*lines, json.dumps(to_dict(row.original), indent=2)]


def _table(rows: list[tuple[str, str, str, str]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    return [
        "  " + "  ".join(cell.ljust(width) for cell, width in zip(row, [*widths, 0], strict=True)).rstrip()
        for row in rows
    ]
