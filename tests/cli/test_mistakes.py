"""Bad input: one line that says what to do, exit code 2, and nothing written."""

import resource
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from calotype.cli import run
from calotype.utils.images import save_png


@pytest.fixture
def places(tmp_path: Path, picture_folder: Path, chain: Path) -> dict[str, Path]:
    """What the arguments below name: ``{pictures}``, ``{chain}``, ``{out}`` ..."""
    seven, empty, scans, note = (tmp_path / name for name in ("seven", "empty", "scans", "note.txt"))
    empty.mkdir()
    note.write_text("no folder")
    for index in range(8):
        pixels = np.full((20, 20, 1), 1000 * index, np.uint16)
        save_png(scans / f"{index}.png", pixels)
        if index < 7:
            save_png(seven / f"{index}.png", pixels)
    out = tmp_path / "out"
    return {"pictures": picture_folder, "chain": chain, "out": out, "grid": tmp_path / "grid.png"} | {
        place.stem: place for place in (seven, empty, scans, note)
    }


MISTAKES = [
    ("run {empty}/missing --out {out}", "does not exist; give a folder of images"),
    ("run {empty} --out {out}", "holds no readable image"),
    ("run {seven} --out {out}", "holds only 7 readable images"),
    ("run {note} --out {out}", "is a file; give the folder"),
    ("run emoji:facs --out {out}", "Did you mean 'faces'?"),
    ("run {pictures} --out {note}", "is a file: choose another --out"),
    ("run {pictures} --out {note}/sub", "cannot write"),
    ("run {pictures} --out {scans}", "is not empty and holds no chain"),
    ("run {pictures} --out {chain}/diffusion", "holds no chain but another thing (training_run)"),
    ("run {scans} --out {chain}", "was begun on"),
    ("run {pictures} --out {out} --minutes -1", "--minutes must be above 0, not -1"),
    ("run {pictures} --out {out} --minutes nan", "--minutes must be above 0, not nan"),
    ("run {pictures} --out {out} --minutes soon", "could not convert string to float: 'soon'"),
    ("run {pictures} --out {out} --size 30", "--size must be a multiple of 16 between 16 and 1024, not 30"),
    ("run {pictures} --out {out} --size 100000", "--size must be a multiple of 16"),
    ("run {pictures} --out {out} --seed -1", "--seed must be between 0"),
    ("run {pictures} --out {out} --device nonsense", "device 'nonsense' is not available here"),
    ("data check {empty}/missing", "does not exist"),
    ("data check {pictures} --size 0", "--size must be pixels such as 64"),
    ("train kl-f8-smal --data {pictures} --out {out}", "Did you mean 'kl-f8-small'?"),
    ("train kl-f8-smal", "'kl-f8-smal' is no folder of images, and no preset. Did you mean 'kl-f8-small'?"),
    ("train {empty}/missing", "is no folder of images, and no preset. `calotype presets` lists the presets"),
    ("train {note}", "is a file; give the folder"),
    ("train kl-f8-debug", "name the images that kl-f8-debug is to be trained on with --data"),
    ("train {pictures} --data {scans}", "both name images: give a preset and images, or images alone"),
    ("train kl-f8-debug --data {pictures} --out {out} --batch-size 0", "--batch-size must be above 0"),
    ("train kl-f8-debug --data {pictures} --out {out} --samples 8 --minutes 1", "either --samples or --minutes"),
    ("train kl-f8-debug --data {pictures} --out {out} --autoencoder {chain}", "leave --autoencoder out"),
    ("train kl-f32 --data {pictures} --out {out} --size 48", "--size must be a multiple of 32 for kl-f32, not 48"),
    ("train kl-f8-debug --data {pictures} --out {out} --samples 8 --vgg16 {note}", "cannot be read"),
    ("train ldm-debug --data {pictures} --out {out}", "name an autoencoder with --autoencoder"),
    ("train ldm-debug --data {pictures} --out {out} --autoencoder {chain}/diffusion", "an autoencoder is needed here"),
    ("train ldm-debug --data {scans} --out {out} --autoencoder {chain}/autoencoder", "has 1 channel of uint16"),
    ("train ldm-debug --data {pictures} --out {out} --autoencoder {chain}/autoencoder --size 64", "leave --size"),
    (
        "train modern-base --data {pictures} --out {out} --autoencoder {chain}/autoencoder",
        "of a multiple of 64 px, not 32",
    ),
    ("train tiny-decoder --data {pictures} --out {out}", "name an autoencoder with --autoencoder"),
    ("train tiny-decoder --data {pictures} --out {out} --autoencoder {chain} --size 64", "leave --size"),
    ("train tiny-decoder --data {scans} --out {out} --autoencoder {chain}", "has 1 channel of uint16"),
    ("latents {pictures} --autoencoder {empty} --out {out}", "holds nothing that calotype trained"),
    ("latents {scans} --autoencoder {chain}/autoencoder --out {out}", "was trained on 3 channels of uint8"),
    ("img2img {chain} {note} --grid {grid}", "note.txt"),
    ("img2img {chain} {scans}/7.png --strength 0 --grid {grid}", "strength must be above 0 and at most 1, not 0.0"),
    ("img2img {chain} {scans}/7.png --steps 0 --grid {grid}", "--steps must be between 1 and 1000, not 0"),
    ("interpolate {chain} --seeds 3 --grid {grid}", "at least two ends, --seeds or IMAGES, and two --frames"),
    ("interpolate {chain} --frames 1 --grid {grid}", "at least two ends"),
    ("sample {out} --seeds 0", "does not exist"),
    ("sample {chain}/autoencoder --seeds 0", "a latent diffusion is needed here"),
    ("sample {chain} --seeds x", "--seeds must be numbers and ranges"),
    ("sample {chain} --class red --grid {grid}", "this model takes no 'class' (it takes caption)"),
    ("sample {chain} --size 20 --grid {grid}", "size must be a multiple of 16"),
    ("sample {chain} --steps 0 --grid {grid}", "--steps must be between 1 and 1000"),
    ("sample {chain} --columns 0 --grid {grid}", "--columns must be above 0"),
    ("sample {chain} --guidance nan --grid {grid}", "--guidance must be a number"),
    ("sample {chain} --tiny {chain} --grid {grid}", "name a folder for them with --previews"),
    ("sample {chain} --previews {out} --tiny {chain} --grid {grid}", "a tiny decoder is needed here"),
    ("sample {chain} --grid {out}.jpg", "ends in .png"),
    ("sample {chain} --seeds 0 --steps 1 --grid {note}/grid.png", "cannot write"),
    ("reconstruct {chain} --data {scans} --out {out}", "has 1 channel of uint16"),
    ("reconstruct {chain} --data {pictures} --out {out} --most 0", "--most must be above 0"),
    ("evaluate {chain} --data {scans}", "has 1 channel of uint16"),
    ("evaluate {chain} --data {pictures} --samples 2", "--samples must be between 3 and"),
    ("evaluate {chain} --data {pictures} --most 0", "--most must be above 0"),
    ("evaluate {chain} --data {pictures} --out {chain}", "holds what calotype trained: choose another --out"),
    ("evaluate {chain} --data {pictures} --out {note}", "is a file: --out is a folder"),
    ("evaluate {chain} --data {pictures} --lpips-heads {note}", "--lpips-heads needs --vgg16"),
    ("evaluate {chain} --data {pictures} --inception {out}", "the Inception weights"),
    ("presets more", "unknown preset 'more'"),
    ("presets kl-f8 more", "Unrecognized options: more"),
]


