"""What the benchmarks of tasks share: tiles, one autoencoder, a model for each task in equal time, and a judge."""

import argparse
import logging
import platform
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from calotype.artifact import read_artifact, versions
from calotype.chain.source import Source, open_images
from calotype.chain.stages import loader, train_autoencoder, train_diffusion
from calotype.evaluation import paired_kernel_distance, reconstruction_metrics
from calotype.evaluation.instruments import load_instruments
from calotype.pipeline import LatentDiffusion, load_latent_diffusion
from calotype.presets import AUTOENCODERS, DIFFUSION
from calotype.presets.tasks import Task
from calotype.training.session import start_session
from calotype.training.trainer import TrainerConfig

SIZE = 64


def parse(doc: str | None, name: str) -> argparse.Namespace:
    """Return the options that these benchmarks have in common."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--tiles", type=Path, required=True, help="a folder with train/ and held_out/, of 64 x 64 pixels"
    )
    parser.add_argument("--seconds", type=float, default=600.0, help="of training, for each model")
    parser.add_argument("--images", type=int, default=512, help="held-out tiles to measure on")
    parser.add_argument("--steps", type=int, default=20, help="steps of DPM-Solver++(2M)")
    parser.add_argument("--runs", type=Path, default=Path("runs/tasks"), help="of both benchmarks: one autoencoder")
    parser.add_argument("--out", type=Path, default=Path("docs/results"), help=f"folder for {name}.json, .png and .md")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    arguments.out.mkdir(parents=True, exist_ok=True)
    return arguments


class Bench:
    """Trains on the tiles; what is finished under ``runs`` stays and is used again."""

    def __init__(self, tiles: Path, runs: Path, seconds: float) -> None:
        self.runs, self.seconds, self.session = runs, seconds, start_session()
        train, held_out = (open_images(str(tiles / part)) for part in ("train", "held_out"))
        self.source = Source(train, held_out, {}, [], SIZE)
        preset = AUTOENCODERS["kl-f4-small"]
        settings = self._settings("autoencoder", preset.batch_size)
        self.autoencoder = read_artifact(train_autoencoder(preset, self.source, (SIZE,), settings))
        self.seen: dict[str, int] = {}

    def train(self, name: str, task: Task) -> LatentDiffusion:
        """Return a model for ``task``."""
        preset = DIFFUSION["modern"]
        batch_size = preset.batch_size_on(self.session.device.type)
        settings, latents = self._settings(name, batch_size), self.runs / "latents"
        checkpoint = train_diffusion(preset, self.source, self.autoencoder, latents, settings, self.session, task)
        self.seen[name] = int(checkpoint.name)
        return load_latent_diffusion(read_artifact(checkpoint)).to(self.session.device)

    def originals(self, count: int) -> Tensor:
        """Return held-out tiles, spread over the half of them with more detail: skies tell methods not apart."""
        tiles = loader(self.source.held_out, SIZE, 0).at(range(len(self.source.held_out))).images
        detail = sum(tiles.diff(dim=axis).abs().mean((1, 2, 3)) for axis in (2, 3))
        assert isinstance(detail, Tensor)
        half = tiles[detail >= detail.median()]
        count = min(count, len(half))
        return half[[index * len(half) // count for index in range(count)]]

    def protocol(self) -> dict[str, Any]:
        """Return what the numbers depend on."""
        gpu = torch.cuda.get_device_name() if self.session.device.type == "cuda" else None
        return {
            "data": {"train": len(self.source.train), "held_out": len(self.source.held_out), "size": SIZE},
            "measured_on": "the half of the held-out tiles whose neighbouring pixels differ more",
            "seconds_of_training_per_model": self.seconds,
            "images_seen": self.seen,
            "autoencoder": "kl-f4-small from the package's weights",
            "diffusion": "modern",
            "machine": {**versions(), "device": gpu or cpu(), "precision": "bf16" if self.session.bf16 else "fp32"},
        }

    def _settings(self, name: str, batch_size: int) -> TrainerConfig:
        return TrainerConfig(out=str(self.runs / name), minutes=self.seconds / 60, batch_size=batch_size)


class Judge:
    """How near images are to their originals, and how near the whole set is to theirs."""

    def __init__(self, bench: Bench, originals: Tensor) -> None:
        self.instruments, self.originals = load_instruments(3, bench.session.device), originals
        self.device = bench.session.device
        self.features = [network.extract([originals]) for network in self.instruments.features]

    @torch.no_grad()
    def __call__(self, images: Tensor) -> dict[str, float]:
        values = reconstruction_metrics(self.originals, images)
        found = {"psnr": round(float(values["psnr"]), 3), "ssim": round(float(values["ssim"]), 4)}
        if self.instruments.perceptual is not None:
            pairs = zip(images.split(64), self.originals.split(64), strict=True)
            distances = [
                self.instruments.perceptual.distance(a.to(self.device), b.to(self.device)).flatten().cpu()
                for a, b in pairs
            ]
            found["perceptual"] = round(float(torch.cat(distances).mean()), 4)
        for features, network in zip(self.features, self.instruments.features, strict=True):
            distance = paired_kernel_distance(features, network.extract([images]))
            found[f"KID-{network.short_name}"] = round(distance.value, 4)
            found[f"KID-{network.short_name} +-"] = round(distance.standard_error, 4)
        return found


def cpu() -> str:
    """Return the processor's name, where Linux tells it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.machine())


def setting(found: dict[str, Any]) -> str:
    """Return what the numbers of a page were measured on, in sentences."""
    data, machine = found["data"], found["machine"]
    seen = ", ".join(f"{name} {count:,}" for name, count in found["images_seen"].items())
    return (
        f"{found['images']} held-out tiles of {data['size']} pixels, of the half with more detail. Each model was "
        f"trained for {found['seconds_of_training_per_model']:g} s on {data['train']} tiles ({machine['device']}, "
        f"{machine['precision']}; images seen: {seen}) and draws in {found['steps']} steps."
    )


def table(rows: dict[str, dict[str, float]], first: str) -> str:
    """Return a table in Markdown: one row for each name, with standard errors beside their values."""
    columns = [name for name in dict.fromkeys(name for row in rows.values() for name in row) if not name.endswith("+-")]
    lines = [f"| {first} | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    for name, row in rows.items():
        cells = [
            f"{row[column]:g}" + (f" +- {row[f'{column} +-']:g}" if f"{column} +-" in row else "")
            if column in row
            else ""
            for column in columns
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def draw(rows: list[tuple[str, Tensor]], path: Path, scale: int = 2) -> None:
    """Draw rows of images in [-1, 1], all of one size, with their names."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    count = len(rows[0][1])
    figure, axes = plt.subplots(
        len(rows), 1, figsize=(count * SIZE * scale / 100 + 1.6, len(rows) * (SIZE * scale / 100 + 0.06)), squeeze=False
    )
    for axis, (name, images) in zip(axes[:, 0], rows, strict=True):
        picture = torch.cat(list(images), dim=2).permute(1, 2, 0).clamp(-1, 1).numpy()
        axis.imshow((picture + 1) / 2, interpolation="nearest")
        axis.set(xticks=[], yticks=[])
        axis.set_ylabel(name, rotation=0, ha="right", va="center")
    figure.tight_layout(pad=0.3)
    figure.savefig(path, dpi=100, bbox_inches="tight", pad_inches=0.05)
