"""One training step of a tiny decoder: it learns to decode as an autoencoder does, from the same latents."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from calotype.artifact import Artifact
from calotype.data.batch import Batch
from calotype.data.loader import Loader
from calotype.evaluation.reconstruction import psnr
from calotype.losses import NoPerceptualConfig, PerceptualConfig
from calotype.models.tiny_decoder import TinyDecoderConfig
from calotype.pipeline import load_autoencoder
from calotype.training.draws import Draws
from calotype.training.optimiser import OptimiserConfig, check_finite, check_gradients
from calotype.training.recipe import Recipe
from calotype.training.session import Session
from calotype.utils.config import Config, to_dict
from calotype.utils.files import digest
from calotype.utils.images import image_grid

VALIDATION_IMAGES = 256
PREVIEWS = 12


@dataclass(frozen=True, kw_only=True)
class TinyDecoderRecipeConfig(Config):
    """A tiny decoder and how it is distilled: ``L1 + perceptual_weight * perceptual`` to the autoencoder's decoding."""

    decoder: TinyDecoderConfig = TinyDecoderConfig()
    perceptual: PerceptualConfig = NoPerceptualConfig()
    perceptual_weight: float = 0.0
    optimiser: OptimiserConfig = OptimiserConfig(learning_rate=2e-3)

    def __post_init__(self) -> None:
        if self.perceptual_weight < 0:
            raise ValueError(f"perceptual_weight must not be negative: {self.perceptual_weight}")
        if (self.perceptual_weight > 0) == isinstance(self.perceptual, NoPerceptualConfig):
            raise ValueError("perceptual and perceptual_weight go together: give both or neither")


class TinyDecoderRecipe(Recipe):
    """Distils a ``TinyDecoder`` from the autoencoder in an artifact (of an autoencoder or a latent diffusion model).

    Target and prediction are decodings of one posterior sample: nothing but the decoder is learned.
    """

    kind = "tiny_decoder"

    def __init__(
        self, config: TinyDecoderRecipeConfig, autoencoder: Artifact, train: Loader, held_out: Loader | None = None
    ) -> None:
        self.config, self.artifact, self.train, self.held_out = config, autoencoder, train, held_out
        self.teacher = load_autoencoder(autoencoder).model
        self.decoder = config.decoder.build()
        if (self.decoder.factor, config.decoder.latent_channels) != (self.teacher.factor, self.teacher.latent_channels):
            raise ValueError("decoder must have the factor and the latent channels of the autoencoder")
        self.perceptual = config.perceptual.build()
        self.averaged = {"tiny_decoder": self.decoder}
        self.auxiliary = {}

    def start(self, session: Session, batch_size: int) -> None:  # noqa: ARG002
        """Move to the device and build the optimiser."""
        self.session = session
        self.teacher.to(session.device)
        self.perceptual.to(session.device)
        self.decoder.to(session.device).train()
        self.forward = session.wrap(self.decoder)
        self.optimiser = self.config.optimiser.build(self.decoder.parameters())
        self.optimisers = {"tiny_decoder": (self.optimiser, self.config.optimiser)}

    def step(self, batch: Batch, draws: Draws) -> dict[str, Tensor]:
        """Encode, sample the posterior, decode with the autoencoder and with the tiny decoder; compare and update."""
        with torch.no_grad(), self.session.autocast():
            posterior = self.teacher.encode(self._images(batch))
            z = posterior.sample(draws.normal("posterior", *posterior.mean.shape[1:]).to(posterior.mean))
            target = self.teacher.decode(z).float().clamp(-1, 1)
        with self.session.autocast():
            decoded = self.forward(self.teacher.normalise(z)).float()
            distance = self.perceptual(target, decoded).mean()
        difference = (decoded - target).abs().mean()
        loss = difference + self.config.perceptual_weight * distance
        check_finite(loss.detach(), "the tiny decoder's loss")
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        norm = check_gradients(self.optimiser, self.config.optimiser.clip, "the tiny decoder")
        self.optimiser.step()
        terms = {"loss": loss, "l1": difference, "perceptual": distance}
        return {name: value.detach() for name, value in terms.items()} | {"gradient_norm": norm}

    @torch.no_grad()
    def validate(self, averaged: Mapping[str, nn.Module]) -> dict[str, float]:
        """Return PSNR (dB) of held-out images: to what the autoencoder decodes, and to the images themselves."""
        if self.held_out is None:
            return {}
        scores = []
        count = min(len(self.held_out), VALIDATION_IMAGES)
        for start in range(0, count, 64):
            batch = self.held_out.at(range(start, min(start + 64, count)))
            target, decoded = self._decodings(averaged, batch)
            scores.append(torch.stack([psnr(target, decoded), psnr(self._images(batch), decoded)]))
        to_autoencoder, to_image = torch.cat(scores, dim=1).mean(dim=1).tolist()
        return {"psnr_to_autoencoder": to_autoencoder, "psnr": to_image}

    @torch.no_grad()
    def preview(self, averaged: Mapping[str, nn.Module]) -> np.ndarray | None:
        """Draw held-out originals, below them what the autoencoder decodes, below that what the tiny decoder does."""
        loader = self.held_out or self.train
        batch = loader.at(range(min(len(loader), PREVIEWS)))
        rows = (batch.images, *(images.cpu() for images in self._decodings(averaged, batch)))
        return image_grid(torch.cat(rows), columns=len(batch.images))

    def artifact_config(self, averaged: Mapping[str, nn.Module], complete: bool) -> dict[str, Any]:  # noqa: ARG002
        """Return what the artifact stores: the shape, and the latents and images that it stands between."""
        theirs = self.artifact.config
        kept = {name: theirs[name] for name in ("pixel_format", "size")}
        latent = {name: theirs["latent"][name] for name in ("shift", "scale")}
        return {"tiny_decoder": to_dict(self.config.decoder), **kept, "latent": latent}

    def recipe_config(self) -> dict[str, Any]:
        """Return the configuration with the autoencoder and the data it is trained on."""
        data = {"images": len(self.train), "fingerprint": self.train.images.fingerprint}
        autoencoder = digest(self.artifact.file("autoencoder"))
        more = {"data": data, "transform": to_dict(self.train.transform), "autoencoder": autoencoder}
        return {"kind": self.kind, **to_dict(self.config), **more}

    def _images(self, batch: Batch) -> Tensor:
        return batch.images.to(self.teacher.latent_shift)

    def _decodings(self, averaged: Mapping[str, nn.Module], batch: Batch) -> tuple[Tensor, Tensor]:
        """Return what the autoencoder and the tiny decoder make of the posterior's mode, within [-1, 1]."""
        z = self.teacher.encode(self._images(batch)).mode()
        decoded = self.teacher.decode(z), averaged["tiny_decoder"](self.teacher.normalise(z))
        return decoded[0].float().clamp(-1, 1), decoded[1].float().clamp(-1, 1)
