"""``calotype reconstruct``."""

from pathlib import Path
from typing import Annotated

import tyro


def command(
    model: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="MODEL")],
    /,
    *,
    data: str,
    out: Path,
    most: int = 64,
    device: str = "auto",
) -> None:
    """Pass images through a trained autoencoder: write what comes back, and a picture with the originals above.

    Args:
        model: What `calotype train` or `calotype run` made.
        data: A folder of images, or emoji, emoji:faces ... (of the embedded sets the held-out images are taken).
        out: Folder for the reconstructions (the originals' names, as PNG) and side_by_side.png.
        most: The most images to take.
        device: Where to compute: auto, cpu, cuda, mps.
    """
    import torch

    from calotype.artifact import read_artifact
    from calotype.chain.source import open_images
    from calotype.chain.stages import check_pixels, loader
    from calotype.cli.values import check_positive
    from calotype.evaluation import reconstruction_metrics, side_by_side
    from calotype.pipeline import load_autoencoder
    from calotype.training.session import start_session
    from calotype.utils.images import save_png

    check_positive(most=most)
    autoencoder = load_autoencoder(read_artifact(model))
    session, images = start_session(device), open_images(data)
    check_pixels(images, autoencoder)
    autoencoder.model.to(session.device)
    originals = loader(images, autoencoder.size, 0).at(range(min(most, len(images)))).images
    reconstructions = torch.cat([autoencoder.reconstruct(part) for part in originals.split(32)])
    pixels, _ = autoencoder.pixel_format.to_file(reconstructions)
    for record, picture in zip(images.records, pixels, strict=False):
        save_png((out / record.name).with_suffix(".png"), picture)
    save_png(out / "side_by_side.png", side_by_side(originals[:24], reconstructions[:24], columns=12))
    metrics = reconstruction_metrics(originals, reconstructions)
    print(f"PSNR {metrics['psnr']:.2f} dB, SSIM {metrics.get('ssim', float('nan')):.3f} over {len(originals)} images")
    print(f"pictures: {out}, originals above reconstructions: {out / 'side_by_side.png'}")
