"""The released autoencoders, and the shapes that the released diffusion models use."""

from typing import Any, Literal

from calotype.interop.original import OriginalConfig
from calotype.losses import (
    LPIPSWithDiscriminatorConfig,
    NLayerDiscriminatorConfig,
    VGG16PerceptualConfig,
    VQLPIPSWithDiscriminatorConfig,
)
from calotype.models import AutoencoderConfig
from calotype.models.autoencoder import AutoencoderKLConfig
from calotype.models.quantisers import VectorQuantizer2Config
from calotype.models.vq_model import VQModelConfig
from calotype.presets.released.row import PAPER, ReleasedModel


def kl(multipliers: tuple[int, ...], channels: int, attention: tuple[int, ...] = ()) -> AutoencoderKLConfig:
    """Return the shape of one of the reference's autoencoders with a KL posterior."""
    return AutoencoderKLConfig(**_shape(multipliers, channels, attention))


def vq(
    multipliers: tuple[int, ...],
    channels: int,
    codes: int,
    attention: tuple[int, ...] = (),
    middle: Literal["vanilla", "none"] = "vanilla",
) -> VQModelConfig:
    """Return the shape of one of the reference's autoencoders with a codebook."""
    quantiser = VectorQuantizer2Config(codes=codes, beta_on="codebook", index_shape="flat")
    return VQModelConfig(**_shape(multipliers, channels, attention, middle), quantiser=quantiser)


def _shape(
    multipliers: tuple[int, ...],
    channels: int,
    attention: tuple[int, ...],
    middle: Literal["vanilla", "none"] = "vanilla",
) -> dict[str, Any]:
    return {
        "out_channels": 3,
        "channel_multipliers": multipliers,
        "latent_channels": channels,
        "z_channels": channels,
        "attention_resolutions": attention,
        "attention": middle,
    }


KL_F8, KL_F16 = kl((1, 2, 4, 4), 4), kl((1, 1, 2, 2, 4), 16, (16,))
VQ_F4, VQ_F4_NO_ATTENTION = vq((1, 2, 4), 3, 8192), vq((1, 2, 4), 3, 8192, middle="none")
VQ_F8 = vq((1, 2, 2, 4), 4, 16384, (32,))


def _first_stage(
    name: str, autoencoder: AutoencoderConfig, parameters: int, published: str, **loss: Any
) -> ReleasedModel:
    layers = loss.pop("disc_num_layers", 3)
    parts: dict[str, Any] = {
        "discriminator": NLayerDiscriminatorConfig(normalisation="batch", num_layers=layers),
        "perceptual": VGG16PerceptualConfig(),
        "d_weight_cap": 1e4,
    }
    made = (
        LPIPSWithDiscriminatorConfig(**parts, kl_weight=1e-6, disc_weight=0.5, disc_start=50_001, reduction="sum")
        if isinstance(autoencoder, AutoencoderKLConfig)
        else VQLPIPSWithDiscriminatorConfig(**parts, **{"disc_weight": 0.75, "codebook_weight": 1.0} | loss)
    )
    return ReleasedModel(
        name=name,
        summary=f"the released {name}, trained on OpenImages",
        original=OriginalConfig(autoencoder=autoencoder, size=256, loss=made, learning_rate=4.5e-6),
        parameters=parameters,
        checkpoint=f"{name}.zip of CompVis/latent-diffusion (first stages)",
        published=f"{published} ({PAPER}, Table 8: ImageNet validation, 256 px)",
    )


FIRST_STAGES = (
    _first_stage("kl-f4", kl((1, 2, 4), 3), 55_312_063, "rFID 0.27, PSNR 27.53"),
    _first_stage("kl-f8", KL_F8, 83_653_863, "rFID 0.90, PSNR 24.19"),
    _first_stage("kl-f16", KL_F16, 69_610_963, "rFID 0.87, PSNR 24.08"),
    _first_stage("kl-f32", kl((1, 1, 2, 2, 4, 4), 64, (16, 8)), 103_880_131, "rFID 2.04, PSNR 22.27"),
    _first_stage("vq-f4", VQ_F4, 55_322_782, "rFID 0.58, PSNR 27.43", disc_start=0),
    _first_stage("vq-f4-noattn", VQ_F4_NO_ATTENTION, 53_219_486, "rFID 1.06, PSNR 25.21", disc_start=11),
    _first_stage("vq-f8", VQ_F8, 67_717_295, "rFID 1.14, PSNR 23.07", disc_start=1, disc_weight=0.6, disc_num_layers=2),
    _first_stage(
        "vq-f8-n256", vq((1, 2, 2, 4), 4, 256, (32,)), 67_652_783, "rFID 1.49, PSNR 22.35", disc_start=250_001
    ),
    _first_stage(
        "vq-f16",
        vq((1, 1, 2, 2, 4), 8, 16384, (16,)),
        69_593_371,
        "rFID 5.15, PSNR 20.83",
        disc_start=250_001,
        disc_num_layers=2,
    ),
)
