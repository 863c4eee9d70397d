"""The convolutional encoder and decoder of the reference's autoencoders."""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from calotype.models.resampling import Downsample, Shortcut, Upsample
from calotype.nn.attention import attend
from calotype.nn.normalisation import group_norm

Attention = Literal["vanilla", "linear", "none"]


class ResnetBlock(nn.Module):
    """``shortcut(x) + conv2(dropout(silu(norm2(conv1(silu(norm1(x)))))))`` with 3x3 convolutions.

    Where the number of channels changes, the shortcut is a convolution: 1x1 (key ``nin_shortcut``), or 3x3 (key
    ``conv_shortcut``) with ``shortcut_kernel`` 3.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int | None = None,
        dropout: float = 0.0,
        *,
        shortcut_kernel: Literal[1, 3] = 1,
    ) -> None:
        super().__init__()
        out_channels = out_channels or in_channels
        self.norm1 = group_norm(in_channels, eps=1e-6)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.norm2 = group_norm(out_channels, eps=1e-6)
        self.dropout = nn.Dropout(dropout)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        if in_channels != out_channels:
            name = "nin_shortcut" if shortcut_kernel == 1 else "conv_shortcut"
            setattr(self, name, nn.Conv2d(in_channels, out_channels, shortcut_kernel, padding=shortcut_kernel // 2))

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d h w"]:
        h = self.conv1(F.silu(self.norm1(x)))
        h = self.conv2(self.dropout(F.silu(self.norm2(h))))
        for shortcut in ("nin_shortcut", "conv_shortcut"):
            if hasattr(self, shortcut):
                x = getattr(self, shortcut)(x)
        return x + h


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


class LinAttnBlock(nn.Module):
    """Single-head attention whose cost is linear in the positions: ``to_out(q^T (softmax(k) v^T))``.

    The softmax is over positions (arXiv:1812.01243, Section 3.2, with the queries as they are). As in the reference,
    there is no normalisation, and the result takes the place of the input instead of being added to it.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.to_qkv = nn.Conv2d(channels, 3 * channels, 1, bias=False)
        self.to_out = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        q, k, v = rearrange(self.to_qkv(x), "b (three c) h w -> three b c (h w)", three=3)
        weights = k.softmax(dim=-1, dtype=torch.promote_types(k.dtype, torch.float32)).to(v.dtype)
        summary = v @ weights.transpose(1, 2)  # (b, c of v, c of k)
        return self.to_out((summary @ q).view_as(x))


@dataclass(frozen=True, kw_only=True)
class Pyramid:
    """The levels that an encoder and its decoder share; ``resolution`` is the side of the largest feature map."""

    channels: int
    multipliers: tuple[int, ...]
    num_res_blocks: int
    attention_resolutions: tuple[int, ...]
    attention: Attention
    conv_resample: bool
    resolution: int
    dropout: float
    space_to_depth: int
    shortcut: Shortcut = "none"

    def attend(self, channels: int, resolution: int | None = None) -> nn.Module:
        """Return the attention at a side of ``resolution`` (in the middle where None), or the identity."""
        here = resolution is None or resolution in self.attention_resolutions
        kinds = {"vanilla": AttnBlock, "linear": LinAttnBlock, "none": nn.Identity}
        return kinds[self.attention if here else "none"](channels)

    def down(self, level: int) -> Downsample:
        """Return what follows ``level`` on the way down."""
        return Downsample(*self._widths(level, level + 1), convolve=self.conv_resample, shortcut=self.shortcut)

    def up(self, level: int) -> Upsample:
        """Return what follows ``level`` on the way up."""
        return Upsample(*self._widths(level, level - 1), convolve=self.conv_resample, shortcut=self.shortcut)

    def _widths(self, level: int, following: int) -> tuple[int, int]:
        """Return the channels before and after a change of resolution: with a shortcut, it changes the width, too."""
        here, there = (self.channels * self.multipliers[index] for index in (level, following))
        return here, there if self.shortcut == "space_to_depth" else here


