from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import tiny
from calotype.cli import run
from calotype.conditioner import EncodedImageConfig, LowResolutionConfig
from calotype.interop.save import save_artifact
from calotype.utils.images import read_image, save_png

FEW = ["--steps", "1", "--device", "cpu"]
DRAWS = np.random.default_rng(0)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    embedders = {
        "inpaint": EncodedImageConfig(null="none"),
        "upscale": LowResolutionConfig(factor=4, autoencoder_factor=2),
    }
    for name, embedder in embedders.items():
        save_artifact(tiny.conditioned_model(embedder), folder / name, {})
    save_artifact(tiny.conditioned_model(), folder / "plain", {})
    return folder


@pytest.fixture
def picture(tmp_path: Path) -> Callable[..., Path]:
    def write(name: str, height: int, width: int, channels: int = 3) -> Path:
        save_png(tmp_path / name, DRAWS.integers(0, 256, (height, width, channels), dtype=np.uint8))
        return tmp_path / name

    return write


def test_known_pixels_stay_to_the_last_bit_in_the_file(models: Path, picture, tmp_path: Path, capsys) -> None:
    photo, mask, out = picture("photo.png", 18, 25), tmp_path / "mask.png", tmp_path / "out"
    known = np.full((18, 25), 255, np.uint8)
    known[4:12, 5:20] = 0
    save_png(mask, known)
    given = ["inpaint", str(models / "inpaint"), str(photo), "--out", str(out), "--seeds", "3,5", *FEW]
    assert run([*given, "--mask", str(mask)]) == 0
    original, results = read_image(photo), [read_image(out / f"{seed}.png") for seed in (3, 5)]
    for result in results:
        assert np.array_equal(result[known > 0], original[known > 0])
        assert not np.array_equal(result, original)
    assert not np.array_equal(*results)
    assert read_image(out / "picture.png").shape == (18 + 4, 4 * (25 + 2) + 2, 3)
    assert f"images: {out}" in capsys.readouterr().out
    assert run([*given, "--box", "5,4,15,8"]) == 0
    assert np.array_equal(read_image(out / "3.png"), results[0])


def test_drawing_on_beyond_the_borders(models: Path, picture, tmp_path: Path) -> None:
    photo, out = picture("photo.png", 18, 25), tmp_path / "out"
    given = ["inpaint", str(models / "inpaint"), str(photo), "--out", str(out), "--seeds", "0", *FEW]
    assert run([*given, "--outpaint", "3,0,10,5"]) == 0
    grown = read_image(out / "0.png")
    assert grown.shape == (23, 38, 3)
    assert np.array_equal(grown[:18, 3:28], read_image(photo))
    assert run([*given, "--outpaint", "0,0,8,0", "--size", "16"]) == 0
    assert read_image(out / "0.png").shape == (16, 24, 3)


def test_a_model_that_was_not_trained_for_it_does_it_as_well(models: Path, picture, tmp_path: Path, caplog) -> None:
    photo, out = picture("photo.png", 16, 16), tmp_path / "out"
    assert (
        run(
            ["inpaint", str(models / "plain"), str(photo), "--box", "0,0,8,16", "--out", str(out), "--seeds", "0", *FEW]
        )
        == 0
    )
    assert np.array_equal(read_image(out / "0.png")[:, 8:], read_image(photo)[:, 8:])
    assert sum("was not trained to fill in" in record.message for record in caplog.records) == 1


def test_pictures_of_a_folder_are_enlarged_whatever_their_sizes(models: Path, picture, tmp_path: Path, capsys) -> None:
    sizes = {"in/a.png": (9, 13), "in/b.png": (9, 13), "in/deep/c.png": (1, 1), "in/d.png": (4, 30)}
    for name, size in sizes.items():
        picture(name, *size)
    save_png(tmp_path / "in/grey.png", np.zeros((5, 5), np.uint8))
    (tmp_path / "in/broken.png").write_bytes(b"nothing")
    out = tmp_path / "out"
    assert run(["upscale", str(models / "upscale"), str(tmp_path / "in"), "--out", str(out), *FEW]) == 0
    for name, (height, width) in {**sizes, "in/grey.png": (5, 5)}.items():
        assert read_image(out / name.removeprefix("in/")).shape == (4 * height, 4 * width, 3)
    side = 64 * 4 + 2
    assert read_image(out / "comparison.png").shape == (5 * side + 2, 3 * side + 2, 3)
    said = capsys.readouterr().out
    assert "left out" in said
    assert "broken.png" in said


