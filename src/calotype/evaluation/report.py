"""A report in one HTML file: facts, pictures and tables, nothing loaded from elsewhere."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from calotype.evaluation.report_style import CSS
from calotype.utils.files import atomic_write

Cell = str | int | float | None


@dataclass(frozen=True)
class Fact:
    """One key fact: a short value, what it is, and a remark in small print."""

    value: str
    label: str
    note: str = ""


@dataclass(frozen=True)
class Picture:
    """A picture with its caption: bytes of a PNG (or another web format), or uint8 pixels ``[h, w]`` or ``[h, w, c]``.

    Of ``c`` channels the first three are shown as colours, or the first as grey if there are fewer. ``width`` is in CSS
    pixels, by default the picture's own; pictures that are enlarged twice or more keep hard pixels.
    """

    caption: str
    image: bytes | np.ndarray
    width: int | None = None

    def html(self) -> str:
        """Return the picture as a ``figure`` element with the image inside."""
        data = self.image if isinstance(self.image, bytes) else _webp(self.image)
        with Image.open(io.BytesIO(data)) as opened:
            own_width, own_height = opened.size
            mime = Image.MIME[str(opened.format)]
        width = self.width or own_width
        pixelated = ' class="pixelated"' if width >= 2 * own_width else ""
        source = f"data:{mime};base64,{base64.b64encode(data).decode()}"
        return (
            f'<figure><img src="{source}" alt="{escape(self.caption)}" width="{width}" '
            f'height="{round(own_height * width / own_width)}"{pixelated}>'
            f"<figcaption>{escape(self.caption)}</figcaption></figure>"
        )


@dataclass(frozen=True)
class Table:
    """Rows of cells under headers, with a note below. Floats are shown with four digits, ``None`` as a dash."""

    headers: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    note: str = ""

    def html(self) -> str:
        """Return the table; columns of numbers are set flush right."""
        for row in self.rows:
            if len(row) != len(self.headers):
                raise ValueError(f"a table of {len(self.headers)} columns has a row of {len(row)} cells")
        numeric = [all(_is_number(row[column]) for row in self.rows) for column in range(len(self.headers))]
        head = _row("th", self.headers, numeric)
        body = "\n".join(_row("td", row, numeric) for row in self.rows)
        note = f'<p class="note">{escape(self.note)}</p>' if self.note else ""
        table = f"<table><thead>{head}</thead>\n<tbody>{body}</tbody></table>"
        return f'<div class="table">{table}</div>{note}'


@dataclass(frozen=True)
class Section:
    """A chapter: paragraphs of plain text (divided by empty lines), then pictures, then tables."""

    title: str
    text: str = ""
    pictures: Sequence[Picture] = field(default_factory=tuple)
    tables: Sequence[Table] = field(default_factory=tuple)

    def html(self) -> str:
        """Return the section, everything in it escaped."""
        paragraphs = [f"<p>{escape(part.strip())}</p>" for part in self.text.split("\n\n") if part.strip()]
        parts = [*paragraphs, *(picture.html() for picture in self.pictures), *(table.html() for table in self.tables)]
        return "\n".join([f"<section>\n<h2>{escape(self.title)}</h2>", *parts, "</section>"])


@dataclass(frozen=True)
class Report:
    """A titled list of sections with the key facts on top."""

    title: str
    summary: Sequence[Fact]
    sections: Sequence[Section]

    def html(self) -> str:
        """Return the whole page. Its content security policy forbids it to load anything."""
        facts = "\n".join(
            f"<div><dt>{escape(fact.label)}</dt><dd><strong>{escape(fact.value)}</strong>"
            f"<small>{escape(fact.note)}</small></dd></div>"
            for fact in self.summary
        )
        sections = "\n".join(section.html() for section in self.sections)
        policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
        return (
            '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
            f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            f"<title>{escape(self.title)}</title>\n<style>{CSS}</style>\n</head>\n<body>\n<main>\n"
            f"<h1>{escape(self.title)}</h1>\n<dl>\n{facts}\n</dl>\n{sections}\n</main>\n</body>\n</html>\n"
        )

    def write(self, path: Path | str) -> None:
        """Write the page to ``path``, atomically."""
        page = self.html()
        with atomic_write(path) as temporary:
            temporary.write_text(page, encoding="utf-8")


def side_by_side(
    originals: Float[Tensor, "n c h w"], reconstructions: Float[Tensor, "n c h w"], columns: int
) -> UInt8[np.ndarray, "height width channels"]:
    """Return a grid of pairs: a row of ``columns`` originals over the row of their reconstructions, and so on.

    Images are in [-1, 1]; places left over in the last row are white.
    """
    from calotype.utils.images import image_grid

    columns = min(columns, len(originals))
    blank = originals.new_ones((-len(originals) % columns, *originals.shape[1:]))
    pairs = zip(
        torch.cat([originals, blank]).split(columns), torch.cat([reconstructions, blank]).split(columns), strict=True
    )
    strips = [image_grid(torch.cat(pair), columns) for pair in pairs]
    gap = np.full((max(4, originals.shape[-2] // 8), *strips[0].shape[1:]), 255, np.uint8)
    return np.concatenate([part for strip in strips for part in (strip, gap)][:-1])


def _webp(pixels: np.ndarray) -> bytes:
    if pixels.dtype != np.uint8:
        raise ValueError(f"a picture's pixels are uint8, not {pixels.dtype}")
    if pixels.ndim == 3:
        pixels = pixels[..., :3] if pixels.shape[2] >= 3 else pixels[..., 0]
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "WEBP", lossless=True)
    return buffer.getvalue()


def _row(tag: str, cells: Sequence[Cell], numeric: Sequence[bool]) -> str:
    marks = [' class="number"' if is_number else "" for is_number in numeric]
    return "<tr>" + "".join(f"<{tag}{mark}>{_text(c)}</{tag}>" for c, mark in zip(cells, marks, strict=True)) + "</tr>"


def _text(cell: Cell) -> str:
    if cell is None:
        return "–"
    return escape(f"{cell:.4g}" if isinstance(cell, float) else str(cell))


def _is_number(cell: Cell) -> bool:
    return cell is None or not isinstance(cell, str) or cell[:1].isdigit() or cell[:1] in ("-", "−", "±")
