"""Autoencoders: pixels to latents and back. `AutoencoderKL` is the reference's; `IdentityAutoencoder` does nothing."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from calotype.models.distributions import DiagonalGaussianDistribution, DiracDistribution, Posterior
from calotype.models.encoder_decoder import Attention, Decoder, Encoder, Pyramid
from calotype.models.resampling import Shortcut
from calotype.utils.config import Config


class Autoencoder(nn.Module, ABC):
    """What every autoencoder shares: the normalisation of its latents, ``normalise(z) = (z - shift) * scale``.

    Shift and scale are per channel, measured over the training set, kept in the artifact's config.json rather than in
    the state dict (the reference has no key for them).
    """

    latent_shift: Tensor
    latent_scale: Tensor

    def __init__(self, latent_channels: int, image_channels: int = 3) -> None:
        super().__init__()
        self.latent_channels, self.image_channels = latent_channels, image_channels
        self.register_buffer("latent_shift", torch.zeros(latent_channels), persistent=False)
        self.register_buffer("latent_scale", torch.ones(latent_channels), persistent=False)

    @property
    def factor(self) -> int:
        """Pixels per latent position along each axis."""
        return 1

    @abstractmethod
    def encode(self, images: Float[Tensor, "b c h w"]) -> Posterior:
        """Return the distribution of raw (not normalised) latents ``(b, latent_channels, h / factor, w / factor)``."""

    @abstractmethod
    def decode(self, z: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d h2 w2"]:
        """Return images in about [-1, 1] (not clamped) for raw latents."""

    def set_latent_statistics(self, shift: Sequence[float], scale: Sequence[float]) -> None:
        """Set the per-channel shift (the latents' mean) and scale (1 / their standard deviation)."""
        if len(shift) != self.latent_channels or len(scale) != self.latent_channels:
            raise ValueError(f"latent statistics need {self.latent_channels} values, not {len(shift)} and {len(scale)}")
        self.latent_shift.copy_(torch.as_tensor(shift))
        self.latent_scale.copy_(torch.as_tensor(scale))

    def normalise(self, z: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Map raw latents to zero mean and unit variance per channel: ``(z - shift) * scale``."""
        return (z - self.latent_shift[:, None, None]) * self.latent_scale[:, None, None]

    def denormalise(self, z: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Inverse of ``normalise``: ``z / scale + shift``."""
        return z / self.latent_scale[:, None, None] + self.latent_shift[:, None, None]


@dataclass(frozen=True, kw_only=True)
class ConvolutionalAutoencoderConfig(Config):
    """Shape of an encoder and its decoder, and of the latents between them.

    The downsampling factor is ``space_to_depth * 2^(len(channel_multipliers) - 1)``. ``space_to_depth`` p > 1 folds
    p x p pixels into channels first and unfolds them last, so that every convolution works at 1/p of the resolution:
    what lets two CPU cores train it. ``attention_resolutions`` are feature map sizes at the nominal image size
    ``resolution``; the middle always has attention unless ``attention`` is ``"none"``. Resolutions change by
    convolutions, or without weights where ``conv_resample`` is False. ``shortcut="space_to_depth"`` adds to each such
    convolution its input, rearranged (``models/resampling.py``), and lets it change the width. ``latent_channels`` is
    the latents' width (the reference's ``embed_dim``), ``z_channels`` the width inside the 1x1 convolutions (the same
    unless given), and ``out_channels`` that of what is decoded (``image_channels`` unless given). ``tanh_out`` and
    ``give_pre_end`` are the decoder's: images within [-1, 1], or its last features instead of images.
    """

    kind: str
    image_channels: int = 3
    out_channels: int | None = None
    resolution: int = 256
    channels: int = 128
    channel_multipliers: tuple[int, ...] = (1, 2, 4, 4)
    num_res_blocks: int = 2
    attention_resolutions: tuple[int, ...] = ()
    attention: Attention = "vanilla"
    conv_resample: bool = True
    shortcut: Shortcut = "none"
    latent_channels: int = 4
    z_channels: int | None = None
    dropout: float = 0.0
    space_to_depth: int = 1
    tanh_out: bool = False
    give_pre_end: bool = False

    def __post_init__(self) -> None:
        counts = ("image_channels", "resolution", "channels", "num_res_blocks", "latent_channels", "space_to_depth")
        for name in (*counts, "out_channels", "z_channels"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, not {value}")
        if not self.channel_multipliers or min(self.channel_multipliers) < 1:
            raise ValueError(f"channel_multipliers must be one positive number or more, not {self.channel_multipliers}")
        if self.shortcut == "space_to_depth":
            self._check_shortcut()

    def _check_shortcut(self) -> None:
        if not self.conv_resample:
            raise ValueError("shortcut 'space_to_depth' is added to convolutions: it needs conv_resample")
        if any(4 * high % low or 4 * low % high for high, low in pairwise(self.channel_multipliers)):
            wanted = "channel_multipliers of which each divides four times the next and the one before"
            raise ValueError(f"shortcut 'space_to_depth' needs {wanted}, not {self.channel_multipliers}")

    @property
    def factor(self) -> int:
        """Pixels per latent position along each axis."""
        return self.space_to_depth * 2 ** (len(self.channel_multipliers) - 1)

    @property
    def pyramid(self) -> Pyramid:
        """The levels of encoder and decoder."""
        return Pyramid(
            channels=self.channels,
            multipliers=self.channel_multipliers,
            num_res_blocks=self.num_res_blocks,
            attention_resolutions=self.attention_resolutions,
            attention=self.attention,
            conv_resample=self.conv_resample,
            shortcut=self.shortcut,
            resolution=self.resolution // self.space_to_depth,
            dropout=self.dropout,
            space_to_depth=self.space_to_depth,
        )


class ConvolutionalAutoencoder(Autoencoder):
    """Encoder, 1x1 convolution to ``parameters_per_latent`` numbers each, 1x1 convolution back, decoder.

    State-dict keys are the reference's (`encoder.*`, `decoder.*`, `quant_conv.*`, `post_quant_conv.*`).
    """

    def __init__(self, config: ConvolutionalAutoencoderConfig, *, parameters_per_latent: int) -> None:
        super().__init__(config.latent_channels, config.image_channels)
        self.config = config
        z_channels = config.z_channels or config.latent_channels
        encoded = parameters_per_latent * z_channels
        self.encoder = Encoder(config.image_channels, encoded, config.pyramid)
        self.decoder = Decoder(
            z_channels,
            config.out_channels or config.image_channels,
            config.pyramid,
            tanh_out=config.tanh_out,
            give_pre_end=config.give_pre_end,
        )
        self.quant_conv = nn.Conv2d(encoded, parameters_per_latent * config.latent_channels, 1)
        self.post_quant_conv = nn.Conv2d(config.latent_channels, z_channels, 1)

    @property
    def factor(self) -> int:
        """Pixels per latent position along each axis."""
        return self.config.factor

    @property
    def last_layer(self) -> Tensor:
        """The decoder's last weight: where the adaptive weight of the GAN loss compares gradients."""
        return self.decoder.conv_out.weight

    def latent_parameters(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d h2 w2"]:
        """Return what the encoder says of the latents, in at least float32.

        Raises:
            ValueError: height or width is not a multiple of ``factor``, or the channels do not fit.
        """
        channels, height, width = images.shape[1:]
        if height % self.factor or width % self.factor:
            raise ValueError(f"height and width must be multiples of {self.factor}, not {height}x{width}")
        if channels != self.config.image_channels:
            raise ValueError(f"this autoencoder takes {self.config.image_channels} channels, not {channels}")
        parameters = self.quant_conv(self.encoder(images))
        return parameters.to(torch.promote_types(parameters.dtype, torch.float32))

    def decode(self, z: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d h2 w2"]:
        """Return images in about [-1, 1] (not clamped) for raw latents."""
        return self.decoder(self.post_quant_conv(z))


@dataclass(frozen=True, kw_only=True)
class AutoencoderKLConfig(ConvolutionalAutoencoderConfig):
    """Shape of an autoencoder with a diagonal Gaussian posterior."""

    kind: Literal["autoencoder_kl"] = "autoencoder_kl"

    def build(self) -> "AutoencoderKL":
        """Make the autoencoder with fresh weights."""
        return AutoencoderKL(self)


class AutoencoderKL(ConvolutionalAutoencoder):
    """An autoencoder whose encoder gives a diagonal Gaussian over latents (arXiv:2112.10752, Section 3.1)."""

    def __init__(self, config: AutoencoderKLConfig) -> None:
        super().__init__(config, parameters_per_latent=2)

    def encode(self, images: Float[Tensor, "b c h w"]) -> DiagonalGaussianDistribution:
        """Return the posterior over raw (not normalised) latents ``(b, latent_channels, h / factor, w / factor)``.

        Raises:
            ValueError: height or width is not a multiple of ``factor``, or the channels do not fit.
        """
        return DiagonalGaussianDistribution(self.latent_parameters(images))

    def forward(
        self, images: Float[Tensor, "b c h w"], noise: Float[Tensor, "b d h2 w2"] | None = None
    ) -> tuple[Float[Tensor, "b e h3 w3"], Float[Tensor, "b f h2 w2"]]:
        """Reconstruct through a posterior sample ``mean + std * noise`` (the mode where ``noise`` is None).

        Returns the reconstruction and the posterior's parameters (mean and log-variance, joined over channels).
        """
        posterior = self.encode(images)
        z = posterior.mode() if noise is None else posterior.sample(noise)
        return self.decode(z), posterior.parameters


@dataclass(frozen=True, kw_only=True)
class IdentityAutoencoderConfig(Config):
    """Latents are the pixels themselves: diffusion in pixel space through the same chain."""

    kind: Literal["identity"] = "identity"
    image_channels: int = 3

    def build(self) -> "IdentityAutoencoder":
        """Make the autoencoder."""
        return IdentityAutoencoder(self)


class IdentityAutoencoder(Autoencoder):
    """Pass pixels through; its posterior is a point mass."""

    def __init__(self, config: IdentityAutoencoderConfig) -> None:
        super().__init__(config.image_channels, config.image_channels)
        self.config = config

    def encode(self, images: Float[Tensor, "b c h w"]) -> DiracDistribution:
        """Return the images as a point mass."""
        return DiracDistribution(images)

    def decode(self, z: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Return ``z``."""
        return z
