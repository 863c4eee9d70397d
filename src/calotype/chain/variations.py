"""The same seeds drawn differently: with guidance from low to high, and in every style that captions name."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from calotype.chain.judge import Samples
from calotype.diffusion import CFG
from calotype.pipeline import LatentDiffusion
from calotype.utils.images import image_grid

COLUMNS, MOST_STYLES = 12, 6
SCALES = (1.0, 2.0, 3.0, 5.0)


@dataclass(frozen=True)
class Variations:
    """Images of a grid, row by row, and what each row stands for."""

    images: Tensor
    rows: Sequence[str]

    @property
    def grid(self) -> np.ndarray:
        """One picture of all (uint8, HWC)."""
        return image_grid(self.images, columns=len(self.images) // len(self.rows))


def draw_guidance(model: LatentDiffusion, samples: Samples, seed: int) -> Variations | None:
    """Draw the first samples again with every guidance scale; None where there is nothing to guide by."""
    fields = {name: values[:COLUMNS] for name, values in samples.conditions.items()}
    if not fields or not model.conditioner.has_null:
        return None
    seeds = range(seed, seed + len(samples.images[:COLUMNS]))
    strips = [model.sample(seeds=seeds, guidance=CFG(scale), **fields) for scale in SCALES]
    return Variations(torch.cat(strips), [f"{scale:g}" for scale in SCALES])


def draw_styles(model: LatentDiffusion, samples: Samples, seed: int) -> Variations | None:
    """Draw some of the captions in every style, one seed per caption; None where captions name no styles."""
    captions, styles = style_captions(samples.fields)
    if "caption" not in model.conditioner.fields or len(styles) < 2:
        return None
    columns = len(captions) // len(styles)
    if len(model.conditioner.fields) > 1:
        return None
    images = model.sample(seeds=[seed + index % columns for index in range(len(captions))], caption=captions)
    return Variations(images, styles)


def style_captions(fields: dict[str, list[Any]], columns: int = COLUMNS) -> tuple[list[str], list[str]]:
    """Return up to ``columns`` captions in each of the commonest styles, row by row, and these styles.

    A caption can be varied where it names the record's ``style``: "apple, 3d style" becomes "apple, flat style".
    """
    known = zip(fields.get("caption", []), fields.get("style", []), strict=False)
    named = [(parts, style) for caption, style in known if (parts := _around(caption, style))]
    styles = sorted(style for style, _ in Counter(style for _, style in named).most_common(MOST_STYLES))
    frames = list(dict.fromkeys(parts for parts, _ in named))[:columns]
    return [f"{before}{style}{after}" for style in styles for before, after in frames], styles


def _around(caption: Any, style: Any) -> tuple[str, str] | None:
    """Return what stands before and after the last mention of ``style`` in ``caption``, if there is one."""
    if not (isinstance(caption, str) and isinstance(style, str) and style):
        return None
    found = list(re.finditer(rf"\b{re.escape(style)}\b", caption))
    return (caption[: found[-1].start()], caption[found[-1].end() :]) if found else None
