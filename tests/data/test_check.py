import shutil

import pytest
from PIL import Image

from calotype.data.check import check_folder
from calotype.utils.errors import UserError


def test_a_full_report(make_folder):
    folder = make_folder(*(f"{kind}/{i}.png" for kind in ("cat", "dog") for i in range(6)))
    for i, data in enumerate([b"an oak", b"", b"\xff", b"x" * 5000]):
        (folder / f"cat/{i}.txt").write_bytes(data)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (90, 70)).save(folder / "dog/turned.jpg", exif=exif)
    Image.new("L", (300, 200)).save(
        folder / "dog/moving.gif", save_all=True, append_images=[Image.new("L", (300, 200), 9)]
    )
    shutil.copy(folder / "cat/0.png", folder / "dog/copy.png")
    for i in range(22):
        (folder / f"note{i:02}.md").write_text("text")
    text = "\n".join(check_folder(folder, size=64).lines())
    for expected in (
        f"{folder}: 15 images, 25 other entries left out",
        "files: 13 PNG RGB 8-bit, 1 GIF P 8-bit, 1 JPEG RGB 8-bit",
        "pixels: 3 channels of uint8",
        "  1 of 15 files: exact copies of another file",
        "  1 of 15 files: with further frames",
        "  1 of 15 files: turned upright",
        "sizes: 20x16 (smallest), 26x16 (median), 300x200 (largest)",
        "classes: 2: dog (9), cat (6)",
        "captions: 1 of 15 images, 14 without; left out: 1 empty, 1 not UTF-8, 1 too long",
        "size: 64 (32 suggested); 13 of 15 images are smaller and will be enlarged",
        "memory: 0.2 MiB for all images decoded at 64x64",
        "decoding: about ",
        "  cat/1.txt: empty caption",
        "  and 5 more",
    ):
        assert expected in text, f"{expected!r} is not in\n{text}"


def test_a_plain_folder(make_folder):
    report = check_folder(make_folder())
    lines = report.lines()
    assert "classes: none" in "\n".join(lines)
    assert "captions: none" in "\n".join(lines)
    assert "left out:" not in lines
    assert report.cache_bytes == 10 * 32 * 32 * 3
    assert report.decode_seconds > 0


@pytest.mark.parametrize(("side", "size"), [(20, 32), (64, 64), (127, 64), (130, 128), (1500, 1024)])
def test_suggested_size(make_folder, side, size):
    folder = make_folder()
    for i in range(10):
        Image.new("L", (side, side + i)).save(folder / f"{i}.png")
    report = check_folder(folder)
    assert report.suggested_size == report.size == size
    assert report.enlarged == (10 if side < 32 else 0)


def test_errors_are_those_of_the_scan(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        check_folder(tmp_path / "gone")
