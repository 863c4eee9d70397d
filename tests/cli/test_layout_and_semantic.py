import json
from pathlib import Path

import numpy as np
import pytest

import tiny
from calotype.cli import run
from calotype.conditioner import BoxesConfig, SpatialRescalerConfig
from calotype.interop.save import save_artifact
from calotype.utils.images import read_image
from calotype.utils.label_maps import write_labels

FEW = ["--steps", "1", "--device", "cpu"]
OBJECTS = ["--object", "cat:0,0,0.5,0.5", "--object", "a red dog:0.5,0.25,0.5,0.75"]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    embedders = {
        "layout": BoxesConfig(classes=("cat", "a red dog"), channels=32),
        "semantic": SpatialRescalerConfig(in_channels=3, stages=1, method="area"),
    }
    for name, embedder in embedders.items():
        save_artifact(tiny.conditioned_model(embedder), folder / name, {})
    return folder


def test_a_layout_is_drawn_beside_its_boxes(models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    given = ["layout", str(models / "layout"), "--out", str(out), "--seeds", "3,5", *FEW]
    assert run([*given, *OBJECTS]) == 0
    shown = capsys.readouterr().out
    assert f"images: {out}" in shown
    assert f"picture: {out / 'picture.png'}" in shown
    drawn = read_image(out / "3.png")
    assert not np.array_equal(drawn, read_image(out / "5.png"))
    picture = read_image(out / "picture.png")
    assert picture.shape == (196, 3 * 194 + 2, 3)
    assert np.array_equal(picture[2:194:12, 196:388:12], drawn)
    boxes, blue = picture[2:194, 2:194], [97, 97]
    assert (boxes[97:, :95] == 255).all()
    assert (boxes[2:95, 94] < 255).any()
    assert boxes[tuple(blue)].min() < 255

    layout = tmp_path / "layout.json"
    layout.write_text(json.dumps([{"class": "cat", "box": [0, 0, 0.5, 0.5]}]))
    assert run([*given, str(layout), *OBJECTS[2:]]) == 0
    assert np.array_equal(read_image(out / "3.png"), drawn)


def test_a_map_is_drawn_beside_itself(models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    labels = np.random.default_rng(0).integers(0, 3, (18, 30))
    write_labels(tmp_path / "map.png", labels)
    given = ["semantic", str(models / "semantic"), str(tmp_path / "map.png"), "--seeds", "3", *FEW]
    drawn = []
    for more in ([], ["--windows"]):
        assert run([*given, "--out", str(tmp_path / "out"), *more]) == 0
        drawn.append(read_image(tmp_path / "out" / "3.png"))
        assert drawn[-1].shape == (18, 30, 3)
    assert not np.array_equal(*drawn)
    assert f"picture: {tmp_path / 'out' / 'picture.png'}" in capsys.readouterr().out
    assert read_image(tmp_path / "out" / "picture.png").shape == (18 * 11 + 4, 2 * (30 * 11 + 2) + 2, 3)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["layout", "MODELS/layout"], "name a layout, or objects with --object"),
        (["layout", "MODELS/layout", "--object", "cat:0,0,1"], "--object must be CLASS:X,Y,WIDTH,HEIGHT"),
        (["layout", "MODELS/layout", "--object", "cat"], "--object must be CLASS:X,Y,WIDTH,HEIGHT"),
        (["layout", "MODELS/layout", "--object", "cat:0,0,1,2"], "--object 'cat:0,0,1,2': object 1 has a box out of"),
        (["layout", "MODELS/layout", "--object", "cta:0,0,1,1"], "unknown. Did you mean 'cat'?"),
        (["layout", "MODELS/layout", "none.json"], "none.json: No such file"),
        (["semantic", "MODELS/semantic", "none.png"], "none.png: No such file"),
        (["semantic", "MODELS/semantic", "MAP"], "the map has the label 9 at x 1, y 0; this model knows 0 to 2"),
        (["semantic", "MODELS/layout", "MAP"], "this model takes no label maps (it takes boxes)"),
    ],
)
def test_mistakes_are_told_in_one_line(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    write_labels(tmp_path / "map.png", np.array([[0, 9]]))
    words = [word.replace("MODELS", str(models)).replace("MAP", str(tmp_path / "map.png")) for word in arguments]
    assert run([*words, "--out", str(tmp_path / "out"), *FEW]) == 2
    told = capsys.readouterr().err.strip().splitlines()[-1]
    assert said in told
    assert not (tmp_path / "out").exists()
