"""Judge an autoencoder: one pass over images, every number with its protocol."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from calotype.data.pixel_format import PixelFormat
from calotype.evaluation.channels import ChannelStatistics
from calotype.evaluation.diffusability import DiffusabilityProbe
from calotype.evaluation.instruments import SET_DISTANCES, Instruments
from calotype.evaluation.latents import CodeUse, LatentStatistics
from calotype.evaluation.reconstruction import reconstruction_summary, reconstruction_values
from calotype.evaluation.reconstruction_sets import LEAST_IMAGES, reconstruction_distances
from calotype.models.autoencoder import Autoencoder
from calotype.models.quantisers import Codebook
from calotype.models.vq_model import VQModel
from calotype.utils.errors import UserError

SHOWN = WORST = 16
ROUNDING = 1e-6
Curve = list[tuple[float, float]]


@dataclass(frozen=True)
class Pair:
    """An image with its reconstruction, clipped to [-1, 1], on the CPU."""

    name: str
    psnr: float
    original: Float[Tensor, "c h w"]
    reconstruction: Float[Tensor, "c h w"]


@dataclass(frozen=True)
class AutoencoderEvaluation:
    """What ``evaluate_autoencoder`` finds.

    ``metrics`` is plain data; ``shown`` the first pairs, ``worst`` those of least PSNR, worst first; ``values`` the
    per-image values by metric; ``spectra`` the relative power over frequency of images and latents.
    """

    metrics: dict[str, Any]
    shown: list[Pair]
    worst: list[Pair]
    values: dict[str, Float[Tensor, " n"]]
    spectra: dict[str, Curve]


@torch.no_grad()
def evaluate_autoencoder(
    model: Autoencoder,
    batches: Iterable[tuple[list[str], Float[Tensor, "_ c h w"]]],
    instruments: Instruments,
    pixel_format: PixelFormat | None = None,
) -> AutoencoderEvaluation:
    """Reconstruct batches of named images in [-1, 1], all of one size, through the posterior's mode and measure.

    ``metrics`` has ``reconstruction``, ``channels`` (in the units of ``pixel_format``), ``latents`` and
    ``diffusability``; ``codebook`` where the model quantises;
    ``perceptual`` and, by the short names of the feature networks, ``distances``, as far as ``instruments`` has them;
    ``worst`` names images; ``outside`` (of ``reconstruction``) is the share of the originals' values beyond [-1, 1];
    ``missing`` says why something is not there. On one thread of a CPU the same images in the
    same batches give the same numbers bit for bit.

    Raises:
        UserError: there are no images, or what comes back is not finite.
    """
    device = model.latent_shift.device
    pairs, latents, probe = _Pairs(instruments), LatentStatistics(), DiffusabilityProbe(model)
    channels = ChannelStatistics(pixel_format)
    codes = CodeUse(_codes(model)) if isinstance(model, VQModel) else None
    for names, batch in batches:
        images = batch.to(device)
        posterior = model.encode(images)
        reconstructions = _decode(model, posterior.mode(), codes)
        if not reconstructions.isfinite().all():
            raise UserError("the autoencoder returns values that are not finite (NaN): its weights are ruined")
        channels.add(images, reconstructions)
        reconstructions = reconstructions.clamp(-1, 1)
        pairs.add(names, images, reconstructions)
        latents.add(posterior)
        probe.add(images, posterior, reconstructions)
    values = pairs.values()
    metrics = pairs.summary(values)
    missing = metrics.pop("missing")
    if codes is not None:
        metrics["codebook"] = codes.summary()
    metrics |= {"channels": channels.summary(), "latents": latents.summary(), "diffusability": probe.summary()}
    metrics["worst"] = [{"image": pair.name, "psnr": pair.psnr} for pair in pairs.worst]
    return AutoencoderEvaluation(
        metrics=metrics | ({"missing": missing} if missing else {}),
        shown=pairs.shown,
        worst=pairs.worst,
        values=values,
        spectra={"images": probe.images.curve(), "latents": probe.latents.curve()},
    )


class _Pairs:
    """What is seen in originals and reconstructions alone, batch by batch."""

    def __init__(self, instruments: Instruments) -> None:
        self.instruments = instruments
        self.shown: list[Pair] = []
        self.worst: list[Pair] = []
        self.parts: list[dict[str, Tensor]] = []
        self.features: list[list[tuple[Tensor, Tensor]]] = [[] for _ in instruments.features]
        self.size = (0, 0)
        self.outside = 0.0

    def add(self, names: list[str], images: Tensor, reconstructions: Tensor) -> None:
        self.size = images.shape[-2], images.shape[-1]
        self.outside += float((images.abs() > 1 + ROUNDING).double().mean((1, 2, 3)).sum())
        values = reconstruction_values(images, reconstructions)
        if self.instruments.perceptual is not None:
            values["perceptual"] = self.instruments.perceptual.distance(images, reconstructions).flatten()
        self.parts.append({name: value.cpu() for name, value in values.items()})
        for network, parts in zip(self.instruments.features, self.features, strict=True):
            parts.append((network(images).cpu(), network(reconstructions).cpu()))

        def pair(row: int) -> Pair:
            both = (each[row].detach().cpu().clone() for each in (images, reconstructions))
            return Pair(names[row], float(values["psnr"][row]), *both)

        self.shown += [pair(row) for row in range(min(len(names), SHOWN - len(self.shown)))]
        lowest = values["psnr"].argsort(stable=True)[:WORST].tolist()
        self.worst = sorted([*self.worst, *map(pair, lowest)], key=lambda each: each.psnr)[:WORST]

    def values(self) -> dict[str, Tensor]:
        if not self.parts:
            raise UserError("there are no images to measure")
        return {name: torch.cat([part[name] for part in self.parts]) for name in self.parts[0]}

    def summary(self, values: dict[str, Tensor]) -> dict[str, Any]:
        reconstruction = reconstruction_summary(values, *self.size)
        metrics: dict[str, Any] = {
            "reconstruction": reconstruction | {"outside": self.outside / len(values["psnr"])},
        }
        missing = dict(self.instruments.missing)
        if "ssim" not in values:
            missing["SSIM"] = f"not available for images of {self.size[1]} x {self.size[0]} pixels: it needs 11"
        if self.instruments.perceptual is not None:
            metrics["perceptual"] = {
                "name": self.instruments.perceptual.name,
                "value": float(values["perceptual"].mean()),
                "p95": float(values["perceptual"].quantile(0.95)),
                "n": len(values["perceptual"]),
                "protocol": f"Mean over images. {self.instruments.perceptual.protocol}",
            }
        if self.instruments.features and len(values["psnr"]) >= LEAST_IMAGES:
            metrics["distances"] = {
                network.short_name: reconstruction_distances(
                    torch.cat([originals for originals, _ in parts]), torch.cat([found for _, found in parts]), network
                )
                for network, parts in zip(self.instruments.features, self.features, strict=True)
            }
        elif self.instruments.features:
            missing[SET_DISTANCES] = f"not available for {len(values['psnr'])} images: they need {LEAST_IMAGES}"
        return metrics | {"missing": missing}


def _decode(model: Autoencoder, z: Tensor, codes: CodeUse | None) -> Tensor:
    if not isinstance(model, VQModel) or codes is None:
        return model.decode(z).float()
    quantised = model.quantise(z, generator=torch.Generator().manual_seed(0))
    codes.add(quantised.indices)
    return model.decode(quantised.z, quantise=False).float()


def _codes(model: VQModel) -> int:
    """How many codes the model can report."""
    used = model.quantize.used if isinstance(model.quantize, Codebook) else None
    return model.quantize.codes if used is None else len(used)
