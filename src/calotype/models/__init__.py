"""Architectures and their frozen configurations: autoencoders, UNet, text transformer. Nothing else."""

from typing import Annotated

from pydantic import Field

from calotype.models.autoencoder import AutoencoderKLConfig, IdentityAutoencoderConfig
from calotype.models.vq_model import VQModelConfig

AutoencoderConfig = Annotated[
    AutoencoderKLConfig | VQModelConfig | IdentityAutoencoderConfig, Field(discriminator="kind")
]

__all__ = ["AutoencoderConfig"]
