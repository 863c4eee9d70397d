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
    size: str | None = None,
    most: int = 64,
    device: str = "auto",
) -> None:
    """Pass images through a trained autoencoder: write what comes back, and a picture with the originals above.

    PNG, TIFF and .npy come back as what they were, in their channels and depth. What would lose something as JPEG,
    WebP, GIF or BMP is written as PNG.

    Args:
        model: What `calotype train` or `calotype run` made.
        data: A folder of images, or emoji, emoji:faces ... (of the embedded sets the held-out images are taken).
        out: Folder for the reconstructions (under the originals' names) and side_by_side.png.
        size: Pixels of the reconstructions, 64 or (width x height) 96x64; by default as in training.
        most: The most images to take.
        device: Where to compute: auto, cpu, cuda, mps.
    """
    import torch

    from calotype.artifact import read_artifact
    from calotype.chain.source import open_images
    from calotype.chain.stages import check_multiple, loader
    from calotype.cli.values import check_positive, clipped_text
    from calotype.evaluation import reconstruction_metrics, side_by_side
    from calotype.pipeline import load_autoencoder
    from calotype.training.session import start_session
    from calotype.utils.errors import UserError
    from calotype.utils.images import lossless_path, save_image, save_png
    from calotype.utils.size import parse_size

    check_positive(most=most)
    if out.resolve() == Path(data).resolve():
        raise UserError("--out must be another folder than --data: reconstructions have the names of the originals")
    autoencoder = load_autoencoder(read_artifact(model))
    wanted = autoencoder.size if size is None else parse_size(size)
    check_multiple(wanted, autoencoder.model.factor, "this autoencoder")
    session = start_session(device)
    images = open_images(data).in_format(autoencoder.pixel_format)
    autoencoder.model.to(session.device)
    originals = loader(images, wanted, 0).at(range(min(most, len(images)))).images
    with torch.no_grad():
        latents = [autoencoder.model.encode(part.to(session.device)).mode() for part in originals.split(32)]
        reconstructions = torch.cat([autoencoder.model.decode(part).float().cpu() for part in latents])
    pixels, clipped = autoencoder.pixel_format.to_file(reconstructions)
    taken = {out / record.name for record in images.records}
    for index, picture in enumerate(pixels):
        path, like = out / images.records[index].name, images.info(index)
        written = lossless_path(path, picture, like)
        if written != path and written in taken:  # a.jpg beside a.png
            written = path.with_name(path.name + written.suffix)
        taken.add(written)
        save_image(written, picture, like)
    save_png(out / "side_by_side.png", side_by_side(originals[:24], reconstructions[:24], columns=12))
    metrics = reconstruction_metrics(originals, reconstructions)
    print(f"PSNR {metrics['psnr']:.2f} dB, SSIM {metrics.get('ssim', float('nan')):.3f} over {len(originals)} images")
    outside = float((originals.abs() > 1 + 1e-6).float().mean())
    if outside:
        print(f"{outside:.2%} of the values in {data} are beyond the range of the training images")
    if clipped:
        print(clipped_text(clipped, reconstructions.numel()))
    print(f"pictures: {out}, originals above reconstructions: {out / 'side_by_side.png'}")