def test_one_picture_is_what_it_is_among_others(models: Path, picture, tmp_path: Path) -> None:
    for name in ("in/a.png", "in/b.png"):
        picture(name, 7, 5)
    command = ["upscale", str(models / "upscale")]
    assert run([*command, str(tmp_path / "in"), "--out", str(tmp_path / "both"), *FEW]) == 0
    assert run([*command, str(tmp_path / "in/b.png"), "--out", str(tmp_path / "one"), *FEW]) == 0
    both, one = (read_image(tmp_path / folder / "b.png").astype(int) for folder in ("both", "one"))
    assert np.abs(both - one).max() <= 1


def test_names_that_differ_in_their_endings_alone_keep_them(models: Path, picture, tmp_path: Path) -> None:
    from PIL import Image

    Image.open(picture("in/a.png", 3, 4)).save(tmp_path / "in/a.jpg")
    assert run(["upscale", str(models / "upscale"), str(tmp_path / "in"), "--out", str(tmp_path / "out"), *FEW]) == 0
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"a.png", "a.png.png", "comparison.png"}


MISTAKES = [
    ("inpaint {models}/inpaint {photo}", "say what is to be drawn with one of --mask, --box and --outpaint"),
    ("inpaint {models}/inpaint {photo} --mask {photo} --box 0,0,1,1", "with one of --mask, --box and --outpaint"),
    ("inpaint {models}/inpaint {photo} --mask {small}", "small.png has 5 x 4 pixels, and"),
    ("inpaint {models}/inpaint {photo} --mask {photo}.png", "photo.png.png"),
    ("inpaint {models}/inpaint {missing} --box 0,0,1,1", "missing.png"),
    ("inpaint {models}/inpaint {photo} --box 0,0,1", "--box must be x,y,width,height in pixels"),
    ("inpaint {models}/inpaint {photo} --box 20,0,6,1", "--box 20,0,6,1 is not within the picture, which has 25 x 18"),
    ("inpaint {models}/inpaint {photo} --outpaint 0,0,99999,99999", "the result would be 100024 x 100017 pixels"),
    ("inpaint {models}/inpaint {photo} --outpaint 0,0,0,0", "nothing is left to draw"),
    ("inpaint {models}/inpaint {photo} --box 0,0,1,1 --caption tree", "this model takes no 'caption'"),
    ("inpaint {models}/inpaint {photo} --box 0,0,1,1 --steps 0", "--steps must be between 1 and 1000"),
    ("upscale {models}/inpaint {photo}", "this model enlarges nothing (it takes masked_image)"),
    ("upscale {models}/upscale {missing}", "missing.png does not exist; give a picture, or a folder of them"),
    ("upscale {models}/upscale {empty}", "holds no picture"),
    ("upscale {models}/upscale {note}", "note.png"),
    ("upscale {models}/upscale {photo} --batch-size 0", "--batch-size must be above 0"),
    ("upscale {models}/upscale {photo} --seed -1", "--seed must be between 0"),
]


@pytest.mark.parametrize(("command", "message"), MISTAKES, ids=[command for command, _ in MISTAKES])
def test_a_mistake_is_one_line(command: str, message: str, models: Path, picture, tmp_path: Path, capsys) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "note.png").write_text("no picture")
    places = {"models": models, "photo": picture("photo.png", 18, 25), "small": picture("small.png", 4, 5)}
    places |= {"missing": tmp_path / "missing.png", "empty": tmp_path / "empty", "note": tmp_path / "note.png"}
    out = tmp_path / "out"
    assert run([word.format(**places) for word in command.split()] + ["--out", str(out), "--device", "cpu"]) == 2
    shown = capsys.readouterr()
    (line,) = [line for line in shown.err.splitlines() if line.startswith("calotype")]
    assert message in line
    assert not out.exists()


def test_results_never_take_the_place_of_the_pictures(models: Path, picture, tmp_path: Path, capsys) -> None:
    photo = picture("photo.png", 4, 5)
    before = photo.read_bytes()
    assert run(["upscale", str(models / "upscale"), str(photo), "--out", str(tmp_path), *FEW]) == 2
    assert "is one of the pictures themselves; choose another folder" in capsys.readouterr().err
    assert photo.read_bytes() == before
