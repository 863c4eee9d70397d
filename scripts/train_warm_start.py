"""Train the general-purpose autoencoders that `calotype run` and `calotype train` start from, and export them.

    .venv/bin/python scripts/build_tiles.py --out runs/tiles /usr/share/backgrounds /usr/share/wallpapers
    .venv/bin/python benchmarks/warm_start.py --cut-only
    .venv/bin/python scripts/train_warm_start.py kl-f4-small runs/tiles runs/warm_start/photographs --samples 24000

They learn from tiles of photographs and from the training images of the embedded emoji. The held-out tiles, of other
photographs, the emoji that the embedded set holds out, and the photographs in scikit-image are only measured on. Stop
it and run it again: it goes on. Weights are stored in half precision (12 MB is the limit), and MODEL_CARD.md is written
from what was measured.
"""

import argparse
import logging
import shutil
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from calotype.artifact import Artifact, read_artifact, write_artifact
from calotype.chain.judge import judge_autoencoder
from calotype.data.emoji import emoji
from calotype.data.folder import ImageFolder, scan_folder
from calotype.data.image_set import ImageSet
from calotype.data.loader import Loader
from calotype.data.transforms import Transform
from calotype.pipeline import load_autoencoder
from calotype.presets import AUTOENCODERS
from calotype.presets.autoencoders import WARM
from calotype.presets.embedded import FOLDER as EMOJI_MODEL
from calotype.training.autoencoder_recipe import AutoencoderRecipe, AutoencoderRecipeConfig
from calotype.training.initial_weights import InitialWeights
from calotype.training.trainer import Trainer, TrainerConfig
from calotype.utils.files import digest

SIZE = 64
TILES, HELD_OUT, STATISTICS = 8_000, 256, 1_024
BEFORE = {
    "kl-f4-small": "It goes on from the autoencoder of the embedded emoji model",
    "kl-f8-small": "Its outer layers go on from those of an early `kl-f4-small`",
}
RATE = {"kl-f4-small": 3e-3, "kl-f8-small": 1.5e-3}
SHARED = ("encoder.conv_in", "encoder.down.0.block", "decoder.up.0.block", "decoder.norm_out", "decoder.conv_out")
LIMIT = 12_000_000
COLOURS = ((0, 1, 2), (1, 2, 0), (0, 1, 2), (2, 0, 1), (0, 1, 2), (2, 1, 0))

CARD = """# {name}, to start from

The autoencoder that `calotype run` and `calotype train {name}` start from, unless told `--from-scratch`.

- **Data**: {tiles} tiles ({size} px, several scales) of {pictures} photographs and drawn wallpapers, and {emoji} emoji,
  the training images of the embedded set (`data/embedded/NOTICE.md`): what `emoji` and `emoji:faces` hold out
  was not seen. The pictures come from the Debian packages mate-backgrounds, lomiri-wallpapers-16.04,
  lomiri-wallpapers-20.04 and plasma-workspace-wallpapers, under the GPL-2+, CC-BY and CC-BY-SA; the weights are
  trained on them, and they are not shipped.
- **Made by**: `scripts/train_warm_start.py` on a CPU with torch {torch}.
  {before}; it sees {samples} images. Preset
  `{name}` without a discriminator, which every run has of its own; moving averages of the weights in half precision,
  {megabytes:.1f} MB.

| reconstruction of | images | PSNR, dB | SSIM |
|---|---|---|---|
{rows}

No training saw any of these. `benchmarks/warm_start.py` measures what starting from here is worth.
"""


class TilesAndEmoji(ImageSet):
    """Tiles, half of them with their colours exchanged (there are few photographs), and emoji as they are."""

    def __init__(self, tiles: ImageSet, emoji: ImageSet) -> None:
        self.source, self.pixel_format = "photographs and emoji", tiles.pixel_format
        self.tiles, self.emoji, self.records = tiles, emoji, (*tiles.records, *emoji.records)

    def pixels(self, index: int) -> np.ndarray:
        if index >= len(self.tiles):
            return self.emoji.pixels(index - len(self.tiles))
        return self.tiles.pixels(index)[..., COLOURS[index % len(COLOURS)]]

    @cached_property
    def fingerprint(self) -> str:
        return digest(self.tiles.fingerprint, self.emoji.fingerprint)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("preset", choices=["kl-f4-small", "kl-f8-small"])
    parser.add_argument("tiles", type=Path)
    parser.add_argument("photographs", type=Path)
    parser.add_argument("--out", type=Path, default=Path("runs/warm"))
    parser.add_argument("--samples", type=int, default=24_000)
    parser.add_argument("--export-only", action="store_true", help="export and measure the latest checkpoint in --out")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")

    run, target = arguments.out / arguments.preset, WARM / arguments.preset
    if not arguments.export_only:
        fit(arguments.preset, arguments.tiles, run, arguments.samples)
    export(read_artifact(run, kind="autoencoder"), target)
    card = model_card(arguments.preset, arguments.tiles, arguments.photographs, target)
    (target / "MODEL_CARD.md").write_text(card, encoding="utf-8")
    print(card)


