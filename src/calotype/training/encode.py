"""From images to stored latents, and the statistics that normalise them."""

from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from calotype.artifact import Artifact
from calotype.data.latents import LatentStore, Moments
from calotype.data.loader import Loader
from calotype.models.autoencoder import Autoencoder
from calotype.models.distributions import Posterior
from calotype.training.session import Session
from calotype.utils.config import to_dict
from calotype.utils.files import digest
from calotype.utils.progress import progress


def store_key(artifact: Artifact, loader: Loader, *, mirror: bool = False) -> str:
    """Hash everything that stored latents depend on: the autoencoder's averaged weights, the transform, the images.

    ``mirror``: the key of the latents of the images mirrored left to right.
    """
    parts = artifact.file("autoencoder"), repr(to_dict(loader.transform)), loader.images.fingerprint
    return digest(*parts, "mirrored") if mirror else digest(*parts)


@torch.no_grad()
def encode_latents(
    autoencoder: Autoencoder,
    loader: Loader,
    folder: Path,
    key: str,
    session: Session,
    *,
    mirror: bool = False,
    quiet: bool = False,
) -> Moments:
    """Return the posterior moments of every image, from the store where it has them; stop and call again to go on.

    ``mirror`` encodes the images mirrored left to right; ``key`` must be that of such a store.
    """
    store = LatentStore(folder, key, len(loader))
    todo = sum(len(rows) for rows in store.missing())
    if todo:
        autoencoder = autoencoder.to(session.device).eval()

        def encode(rows: range) -> Moments:
            chunks = [rows[start : start + 64] for start in range(0, len(rows), 64)]
            images = (loader.at(chunk).images.to(session.device) for chunk in chunks)
            return Moments.cat([_moments(autoencoder.encode(each.flip(3) if mirror else each)) for each in images])

        with progress("latents", len(loader), done=len(loader) - todo, quiet=quiet) as bar:
            for count in store.fill(encode):
                bar.advance(count)
    return store.moments()


@torch.no_grad()
def latent_statistics(
    autoencoder: Autoencoder, loader: Loader, *, limit: int | None = None
) -> tuple[list[float], list[float]]:
    """Measure shift and scale per channel over the data set (its first ``limit`` images).

    ``shift = E[z]``, ``scale = 1 / sqrt(Var[E z] + E[Var z])``: the standard deviation of *sampled* latents, so that
    ``normalise`` gives zero mean and unit variance. Sums are taken in float64.
    """
    count = 0
    first = torch.zeros(autoencoder.latent_channels, dtype=torch.float64)
    second = torch.zeros_like(first)
    for batch in loader.all(64):
        posterior = autoencoder.encode(batch.images.to(autoencoder.latent_shift))
        mean, var = posterior.mean.double().cpu(), posterior.var.double().cpu()
        first += mean.sum(dim=(0, 2, 3))
        second += (mean.square() + var).sum(dim=(0, 2, 3))
        count += mean[:, 0].numel()
        if limit is not None and int(batch.indices[-1]) + 1 >= limit:
            break
    shift = first / count
    std = (second / count - shift.square()).clamp(min=1e-12).sqrt()
    return shift.tolist(), (1 / std).tolist()


@torch.no_grad()
def scale_by_std(latents: Float[Tensor, "b c h w"]) -> float:
    """Return the one scale that gives these sampled latents a standard deviation of 1: what the reference measures.

    It takes a single batch, all channels together, leaves the mean as it is, and divides by n - 1.
    """
    return 1 / float(latents.std())


def _moments(posterior: Posterior) -> Moments:
    """Return what of ``posterior`` is stored, on the CPU; a point mass has no variance."""
    mean = posterior.mean.cpu()
    return Moments(mean) if posterior.deterministic else Moments(mean, posterior.logvar.cpu())
