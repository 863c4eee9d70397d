import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from calotype.data.attachments import FieldFile
from calotype.data.folder import scan_folder
from calotype.utils.errors import UserError
from calotype.utils.image_info import ImageError
from calotype.utils.images import save_png

DRAWS = np.random.default_rng(0).integers(0, 256, (10, 20, 24, 3)).astype(np.uint8)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for index, pixels in enumerate(DRAWS):
        save_png(tmp_path / "images" / f"{index}.png", pixels)
    return tmp_path


def write(folder: Path, rows: dict[int, dict[str, Any]]) -> None:
    lines = [json.dumps({"file_name": f"images/{index}.png", **row}) for index, row in rows.items()]
    (folder / "metadata.jsonl").write_text("\n".join(lines))


def labels(folder: Path, name: str, values: np.ndarray) -> str:
    (folder / name).parent.mkdir(exist_ok=True)
    Image.fromarray(values).save(folder / name)
    return name


def test_files_that_hold_fields_are_no_images(folder: Path) -> None:
    maps = {i: labels(folder, f"maps/{i}.png", np.full((20, 24), i, np.uint8)) for i in range(10)}
    write(folder, {i: {"segmentation_file_name": name} for i, name in maps.items()})
    scan = scan_folder(folder)
    assert len(scan.images) == 10
    assert scan.ignored == []
    assert scan.images.field_names == ("segmentation",), "one folder of images is left, which is no class"
    value = scan.images.records[3].fields["segmentation"]
    assert isinstance(value, FieldFile)
    assert value.name == "maps/3.png"
    assert np.array_equal(scan.images.value(3, "segmentation"), np.full((20, 24), 3))
    assert np.array_equal(scan.images.subset([7]).value(0, "segmentation"), np.full((20, 24), 7))


def test_a_changed_map_changes_the_fingerprint(folder: Path) -> None:
    name = labels(folder, "maps/0.png", np.zeros((20, 24), np.uint8))
    write(folder, {0: {"segmentation_file_name": name}})
    before = scan_folder(folder).images.fingerprint
    labels(folder, name, np.ones((20, 24), np.uint8))
    assert scan_folder(folder).images.fingerprint != before


def test_arrays_are_vectors_or_tokens_and_pictures_have_the_images_format(folder: Path) -> None:
    np.save(folder / "vector.npy", np.arange(5))
    np.save(folder / "tokens.npy", np.ones((3, 5)))
    Image.fromarray(DRAWS[0, ::2, ::2, 0]).save(folder / "grey.png")
    names = {"vector_file_name": "vector.npy", "tokens_file_name": "tokens.npy", "sketch_file_name": "grey.png"}
    write(folder, {0: names})
    images = scan_folder(folder).images
    assert images.value(0, "vector").tolist() == [0, 1, 2, 3, 4]
    assert images.value(0, "tokens").shape == (3, 5)
    assert np.array_equal(images.value(0, "sketch"), DRAWS[0, ::2, ::2, :1].repeat(3, axis=2))
    assert images.value(1, "sketch") is None


def test_what_is_wrong_is_told_with_its_row_and_left_out(folder: Path) -> None:
    np.save(folder / "objects.npy", np.array([{}], dtype=object), allow_pickle=True)
    np.save(folder / "nan.npy", np.array([np.nan]))
    (folder / "cut.npy").write_bytes((folder / "nan.npy").read_bytes()[:-4])
    Image.fromarray(DRAWS[0]).save(folder / "colours.png")
    Image.fromarray(np.zeros((20, 40, 4), np.uint8), "RGBA").save(folder / "wide.png")
    (folder / "outside.png").symlink_to("/etc/hostname")
    high = labels(folder, "high.png", np.full((20, 24), 40_000, np.uint16))
    small = labels(folder, "small.png", np.zeros((10, 12), np.uint8))
    wrong = {
        0: ({"segmentation_file_name": "gone.png"}, "no file 'gone.png'"),
        1: ({"segmentation_file_name": small}, "small.png has 12x10, but its image 24x20"),
        2: ({"segmentation_file_name": high}, "high.png has the label 40000; 999 is the highest"),
        3: ({"segmentation_file_name": "colours.png"}, "colours.png: is coloured"),
        4: ({"v_file_name": "objects.npy"}, "objects.npy"),
        5: ({"v_file_name": "nan.npy"}, "not finite"),
        6: ({"v_file_name": "cut.npy"}, "cut.npy"),
        7: ({"sketch_file_name": "wide.png"}, "wide.png has 40x20, but its image 24x20: another shape"),
        8: ({"sketch_file_name": "../x.png"}, "leaves the folder"),
        9: ({"sketch_file_name": "outside.png"}, "leaves the folder"),
    }
    write(folder, {index: row for index, (row, _) in wrong.items()})
    scan = scan_folder(folder)
    assert scan.images.field_names == ()
    told = dict(scan.ignored)
    for index, (_, said) in wrong.items():
        assert said in told[f"metadata.jsonl:{index + 1}"], index
    with pytest.raises(UserError, match=rf"{folder}/metadata.jsonl:9: .*leaves the folder.* \(and 9 more\)$"):
        scan_folder(folder, strict=True)


