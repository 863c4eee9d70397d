"""The shapes of AutoencoderKL and VQModel in the words of diffusers, and back."""

from collections.abc import Mapping
from typing import Any

from calotype.interop.diffusers.layout import Layout, image_size, refuse
from calotype.models.autoencoder import AutoencoderKLConfig, ConvolutionalAutoencoderConfig
from calotype.models.quantisers import VectorQuantizer2Config
from calotype.models.vq_model import VQModelConfig
from calotype.utils.errors import UserError

SHARED: dict[str, Any] = {
    "in_channels": 3,
    "out_channels": 3,
    "down_block_types": ["DownEncoderBlock2D"],
    "up_block_types": ["UpDecoderBlock2D"],
    "block_out_channels": [64],
    "layers_per_block": 1,
    "norm_num_groups": 32,
    "sample_size": 32,
    "scaling_factor": 0.18215,
    "mid_block_add_attention": True,
}
FIXED: dict[str, tuple[Any, ...]] = {"act_fn": ("silu", "swish")}
STATISTICS: dict[str, Any] = {"shift_factor": None, "latents_mean": None, "latents_std": None}

AUTOENCODER_KL = Layout(
    name="AutoencoderKL",
    mapped=SHARED | STATISTICS | {"latent_channels": 4, "use_quant_conv": True, "use_post_quant_conv": True},
    fixed=FIXED,
    inert=frozenset({"force_upcast"}),
)
VQ_MODEL = Layout(
    name="VQModel",
    mapped=SHARED | {"latent_channels": 3, "num_vq_embeddings": 256, "vq_embed_dim": None},
    fixed=FIXED | {"norm_type": ("group",)},
    inert=frozenset({"lookup_from_codebook", "force_upcast"}),
)
BLOCKS = {
    "Down": {False: "DownEncoderBlock2D", True: "AttnDownEncoderBlock2D"},
    "Up": {False: "UpDecoderBlock2D", True: "AttnUpDecoderBlock2D"},
}


