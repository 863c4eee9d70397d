"""Diffusion in pixel space: an autoencoder that does nothing, so that everything else stays as it is."""

import shutil
from pathlib import Path

from calotype.artifact import Artifact, read_artifact, write_artifact
from calotype.data.loader import Loader
from calotype.models.autoencoder import IdentityAutoencoderConfig
from calotype.training.encode import latent_statistics
from calotype.utils import distributed
from calotype.utils.config import to_dict
from calotype.utils.files import atomic_folder


def pixel_space(loader: Loader, folder: Path) -> Artifact:
    """Write the artifact of an ``IdentityAutoencoder`` for these images to ``folder`` and return it.

    Its latents are the pixels in [-1, 1], normalised per channel like any latents: noise schedules assume a variance
    of 1, and so models in pixels and in latents are trained alike. The main process writes, the others wait.
    """
    config = IdentityAutoencoderConfig(image_channels=loader.images.pixel_format.channels)
    if distributed.is_main():
        shift, scale = latent_statistics(config.build(), loader)
        shutil.rmtree(folder, ignore_errors=True)
        with atomic_folder(folder) as temporary:
            write_artifact(
                temporary,
                kind="autoencoder",
                config={
                    "autoencoder": to_dict(config),
                    "pixel_format": to_dict(loader.images.pixel_format),
                    "size": loader.transform.size,
                    "latent": {"shift": shift, "scale": scale},
                },
                components={"autoencoder": {}},
                provenance={},
            )
    distributed.barrier()
    return read_artifact(folder)
