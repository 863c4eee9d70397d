"""What the benchmarks of conditions share: models on the embedded autoencoder's latents of emoji, and their page."""

import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from calotype.artifact import Artifact, read_artifact, versions
from calotype.chain.frozen import prepare_frozen
from calotype.chain.source import Source
from calotype.chain.stages import latent_loader, loader
from calotype.data.emoji import EmojiSet
from calotype.pipeline import LatentDiffusion, load_autoencoder, load_latent_diffusion
from calotype.presets import DIFFUSION
from calotype.presets.embedded import embedded_model
from calotype.presets.tasks import Conditions
from calotype.training.diffusion_recipe import DiffusionRecipe
from calotype.training.session import Session
from calotype.training.trainer import Trainer, TrainerConfig
from calotype.utils.images import image_grid, save_png


class Bench:
    """Trains diffusion models under other conditions, all else equal; the first to be trained sets the length."""

    def __init__(self, runs: Path, session: Session, seconds: float, preset: str) -> None:
        self.runs, self.session, self.seconds, self.preset = runs, session, seconds, DIFFUSION[preset]
        self.artifact: Artifact = read_artifact(embedded_model())
        self.first_stage = load_autoencoder(self.artifact)
        self.samples: int | None = None

    def conditions(self, source: Source, task: Any) -> Conditions:
        return self.preset.conditions(source.train, task, factor=self.first_stage.model.factor)

    def train(self, name: str, source: Source, conditions: Conditions) -> LatentDiffusion:
        """Train, or go on with what was trained before in ``runs``."""
        run = self.runs / name
        images = loader(source.train.in_format(self.first_stage.pixel_format), self.first_stage.size, 0)
        index = prepare_frozen(conditions.conditioner, images, run.with_suffix(".frozen"), self.session)
        train, held_out = (
            latent_loader(self.artifact, images, self.runs / "latents", 0, self.session, conditions, index)
            for images in (source.train, source.held_out)
        )
        config = self.preset.recipe(self.first_stage.model.latent_channels, source.train, conditions)
        length = {"minutes": self.seconds / 60} if self.samples is None else {"samples": self.samples}
        settings = TrainerConfig(
            out=str(run), batch_size=self.preset.batch_size, device=str(self.session.device), **length
        )
        torch.manual_seed(0)
        recipe = DiffusionRecipe(config, self.artifact, train, held_out, index)
        checkpoint = Trainer(replace(settings, ema=self.preset.method.ema)).fit(recipe, train)
        self.samples = int(checkpoint.name) if self.samples is None else self.samples
        return load_latent_diffusion(read_artifact(checkpoint)).to(self.session.device)

    def facts(self) -> dict[str, Any]:
        device = self.session.device
        return {
            **versions(),
            "device": torch.cuda.get_device_name() if device.type == "cuda" else f"{platform.machine()} CPU",
            "threads": torch.get_num_threads(),
            "preset": self.preset.name,
            "training samples of each model": self.samples,
        }


def changed(images: EmojiSet, keep: Any = None, without: Sequence[str] = ()) -> EmojiSet:
    """Return the emoji that ``keep`` wants, ``without`` some of their fields."""
    records = (record for record in images.records if keep is None or keep(record))
    return EmojiSet(
        images.source,
        (
            replace(record, fields={name: value for name, value in record.fields.items() if name not in without})
            for record in records
        ),
    )


def standard_error(share: float, count: int) -> float:
    return (share * (1 - share) / max(count, 1)) ** 0.5


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def labelled_rows(rows: Mapping[str, Tensor], padding: int = 2, margin: int = 150) -> Any:
    """Return rows of images, each with its name on the left, as one picture."""
    grids = {name: image_grid(images, columns=len(images), padding=padding) for name, images in rows.items()}
    height = sum(len(grid) for grid in grids.values())
    sheet = Image.new("RGB", (margin + max(grid.shape[1] for grid in grids.values()), height), "white")
    draw, font, top = ImageDraw.Draw(sheet), ImageFont.load_default(13), 0
    for name, grid in grids.items():
        sheet.paste(Image.fromarray(grid), (margin, top))
        draw.text((6, top + len(grid) / 2 - 8), name, fill="black", font=font)
        top += len(grid)
    return sheet


def write(out: Path, name: str, result: Mapping[str, Any], page: str, picture: Any) -> None:
    """Write NAME.json, NAME.md and NAME.png, and say so."""
    import numpy as np

    out.mkdir(parents=True, exist_ok=True)
    (out / f"{name}.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    (out / f"{name}.md").write_text(page, encoding="utf-8")
    save_png(out / f"{name}.png", np.asarray(picture))
    print(f"wrote {out / name}.json, .md and .png")