def autoencoder_config_to_diffusers(
    config: ConvolutionalAutoencoderConfig, sample_size: int, groups: int, scaling_factor: float
) -> dict[str, Any]:
    """Return the config.json of an autoencoder for images of ``sample_size`` that normalises in ``groups`` groups.

    Raises:
        UserError: an option that has no image, and why.
    """
    _check(config)
    levels = range(len(config.channel_multipliers))
    attended = config.attention_resolutions if config.attention == "vanilla" else ()
    down = [config.resolution // 2**level in attended for level in levels]
    up = [config.resolution // 2 ** levels[-1] * 2**step in attended for step in levels]
    z_channels = config.z_channels or config.latent_channels
    shared: dict[str, Any] = {
        "in_channels": config.image_channels,
        "out_channels": config.out_channels or config.image_channels,
        "down_block_types": [BLOCKS["Down"][here] for here in down],
        "up_block_types": [BLOCKS["Up"][here] for here in up],
        "block_out_channels": [config.channels * multiplier for multiplier in config.channel_multipliers],
        "layers_per_block": config.num_res_blocks,
        "latent_channels": z_channels,
        "norm_num_groups": groups,
        "sample_size": sample_size,
        "scaling_factor": scaling_factor,
        "mid_block_add_attention": config.attention == "vanilla",
    }
    if not isinstance(config, VQModelConfig):
        return AUTOENCODER_KL.write(**shared)
    return VQ_MODEL.write(**shared, num_vq_embeddings=config.quantiser.codes, vq_embed_dim=config.latent_channels)


def autoencoder_config_from_diffusers(data: Mapping[str, Any], where: str) -> AutoencoderKLConfig | VQModelConfig:
    """Return the shape that a config.json describes; codes that diffusers trains have their beta on the codebook term.

    Raises:
        UserError: the class or one of its options has no counterpart here.
    """
    values = _read(data, where)
    widths: list[int] = values["block_out_channels"]
    multipliers = tuple(width // widths[0] for width in widths)
    if any(width % widths[0] for width in widths):
        raise UserError(f"{where}: block_out_channels {widths} must be multiples of the first")
    attends = [name == BLOCKS["Down"][True] for name in values["down_block_types"]]
    for side, flags in (("Down", attends), ("Up", attends[::-1])):
        key, wanted = f"{side.lower()}_block_types", [BLOCKS[side][here] for here in flags]
        if values[key] != wanted:
            raise UserError(f"{where}: {key} {values[key]} has no counterpart in calotype (nearest: {wanted})")
    middle = values["mid_block_add_attention"]
    if any(attends) and not middle:
        raise UserError(f"{where}: mid_block_add_attention False with {BLOCKS['Down'][True]} has no counterpart")
    factor = 2 ** (len(widths) - 1)
    resolution = -(-image_size(values["sample_size"]) // factor) * factor
    shape: dict[str, Any] = {
        "image_channels": values["in_channels"],
        "out_channels": None if values["out_channels"] == values["in_channels"] else values["out_channels"],
        "resolution": resolution,
        "channels": widths[0],
        "channel_multipliers": multipliers,
        "num_res_blocks": values["layers_per_block"],
        "attention_resolutions": tuple(resolution // 2**level for level, here in enumerate(attends) if here),
        "attention": "vanilla" if middle else "none",
        "latent_channels": values.get("vq_embed_dim") or values["latent_channels"],
        "z_channels": values["latent_channels"],
    }
    if data["_class_name"] == AUTOENCODER_KL.name:
        return AutoencoderKLConfig(**shape)
    quantiser = VectorQuantizer2Config(codes=values["num_vq_embeddings"], beta_on="codebook", index_shape="flat")
    return VQModelConfig(**shape, quantiser=quantiser)


def latent_statistics_from_diffusers(data: Mapping[str, Any], where: str) -> tuple[list[float], list[float]]:
    """Return the latents' shift and scale, per channel.

    Pipelines decode ``z / scaling_factor + shift_factor``, and where there are statistics per channel
    ``z * latents_std / scaling_factor + latents_mean``.
    """
    values = _read(data, where)
    channels = values.get("vq_embed_dim") or values["latent_channels"]
    mean, std, shift = (values.get(key) for key in ("latents_mean", "latents_std", "shift_factor"))
    if shift is not None and mean is not None:
        raise UserError(f"{where}: shift_factor and latents_mean exclude each other")
    if (mean is None) != (std is None):
        raise UserError(f"{where}: latents_mean and latents_std come together or not at all")
    factor = values["scaling_factor"]
    if mean is not None and std is not None:
        return list(mean), [factor / one for one in std]
    return [shift or 0.0] * channels, [factor] * channels


def left_out(data: Mapping[str, Any]) -> list[str]:
    """Return which of the 1x1 convolutions around the latents a configuration does without."""
    return [name for name in ("quant_conv", "post_quant_conv") if data.get(f"use_{name}") is False]


def _read(data: Mapping[str, Any], where: str) -> dict[str, Any]:
    layouts = {layout.name: layout for layout in (AUTOENCODER_KL, VQ_MODEL)}
    layout = layouts.get(data.get("_class_name", ""))
    if layout is None:
        raise UserError(f"{where}: {data.get('_class_name')} is not one of {', '.join(layouts)}")
    return layout.read(data, where)


def _check(config: ConvolutionalAutoencoderConfig) -> None:
    if config.shortcut != "none":
        raise refuse(f"shortcut {config.shortcut!r}", "its changes of resolution have none")
    if config.space_to_depth > 1:
        raise refuse(f"space_to_depth {config.space_to_depth}", "its autoencoders work at the resolution of the pixels")
    if config.attention == "linear":
        raise refuse("attention 'linear'", "its autoencoders have softmax attention only")
    if not config.conv_resample:
        raise refuse("conv_resample False", "its autoencoders change resolution by convolutions")
    for name in ("tanh_out", "give_pre_end"):
        if getattr(config, name):
            raise refuse(name, "its decoders end with a convolution")
    if isinstance(config, VQModelConfig):
        if not isinstance(config.quantiser, VectorQuantizer2Config):
            raise refuse(f"quantiser {config.quantiser.kind!r}", "its VQModel takes the nearest code")
        if config.quantiser.remap is not None:
            raise refuse("remap", "its VQModel numbers all codes of the codebook")
    elif config.z_channels not in (None, config.latent_channels):
        raise refuse(
            f"z_channels {config.z_channels} with latent_channels {config.latent_channels}",
            "in its AutoencoderKL they are equal",
        )
