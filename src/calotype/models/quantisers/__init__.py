"""Quantisers: latents to the nearest or likeliest of a number of codes, and back from the codes' numbers."""

from typing import Annotated, TypeAlias

from pydantic import Field

from calotype.models.quantisers.codebook import Codebook
from calotype.models.quantisers.fsq import FSQ, FSQConfig
from calotype.models.quantisers.gumbel import GumbelQuantize, GumbelQuantizeConfig, gumbel_noise
from calotype.models.quantisers.quantiser import Quantised, Quantiser
from calotype.models.quantisers.vector_quantizer2 import VectorQuantizer2, VectorQuantizer2Config

QuantiserConfig: TypeAlias = Annotated[
    VectorQuantizer2Config | GumbelQuantizeConfig | FSQConfig, Field(discriminator="kind")
]

__all__ = [
    "FSQ",
    "Codebook",
    "FSQConfig",
    "GumbelQuantize",
    "GumbelQuantizeConfig",
    "Quantised",
    "Quantiser",
    "QuantiserConfig",
    "VectorQuantizer2",
    "VectorQuantizer2Config",
    "gumbel_noise",
]