@pytest.mark.parametrize(("command", "message"), MISTAKES, ids=[command for command, _ in MISTAKES])
def test_a_mistake_is_one_line(
    command: str, message: str, places: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([word.format(**places) for word in command.split()]) == 2
    shown = capsys.readouterr()
    (line,) = [line for line in shown.err.splitlines() if line.startswith("calotype")]
    assert message in line
    assert "Traceback" not in shown.err
    assert not shown.out
    assert not places["out"].exists()
    assert not places["grid"].exists()


@pytest.fixture
def small_disk() -> Iterator[None]:
    """Let no file grow beyond 64 KiB, which is what a full disk looks like to a writer of weights."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**16, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.usefixtures("small_disk")
def test_a_full_disk_is_one_line_and_leaves_no_half_checkpoint(
    picture_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_folder = tmp_path / "run"
    options = ["--data", str(picture_folder), "--out", str(run_folder), "--samples", "8", "--size", "16"]
    assert run(["train", "kl-f8-debug", *options, "--device", "cpu"]) == 2
    complaint = capsys.readouterr().err.splitlines()[-1]
    assert complaint.startswith(f"calotype train: cannot write {run_folder}/checkpoints/0000000008")
    assert "MiB free on that disk" in complaint
    assert not list((run_folder / "checkpoints").iterdir())
