"""``calotype latents``."""

from pathlib import Path
from typing import Annotated

import tyro


def command(
    data: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="DATA")],
    /,
    *,
    autoencoder: Path,
    out: Path,
    device: str = "auto",
) -> None:
    """Encode images with a trained autoencoder and store the posterior moments. Stop it, call it again: it goes on.

    Training does this by itself; here it can be done ahead. The store is keyed by the autoencoder's weights, the
    transform and the images, so that it is never used for anything else.

    Args:
        data: A folder of images, or emoji, emoji:faces ...
        autoencoder: The trained autoencoder.
        out: Where the stores are kept; pass RUN/latents for `calotype train --out RUN`.
        device: Where to compute: auto, cpu, cuda, mps.
    """
    from calotype.artifact import read_artifact
    from calotype.chain.source import open_source
    from calotype.chain.stages import latent_loader
    from calotype.training.session import start_session

    artifact = read_artifact(autoencoder, kind="autoencoder")
    session, source = start_session(device), open_source(data)
    for name, images in {"training": source.train, "held-out": source.held_out}.items():
        latents = latent_loader(artifact, images, out, 0, session)
        channels, height, width = latents.moments.mean.shape[1:]
        print(f"{len(latents)} {name} images, latents {channels}x{height}x{width}, in {out}")
