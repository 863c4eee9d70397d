import json
from pathlib import Path

import numpy as np
import pytest

from calotype.data import scenes
from calotype.data.cutouts import cutouts, fitted
from calotype.data.scenes import CONCEPTS, LABELS, compose_scene, contact_sheet, describe, write_scenes
from calotype.utils.boxes import WHOLE, Box, LayoutObject, as_object
from calotype.utils.errors import UserError
from calotype.utils.images import read_image
from calotype.utils.label_maps import read_labels

SCENES = [compose_scene("test", number) for number in range(20)]


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def around(mask: np.ndarray) -> Box:
    """The box of a mask, relative to it."""
    (rows,), (columns,) = (np.nonzero(mask.any(axis=axis)) for axis in (1, 0))
    height, width = mask.shape
    left, top = columns[0], rows[0]
    return Box(left / width, top / height, (columns[-1] + 1 - left) / width, (rows[-1] + 1 - top) / height)


@pytest.mark.parametrize("name", CONCEPTS)
def test_drawings_lose_their_white_ground_and_its_edge(name: str) -> None:
    drawings = cutouts(name)
    assert len(drawings) == 3
    for drawing in drawings:
        pixels = np.asarray(drawing)
        seen = pixels[..., 3] == 255
        assert not seen[[0, 0, -1, -1], [0, -1, 0, -1]].any()
        assert 0.15 < seen.mean() < 0.8
        edge = seen & ~(np.roll(seen, 1, 0) & np.roll(seen, -1, 0) & np.roll(seen, 1, 1) & np.roll(seen, -1, 1))
        assert (pixels[edge][:, :3].min(axis=1) > 200).mean() < 0.1
        small = np.asarray(fitted(drawing, 20))
        assert around(small[..., 3] >= 128) == WHOLE
        assert 19 <= max(small.shape) <= 20


def test_boxes_are_those_of_what_is_seen() -> None:
    whole = 0
    for scene in SCENES:
        assert len({item.label for item in scene.objects}) == len(scene.objects)
        bottoms = [item.box.y + item.box.height for item in scene.objects]
        assert np.diff(bottoms, append=2).min() > -1e-3
        for number, item in enumerate(scene.objects):
            found = around(scene.labels == LABELS.index(str(item.label)))
            hidden = any(item.box.overlaps(other.box) for other in scene.objects[number + 1 :])
            whole += not hidden
            assert np.allclose(found, item.box, atol=1e-4) or hidden
            assert item.box.shared(found) > 0.98 * found.width * found.height
    assert whole > 30


def test_labels_are_those_of_the_pixels() -> None:
    """Background is of one colour per label, and objects are something else."""
    for scene in SCENES:
        grounds = [scene.pixels[scene.labels == label] for label in range(3)]
        for ground in grounds:
            if len(ground):
                values, counts = np.unique(ground, axis=0, return_counts=True)
                assert counts.max() > 0.85 * len(ground)
                things = scene.pixels[scene.labels >= 3]
                assert (things == values[counts.argmax()]).all(axis=1).mean() < 0.05
        assert bool(len(grounds[0])) != bool(len(grounds[1]) and len(grounds[2]))


def test_no_object_hides_another() -> None:
    for key in range(10):
        objects = compose_scene(key, objects=(8, 8)).objects
        assert 3 <= len(objects) <= 8
        for number, item in enumerate(objects):
            for other in objects[:number]:
                smaller = min(box.width * box.height for box in (item.box, other.box))
                assert item.box.shared(other.box) <= 0.151 * smaller


def test_sizes_and_counts_are_those_asked_for() -> None:
    for number in range(5):
        scene = compose_scene(number, size=(48, 96), objects=(2, 2))
        assert scene.pixels.shape == (48, 96, 3)
        assert scene.labels.shape == (48, 96)
        assert len(scene.objects) == 2
        for item in scene.objects:
            assert 0.2 * 48 <= max(item.box.width * 96, item.box.height * 48) <= 0.5 * 48 + 1
    assert {len(scene.objects) for scene in SCENES} == {1, 2, 3, 4}


def test_captions_say_where_things_are() -> None:
    def thing(name: str, x: float, y: float) -> LayoutObject:
        return LayoutObject(name, Box(x, y, 0.2, 0.2))

    apple, dog, house = thing("red apple", 0.5, 0.1), thing("dog", 0.4, 0.8), thing("house", 0.8, 0.7)
    assert describe([apple]) == "a red apple"
    assert describe([apple, house, dog]) == "a dog below a red apple, a red apple above a house"
    assert describe([thing("elephant", 0.0, 0.6), dog]) == "an elephant to the left of a dog"
    assert all(scene.caption.endswith((", before a wall", ", under the sky")) for scene in SCENES)
    assert {scene.caption.split(", ")[-1] for scene in SCENES if (scene.labels == 0).any()} == {"before a wall"}


def test_a_folder_is_what_the_scenes_are_byte_for_byte(tmp_path: Path) -> None:
    write_scenes(tmp_path / "a", 3, seed=5)
    write_scenes(tmp_path / "b", 2, seed=5)
    a, b = files(tmp_path / "a"), files(tmp_path / "b")
    tables = [a.pop("metadata.jsonl"), b.pop("metadata.jsonl")]
    assert tables[0].startswith(tables[1])
    assert b == {name: content for name, content in a.items() if "000002" not in name}
    for number, line in enumerate(tables[0].splitlines()):
        row, scene = json.loads(line), compose_scene(5, number)
        assert np.array_equal(read_image(tmp_path / "a" / row["file_name"]), scene.pixels)
        assert np.array_equal(read_labels(tmp_path / "a" / row["segmentation_file_name"]), scene.labels)
        assert tuple(as_object(item) for item in row["boxes"]) == scene.objects
        assert row["text"] == scene.caption
    assert len({compose_scene(seed, 0).pixels.tobytes() for seed in range(4)}) == 4


def test_nothing_is_overwritten_or_left_half_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("x")
    with pytest.raises(UserError, match="full is not empty: give a new folder"):
        write_scenes(tmp_path / "full", 1)
    with pytest.raises(UserError, match="between 16 and 1024, not 64x2000"):
        write_scenes(tmp_path / "new", 1, size=(2000, 64))
    monkeypatch.setattr(scenes, "label_image", lambda *_: exec("raise KeyboardInterrupt"))
    with pytest.raises(KeyboardInterrupt):
        write_scenes(tmp_path / "new", 1)
    assert [path.name for path in tmp_path.iterdir()] == ["full"]


def test_the_picture_has_a_tile_for_every_scene() -> None:
    sheet = contact_sheet(7, columns=4)
    assert sheet.shape == (2 * 2 * 192, 4 * 192, 3)
    assert (sheet[384:, 3 * 192 :] == 255).all()
    assert not (sheet[384:, 2 * 192 : 3 * 192] == 255).all()


def test_there_is_no_drawing_of_what_has_no_emoji() -> None:
    with pytest.raises(UserError, match=r"no emoji is called 'red aple'\. Did you mean 'red apple'"):
        cutouts("red aple")
