import base64
import io
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from calotype.evaluation import Fact, Picture, Report, Section, Table, side_by_side

EVIL = '<script>alert("1 & 2")</script>'


class Page(HTMLParser):
    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.open: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def decoded(source: str | None) -> Image.Image:
    match = re.fullmatch(r"data:image/(png|webp);base64,(.*)", source or "")
    assert match is not None
    return Image.open(io.BytesIO(base64.b64decode(match[2])))


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def report() -> Report:
    png = io.BytesIO()
    Image.fromarray(noise(6, 9, 3)).save(png, "PNG")
    pictures = [Picture(EVIL, noise(8, 8, 3), 64), Picture("as it is", png.getvalue()), Picture("grey", noise(5, 4, 1))]
    table = Table([EVIL, "value"], [[EVIL, 0.123456], ["plain", None], ["count", 3]], EVIL)
    return Report(EVIL, [Fact(EVIL, EVIL, EVIL)], [Section(EVIL, f"{EVIL}\n\nsecond", pictures, [table])])


def test_everything_is_escaped_and_nothing_is_loaded(tmp_path: Path) -> None:
    report().write(tmp_path / "report.html")
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    page = Page(html)
    assert not page.open
    assert not page.all("script")
    assert not page.all("link")
    assert page.words.count(EVIL) == 11
    assert page.all("img")[0]["alt"] == EVIL
    for _, attributes in page.tags:
        for name in ("src", "href", "srcset"):
            assert name not in attributes or str(attributes[name]).startswith("data:image/")
    assert not re.search(r"https?://|url\(|@import", html)
    assert "default-src 'none'" in html


def test_pictures_are_lossless_and_small_ones_keep_hard_pixels() -> None:
    enlarged, png, grey = Page(report().html()).all("img")
    assert np.array_equal(np.asarray(decoded(enlarged["src"])), noise(8, 8, 3))
    assert (enlarged["width"], enlarged["height"], enlarged.get("class")) == ("64", "64", "pixelated")
    assert decoded(png["src"]).format == "PNG"
    assert (png["width"], png["height"], png.get("class")) == ("9", "6", None)
    assert np.array_equal(np.asarray(decoded(grey["src"]).convert("L")), noise(5, 4, 1)[..., 0])


def test_pictures_of_any_number_of_channels() -> None:
    for channels in (1, 2, 3, 4, 7):
        (shown,) = Page(Picture("", noise(5, 4, channels)).html()).all("img")
        expected = noise(5, 4, channels)[..., :3] if channels > 2 else noise(5, 4, channels)[..., :1].repeat(3, 2)
        assert np.array_equal(np.asarray(decoded(shown["src"]).convert("RGB")), expected)
    with pytest.raises(ValueError, match="uint8"):
        Picture("", np.zeros((4, 4, 3))).html()


def test_tables_set_numbers_flush_right() -> None:
    html = Table(["name", "value"], [["a", 0.123456], ["b", None], ["c", "-3 dB"]]).html()
    page = Page(html)
    assert [cell.get("class") for cell in page.all("td")] == [None, "number"] * 3
    assert [word for word in page.words if word.strip()] == ["name", "value", "a", "0.1235", "b", "–", "c", "-3 dB"]
    with pytest.raises(ValueError, match="2 columns has a row of 1"):
        Table(["a", "b"], [["c"]]).html()


def test_side_by_side_has_originals_above_their_reconstructions() -> None:
    values = torch.linspace(-1, 0.6, 5)
    originals = values.view(5, 1, 1, 1).expand(5, 3, 16, 16)
    picture = side_by_side(originals, originals + 0.2, columns=3)
    assert picture.dtype == np.uint8
    column = picture[:, 2 + 8, 0]  # through the middle of the first image of each row
    shades = [int(value) for value, before in zip(column[1:], column[:-1], strict=True) if value != before]
    expected = [round((value + 1) * 127.5) for value in (-1, -0.8, values[3].item(), values[3].item() + 0.2)]
    assert [shade for shade in shades if shade != 255] == expected
    assert (picture[-20:, -18:] == 255).all()  # the place of a sixth pair
    assert side_by_side(originals[:2], originals[:2], columns=8).shape[1] == 2 * 18 + 2