class Middle(nn.Module):
    """Residual block, attention (or nothing), residual block at the lowest resolution."""

    def __init__(self, channels: int, shape: Pyramid) -> None:
        super().__init__()
        self.block_1 = ResnetBlock(channels, dropout=shape.dropout)
        self.attn_1 = shape.attend(channels)
        self.block_2 = ResnetBlock(channels, dropout=shape.dropout)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        return self.block_2(self.attn_1(self.block_1(x)))


class Level(nn.Module):
    """One resolution: residual blocks (each followed by attention where there is any), then a change of resolution."""

    def __init__(self, in_channels: int, out_channels: int, shape: Pyramid, *, blocks: int, resolution: int) -> None:
        super().__init__()
        widths = [in_channels, *[out_channels] * (blocks - 1)]
        self.block = nn.ModuleList(ResnetBlock(width, out_channels, shape.dropout) for width in widths)
        self.attn = nn.ModuleList(shape.attend(out_channels, resolution) for _ in widths)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d h2 w2"]:
        for block, attention in zip(self.block, self.attn, strict=True):
            x = attention(block(x))
        for resample in ("downsample", "upsample"):
            if hasattr(self, resample):
                x = getattr(self, resample)(x)
        return x


class Encoder(nn.Module):
    """Images to features at ``1 / (space_to_depth * 2^(levels - 1))`` of their size."""

    def __init__(self, in_channels: int, out_channels: int, shape: Pyramid) -> None:
        super().__init__()
        self.space_to_depth = shape.space_to_depth
        resolution, width = shape.resolution, shape.channels
        self.conv_in = nn.Conv2d(in_channels * shape.space_to_depth**2, width, 3, padding=1)
        self.down = nn.ModuleList()
        for index, multiplier in enumerate(shape.multipliers):
            next_width = shape.channels * multiplier
            level = Level(width, next_width, shape, blocks=shape.num_res_blocks, resolution=resolution)
            width = next_width
            if index < len(shape.multipliers) - 1:
                level.downsample = shape.down(index)
                width = level.downsample.out_channels
                resolution //= 2
            self.down.append(level)
        self.mid = Middle(width, shape)
        self.norm_out = group_norm(width, eps=1e-6)
        self.conv_out = nn.Conv2d(width, out_channels, 3, padding=1)

    def forward(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d h2 w2"]:
        x = self.conv_in(F.pixel_unshuffle(images, self.space_to_depth))
        for level in self.down:
            x = level(x)
        return self.conv_out(F.silu(self.norm_out(self.mid(x))))


class Decoder(nn.Module):
    """Features to images; mirrors the encoder with one residual block more per level. ``up[0]`` is the largest map.

    ``tanh_out`` bounds the images to [-1, 1]. ``give_pre_end`` returns the features of ``up[0]`` instead of images
    (``channels * multipliers[0]`` of them, at ``1 / space_to_depth`` of the images' size).
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        shape: Pyramid,
        *,
        tanh_out: bool = False,
        give_pre_end: bool = False,
    ) -> None:
        super().__init__()
        self.space_to_depth, self.tanh_out, self.give_pre_end = shape.space_to_depth, tanh_out, give_pre_end
        resolution = shape.resolution // 2 ** (len(shape.multipliers) - 1)
        width = shape.channels * shape.multipliers[-1]
        self.conv_in = nn.Conv2d(in_channels, width, 3, padding=1)
        self.mid = Middle(width, shape)
        levels: list[nn.Module] = []
        for index, multiplier in reversed(list(enumerate(shape.multipliers))):
            next_width = shape.channels * multiplier
            level = Level(width, next_width, shape, blocks=shape.num_res_blocks + 1, resolution=resolution)
            width = next_width
            if index > 0:
                level.upsample = shape.up(index)
                width = level.upsample.out_channels
                resolution *= 2
            levels.insert(0, level)
        self.up = nn.ModuleList(levels)
        self.norm_out = group_norm(width, eps=1e-6)
        self.conv_out = nn.Conv2d(width, out_channels * shape.space_to_depth**2, 3, padding=1)

    def forward(self, z: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d h2 w2"]:
        x = self.mid(self.conv_in(z))
        for level in reversed(self.up):
            x = level(x)
        if self.give_pre_end:
            return x
        images = F.pixel_shuffle(self.conv_out(F.silu(self.norm_out(x))), self.space_to_depth)
        return images.tanh() if self.tanh_out else images
