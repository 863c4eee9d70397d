"""Draws docs/pictures/emoji.png: twelve concepts of the embedded emoji in their three styles.

python scripts/contact_sheet.py
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from calotype.data.emoji import SIZE, STYLES, emoji
from calotype.utils.files import atomic_write

CONCEPTS = (
    "star-struck",
    "fox",
    "owl",
    "octopus",
    "butterfly",
    "sunflower",
    "red apple",
    "strawberry",
    "cupcake",
    "sailboat",
    "rocket",
    "guitar",
)
GREY = (118, 118, 118)


def contact_sheet(
    rows: Sequence[Sequence[np.ndarray]], row_names: Sequence[str], column_names: Sequence[str], gap: int = 20
) -> Image.Image:
    """Lay out rows of equal HWC images on white, the rows named on the left and the columns below."""
    font = ImageFont.load_default(13)
    margin = gap + max(round(font.getlength(name)) for name in row_names)
    pitch = SIZE + gap
    sheet = Image.new("RGB", (margin + pitch * len(column_names) + gap, pitch * len(rows) + 2 * gap), "white")
    draw = ImageDraw.Draw(sheet)
    for y, (name, row) in enumerate(zip(row_names, rows, strict=True)):
        draw.text((margin, gap + y * pitch + SIZE // 2), name, GREY, font, anchor="rm")
        for x, image in enumerate(row):
            sheet.paste(Image.fromarray(image), (margin + gap + x * pitch, gap + y * pitch))
    for x, name in enumerate(column_names):
        draw.text((margin + gap + x * pitch + SIZE // 2, sheet.height - gap), name, GREY, font, anchor="mm")
    return sheet


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[1] / "docs" / "pictures" / "emoji.png")
    out = parser.parse_args().out
    images = {
        (record.fields["style"], record.fields["name"]): part.pixels(index)
        for part in emoji()
        for index, record in enumerate(part.records)
        if record.fields["name"] in CONCEPTS
    }
    rows = [[images[style, name] for name in CONCEPTS] for style in STYLES]
    with atomic_write(out) as temporary:
        contact_sheet(rows, STYLES, CONCEPTS).save(temporary, "PNG", optimize=True)
    print(f"{out}: {out.stat().st_size / 1024:.0f} KiB")


if __name__ == "__main__":
    main()