def test_vectors_have_one_length(folder: Path) -> None:
    write(folder, {i: {"palette": [0.0] * (3 if i == 5 else 4)} for i in range(10)})
    scan = scan_folder(folder)
    assert scan.ignored == [("metadata.jsonl:6", '"palette" is 3 numbers where most are 4 numbers')]
    assert "palette" not in scan.images.records[5].fields


def test_a_file_that_changed_after_the_scan_is_an_error(folder: Path) -> None:
    name = labels(folder, "maps/0.png", np.zeros((20, 24), np.uint8))
    write(folder, {0: {"segmentation_file_name": name}})
    images = scan_folder(folder).images
    labels(folder, name, np.full((20, 24), 2000, np.uint16))
    with pytest.raises(ImageError, match=r"maps/0.png: has changed since the folder was scanned: has the label 2000"):
        images.value(0, "segmentation")


def test_a_broken_row_makes_no_images_of_the_maps_of_the_others(folder: Path) -> None:
    for index in range(10):
        labels(folder, f"maps/{index}.png", np.zeros((20, 24), np.uint8))
    write(folder, {i: {"segmentation_file_name": f"maps/{i}.png"} for i in range(9)})
    with (folder / "metadata.jsonl").open("a") as file:
        file.write('\n{"file_name": "images/9.png", "segmentation_file_name": "maps/9.png"')
    scan = scan_folder(folder)
    assert len(scan.images) == 10
    assert scan.images.field_names == ("segmentation",), "maps is no class"
    assert dict(scan.ignored) == {
        "maps/9.png": "lies among fields of images, and no row names it",
        "metadata.jsonl:10": 'not a JSON object with a "file_name"',
    }


def test_an_image_with_a_row_stays_one_where_another_row_refers_to_it(folder: Path) -> None:
    write(folder, {0: {"reference_file_name": "images/1.png"}, 1: {"mood": "calm"}})
    scan = scan_folder(folder)
    assert len(scan.images) == 10
    assert np.array_equal(scan.images.value(0, "reference"), DRAWS[1])
    assert scan.images.value(1, "mood") == "calm"


@pytest.mark.parametrize(
    ("usual", "other", "said"),
    [
        ([1, 2, 3], [1, 2], "is 2 numbers where most are 3 numbers"),
        ([1, 2, 3], "red", "is a single value where most are 3 numbers"),
        (np.ones(3), np.ones(4), "is 4 numbers where most are 3 numbers"),
        (np.ones((2, 3)), np.ones((3, 3)), "is 3 tokens of 3 numbers where most are 2 tokens of 3 numbers"),
        (DRAWS[0], np.ones(3), "is 3 numbers where most are an image at 1/1 of the size"),
        (DRAWS[0], DRAWS[0, ::2, ::2], "is an image at 1/2 of the size where most are an image at 1/1 of the size"),
    ],
)
def test_a_field_is_one_thing_in_all_rows(folder: Path, usual: Any, other: Any, said: str) -> None:
    def row(index: int, value: Any) -> dict[str, Any]:
        if not isinstance(value, np.ndarray):
            return {"f": value}
        np.save(folder / f"f{index}.npy", value)
        return {"f_file_name": f"f{index}.npy"}

    write(folder, {i: row(i, other if i == 4 else usual) for i in range(10)})
    scan = scan_folder(folder)
    assert scan.ignored == [("metadata.jsonl:5", f'"f" {said}')]
    assert [scan.images.value(i, "f") is None for i in range(10)] == [i == 4 for i in range(10)]


@pytest.mark.parametrize(
    ("key", "name", "said"),
    [
        ("sketch_file_name", "a" * 5000, "no file 'aaa"),
        ("sketch_file_name", "loop.png", "loop.png leaves the folder"),
        ("sketch_file_name", "several.npy", "several.npy is no array, but several"),
        ("sketch_file_name", "header.npy", "header.npy: damaged"),
        ("caption_file_name", "header.npy", 'must not be a file; give "caption" in the row itself'),
        ("_file_name", "header.npy", "is no name of a field"),
        ("a\nb_file_name", "header.npy", "is no name of a field"),
        ("k" * 101, "word", "is no name of a field"),
    ],
)
def test_odd_files_and_names_are_told_in_a_line(folder: Path, key: str, name: str, said: str) -> None:
    (folder / "loop.png").symlink_to("loop.png")
    with (folder / "several.npy").open("wb") as file:
        np.savez(file, a=np.ones(3))
    np.save(folder / "header.npy", np.ones(3))
    (folder / "header.npy").write_bytes((folder / "header.npy").read_bytes().replace(b"}", b"(", 1))
    write(folder, {0: {key: name}})
    scan = scan_folder(folder)
    (told,) = [reason for where, reason in scan.ignored if where == "metadata.jsonl:1"]
    assert said in told
    assert len(told) < 250
    assert told.isprintable()
    assert scan.images.field_names == ()


def test_arrays_can_be_written_to(folder: Path) -> None:
    np.save(folder / "vector.npy", np.ones(3, np.float32))
    write(folder, {0: {"v_file_name": "vector.npy"}})
    assert scan_folder(folder).images.value(0, "v").flags.writeable
