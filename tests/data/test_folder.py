import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from calotype.data.folder import scan_folder
from calotype.data.pixel_format import PixelFormat
from calotype.utils.errors import UserError
from calotype.utils.images import ImageError, save_png


def test_finds_images_recursively_in_sorted_order(make_folder):
    names = [f"b/{i}.png" for i in range(4)] + ["c.JPG", "a.bmp", "a/deep/er/x.webp", "a/y.tiff"]
    folder = make_folder(*names, ".hidden.png", ".thumbnails/z.png")
    images = scan_folder(folder).images
    assert [record.name for record in images.records] == sorted(names)
    assert images.source == str(folder)
    for index, record in enumerate(images.records):
        assert images.pixels(index).shape[1] == 20 + names.index(record.name)


def test_everything_else_is_listed_with_its_reason(make_folder):
    folder = make_folder()
    (folder / "broken.png").write_bytes((folder / "1.png").read_bytes()[:60])
    (folder / "page.jpg").write_text("<html></html>")
    (folder / "phone.heic").write_bytes(b"...")
    (folder / "README").write_text("hello")
    (folder / "alone.txt").write_text("a caption without an image")
    scan = scan_folder(folder)
    assert len(scan.images) == 10
    assert scan.ignored == [
        ("README", "no file name extension"),
        ("alone.txt", "no image of this name"),
        ("broken.png", "truncated"),
        ("page.jpg", "not an image"),
        ("phone.heic", ".heic files are not read"),
    ]


def test_links_out_of_the_folder_and_odd_files_are_not_opened(make_folder, tmp_path):
    folder = make_folder()
    secret = tmp_path / "secret"
    secret.mkdir()
    shutil.copy(folder / "0.png", secret / "0.png")
    (secret / "key.txt").write_text("a secret")
    (folder / "out.png").symlink_to(secret / "0.png")
    (folder / "0.txt").symlink_to(secret / "key.txt")
    (folder / "away").symlink_to(secret)
    (folder / "loop").symlink_to(folder)
    (folder / "dangling.png").symlink_to(folder / "nothing.png")
    (folder / "inside.png").symlink_to(folder / "3.png")
    os.mkfifo(folder / "pipe.png")
    scan = scan_folder(folder)
    assert [record.name for record in scan.images.records] == [*(f"{i}.png" for i in range(10)), "inside.png"]
    assert dict(scan.ignored) == {
        "0.txt": "link that leaves the folder",
        "out.png": "link that leaves the folder",
        "away": "link that leaves the folder",
        "loop": "link to a folder, not followed",
        "dangling.png": "not a regular file",
        "pipe.png": "not a regular file",
    }


def test_a_file_name_that_is_not_text(make_folder):
    folder = make_folder()
    try:
        shutil.copy(os.fsencode(folder / "0.png"), os.fsencode(folder) + b"/\xff.png")
    except OSError:
        return  # file systems that insist on UTF-8 have no such names
    scan = scan_folder(folder)
    assert scan.ignored == [("\\udcff.png", "file name is not UTF-8")]
    assert scan.images.fingerprint


def test_classes_are_the_first_sub_folders(make_folder):
    folder = make_folder(*(f"{kind}/{i}/x.png" for kind in ("cat", "dog") for i in range(4)), "top.png")
    records = scan_folder(folder).images.records
    assert [record.fields for record in records] == [{"class": "cat"}] * 4 + [{"class": "dog"}] * 4 + [{}]


@pytest.mark.parametrize("names", [[f"all/{i}.png" for i in range(9)], [f"{i}.png" for i in range(9)]])
def test_one_folder_is_no_class(make_folder, names):
    folder = make_folder(*names)
    (folder / "empty").mkdir()
    (folder / "texts").mkdir()
    (folder / "texts" / "a.txt").write_text("not an image")
    assert scan_folder(folder).images.field_names == ()


def test_captions_and_metadata_become_fields(make_folder):
    folder = make_folder()
    (folder / "0.txt").write_text("\ufeffan oak in fog\n", encoding="utf-8")
    (folder / "metadata.jsonl").write_text('{"file_name": "1.png", "text": "a birch", "year": 1841}\n')
    images = scan_folder(folder).images
    assert images.records[0].fields == {"caption": "an oak in fog"}
    assert images.records[1].fields == {"caption": "a birch", "year": 1841}
    assert images.field_names == ("caption", "year")


