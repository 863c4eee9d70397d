"""What an autoencoder is trained on: reconstruction, perceptual, KL and adversarial losses."""

from calotype.losses.adversarial import adopt_weight, hinge_d_loss, measure_perplexity, vanilla_d_loss
from calotype.losses.discriminator import NLayerDiscriminator, NLayerDiscriminatorConfig
from calotype.losses.lpips_with_discriminator import (
    GeneratorTerms,
    LPIPSWithDiscriminator,
    LPIPSWithDiscriminatorConfig,
)
from calotype.losses.perceptual import (
    NoPerceptualConfig,
    PerceptualConfig,
    SqueezeNetPerceptualConfig,
    VGG16PerceptualConfig,
)

__all__ = [
    "GeneratorTerms",
    "LPIPSWithDiscriminator",
    "LPIPSWithDiscriminatorConfig",
    "NLayerDiscriminator",
    "NLayerDiscriminatorConfig",
    "NoPerceptualConfig",
    "PerceptualConfig",
    "SqueezeNetPerceptualConfig",
    "VGG16PerceptualConfig",
    "adopt_weight",
    "hinge_d_loss",
    "measure_perplexity",
    "vanilla_d_loss",
]
