"""Architectures and their frozen configurations: autoencoders, UNet, DiT, text transformer. Nothing else."""

from typing import Annotated

from pydantic import Field

from calotype.models.autoencoder import AutoencoderKLConfig, IdentityAutoencoderConfig
from calotype.models.dit import DiT, DiTConfig
from calotype.models.unet import UNet, UNetConfig
from calotype.models.vq_model import VQModelConfig

AutoencoderConfig = Annotated[
    AutoencoderKLConfig | VQModelConfig | IdentityAutoencoderConfig, Field(discriminator="kind")
]

NetworkConfig = Annotated[UNetConfig | DiTConfig, Field(discriminator="kind")]
Network = UNet | DiT

__all__ = ["AutoencoderConfig", "Network", "NetworkConfig"]
