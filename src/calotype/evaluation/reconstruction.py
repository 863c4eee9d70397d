"""How near reconstructions are to their originals: PSNR and SSIM."""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

DATA_RANGE = 2.0
PSNR_CEILING = 100.0
_WINDOW, _SIGMA = 11, 1.5


def psnr(a: Float[Tensor, "b c h w"], b: Float[Tensor, "b c h w"]) -> Float[Tensor, " b"]:
    """Return the peak signal-to-noise ratio of each pair of images in [-1, 1], ``10 log10(2^2 / mean (a - b)^2)`` dB.

    Equal images give 100 dB rather than infinity, so that means stay finite.
    """
    error = (a.float() - b.float()).square().mean((1, 2, 3))
    return (10 * torch.log10(DATA_RANGE**2 / error)).clamp(max=PSNR_CEILING)


def ssim(a: Float[Tensor, "b c h w"], b: Float[Tensor, "b c h w"]) -> Float[Tensor, " b"]:
    """Return the structural similarity of each pair of images in [-1, 1]; 1 is equal.

    Wang et al. 2004 (doi:10.1109/TIP.2003.819861), Eq. 13: Gaussian window of 11 pixels with sigma 1.5, K1 = 0.01,
    K2 = 0.03, mean over channels and over all windows that lie inside the image.

    Raises:
        ValueError: the images are smaller than the window.
    """
    if min(a.shape[-2:]) < _WINDOW:
        raise ValueError(f"SSIM needs images of at least {_WINDOW} pixels, these are {a.shape[-2]} x {a.shape[-1]}")
    a, b = a.float(), b.float()
    mean_a, mean_b = _window_mean(a), _window_mean(b)
    variance_a = _window_mean(a * a) - mean_a.square()
    variance_b = _window_mean(b * b) - mean_b.square()
    covariance = _window_mean(a * b) - mean_a * mean_b
    c1, c2 = (0.01 * DATA_RANGE) ** 2, (0.03 * DATA_RANGE) ** 2
    luminance = (2 * mean_a * mean_b + c1) / (mean_a.square() + mean_b.square() + c1)
    structure = (2 * covariance + c2) / (variance_a + variance_b + c2)
    return (luminance * structure).mean((1, 2, 3))


def reconstruction_metrics(
    originals: Float[Tensor, "b c h w"], reconstructions: Float[Tensor, "b c h w"]
) -> dict[str, float | int | str]:
    """Return what ``reconstruction_summary`` says of these images."""
    height, width = originals.shape[-2:]
    return reconstruction_summary(reconstruction_values(originals, reconstructions), height, width)


def reconstruction_values(
    originals: Float[Tensor, "b c h w"], reconstructions: Float[Tensor, "b c h w"]
) -> dict[str, Float[Tensor, " b"]]:
    """Return ``psnr``, ``ssim`` and ``l1`` of each pair.

    Reconstructions are clipped to [-1, 1] first, as in a file. ``ssim`` is left out for images under 11 pixels.
    """
    reconstructions = reconstructions.clamp(-1, 1)
    values = {
        "psnr": psnr(originals, reconstructions),
        "l1": (originals - reconstructions).abs().mean((1, 2, 3)),
    }
    if min(originals.shape[-2:]) >= _WINDOW:
        values["ssim"] = ssim(originals, reconstructions)
    return values


def reconstruction_summary(
    values: Mapping[str, Float[Tensor, " n"]], height: int, width: int
) -> dict[str, float | int | str]:
    """Return ``n``, means over images of per-image values, the 5th percentile ``psnr_p5``, and a ``protocol``."""
    metrics: dict[str, float | int | str] = {
        "n": len(values["psnr"]),
        "psnr": float(values["psnr"].mean()),
        "psnr_p5": float(values["psnr"].quantile(0.05)),
        "l1": float(values["l1"].mean()),
    }
    if "ssim" in values:
        metrics["ssim"] = float(values["ssim"].mean())
    metrics["protocol"] = (
        f"{metrics['n']} images of {width} x {height} pixels in [-1, 1], reconstructions clipped to it; means of "
        "per-image values. PSNR with range 2; SSIM with an 11-pixel Gaussian window, sigma 1.5; l1 is the mean "
        "absolute difference."
    )
    return metrics


def _window_mean(images: Tensor) -> Tensor:
    """Gaussian-weighted mean over every window inside the image: [b, c, h, w] -> [b, c, h - 10, w - 10]."""
    channels = images.shape[1]
    offsets = torch.arange(_WINDOW, device=images.device, dtype=images.dtype) - _WINDOW // 2
    weights = torch.exp(-offsets.square() / (2 * _SIGMA**2))
    weights = (weights / weights.sum()).expand(channels, 1, 1, _WINDOW)
    rows = F.conv2d(images, weights, groups=channels)
    return F.conv2d(rows, weights.transpose(2, 3), groups=channels)