def fit(name: str, tiles: Path, out: Path, samples: int) -> Path:
    """Train without a discriminator: every run that starts from the result has one of its own."""
    train = TilesAndEmoji(most_detailed(scan_folder(tiles / "train").images), emoji().train)
    preset = AUTOENCODERS[name]
    config = replace(preset.recipe(train.pixel_format, SIZE), disc_from=1.0)
    config = replace(config, optimiser=replace(config.optimiser, learning_rate=RATE[name]))
    torch.manual_seed(0)
    initial = before(name, config, out.parent)
    few, watched = (
        Loader(evenly(images, count), Transform(size=SIZE))
        for images, count in ((train, STATISTICS), (scan_folder(tiles / "held_out").images, HELD_OUT))
    )
    settings = TrainerConfig(out=str(out), samples=samples, batch_size=preset.batch_size)
    recipe = AutoencoderRecipe(config, few, watched, initial)
    return Trainer(settings).fit(recipe, Loader(train, Transform(size=SIZE, flip=True)))


def before(name: str, config: AutoencoderRecipeConfig, runs: Path) -> InitialWeights:
    """Return what training begins with, so that little of its time goes into the first steps.

    kl-f4-small has the shape of the embedded emoji model's autoencoder, and goes on from there. kl-f8-small is
    kl-f4-small with a level inside it: what they share begins as it is there, the rest at random.
    """
    if name == "kl-f4-small":
        return InitialWeights("emoji", read_artifact(EMOJI_MODEL).weights("autoencoder"))
    state = config.autoencoder.build().state_dict()
    outer = read_artifact(runs / "kl-f4-small").weights("autoencoder")
    shared = {key: value for key, value in outer.items() if key.startswith(SHARED) and value.shape == state[key].shape}
    return InitialWeights("kl-f4-small", {**state, **shared})


def export(artifact: Artifact, target: Path) -> None:
    """Copy the moving averages of a checkpoint to the package, in half precision."""
    halves = {key: value.half() for key, value in artifact.weights("autoencoder", "ema").items()}
    size = sum(value.numel() * 2 for value in halves.values())
    assert size <= LIMIT, f"{size} bytes are more than {LIMIT}"
    shutil.rmtree(target, ignore_errors=True)
    seen = {"samples_seen": artifact.provenance["samples_seen"]}
    write_artifact(
        target, kind=artifact.kind, config=artifact.config, components={"autoencoder": halves}, provenance=seen
    )


def model_card(name: str, tiles: Path, photographs: Path, target: Path) -> str:
    """Measure the exported weights and describe them."""
    artifact = read_artifact(target)
    autoencoder, splits = load_autoencoder(artifact), emoji()
    train = most_detailed(scan_folder(tiles / "train").images)
    sets = {
        "tiles of held-out photographs": evenly(scan_folder(tiles / "held_out").images, 2 * HELD_OUT),
        "emoji of unseen concepts": splits.held_out_concepts,
        "squares of the photographs in scikit-image": scan_folder(photographs).images,
    }
    found = {title: judge_autoencoder(autoencoder, images).metrics for title, images in sets.items()}
    return CARD.format(
        name=name,
        tiles=len(train),
        pictures=len({record.name.rpartition("_")[0] for record in train.records}),
        size=SIZE,
        emoji=len(splits.train),
        samples=artifact.provenance["samples_seen"],
        before=BEFORE[name],
        torch=torch.__version__,
        megabytes=sum(path.stat().st_size for path in target.glob("*.safetensors")) / 1e6,
        rows="\n".join(f"| {title} | {m['n']} | {m['psnr']:.2f} | {m['ssim']:.3f} |" for title, m in found.items()),
    )


def evenly(images: ImageSet, count: int) -> ImageSet:
    """Return about ``count`` of the images, from beginning to end."""
    return images.subset(range(0, len(images), max(1, len(images) // count)))


def most_detailed(tiles: ImageFolder) -> ImageSet:
    """Return the ``TILES`` tiles with the largest files: much of a photograph is sky."""
    sizes = [(tiles.root / record.name).stat().st_size for record in tiles.records]
    return tiles.subset(sorted(np.argsort(sizes)[-TILES:].tolist()))


if __name__ == "__main__":
    main()
