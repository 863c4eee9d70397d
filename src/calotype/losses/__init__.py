"""What an autoencoder is trained on: reconstruction, perceptual, KL or codebook, and adversarial losses."""

from typing import Annotated, TypeAlias

from pydantic import Field

from calotype.losses.adversarial import adopt_weight, hinge_d_loss, vanilla_d_loss
from calotype.losses.codebook_usage import code_frequencies, measure_perplexity, perplexity
from calotype.losses.discriminator import NLayerDiscriminator, NLayerDiscriminatorConfig
from calotype.losses.lpips_with_discriminator import LPIPSWithDiscriminator, LPIPSWithDiscriminatorConfig
from calotype.losses.perceptual import (
    NoPerceptualConfig,
    PerceptualConfig,
    ProjectedPerceptualConfig,
    SqueezeNetPerceptualConfig,
    VGG16PerceptualConfig,
)
from calotype.losses.reconstruction_with_discriminator import GeneratorTerms
from calotype.losses.vq_lpips_with_discriminator import VQLPIPSWithDiscriminator, VQLPIPSWithDiscriminatorConfig

AutoencoderLossConfig: TypeAlias = Annotated[
    LPIPSWithDiscriminatorConfig | VQLPIPSWithDiscriminatorConfig, Field(discriminator="kind")
]

__all__ = [
    "AutoencoderLossConfig",
    "GeneratorTerms",
    "LPIPSWithDiscriminator",
    "LPIPSWithDiscriminatorConfig",
    "NLayerDiscriminator",
    "NLayerDiscriminatorConfig",
    "NoPerceptualConfig",
    "PerceptualConfig",
    "ProjectedPerceptualConfig",
    "SqueezeNetPerceptualConfig",
    "VGG16PerceptualConfig",
    "VQLPIPSWithDiscriminator",
    "VQLPIPSWithDiscriminatorConfig",
    "adopt_weight",
    "code_frequencies",
    "hinge_d_loss",
    "measure_perplexity",
    "perplexity",
    "vanilla_d_loss",
]
