from typing import Any

import torch
from golden_file import Golden
from torch import Tensor

from calotype.models.autoencoder import AutoencoderKLConfig
from calotype.models.text_transformer import TextTransformerConfig
from calotype.models.unet import UNetConfig
from kinds import kind


@kind("unet_full")
def unet_full(golden: Golden) -> dict[str, Tensor]:
    inputs = golden.inputs
    network = unet_config(golden.config).build().eval()
    network.load_state_dict(golden.state)
    return {
        "y": network(inputs["x"], inputs["timesteps"].float(), context=inputs.get("context"), label=inputs.get("y"))
    }


@kind("diffusionwrapper")
def diffusion_wrapper(golden: Golden) -> dict[str, Tensor]:
    """Conditions arrive as lists: images are joined over channels, tokens over their number; `adm` is a label."""
    inputs = golden.inputs
    network = unet_config(golden.config["unet"]).build().eval()
    network.load_state_dict({name.removeprefix("diffusion_model."): value for name, value in golden.state.items()})
    images, tokens = (
        [inputs[name] for name in sorted(inputs) if name.startswith(prefix)] for prefix in ("c_concat", "c_crossattn")
    )
    slots = {"concat": torch.cat(images, dim=1)} if images else {}
    if golden.config["conditioning_key"] == "adm":
        slots["label"] = tokens[0]
    elif tokens:
        slots["context"] = torch.cat(tokens, dim=1)
    return {"y": network(inputs["x"], inputs["timesteps"].float(), **slots)}


def unet_config(config: dict[str, Any]) -> UNetConfig:
    """Our configuration for the constructor arguments of the reference's UNetModel."""
    config = {name: value for name, value in config.items() if value != -1}  # its word for None
    transformer, head_channels = config.get("use_spatial_transformer", False), config.get("num_head_channels")
    heads_up_count = head_channels is None and not transformer and config.get("legacy", True)
    return UNetConfig(
        in_channels=config["in_channels"],
        out_channels=config["out_channels"],
        channels=config["model_channels"],
        channel_multipliers=tuple(config.get("channel_mult", (1, 2, 4, 8))),
        num_res_blocks=config["num_res_blocks"],
        attention_factors=tuple(config["attention_resolutions"]),
        heads=None if head_channels else config["num_heads"],
        head_channels=head_channels,
        heads_up=config.get("num_heads_upsample") if heads_up_count else None,
        transformer_depth=config.get("transformer_depth", 1) if transformer else 0,
        context_channels=config.get("context_dim"),
        num_classes=config.get("num_classes"),
        dropout=config.get("dropout", 0.0),
        scale_shift_norm=config.get("use_scale_shift_norm", False),
        resblock_updown=config.get("resblock_updown", False),
        conv_resample=config.get("conv_resample", True),
        split_heads_first=not config.get("use_new_attention_order", False),
    )


@kind("autoencoderkl")
def autoencoder_kl(golden: Golden) -> dict[str, Tensor]:
    model = autoencoder_config(golden.config).build().eval()
    model.load_state_dict(golden.state)
    x, noise = golden.inputs["x"], golden.inputs["noise"]
    posterior = model.encode(x)
    return {
        "h": model.encoder(x),
        "moments": posterior.parameters,
        "mean": posterior.mean,
        "logvar": posterior.logvar,
        "z": posterior.sample(noise),
        "reconstruction": model(x, noise)[0],
        "reconstruction_mode": model(x)[0],
        "decoded": model.decode(golden.inputs["z"]),
        "kl": posterior.kl(),
    }


def autoencoder_config(config: dict[str, Any]) -> AutoencoderKLConfig:
    """Our configuration for the constructor arguments of the reference's AutoencoderKL."""
    shape = config["ddconfig"]
    return AutoencoderKLConfig(
        image_channels=shape["in_channels"],
        resolution=shape["resolution"],
        channels=shape["ch"],
        channel_multipliers=tuple(shape["ch_mult"]),
        num_res_blocks=shape["num_res_blocks"],
        attention_resolutions=tuple(shape["attn_resolutions"]),
        attention=shape.get("attn_type", "vanilla"),
        latent_channels=config["embed_dim"],
        z_channels=shape["z_channels"],
        dropout=shape.get("dropout", 0.0),
    )


@kind("cond_bertembedder")
def bert_embedder(golden: Golden) -> dict[str, Tensor]:
    """The reference's attention has 8 heads of 64; its ``to_logits`` are never applied."""
    config = golden.config
    model = TextTransformerConfig(
        vocabulary_size=config["vocab_size"],
        length=config["max_seq_len"],
        channels=config["n_embed"],
        layers=config["n_layer"],
        heads=8,
        head_channels=64,
    ).build()
    state = {
        name.removeprefix("transformer."): value for name, value in golden.state.items() if "to_logits" not in name
    }
    model.eval().load_state_dict(state)
    return {"y": model(golden.inputs["tokens"])}
