"""How well latents suit a diffusion model: their frequencies, and whether they shrink as images do."""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from calotype.evaluation.reconstruction import psnr
from calotype.evaluation.spectrum import PowerSpectrum, low_pass, white_noise_share
from calotype.models.autoencoder import Autoencoder
from calotype.models.distributions import Posterior

FREQUENCY_PROTOCOL = (
    "Share of energy in the upper half of frequencies: orthonormal DCT-II over the whole image, coefficients at a "
    "radial frequency of at least half the Nyquist frequency, the constant left out, mean over channels. Latents are "
    "samples of the posterior, in expectation. Diffusion draws low frequencies first, and images have little above; "
    "latents with much more than their images are harder to learn (the idea of arXiv:2502.14831)."
)
SCALE_PROTOCOL = (
    "Scale equivariance: latents and images are both averaged over 2 x 2, and the decoded small latents compared with "
    "the small images by PSNR, range 2 (after EQ-VAE, arXiv:2502.09509, and arXiv:2502.14831). For scale the small "
    "images encoded and decoded themselves (encoded)."
)
LOW_PASS_PROTOCOL = (
    "Variance of the images explained when the upper half of the latents' frequencies is removed before decoding: "
    "1 - squared error / squared distance from each channel's mean, over all images. For scale the same cut in the "
    "images themselves (images) and nothing removed (all latents)."
)


class DiffusabilityProbe:
    """Collects three measures of an autoencoder's latents, batch by batch; see ``summary``."""

    def __init__(self, model: Autoencoder) -> None:
        self.model = model
        self.latents, self.images = PowerSpectrum(), PowerSpectrum()
        self.decibels: dict[str, list[Tensor]] = {"decoded": [], "encoded": []}
        self.errors = {"low": 0.0, "all": 0.0}
        self.first = self.second = torch.zeros(0, dtype=torch.float64)
        self.elements = 0

    @torch.no_grad()
    def add(
        self,
        images: Float[Tensor, "b c h w"],
        posterior: Posterior,
        reconstructions: Float[Tensor, "b c h w"],
    ) -> None:
        """Take in images with their posterior and the (clipped) reconstructions from its mode, all on one device."""
        z = posterior.mode()
        self.latents.add(z, posterior.var)
        self.images.add(images)
        self._add_scales(images, z)
        self._add_cut(images, z, reconstructions)

    def summary(self) -> dict[str, Any]:
        """Return the measures as plain data, each with what gives it a scale.

        ``high_frequencies`` is the share of energy in the upper half of frequencies of the latents, of the images, and
        of white noise; ``scale_equivariance`` the PSNR between decoded small latents and small images, absent where
        latents are too small to be halved; ``low_pass`` the variance of images explained without those frequencies.
        """
        height, width = self.latents.power.shape[1:]
        found: dict[str, Any] = {
            "high_frequencies": {
                "value": self.latents.high_share(),
                "images": self.images.high_share(),
                "white_noise": white_noise_share(height, width),
                "n": self.latents.n,
                "protocol": FREQUENCY_PROTOCOL,
            }
        }
        if self.decibels["decoded"]:
            decoded, encoded = (torch.cat(self.decibels[name]) for name in ("decoded", "encoded"))
            found["scale_equivariance"] = {
                "value": float(decoded.mean()),
                "encoded": float(encoded.mean()),
                "n": len(decoded),
                "protocol": SCALE_PROTOCOL,
            }
        variance = float((self.second - self.first.square() / self.elements).sum())
        if variance > 0:
            removed = self.images.removed_by_low_pass() * self.elements * len(self.first)
            found["low_pass"] = {
                "value": 1 - self.errors["low"] / variance,
                "images": 1 - removed / variance,
                "all_latents": 1 - self.errors["all"] / variance,
                "n": self.latents.n,
                "protocol": LOW_PASS_PROTOCOL,
            }
        return found

    def _add_scales(self, images: Tensor, z: Tensor) -> None:
        height, width = (n // 2 * 2 for n in z.shape[2:])
        if not height or not width:
            return
        factor = self.model.factor
        small = F.avg_pool2d(images[:, :, : height * factor, : width * factor], 2)
        decoded = self.model.decode(F.avg_pool2d(z[:, :, :height, :width], 2))
        encoded = self.model.decode(self.model.encode(small).mode())
        for name, found in (("decoded", decoded), ("encoded", encoded)):
            self.decibels[name].append(psnr(small, found.float().clamp(-1, 1)).cpu())

    def _add_cut(self, images: Tensor, z: Tensor, reconstructions: Tensor) -> None:
        low = self.model.decode(low_pass(z)).float().clamp(-1, 1)
        originals = images.cpu().double()
        for name, found in (("low", low), ("all", reconstructions)):
            self.errors[name] += float((found.cpu().double() - originals).square().sum())
        if not self.elements:
            self.first = self.second = originals.new_zeros(originals.shape[1])
        self.first = self.first + originals.sum((0, 2, 3))
        self.second = self.second + originals.square().sum((0, 2, 3))
        self.elements += originals[:, 0].numel()
