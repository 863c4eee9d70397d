"""Train the model that comes with the package, and export it: `calotype sample emoji` draws from it.

    .venv/bin/python scripts/train_embedded.py --autoencoder-minutes 15 --diffusion-minutes 60

Stop it and run it again: it goes on. Weights are stored in half precision (16 MB is the limit); MODEL_CARD.md is
written from what was measured.
"""

import argparse
import json
import logging
import shutil
from pathlib import Path

import torch

from calotype.artifact import read_artifact, resolve, write_artifact
from calotype.chain.judge import judge_autoencoder, judge_samples
from calotype.chain.report import metric_rows
from calotype.chain.source import Source, open_source
from calotype.chain.stages import train_autoencoder, train_diffusion
from calotype.pipeline import load_latent_diffusion
from calotype.presets import AUTOENCODERS, DIFFUSION
from calotype.presets.embedded import FOLDER
from calotype.training.session import Session, start_session
from calotype.training.trainer import TrainerConfig

LIMIT = 16_000_000
COMPONENTS = ("autoencoder", "network", "conditioner")
FIRST, SECOND = AUTOENCODERS["kl-f4-small"], DIFFUSION["ldm-emoji"]

CARD = """# The emoji model

Draws 64 px emoji in three styles from a caption: `calotype sample emoji --caption "a red apple, 3d style"`.

- **Data**: the {train} training images of the embedded emoji set (Fluent 3D and Flat, MIT; Noto, Apache-2.0; see
  `data/embedded/NOTICE.md`); {held_out} held out. The weights are released under the MIT licence.
- **Made by**: `scripts/train_embedded.py`; autoencoder preset `{autoencoder}` ({autoencoder_samples} images),
  diffusion preset `{diffusion}` ({diffusion_samples} images, on {device}); moving averages of the weights in half
  precision, {size:.1f} MB.
- **Vocabulary**: the words of the set's names and tags; other words are left out, and said so.

| conditions of | metric | value | real images or chance |
|---|---|---|---|
{rows}

Reconstruction of {n} held-out images: PSNR {psnr:.2f} dB, SSIM {ssim:.3f}. Copies of training images (see the report's
protocol): {copies:.1%} of {samples} samples, {held_out_copies:.1%} of held-out real images.

KID-EffLite0 and FD-EffLite0 are distances on EfficientNet-Lite0 features; they are no FID and cannot be compared with
one. It is a small model of simple pictures: unseen concepts come out as something of the right style at best.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/embedded"))
    parser.add_argument("--autoencoder-minutes", type=float, default=15.0)
    parser.add_argument("--diffusion-minutes", type=float, default=60.0)
    parser.add_argument("--samples", type=int, default=384)
    parser.add_argument("--export-only", action="store_true", help="export and measure the latest checkpoint in --out")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")

    session, source = start_session(), open_source("emoji")
    if not arguments.export_only:
        train(source, session, arguments.out, arguments.autoencoder_minutes, arguments.diffusion_minutes)
    export(resolve(arguments.out / "diffusion"))
    card = model_card(source, session, arguments.out, arguments.samples)
    (FOLDER / "MODEL_CARD.md").write_text(card, encoding="utf-8")
    print(card)


def train(source: Source, session: Session, out: Path, autoencoder_minutes: float, diffusion_minutes: float) -> None:
    settings = TrainerConfig(out=str(out / "autoencoder"), minutes=autoencoder_minutes, batch_size=FIRST.batch_size)
    checkpoint = train_autoencoder(FIRST, source, [64], settings, from_scratch=True)
    artifact = read_artifact(checkpoint, kind="autoencoder")
    settings = TrainerConfig(out=str(out / "diffusion"), minutes=diffusion_minutes, batch_size=SECOND.batch_size)
    train_diffusion(SECOND, source, artifact, out / "latents", settings, session)


def model_card(source: Source, session: Session, out: Path, samples: int) -> str:
    """Measure the exported model and describe it."""
    model = load_latent_diffusion(read_artifact(FOLDER)).to(session.device)
    found = judge_autoencoder(model.first_stage, source.held_out).metrics
    judgement = judge_samples(model, source, session, count=samples, seed=0, progress=True)
    rows = [
        f"| {name} | {label} | {value:.3f} | {'' if scale is None else f'{scale:.3f}'} |"
        for name, drawn in {"training": judgement.samples, **judgement.questions}.items()
        for label, value, scale, _ in metric_rows(drawn.metrics or {})
    ]
    size = sum(path.stat().st_size for path in FOLDER.glob("*.safetensors"))
    return CARD.format(
        train=len(source.train),
        held_out=sum(len(images) for images in source.questions.values()),
        autoencoder=FIRST.name,
        diffusion=SECOND.name,
        autoencoder_samples=samples_seen(out / "autoencoder"),
        diffusion_samples=samples_seen(out / "diffusion"),
        device=f"a {session.device.type.upper()}, torch {torch.__version__}",
        size=size / 1e6,
        rows="\n".join(rows),
        n=found["n"],
        psnr=found["psnr"],
        ssim=found["ssim"],
        copies=judgement.copies["copies"],
        samples=judgement.copies["n_samples"],
        held_out_copies=judgement.copies["held_out_copies"],
    )


def export(checkpoint: Path) -> None:
    """Copy the moving averages of a checkpoint to the package, in half precision."""
    artifact = read_artifact(checkpoint, kind="latent_diffusion")
    weights = {name: artifact.weights(name, "ema") for name in COMPONENTS}
    halves = {name: {key: value.half() for key, value in state.items()} for name, state in weights.items()}
    size = sum(value.numel() * 2 for state in halves.values() for value in state.values())
    assert size <= LIMIT, f"{size} bytes are more than {LIMIT}"
    kept = {key: value for key, value in artifact.provenance.items() if key in ("samples_seen",)}
    shutil.rmtree(FOLDER, ignore_errors=True)
    write_artifact(FOLDER, kind=artifact.kind, config=artifact.config, components=halves, provenance=kept)


def samples_seen(run: Path) -> int:
    return int(json.loads((run / "config.json").read_text(encoding="utf-8"))["config"]["samples"])


if __name__ == "__main__":
    main()
