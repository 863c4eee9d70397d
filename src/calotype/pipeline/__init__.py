"""A trained model, ready to draw, and how it is loaded."""

from calotype.pipeline.latent_diffusion import GUIDANCE, STEPS, LatentDiffusion
from calotype.pipeline.load import (
    build_autoencoder,
    build_tiny_decoder,
    load,
    load_autoencoder,
    load_latent_diffusion,
)
from calotype.pipeline.trained_autoencoder import TrainedAutoencoder

__all__ = [
    "GUIDANCE",
    "STEPS",
    "LatentDiffusion",
    "TrainedAutoencoder",
    "build_autoencoder",
    "build_tiny_decoder",
    "load",
    "load_autoencoder",
    "load_latent_diffusion",
]