def test_too_few_and_unusable_folders(make_folder, tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        scan_folder(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="holds no readable image"):
        scan_folder(tmp_path / "empty")
    folder = make_folder(*(f"{i}.png" for i in range(7)))
    with pytest.raises(UserError, match="holds only 7 readable images, and 8 are the fewest"):
        scan_folder(folder)
    with pytest.raises(UserError, match="is a file"):
        scan_folder(folder / "0.png")
    for path in folder.iterdir():
        path.write_bytes(b"")
    with pytest.raises(UserError, match=r"no readable image.*7 files were left out, the first is 0\.png: empty file"):
        scan_folder(folder)


def grey(path: Path, dtype: str, value: int) -> None:
    save_png(path, np.full((8, 8, 1), value, dtype))


def test_grey_sets_stay_grey_and_mixed_sets_become_colour(make_folder):
    folder = make_folder()
    for i in range(10):
        grey(folder / f"{i}.png", "uint8", i)
    images = scan_folder(folder).images
    assert images.pixel_format == PixelFormat(channels=1)
    assert images.pixels(3).tolist() == np.full((8, 8, 1), 3).tolist()

    Image.new("RGB", (8, 8), (1, 2, 3)).save(folder / "x.png")
    scan = scan_folder(folder)
    assert scan.images.pixel_format == PixelFormat(channels=3)
    assert scan.images.pixels(3).tolist() == np.full((8, 8, 3), 3).tolist()
    assert scan.images.pixels(10)[0, 0].tolist() == [1, 2, 3]
    assert "10 of 11 files: grey, repeated to 3 channels to match the others" in scan.notes


def test_16_bits_are_kept_and_mixed_depths_scaled(make_folder):
    folder = make_folder()
    for i in range(10):
        grey(folder / f"{i}.png", "uint16", 6600 * i)
    images = scan_folder(folder).images
    assert images.pixel_format == PixelFormat(channels=1, dtype="uint16", high=65535.0)
    assert images.pixels(9)[0, 0].tolist() == [59400]

    grey(folder / "x.png", "uint8", 77)
    scan = scan_folder(folder)
    assert scan.images.pixel_format == PixelFormat(channels=1)
    assert [int(scan.images.pixels(i)[0, 0, 0]) for i in (0, 1, 9, 10)] == [0, 26, 231, 77]  # 6600 i / 257, rounded
    assert scan.images.pixels(9).dtype == np.uint8
    assert any("scaled to 8 bits" in note for note in scan.notes)


def test_background_shows_in_pixels_and_fingerprint(make_folder):
    folder = make_folder()
    Image.new("RGBA", (8, 8), (0, 0, 0, 0)).save(folder / "0.png")
    white, red = scan_folder(folder).images, scan_folder(folder, background=(255, 0, 0)).images
    assert white.pixels(0)[0, 0].tolist() == [255, 255, 255]
    assert red.pixels(0)[0, 0].tolist() == [255, 0, 0]
    assert white.fingerprint != red.fingerprint


def test_equal_files_share_a_group(make_folder):
    folder = make_folder()
    shutil.copy(folder / "4.png", folder / "copy.png")
    scan = scan_folder(folder)
    assert [record.group for record in scan.images.records] == [*(f"{i}.png" for i in range(10)), "4.png"]
    assert scan.duplicates == 1
    assert any("exact copies" in note for note in scan.notes)


def test_fingerprint_follows_content_names_and_fields_only(make_folder, tmp_path):
    folder = make_folder()
    first = scan_folder(folder).images.fingerprint
    moved = shutil.copytree(folder, tmp_path / "elsewhere")
    os.utime(moved / "0.png", (1, 1))
    assert scan_folder(moved).images.fingerprint == first
    prints = {first}
    (moved / "0.txt").write_text("a caption")
    prints.add(scan_folder(moved).images.fingerprint)
    (moved / "1.png").rename(moved / "1b.png")
    prints.add(scan_folder(moved).images.fingerprint)
    shutil.copy(moved / "2.png", moved / "3.png")
    prints.add(scan_folder(moved).images.fingerprint)
    assert len(prints) == 4


def test_a_file_that_changes_after_the_scan_is_noticed(make_folder):
    folder = make_folder()
    for i in range(10):
        grey(folder / f"{i}.png", "uint8", i)
    images = scan_folder(folder).images
    Image.new("RGB", (8, 8)).save(folder / "0.png")
    (folder / "1.png").unlink()
    with pytest.raises(ImageError, match="has changed since"):
        images.pixels(0)
    with pytest.raises(ImageError, match="No such file"):
        images.pixels(1)


def test_progress_counts_every_file(make_folder):
    seen = []
    scan_folder(make_folder(), progress=lambda done, total: seen.append((done, total)))
    assert seen == [(i + 1, 10) for i in range(10)]
