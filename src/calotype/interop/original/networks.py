"""The original's UNet and first stages as our configurations, from the arguments of their constructors."""

from collections.abc import Mapping
from typing import Any

from calotype.interop.original.parameters import MOST_REPEATS, Parameters
from calotype.models.autoencoder import AutoencoderKLConfig
from calotype.models.quantisers import VectorQuantizer2Config
from calotype.models.unet import UNetConfig
from calotype.models.vq_model import VQModelConfig

_TRAINING_ONLY = ("lossconfig", "ckpt_path", "ignore_keys", "image_key", "monitor")


def unet_config(arguments: Mapping[str, Any]) -> UNetConfig:
    """Return our configuration of a ``UNetModel``.

    Raises:
        UserError: an argument is unknown, of the wrong form, or not supported.
    """
    params = Parameters("UNetModel", arguments)
    params.only(dims=2, use_fp16=False)
    params.ignore("image_size", "use_checkpoint")
    transformer = params.flag("use_spatial_transformer", False)
    depth = params.integer("transformer_depth", 1, most=MOST_REPEATS)
    heads, heads_up = params.integer("num_heads", None), params.integer("num_heads_upsample", None)
    head_channels = params.integer("num_head_channels", None)
    heads_up_count = params.flag("legacy", True) and not transformer and not head_channels
    return params.make(
        UNetConfig,
        in_channels=params.integer("in_channels"),
        out_channels=params.integer("out_channels"),
        channels=params.integer("model_channels"),
        channel_multipliers=params.integers("channel_mult", (1, 2, 4, 8)),
        num_res_blocks=params.integer("num_res_blocks", most=MOST_REPEATS),
        attention_factors=params.integers("attention_resolutions"),
        heads=None if head_channels else heads,
        head_channels=head_channels,
        heads_up=heads_up if heads_up_count else None,
        transformer_depth=depth if transformer else 0,
        context_channels=params.integer("context_dim", None),
        num_classes=params.integer("num_classes", None),
        dropout=params.number("dropout", 0.0),
        scale_shift_norm=params.flag("use_scale_shift_norm", False),
        resblock_updown=params.flag("resblock_updown", False),
        conv_resample=params.flag("conv_resample", True),
        split_heads_first=not params.flag("use_new_attention_order", False),
        codes=params.integer("n_embed", None),
    )


def autoencoder_kl_config(arguments: Mapping[str, Any]) -> AutoencoderKLConfig:
    """Return our configuration of an ``AutoencoderKL``.

    Raises:
        UserError: as ``unet_config``.
    """
    params = Parameters("AutoencoderKL", arguments)
    params.only(colorize_nlabels=None)
    params.ignore(*_TRAINING_ONLY)
    return params.make(AutoencoderKLConfig, **_shape(params, double_z=True))


def vq_model_config(arguments: Mapping[str, Any]) -> VQModelConfig:
    """Return our configuration of a ``VQModel`` or a ``VQModelInterface``, which have the same weights.

    Raises:
        UserError: as ``unet_config``.
    """
    params = Parameters("VQModel", arguments)
    params.only(colorize_nlabels=None, remap=None, use_ema=False)
    params.ignore(*_TRAINING_ONLY, "batch_resize_range", "scheduler_config", "lr_g_factor")
    shape, codes, sane = (
        _shape(params, double_z=False),
        params.integer("n_embed"),
        params.flag("sane_index_shape", False),
    )
    index_shape = "image" if sane else "flat"
    quantiser = params.make_part(VectorQuantizer2Config, codes=codes, beta_on="codebook", index_shape=index_shape)
    return params.make(VQModelConfig, **shape, quantiser=quantiser)


def _shape(params: Parameters, *, double_z: bool) -> dict[str, Any]:
    """Return the fields that all convolutional autoencoders share."""
    latent_channels = params.integer("embed_dim")
    shape = Parameters(f"{params.target}'s ddconfig", params.value("ddconfig"))
    if shape.flag("double_z", True) is not double_z:
        raise shape.wrong("double_z", str(double_z).lower())
    attention = shape.choice("attn_type", {"vanilla": "vanilla", "linear": "linear", "none": "none"}, "vanilla")
    fields = {
        "image_channels": shape.integer("in_channels"),
        "out_channels": shape.integer("out_ch"),
        "resolution": shape.integer("resolution"),
        "channels": shape.integer("ch"),
        "channel_multipliers": shape.integers("ch_mult", (1, 2, 4, 8)),
        "num_res_blocks": shape.integer("num_res_blocks", most=MOST_REPEATS),
        "attention_resolutions": shape.integers("attn_resolutions"),
        "attention": "linear" if shape.flag("use_linear_attn", False) else attention,
        "conv_resample": shape.flag("resamp_with_conv", True),
        "latent_channels": latent_channels,
        "z_channels": shape.integer("z_channels"),
        "dropout": shape.number("dropout", 0.0),
        "tanh_out": shape.flag("tanh_out", False),
        "give_pre_end": shape.flag("give_pre_end", False),
    }
    shape.finish()
    return fields
