"""The convolutional encoder and decoder of the reference's autoencoders."""

from dataclasses import dataclass

import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from calotype.nn.attention import attend
from calotype.nn.normalisation import group_norm


class ResnetBlock(nn.Module):
    """``shortcut(x) + conv2(dropout(silu(norm2(conv1(silu(norm1(x)))))))`` with 3x3 convolutions."""

    def __init__(self, in_channels: int, out_channels: int | None = None, dropout: float = 0.0) -> None:
        super().__init__()
        out_channels = out_channels or in_channels
        self.norm1 = group_norm(in_channels, eps=1e-6)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.norm2 = group_norm(out_channels, eps=1e-6)
        self.dropout = nn.Dropout(dropout)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        if in_channels != out_channels:
            self.nin_shortcut = nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d h w"]:
        h = self.conv1(F.silu(self.norm1(x)))
        h = self.conv2(self.dropout(F.silu(self.norm2(h))))
        return (self.nin_shortcut(x) if hasattr(self, "nin_shortcut") else x) + h


class AttnBlock(nn.Module):
    """Single-head self-attention over positions with 1x1 convolutions, added to the input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = group_norm(channels, eps=1e-6)
        self.q = nn.Conv2d(channels, channels, 1)
        self.k = nn.Conv2d(channels, channels, 1)
        self.v = nn.Conv2d(channels, channels, 1)
        self.proj_out = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        normed = self.norm(x)
        q, k, v = (rearrange(project(normed), "b c h w -> b 1 (h w) c") for project in (self.q, self.k, self.v))
        out = attend(q, k, v)
        return x + self.proj_out(rearrange(out, "b 1 (h w) c -> b c h w", h=x.shape[-2]).contiguous())


class Downsample(nn.Module):
    """Strided 3x3 convolution after padding one row below and one column to the right (the reference's asymmetry)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h//2 w//2"]:
        return self.conv(F.pad(x, (0, 1, 0, 1)))


class Upsample(nn.Module):
    """Nearest-neighbour doubling, then a 3x3 convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c 2*h 2*w"]:
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))


class Middle(nn.Module):
    """Residual block, attention (or nothing), residual block at the lowest resolution."""

    def __init__(self, channels: int, *, attention: bool, dropout: float) -> None:
        super().__init__()
        self.block_1 = ResnetBlock(channels, dropout=dropout)
        self.attn_1 = AttnBlock(channels) if attention else nn.Identity()
        self.block_2 = ResnetBlock(channels, dropout=dropout)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        return self.block_2(self.attn_1(self.block_1(x)))


class Level(nn.Module):
    """One resolution: residual blocks (each followed by attention where there is any), then a change of resolution."""

    def __init__(self) -> None:
        super().__init__()
        self.block = nn.ModuleList()
        self.attn = nn.ModuleList()

    def add(self, in_channels: int, out_channels: int, *, attention: bool, dropout: float) -> None:
        """Append a residual block and, where asked, attention behind it."""
        self.block.append(ResnetBlock(in_channels, out_channels, dropout))
        if attention:
            self.attn.append(AttnBlock(out_channels))

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d h2 w2"]:
        for index, block in enumerate(self.block):
            x = block(x)
            if len(self.attn):
                x = self.attn[index](x)
        for resample in ("downsample", "upsample"):
            if hasattr(self, resample):
                x = getattr(self, resample)(x)
        return x


@dataclass(frozen=True, kw_only=True)
class Pyramid:
    """The levels that an encoder and its decoder share; ``resolution`` is the side of the largest feature map."""

    channels: int
    multipliers: tuple[int, ...]
    num_res_blocks: int
    attention_resolutions: tuple[int, ...]
    middle_attention: bool
    resolution: int
    dropout: float
    space_to_depth: int


class Encoder(nn.Module):
    """Images to features at ``1 / (space_to_depth * 2^(levels - 1))`` of their size."""

    def __init__(self, in_channels: int, out_channels: int, shape: Pyramid) -> None:
        super().__init__()
        self.space_to_depth = shape.space_to_depth
        resolution = shape.resolution
        self.conv_in = nn.Conv2d(in_channels * shape.space_to_depth**2, shape.channels, 3, padding=1)
        self.down = nn.ModuleList()
        width = shape.channels
        for index, multiplier in enumerate(shape.multipliers):
            level = Level()
            for _ in range(shape.num_res_blocks):
                attention = resolution in shape.attention_resolutions
                level.add(width, shape.channels * multiplier, attention=attention, dropout=shape.dropout)
                width = shape.channels * multiplier
            if index < len(shape.multipliers) - 1:
                level.downsample = Downsample(width)
                resolution //= 2
            self.down.append(level)
        self.mid = Middle(width, attention=shape.middle_attention, dropout=shape.dropout)
        self.norm_out = group_norm(width, eps=1e-6)
        self.conv_out = nn.Conv2d(width, out_channels, 3, padding=1)

    def forward(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d h2 w2"]:
        x = self.conv_in(F.pixel_unshuffle(images, self.space_to_depth))
        for level in self.down:
            x = level(x)
        return self.conv_out(F.silu(self.norm_out(self.mid(x))))


class Decoder(nn.Module):
    """Features to images; mirrors the encoder with one residual block more per level. ``up[0]`` is the largest map."""

    def __init__(self, in_channels: int, out_channels: int, shape: Pyramid) -> None:
        super().__init__()
        self.space_to_depth = shape.space_to_depth
        resolution = shape.resolution
        width = shape.channels * shape.multipliers[-1]
        resolution //= 2 ** (len(shape.multipliers) - 1)
        self.conv_in = nn.Conv2d(in_channels, width, 3, padding=1)
        self.mid = Middle(width, attention=shape.middle_attention, dropout=shape.dropout)
        levels: list[nn.Module] = []
        for index, multiplier in reversed(list(enumerate(shape.multipliers))):
            level = Level()
            for _ in range(shape.num_res_blocks + 1):
                attention = resolution in shape.attention_resolutions
                level.add(width, shape.channels * multiplier, attention=attention, dropout=shape.dropout)
                width = shape.channels * multiplier
            if index > 0:
                level.upsample = Upsample(width)
                resolution *= 2
            levels.insert(0, level)
        self.up = nn.ModuleList(levels)
        self.norm_out = group_norm(width, eps=1e-6)
        self.conv_out = nn.Conv2d(width, out_channels * shape.space_to_depth**2, 3, padding=1)

    def forward(self, z: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d h2 w2"]:
        x = self.mid(self.conv_in(z))
        for level in reversed(self.up):
            x = level(x)
        return F.pixel_shuffle(self.conv_out(F.silu(self.norm_out(x))), self.space_to_depth)
