"""``calotype data make-scenes``."""

from pathlib import Path
from typing import Annotated, Any

import tyro


def command(
    out: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="OUT")],
    /,
    *,
    count: int = 2000,
    size: str = "64",
    objects: str = "1-4",
    seed: int = 0,
) -> None:
    """Compose scenes from the embedded emoji, with captions, boxes and label maps: data for every kind of condition.

    calotype data make-scenes scenes --count 4000
    calotype data make-scenes held-out --count 200 --seed 1 --size 96x64

    The same arguments make the same files, byte for byte.

    Args:
        out: A new folder: NAME.png, maps/NAME.png and metadata.jsonl. A picture of the first scenes is OUT.png.
        count: How many scenes.
        size: Pixels of the images, 64 or (width x height) 96x64.
        objects: How many objects a scene has, a number or a range such as 1-4.
        seed: Other seeds make other scenes.
    """
    from calotype.cli.values import check_positive, check_seed
    from calotype.data.scenes import LABELS, contact_sheet, write_scenes
    from calotype.utils.images import save_png
    from calotype.utils.size import parse_size

    check_positive(count=count)
    check_seed(seed)
    options: dict[str, Any] = {"size": parse_size(size), "objects": _parse_range(objects), "seed": seed}
    write_scenes(out, count, **options)
    print(f"scenes: {out}")
    print(f"labels: {', '.join(f'{number} {name}' for number, name in enumerate(LABELS))}")
    sheet = out.with_name(f"{out.name}.png")
    save_png(sheet, contact_sheet(min(count, 12), **options))
    print(f"picture: {sheet}")


def _parse_range(text: str) -> tuple[int, int]:
    from calotype.data.scenes import MOST_OBJECTS
    from calotype.utils.errors import UserError

    fewest, _, most = text.partition("-")
    if not (fewest.isdecimal() and (most or fewest).isdecimal() and 1 <= int(fewest) <= int(most or fewest)):
        raise UserError(f"--objects must be a number or a range such as 1-4, not {text!r}")
    if int(most or fewest) > MOST_OBJECTS:
        raise UserError(f"--objects: more than {MOST_OBJECTS} do not fit into a scene")
    return int(fewest), int(most or fewest)
