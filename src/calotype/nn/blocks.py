"""The UNet's residual block, attention block, and the container that feeds each layer what it takes."""

import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn

from calotype.nn.attention import SpatialTransformer, attend
from calotype.nn.normalisation import group_norm, zero_init


class Upsample(nn.Module):
    """Double height and width (nearest), then a 3x3 convolution unless ``convolve`` is False."""

    def __init__(self, channels: int, *, convolve: bool = True) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1) if convolve else nn.Identity()

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c 2*h 2*w"]:
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))


class Downsample(nn.Module):
    """Halve height and width: a strided 3x3 convolution, or 2x2 averages where ``convolve`` is False."""

    def __init__(self, channels: int, *, convolve: bool = True) -> None:
        super().__init__()
        self.op = nn.Conv2d(channels, channels, 3, stride=2, padding=1) if convolve else nn.AvgPool2d(2)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h//2 w//2"]:
        return self.op(x)


class ResBlock(nn.Module):
    """Two normalised 3x3 convolutions around the time embedding, added to the input.

    ``h = conv(silu(norm(x)))``; the embedding e is added (``h + e``, then norm) or, with ``scale_shift_norm``,
    modulates (``norm(h) (1 + scale) + shift``, Section 3 of arXiv:2105.05233);
    ``out = skip(x) + conv(dropout(silu(h)))``. The last convolution starts at zero. ``resample`` changes the
    resolution of both branches; ``skip_kernel`` is the kernel of a skip that changes the number of channels.
    """

    def __init__(
        self,
        channels: int,
        embedding_channels: int,
        *,
        out_channels: int | None = None,
        dropout: float = 0.0,
        scale_shift_norm: bool = False,
        resample: str | None = None,
        skip_kernel: int = 1,
    ) -> None:
        super().__init__()
        out_channels = out_channels or channels
        self.scale_shift_norm = scale_shift_norm
        self.resample = resample
        self.in_layers = nn.Sequential(group_norm(channels), nn.SiLU(), nn.Conv2d(channels, out_channels, 3, padding=1))
        self.h_upd, self.x_upd = _resampler(channels, resample), _resampler(channels, resample)
        emitted = 2 * out_channels if scale_shift_norm else out_channels
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(embedding_channels, emitted))
        self.out_layers = nn.Sequential(
            group_norm(out_channels),
            nn.SiLU(),
            nn.Dropout(dropout),
            zero_init(nn.Conv2d(out_channels, out_channels, 3, padding=1)),
        )
        self.skip_connection = (
            nn.Identity()
            if out_channels == channels
            else nn.Conv2d(channels, out_channels, skip_kernel, padding=skip_kernel // 2)
        )

    def forward(self, x: Float[Tensor, "b c h w"], emb: Float[Tensor, "b e"]) -> Float[Tensor, "b d h2 w2"]:
        """Apply the block to features ``x`` with the embedding ``emb`` of time and class."""
        norm_act, conv = self.in_layers[:-1], self.in_layers[-1]
        h = conv(self.h_upd(norm_act(x)))
        x = self.x_upd(x)
        modulation = self.emb_layers(emb)[:, :, None, None]
        if self.scale_shift_norm:
            norm, rest = self.out_layers[0], self.out_layers[1:]
            scale, shift = modulation.chunk(2, dim=1)
            h = rest(norm(h) * (1 + scale) + shift)
        else:
            h = self.out_layers(h + modulation)
        return self.skip_connection(x) + h


class AttentionBlock(nn.Module):
    """Self-attention over the positions of a feature map, added to the input; the output projection starts at zero.

    ``split_heads_first`` is the reference's legacy channel order (heads, then q k v); otherwise q k v, then heads.
    """

    def __init__(self, channels: int, *, heads: int = 1, split_heads_first: bool = True) -> None:
        super().__init__()
        self.heads = heads
        self.order = "b (h three c) n -> three b h n c" if split_heads_first else "b (three h c) n -> three b h n c"
        self.norm = group_norm(channels)
        self.qkv = nn.Conv1d(channels, 3 * channels, 1)
        self.proj_out = zero_init(nn.Conv1d(channels, channels, 1))

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Let every position attend to all positions."""
        flat = x.flatten(2)  # (b, c, h * w)
        q, k, v = rearrange(self.qkv(self.norm(flat)), self.order, three=3, h=self.heads)
        out = attend(q, k, v)
        return (flat + self.proj_out(rearrange(out, "b h n c -> b (h c) n"))).view_as(x)


class TimestepEmbedSequential(nn.Sequential):
    """A sequence that feeds each layer what it takes: x alone, x with the time embedding, or x with the context."""

    def forward(  # type: ignore[override]
        self,
        x: Float[Tensor, "b c h w"],
        emb: Float[Tensor, "b e"],
        context: Float[Tensor, "b m d"] | None = None,
        context_mask: Bool[Tensor, "b m"] | None = None,
    ) -> Float[Tensor, "b c2 h2 w2"]:
        """Run the layers in order."""
        for layer in self:
            if isinstance(layer, ResBlock):
                x = layer(x, emb)
            elif isinstance(layer, SpatialTransformer):
                x = layer(x, context, context_mask)
            else:
                x = layer(x)
        return x


def _resampler(channels: int, resample: str | None) -> nn.Module:
    if resample == "up":
        return Upsample(channels, convolve=False)
    if resample == "down":
        return Downsample(channels, convolve=False)
    return nn.Identity()
