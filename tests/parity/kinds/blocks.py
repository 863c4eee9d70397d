import re

import torch
from golden_file import Golden
from torch import Tensor, nn

from calotype.models import encoder_decoder
from calotype.nn.attention import CrossAttention, FeedForward, SpatialTransformer
from calotype.nn.blocks import AttentionBlock, ResBlock
from calotype.nn.timestep import timestep_embedding
from kinds import kind


@kind("unet_resblock")
@kind("smallinput_unet_resblock")
def resblock(golden: Golden) -> dict[str, Tensor]:
    config = golden.config
    block = ResBlock(
        config["channels"],
        config["emb_channels"],
        out_channels=config.get("out_channels"),
        dropout=config["dropout"],
        scale_shift_norm=config.get("use_scale_shift_norm", False),
        resample="up" if config.get("up") else "down" if config.get("down") else None,
        skip_kernel=3 if config.get("use_conv") else 1,
    )
    return added_to_x(golden, block, golden.inputs["emb"])


@kind("unet_attentionblock")
@kind("smallinput_unet_attentionblock")
def attention_block(golden: Golden) -> dict[str, Tensor]:
    config = golden.config
    width = config.get("num_head_channels", -1)  # -1 is its word for None
    heads = config.get("num_heads", 1) if width == -1 else config["channels"] // width
    new_order = config.get("use_new_attention_order", False)
    return added_to_x(golden, AttentionBlock(config["channels"], heads=heads, split_heads_first=not new_order))


@kind("unet_spatialtransformer")
@kind("smallinput_spatialtransformer")
def spatial_transformer(golden: Golden) -> dict[str, Tensor]:
    config = golden.config
    block = SpatialTransformer(
        config["in_channels"],
        heads=config["n_heads"],
        head_channels=config["d_head"],
        depth=config.get("depth", 1),
        context_channels=config.get("context_dim"),
    )
    return added_to_x(golden, block, golden.inputs.get("context"))


@kind("smallinput_ae_attnblock")
def autoencoder_attention(golden: Golden) -> dict[str, Tensor]:
    return added_to_x(golden, encoder_decoder.AttnBlock(golden.config["in_channels"]))


@kind("smallinput_ae_resnetblock")
def autoencoder_resblock(golden: Golden) -> dict[str, Tensor]:
    config = golden.config
    block = encoder_decoder.ResnetBlock(
        config["in_channels"],
        config.get("out_channels"),
        config["dropout"],
        shortcut_kernel=3 if config.get("conv_shortcut") else 1,
    )
    return added_to_x(golden, block)


@kind("smallinput_ae_downsample")
def autoencoder_downsample(golden: Golden) -> dict[str, Tensor]:
    config = golden.config
    layer = encoder_decoder.Downsample(config["in_channels"], convolve=config["with_conv"])
    return {"y": loaded(golden, layer)(golden.inputs["x"])}


@kind("smallinput_ae_upsample")
def autoencoder_upsample(golden: Golden) -> dict[str, Tensor]:
    config = golden.config
    layer = encoder_decoder.Upsample(config["in_channels"], convolve=config["with_conv"])
    return {"y": loaded(golden, layer)(golden.inputs["x"])}


@kind("attention_crossattention")
def cross_attention(golden: Golden) -> dict[str, Tensor]:
    config, inputs = golden.config, golden.inputs
    attention = CrossAttention(
        config["query_dim"],
        context_channels=config.get("context_dim"),
        heads=config.get("heads", 8),
        head_channels=config.get("dim_head", 64),
    )
    loaded(golden, attention)
    context, mask = inputs.get("context"), inputs["mask"].bool()
    return {"y": attention(inputs["x"], context), "y_masked": attention(inputs["x"], context, mask)}


@kind("attention_feedforward")
def feed_forward(golden: Golden) -> dict[str, Tensor]:
    config = golden.config
    layers = FeedForward(
        config["dim"],
        out_channels=config.get("dim_out"),
        multiplier=config.get("mult", 4),
        gated=config.get("glu", False),
    )
    return {"y": loaded(golden, layers)(golden.inputs["x"])}


@kind("timestep_embedding")
def embedding_of_time(golden: Golden) -> dict[str, Tensor]:
    return {name: _embedding(name, golden.inputs["timesteps"]) for name in golden.outputs}


def _embedding(name: str, steps: Tensor) -> Tensor:
    """Compute what an output's name asks for; fairseq's has sines first, and 1 / period as the last frequency."""
    fairseq, width, period, repeat = re.fullmatch(
        r"(fairseq_)?dim(\d+)(?:_maxperiod(\d+)|(_repeat_only))?", name
    ).groups()
    width, t = int(width), steps.float()
    if repeat:
        return steps[:, None].repeat(1, width)
    if not fairseq:
        return timestep_embedding(t, width, max_period=float(period or 10_000))
    half = width // 2
    ours = timestep_embedding(t, width, max_period=10_000.0 ** (half / (half - 1)))
    return torch.cat([ours[:, half : 2 * half], ours[:, :half], ours[:, 2 * half :]], dim=1)


def added_to_x(golden: Golden, block: nn.Module, *others: Tensor | None) -> dict[str, Tensor]:
    """The output of a residual block, and what it adds to x where their shapes are equal."""
    x = golden.inputs["x"]
    y = loaded(golden, block)(x, *others)
    return {"y": y, "delta": y - x} if y.shape == x.shape else {"y": y}


def loaded(golden: Golden, module: nn.Module) -> nn.Module:
    """The module with exactly the weights of the file, in evaluation mode."""
    module.load_state_dict(golden.state)
    return module.eval()
