"""Layout to image: objects where they are asked to be."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxtyping import Float
from torch import Tensor

from calotype.data.field_values import BadValue, check_value
from calotype.pipeline import LatentDiffusion
from calotype.utils.boxes import LayoutObject, as_object
from calotype.utils.errors import UserError

MAX_BYTES = 2**20


def layout_to_image(
    model: LatentDiffusion,
    objects: Sequence[LayoutObject | Mapping[str, Any]],
    *,
    seeds: Iterable[int],
    **options: Any,
) -> Float[Tensor, "n c h w"]:
    """Draw one layout, once per seed.

    An object is a class and a box (x, y, width, height, relative to the image); their order has no meaning. ``options``
    are those of ``model.sample``, further fields included.

    Raises:
        UserError: the model takes no boxes or does not know a class, or as ``model.sample``.
    """
    if "boxes" not in model.conditioner.fields:
        takes = ", ".join(model.conditioner.fields) or "nothing"
        raise UserError(f"this model takes no boxes (it takes {takes}): train one with `calotype train --task layout`")
    seeds = list(seeds)
    return model.sample(seeds=seeds, boxes=[list(objects)] * len(seeds), **options)


def read_layout(path: Path) -> list[LayoutObject]:
    """Read a layout: a JSON list of objects such as ``{"class": "dog", "box": [0.1, 0.2, 0.4, 0.4]}``.

    A row of a ``metadata.jsonl`` will do as well: an object with such a list as its ``boxes``.

    Raises:
        UserError: it is no such file, or a box is out of range.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise UserError(f"{path} is larger than {MAX_BYTES // 2**20} MiB, too large for a layout")
        value = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or 'cannot be read'}") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} cannot be read as JSON: {error}") from None
    return parse_layout(value.get("boxes") if isinstance(value, dict) else value, str(path))


def parse_layout(value: Any, where: str) -> list[LayoutObject]:
    """Return the objects of a list, by the rules for data to train on; ``where`` it was found is a part of errors.

    Raises:
        UserError: it is no list of objects, or a box is out of range.
    """
    try:
        return [as_object(item) for item in check_value("boxes", value)]
    except BadValue as error:
        raise UserError(f"{where} {error}") from None
