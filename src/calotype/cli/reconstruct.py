"""``calotype reconstruct``."""

from pathlib import Path

import tyro


def command(
    model: tyro.conf.Positional[Path],
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
    from calotype.chain.stages import loader
    from calotype.evaluation import reconstruction_metrics, side_by_side
    from calotype.pipeline import load_autoencoder
    from calotype.training.session import start_session
    from calotype.utils.errors import UserError
    from calotype.utils.images import save_png

    autoencoder = load_autoencoder(read_artifact(model))
    session, images = start_session(device), open_images(data)
    if images.pixel_format != autoencoder.pixel_format:
        raise UserError(f"{data} has pixels {images.pixel_format}, the model was trained on {autoencoder.pixel_format}")
    autoencoder.model.to(session.device)
    originals = loader(images, autoencoder.size, 0).at(range(min(most, len(images)))).images
    parts = [autoencoder.reconstruct(part.to(session.device)).cpu() for part in originals.split(32)]
    reconstructions = torch.cat(parts)
    pixels, _ = autoencoder.pixel_format.to_file(reconstructions)
    for record, picture in zip(images.records, pixels, strict=False):
        save_png((out / record.name).with_suffix(".png"), picture)
    save_png(out / "side_by_side.png", side_by_side(originals[:24], reconstructions[:24], columns=12))
    metrics = reconstruction_metrics(originals, reconstructions)
    print(f"PSNR {metrics['psnr']:.2f} dB, SSIM {metrics.get('ssim', float('nan')):.3f} over {len(originals)} images")
    print(f"pictures: {out}, originals above reconstructions: {out / 'side_by_side.png'}")
