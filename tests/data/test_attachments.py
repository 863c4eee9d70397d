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
    assert scan.ignored == [("metadata.jsonl:6", '"palette" has 3 numbers where most have 4')]
    assert "palette" not in scan.images.records[5].fields


def test_a_file_that_changed_after_the_scan_is_an_error(folder: Path) -> None:
    name = labels(folder, "maps/0.png", np.zeros((20, 24), np.uint8))
    write(folder, {0: {"segmentation_file_name": name}})
    images = scan_folder(folder).images
    labels(folder, name, np.full((20, 24), 2000, np.uint16))
    with pytest.raises(ImageError, match=r"maps/0.png: has changed since the folder was scanned: has the label 2000"):
        images.value(0, "segmentation")
