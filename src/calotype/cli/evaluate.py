"""``calotype evaluate``."""

from pathlib import Path
from typing import Annotated, Any

import tyro


def command(
    model: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="MODEL")],
    /,
    *,
    data: str,
    out: Path | None = None,
    samples: int = 384,
    seed: int = 0,
    device: str = "auto",
) -> None:
    """Measure a trained model against images, each number with its protocol.

    An autoencoder: PSNR and SSIM on held-out images. A diffusion model also: kernel and Frechet distance on
    EfficientNet-Lite0 features (never called FID), and whether samples are found by their captions.

    Args:
        model: What `calotype run` or `calotype train` made, or emoji: the model that comes with the package.
        data: The images it was trained on: a folder, or emoji, emoji:faces ...; held-out images are those of training.
        out: Also write the numbers with their protocols to this JSON file.
        samples: How many samples to draw.
        seed: Seed of the first sample.
        device: Where to compute: auto, cpu, cuda, mps.
    """
    from calotype.artifact import read_artifact
    from calotype.chain.judge import MOST_REAL, judge_autoencoder, judge_samples
    from calotype.chain.report import metric_rows
    from calotype.chain.source import open_source
    from calotype.chain.stages import check_pixels
    from calotype.cli.values import model_folder
    from calotype.pipeline import LatentDiffusion, load_autoencoder, load_latent_diffusion
    from calotype.training.session import start_session
    from calotype.utils.errors import UserError
    from calotype.utils.files import write_json

    if not 3 <= samples <= MOST_REAL:
        raise UserError(f"--samples must be between 3 and {MOST_REAL}, not {samples}")
    artifact = read_artifact(model_folder(model))
    autoencoder = load_autoencoder(artifact)
    session, source = start_session(device), open_source(data)
    check_pixels(source.train, autoencoder)
    autoencoder.model.to(session.device)
    found = judge_autoencoder(autoencoder, source.held_out).metrics
    print(
        f"reconstruction: PSNR {found['psnr']:.2f} dB, SSIM {found.get('ssim', float('nan')):.3f}, {found['n']} images"
    )
    results: dict[str, Any] = {"reconstruction": found}
    if artifact.kind == LatentDiffusion.kind:
        ldm = load_latent_diffusion(artifact).to(session.device)
        judgement = judge_samples(ldm, source, session, count=samples, seed=seed, progress=True)
        if judgement.note:
            print(judgement.note)
        for name, drawn in judgement.sets.items():
            results[name] = drawn.metrics
            for label, value, scale, _ in metric_rows(drawn.metrics or {}):
                print(
                    f"{name}: {label} {value:.4f}"
                    + (f" (real images or chance {scale:.4f})" if scale is not None else "")
                )
        results["copies"] = judgement.copies
        print(f"copies of training images: {judgement.copies['copies']:.1%} of samples")
    if out is not None:
        write_json(out, results)
        print(f"numbers with their protocols: {out}")
