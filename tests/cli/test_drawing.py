"""The verbs that draw from pictures, masks and seeds."""

from pathlib import Path

import numpy as np
import pytest

from calotype.cli import run
from calotype.utils.images import read_image, save_png

QUICK = ("--steps", "2", "--device", "cpu")


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("photo") / "photo.png"
    save_png(path, np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8))
    return path


def drawn(folder: Path) -> dict[str, np.ndarray]:
    return {path.stem: read_image(path).astype(int) for path in sorted(folder.iterdir())}


def test_img2img_draws_one_image_per_seed(
    chain: Path, photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["img2img", str(chain), str(photo), "--caption", "a red wave zebra", "--seeds", "3,5", *QUICK]
    assert (
        run([*command, "--strength", "1", "--out", str(tmp_path / "strong"), "--grid", str(tmp_path / "grid.png")]) == 0
    )
    said = capsys.readouterr().out
    assert "left out: zebra" in said
    assert f"images: {tmp_path / 'strong'}" in said
    assert f"grid: {tmp_path / 'grid.png'}" in said
    assert read_image(tmp_path / "grid.png").shape == (36, 70, 3)
    assert run(["sample", *command[1:2], *command[3:], "--out", str(tmp_path / "sampled")]) == 0
    strong, sampled = drawn(tmp_path / "strong"), drawn(tmp_path / "sampled")
    assert strong.keys() == {"3", "5"}
    assert all(np.array_equal(strong[seed], sampled[seed]) for seed in strong)


def test_what_a_mask_shows_white_stays(chain: Path, photo: Path, tmp_path: Path) -> None:
    mask = np.zeros((32, 32, 1), np.uint8)
    mask[:, :16] = 255
    save_png(tmp_path / "mask.png", mask)
    command = ["img2img", str(chain), str(photo), "--known", str(tmp_path / "mask.png"), "--seeds", "3,5", *QUICK]
    assert run([*command, "--out", str(tmp_path / "out")]) == 0
    first, second = drawn(tmp_path / "out").values()
    original = read_image(photo)
    assert np.array_equal(first[:, :16], original[:, :16])
    assert np.array_equal(second[:, :16], original[:, :16])
    assert np.abs(first - second)[:, 16:].mean() > 1


def test_interpolate_goes_from_seed_to_seed(chain: Path, tmp_path: Path) -> None:
    command = ["interpolate", str(chain), "--seeds", "3,5,8", "--frames", "5", *QUICK]
    assert run([*command, "--out", str(tmp_path / "way")]) == 0
    assert run(["sample", str(chain), "--seeds", "3,5,8", *QUICK, "--out", str(tmp_path / "ends")]) == 0
    way, ends = drawn(tmp_path / "way"), drawn(tmp_path / "ends")
    assert way.keys() == set("01234")
    for frame, seed in (("0", "3"), ("2", "5"), ("4", "8")):
        assert np.abs(way[frame] - ends[seed]).max() <= 1


def test_interpolate_goes_from_picture_to_picture(chain: Path, photo: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.png"
    save_png(other, read_image(photo)[::-1, :, :1])  # grey
    command = ["interpolate", str(chain), str(photo), str(other), "--frames", "3", *QUICK]
    assert run([*command, "--out", str(tmp_path / "way")]) == 0
    way = drawn(tmp_path / "way")
    assert way["0"].shape == (32, 32, 3)
    assert len({picture.tobytes() for picture in way.values()}) == 3
