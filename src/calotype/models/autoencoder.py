"""Autoencoders: pixels to latents and back. `AutoencoderKL` is the reference's; `IdentityAutoencoder` does nothing."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from calotype.models.distributions import DiagonalGaussianDistribution, DiracDistribution
from calotype.models.encoder_decoder import Decoder, Encoder, Pyramid
from calotype.utils.config import Config


@dataclass(frozen=True, kw_only=True)
class AutoencoderKLConfig(Config):
    """Shape of an autoencoder with a diagonal Gaussian posterior.

    The downsampling factor is ``space_to_depth * 2^(len(channel_multipliers) - 1)``. ``space_to_depth`` p > 1 folds
    p x p pixels into channels first and unfolds them last, so that every convolution works at 1/p of the resolution:
    what lets two CPU cores train it. ``attention_resolutions`` are feature map sizes at the nominal image size
    ``resolution``; the middle always has attention unless ``attention`` is ``"none"``. ``latent_channels`` is the
    posterior's width (the reference's ``embed_dim``), ``z_channels`` the width inside the 1x1 convolutions (the same
    unless given).
    """

    kind: Literal["autoencoder_kl"] = "autoencoder_kl"
    image_channels: int = 3
    resolution: int = 256
    channels: int = 128
    channel_multipliers: tuple[int, ...] = (1, 2, 4, 4)
    num_res_blocks: int = 2
    attention_resolutions: tuple[int, ...] = ()
    attention: Literal["vanilla", "none"] = "vanilla"
    latent_channels: int = 4
    z_channels: int | None = None
    dropout: float = 0.0
    space_to_depth: int = 1

    def __post_init__(self) -> None:
        counts = ("image_channels", "resolution", "channels", "num_res_blocks", "latent_channels", "space_to_depth")
        for name in (*counts, "z_channels"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, not {value}")
        if not self.channel_multipliers or min(self.channel_multipliers) < 1:
            raise ValueError(f"channel_multipliers must be one positive number or more, not {self.channel_multipliers}")

    @property
    def factor(self) -> int:
        """Pixels per latent position along each axis."""
        return self.space_to_depth * 2 ** (len(self.channel_multipliers) - 1)

    def build(self) -> "AutoencoderKL":
        """Make the autoencoder with fresh weights."""
        return AutoencoderKL(self)


class Autoencoder(nn.Module):
    """What every autoencoder shares: the normalisation of its latents, ``normalise(z) = (z - shift) * scale``.

    Shift and scale are per channel, measured over the training set, kept in the artifact's config.json rather than in
    the state dict (the reference has no key for them).
    """

    latent_shift: Tensor
    latent_scale: Tensor

    def __init__(self, latent_channels: int) -> None:
        super().__init__()
        self.latent_channels = latent_channels
        self.register_buffer("latent_shift", torch.zeros(latent_channels), persistent=False)
        self.register_buffer("latent_scale", torch.ones(latent_channels), persistent=False)

    @property
    def factor(self) -> int:
        """Pixels per latent position along each axis."""
        return 1

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


class AutoencoderKL(Autoencoder):
    """Encoder, 1x1 convolution to a diagonal Gaussian, 1x1 convolution back, decoder (arXiv:2112.10752, Section 3.1).

    State-dict keys are the reference's (`encoder.*`, `decoder.*`, `quant_conv.*`, `post_quant_conv.*`).
    """

    def __init__(self, config: AutoencoderKLConfig) -> None:
        super().__init__(config.latent_channels)
        self.config = config
        z_channels = config.z_channels or config.latent_channels
        shape = Pyramid(
            channels=config.channels,
            multipliers=config.channel_multipliers,
            num_res_blocks=config.num_res_blocks,
            attention_resolutions=config.attention_resolutions,
            middle_attention=config.attention == "vanilla",
            resolution=config.resolution // config.space_to_depth,
            dropout=config.dropout,
            space_to_depth=config.space_to_depth,
        )
        self.encoder = Encoder(config.image_channels, 2 * z_channels, shape)
        self.decoder = Decoder(z_channels, config.image_channels, shape)
        self.quant_conv = nn.Conv2d(2 * z_channels, 2 * config.latent_channels, 1)
        self.post_quant_conv = nn.Conv2d(config.latent_channels, z_channels, 1)

    @property
    def factor(self) -> int:
        """Pixels per latent position along each axis."""
        return self.config.factor

    @property
    def last_layer(self) -> Tensor:
        """The decoder's last weight: where the adaptive weight of the GAN loss compares gradients."""
        return self.decoder.conv_out.weight

    def encode(self, images: Float[Tensor, "b c h w"]) -> DiagonalGaussianDistribution:
        """Return the posterior over raw (not normalised) latents ``(b, latent_channels, h / factor, w / factor)``.

        Raises:
            ValueError: height or width is not a multiple of ``factor``, or the channels do not fit.
        """
        channels, height, width = images.shape[1:]
        if height % self.factor or width % self.factor:
            raise ValueError(f"height and width must be multiples of {self.factor}, not {height}x{width}")
        if channels != self.config.image_channels:
            raise ValueError(f"this autoencoder takes {self.config.image_channels} channels, not {channels}")
        moments = self.quant_conv(self.encoder(images))
        return DiagonalGaussianDistribution(moments.to(torch.promote_types(moments.dtype, torch.float32)))

    def decode(self, z: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d h2 w2"]:
        """Return images in about [-1, 1] (not clamped) for raw latents."""
        return self.decoder(self.post_quant_conv(z))

    def forward(
        self, images: Float[Tensor, "b c h w"], noise: Float[Tensor, "b d h2 w2"] | None = None
    ) -> tuple[Float[Tensor, "b c h w"], Float[Tensor, "b e h2 w2"]]:
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
        super().__init__(config.image_channels)
        self.config = config

    def encode(self, images: Float[Tensor, "b c h w"]) -> DiracDistribution:
        """Return the images as a point mass."""
        return DiracDistribution(images)

    def decode(self, z: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Return ``z``."""
        return z
