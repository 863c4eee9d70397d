"""What layout.py and semantic.py share: scenes, an autoencoder for them, models trained for so many seconds."""

import argparse
import statistics
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from calotype.artifact import Artifact, read_artifact, versions
from calotype.chain.source import open_source
from calotype.chain.stages import train_autoencoder, train_diffusion
from calotype.data.scenes import Scene, compose_scene, write_scenes
from calotype.pipeline import LatentDiffusion, load_autoencoder, load_latent_diffusion
from calotype.presets import DIFFUSION, find_preset
from calotype.presets.tasks import Task
from calotype.training.session import start_session
from calotype.training.trainer import TrainerConfig
from calotype.utils.files import write_json
from calotype.utils.size import Size

SIZE, PRESET, GUIDANCE = 64, DIFFUSION["modern"], 3.0
TRAIN, HELD_OUT = 0, 1
NEVER = 10**9


def arguments(description: str | None, name: str) -> argparse.Namespace:
    """Return the options that both take."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=120.0, help="training of each diffusion model")
    parser.add_argument("--seeds", type=int, default=1, help="models of each kind")
    parser.add_argument("--scenes", type=int, default=4000, help="scenes to train on")
    parser.add_argument("--drawn", type=int, default=512, help="held-out scenes that are drawn")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--runs", type=Path, default=Path("runs/scenes"))
    parser.add_argument("--out", type=Path, default=Path("docs/results"), help=f"folder for {name}.json, .png and .md")
    return parser.parse_args()


class SceneBench:
    """Scenes with an autoencoder trained on them (from the package's weights, for half the seconds)."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options, self.runs = options, options.runs
        self.session = start_session(options.device)
        self.device = self.session.device
        folder = self.runs / f"scenes-{options.scenes}"
        if not folder.exists():
            write_scenes(folder, options.scenes, size=SIZE)
        self.source = open_source(str(folder))
        self.artifact = self._autoencoder()
        self.first_stage = load_autoencoder(self.artifact)
        self.first_stage.model.to(self.device)

    def model(self, name: str, task: Task, seed: int) -> LatentDiffusion:
        """Train a model by the preset, once for each name and seed."""
        settings = self._settings(f"{name}-{seed}", self.options.seconds, seed)
        checkpoint = train_diffusion(
            PRESET, self.source, self.artifact, self.runs / "latents", settings, self.session, task
        )
        return load_latent_diffusion(read_artifact(checkpoint)).to(self.device)

    def scenes(self, seed: int, count: int, size: Size = SIZE) -> list[Scene]:
        """Compose scenes: of seed 0 those that training sees, of seed 1 others."""
        return [compose_scene(seed, number, size=size) for number in range(count)]

    @property
    def batch_size(self) -> int:
        """Larger on a GPU, where a batch of 64 takes no less time."""
        return 256 if self.device.type == "cuda" else PRESET.batch_size

    def about(self, **more: Any) -> dict[str, Any]:
        """Return under which conditions the numbers were found."""
        options = self.options
        device = torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else f"{self.device}"
        return {
            **more,
            "data": f"{options.scenes} scenes of 1 to 4 objects at {SIZE}x{SIZE}; drawn are {options.drawn} others",
            "model": f"{PRESET.name}, {options.seconds:g} s for each, batch {self.batch_size}",
            "autoencoder": f"kl-f4-small from the package's weights, {options.seconds / 2:g} s on the scenes",
            "samples": f"averaged weights, 20 steps of DPM-Solver++(2M), guidance {GUIDANCE:g}, one per scene",
            "device": f"{device}, {'bf16' if self.session.bf16 else 'float32'}",
            **versions(),
        }

    def _autoencoder(self) -> Artifact:
        preset: Any = find_preset("kl-f4-small")
        settings = replace(self._settings("autoencoder", self.options.seconds / 2, 0), batch_size=preset.batch_size)
        return read_artifact(train_autoencoder(preset, self.source, [SIZE], settings))

    def _settings(self, name: str, seconds: float, seed: int) -> TrainerConfig:
        return TrainerConfig(
            out=str(self.runs / f"{name}-{seconds:g}s"),
            minutes=seconds / 60,
            batch_size=self.batch_size,
            seed=seed,
            device=self.options.device,
            validate_every=NEVER,
            preview_every=NEVER,
            checkpoint_every=NEVER,
        )


def mean_and_error(values: Sequence[float]) -> dict[str, float]:
    """Return the mean over images and its standard error."""
    error = statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else 0.0
    return {"mean": round(statistics.mean(values), 4), "standard_error": round(error, 4)}


def write_page(out: Path, name: str, title: str, about: dict[str, Any], shown: str, table: Sequence[str]) -> None:
    """Write NAME.md beside NAME.json; ``shown`` says what is in the picture, ``table`` begins with its header."""
    facts = "\n".join(f"- {key}: {value}" for key, value in about.items())
    ruler = "|" + "---|" * (table[0].count("|") - 1)
    lines = [f"# {title}", "", facts, "", f"![{title}]({name}.png)", "", shown, "", table[0], ruler, *table[1:]]
    (out / f"{name}.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


def write_results(out: Path, name: str, about: dict[str, Any], rows: dict[str, Any]) -> None:
    """Write NAME.json."""
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / f"{name}.json", {"about": about, "rows": rows})
