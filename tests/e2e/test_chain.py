"""The whole chain, run once at debug size: what it leaves behind, and that it can be stopped and called again."""

import json
import os
import signal
import subprocess
import sys
import time
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import calotype as ct
from calotype.chain.run import run_chain
from calotype.cli import run
from calotype.training.logs import read_metrics
from calotype.utils.errors import UserError

STAGES = ("autoencoder", "diffusion")


class Links(HTMLParser):
    """Collects the tags of a page and everything that it would load."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.sources: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.sources += [value or "" for name, value in attrs if name in ("src", "href", "srcset")]


def checkpoints(chain: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in chain.glob("*/checkpoints/*/*")}


def drawn(folder: Path, seed: int) -> np.ndarray:
    return np.asarray(Image.open(folder / f"{seed}.png")).astype(int)


def test_load_needs_the_folder_alone(chain: Path) -> None:
    model = ct.load(chain)
    assert isinstance(model, ct.LatentDiffusion)
    assert model.conditioner.fields == ("caption",)
    assert model.sample(seeds=[0], steps=2, caption=["a red wave"]).shape == (1, 3, 32, 32)
    autoencoder = ct.load(chain / "autoencoder")
    assert isinstance(autoencoder, ct.TrainedAutoencoder)
    assert autoencoder.size == 32
    assert ct.read_artifact(chain, kind="autoencoder").folder.parts[-3:-1] == ("autoencoder", "checkpoints")


def test_image_i_depends_on_seed_i_only(chain: Path, tmp_path: Path) -> None:
    asked = ["sample", str(chain), "--caption", "a red wave, thin style", "--steps", "4"]
    assert run([*asked, "--seeds", "0-3", "--grid", str(tmp_path / "grid.png"), "--out", str(tmp_path / "four")]) == 0
    assert run([*asked, "--seeds", "2", "--out", str(tmp_path / "one")]) == 0
    four = {seed: drawn(tmp_path / "four", seed) for seed in range(4)}
    assert np.abs(four[2] - drawn(tmp_path / "one", 2)).max() <= 1
    others = [np.abs(four[2] - four[other]).max() for other in (0, 1, 3)]
    assert min(others) > 5, others
    grid = np.asarray(Image.open(tmp_path / "grid.png")).astype(int)
    assert grid.shape == (32 + 4, 4 * 34 + 2, 3)
    assert np.abs(grid[2:34, 2 + 2 * 34 : 2 + 2 * 34 + 32] - four[2]).max() <= 1


def test_the_report_has_every_section_and_loads_nothing(chain: Path) -> None:
    page = (chain / "report.html").read_text()
    for title in ("Data and plan", "Autoencoder", "Diffusion model", "Guidance", "Style variations", "Unseen images"):
        assert f"<h2>{title}</h2>" in page
    assert "<h2>Nearest training images</h2>" in page
    assert "KID-EffLite0 against training images" in page
    assert "caption agreement, top 1" in page
    links = Links(page)
    assert links.tags.count("img") >= 10
    assert all(source.startswith("data:image/") for source in links.sources)
    assert not {"script", "link", "iframe"} & set(links.tags)


def test_the_run_explains_itself(chain: Path) -> None:
    stored = json.loads((chain / "config.json").read_text())
    plan = stored["config"]
    assert stored["kind"] == "chain"
    assert (plan["autoencoder"], plan["diffusion"], plan["size"]) == ("kl-f8-debug", "ldm-debug", 32)
    assert plan["reasons"][0] == "18 images to train on, conditioned on their caption (18 of them have one)"
    for stage in STAGES:
        rows = read_metrics(chain / stage / "metrics.jsonl")
        total = json.loads((chain / stage / "config.json").read_text())["config"]["samples"]
        assert rows[-1]["samples"] == total
        assert any("train/loss" in row for row in rows)
        assert any(name.startswith("validation/") for row in rows for name in row)
        assert list((chain / stage / "samples").glob("*.png"))
    assert not list(chain.rglob("*.tmp"))


def test_numbers_come_with_their_protocols(chain: Path) -> None:
    metrics = json.loads((chain / "metrics.json").read_text())
    assert metrics["reconstruction"]["n"] == 6
    assert metrics["reconstruction"]["psnr"] > 5
    for name, count in (("training conditions", 16), ("unseen images", 6)):
        assert metrics[name]["kid"]["n"] == count
        assert metrics[name]["kid"]["protocol"].startswith(f"{count} images against the training images (18)")
        assert metrics[name]["caption_agreement"]["n"] == count


def test_latents_are_stored_once_for_either_split(chain: Path) -> None:
    assert len(list((chain / "latents").glob("*/*.safetensors"))) == 2


def test_a_finished_chain_only_writes_its_report_again(chain: Path, picture_folder: Path) -> None:
    before, page = checkpoints(chain), (chain / "report.html").read_text()
    (chain / "report.html").unlink()
    assert run_chain(str(picture_folder), chain, minutes=9.0, seed=5, device="cpu") == chain / "report.html"
    assert checkpoints(chain) == before
    assert (chain / "report.html").read_text() == page


def test_another_source_or_size_is_refused(chain: Path, picture_folder: Path) -> None:
    before = checkpoints(chain)
    with pytest.raises(UserError, match=r"was begun on .*pictures.*, not on emoji:faces: choose another --out"):
        run_chain("emoji:faces", chain, device="cpu")
    with pytest.raises(UserError, match="was begun at 32 px, not 64: choose another --out"):
        run_chain(str(picture_folder), chain, size=64, device="cpu")
    assert checkpoints(chain) == before


def test_stopped_by_sigterm_the_same_command_goes_on(picture_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    arguments = ["run", str(picture_folder), "--out", str(out), "--minutes", "0.02", "--size", "32", "--device", "cpu"]
    process = subprocess.Popen(
        [sys.executable, "-m", "calotype.cli", *arguments],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
        text=True,
    )
    metrics, deadline = out / "autoencoder" / "metrics.jsonl", time.monotonic() + 120
    while not metrics.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    _, complaint = process.communicate(timeout=120)
    assert process.returncode == 143, complaint
    assert complaint.splitlines()[-1].endswith("run the same command again to go on")
    (saved,) = (out / "autoencoder" / "checkpoints").iterdir()
    total = json.loads((out / "autoencoder" / "config.json").read_text())["config"]["samples"]
    assert int(saved.name) < total
    assert not (out / "diffusion").exists()

    assert run(arguments) == 0
    assert (out / "report.html").exists()
    assert read_metrics(out / "autoencoder" / "metrics.jsonl")[-1]["samples"] == total
