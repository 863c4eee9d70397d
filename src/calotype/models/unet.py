"""The reference's UNet: a frozen configuration and the network it builds."""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from calotype.models.inputs import check_inputs
from calotype.nn.attention import SpatialTransformer
from calotype.nn.blocks import AttentionBlock, Downsample, ResBlock, TimestepEmbedSequential, Upsample
from calotype.nn.normalisation import group_norm, zero_init
from calotype.nn.timestep import timestep_embedding
from calotype.utils.config import Config


@dataclass(frozen=True, kw_only=True)
class UNetConfig(Config):
    """Shape of a UNet. Level l works at 1 / 2^l of the input's size and is ``channels * channel_multipliers[l]`` wide.

    ``attention_factors`` are downsampling factors (1, 2, 4 ...) at which attention sits (the reference's
    ``attention_resolutions``). Heads: ``head_channels`` wide each, or ``heads`` of them (``heads_up`` on the way up,
    where that differs). ``transformer_depth`` blocks of cross-attention to ``context_channels`` wide tokens, or, at
    0, plain self-attention. ``num_classes`` makes the network take a ``label``, ``vector_channels`` a ``vector``; both
    are added to the time embedding. ``in_channels`` counts the channels of x together with those of ``concat``.
    With ``codes`` the network predicts logits of that many codebook entries at every position instead of an image.
    ``space_to_depth`` p > 1 folds p x p positions into channels before the first convolution and unfolds them after the
    last: level l then works at 1 / (p 2^l).
    """

    kind: Literal["unet"] = "unet"
    in_channels: int
    out_channels: int
    channels: int = 128
    channel_multipliers: tuple[int, ...] = (1, 2)
    num_res_blocks: int = 2
    attention_factors: tuple[int, ...] = ()
    heads: int | None = None
    head_channels: int | None = 32
    heads_up: int | None = None
    transformer_depth: int = 0
    context_channels: int | None = None
    num_classes: int | None = None
    vector_channels: int | None = None
    dropout: float = 0.0
    scale_shift_norm: bool = False
    resblock_updown: bool = False
    conv_resample: bool = True
    split_heads_first: bool = True
    codes: int | None = None
    space_to_depth: int = 1

    def __post_init__(self) -> None:
        counts = ("in_channels", "out_channels", "channels", "num_res_blocks")
        for name in (*counts, "context_channels", "vector_channels", "num_classes", "codes"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, not {value}")
        if self.channel_multipliers[:1] != (1,) or min(self.channel_multipliers) < 1:
            raise ValueError(f"channel_multipliers must start with 1 and be positive, not {self.channel_multipliers}")
        if (self.heads is None) == (self.head_channels is None):
            raise ValueError("heads or head_channels must be given, and None for the other")
        if self.heads_up is not None and self.heads is None:
            raise ValueError("heads_up needs heads; with head_channels their number follows from the width")
        if self.codes is not None and self.space_to_depth > 1:
            raise ValueError("codes are predicted at every position: space_to_depth must be 1")
        if self.context_channels is not None and self.transformer_depth == 0:
            raise ValueError("context_channels needs a transformer_depth of at least 1")
        for name in ("heads", "head_channels", "heads_up"):
            for width in self._attention_widths():
                if (value := getattr(self, name)) is not None and (value < 1 or width % value):
                    raise ValueError(f"{name} must divide the {width} channels where attention sits; {value} does not")

    @property
    def factor(self) -> int:
        """What height and width must be multiples of."""
        return self.space_to_depth * 2 ** (len(self.channel_multipliers) - 1)

    def build(self) -> "UNet":
        """Make the network with fresh weights."""
        return UNet(self)

    def _attention_widths(self) -> list[int]:
        levels = enumerate(self.channel_multipliers)
        sides = [self.channels * multiplier for level, multiplier in levels if 2**level in self.attention_factors]
        return [*sides, self.channels * self.channel_multipliers[-1]]


class UNet(nn.Module):
    """UNet with attention (arXiv:2105.05233) and cross-attention to a context (arXiv:2112.10752, Section 3.3).

    State-dict keys are the reference's; ``vector_embed`` is ours alone. The final convolution starts at zero: an
    untrained network returns 0.
    """

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.config = config
        width, embedding = config.channels, 4 * config.channels
        self.time_embed = _two_layers(width, embedding)
        if config.num_classes is not None:
            self.label_emb = nn.Embedding(config.num_classes, embedding)
        if config.vector_channels is not None:
            self.vector_embed = _two_layers(config.vector_channels, embedding)

        def res(channels: int, out: int, resample: str | None = None) -> ResBlock:
            return ResBlock(
                channels,
                embedding,
                out_channels=out,
                dropout=config.dropout,
                scale_shift_norm=config.scale_shift_norm,
                resample=resample,
            )

        def resampler(direction: str, layer: type[Upsample] | type[Downsample], channels: int) -> nn.Module:
            if config.resblock_updown:
                return res(channels, channels, direction)
            return layer(channels, convolve=config.conv_resample)

        self.input_blocks = nn.ModuleList(
            [TimestepEmbedSequential(nn.Conv2d(config.in_channels * config.space_to_depth**2, width, 3, padding=1))]
        )
        skips, channels, factor = [width], width, 1
        for level, multiplier in enumerate(config.channel_multipliers):
            for _ in range(config.num_res_blocks):
                layers: list[nn.Module] = [res(channels, width * multiplier)]
                channels = width * multiplier
                if factor in config.attention_factors:
                    layers.append(self._attention(channels))
                self.input_blocks.append(TimestepEmbedSequential(*layers))
                skips.append(channels)
            if level < len(config.channel_multipliers) - 1:
                self.input_blocks.append(TimestepEmbedSequential(resampler("down", Downsample, channels)))
                skips.append(channels)
                factor *= 2

        self.middle_block = TimestepEmbedSequential(
            res(channels, channels), self._attention(channels), res(channels, channels)
        )

        self.output_blocks = nn.ModuleList()
        for level, multiplier in reversed(list(enumerate(config.channel_multipliers))):
            for block in range(config.num_res_blocks + 1):
                layers = [res(channels + skips.pop(), width * multiplier)]
                channels = width * multiplier
                if factor in config.attention_factors:
                    layers.append(self._attention(channels, config.heads_up))
                if level and block == config.num_res_blocks:
                    layers.append(resampler("up", Upsample, channels))
                    factor //= 2
                self.output_blocks.append(TimestepEmbedSequential(*layers))

        self.out = nn.Sequential(
            group_norm(channels),
            nn.SiLU(),
            zero_init(nn.Conv2d(width, config.out_channels * config.space_to_depth**2, 3, padding=1)),
        )
        if config.codes is not None:
            self.id_predictor = nn.Sequential(group_norm(channels), nn.Conv2d(width, config.codes, 1))

    def forward(
        self,
        x: Float[Tensor, "b c h w"],
        t: Float[Tensor, " b"],
        *,
        context: Float[Tensor, "b m d"] | None = None,
        context_mask: Bool[Tensor, "b m"] | None = None,
        vector: Float[Tensor, "b v"] | None = None,
        label: Int[Tensor, " b"] | None = None,
        concat: Float[Tensor, "b e h w"] | None = None,
    ) -> Float[Tensor, "b o h w"]:
        """Predict from noisy ``x`` at network time ``t`` (any real number; the reference's tables use 0 .. 999).

        Raises:
            ValueError: height or width is not a multiple of ``config.factor``, or the inputs are not those that the
                configuration asks for.
        """
        check_inputs(self.config, x, concat, {"context": context, "vector": vector, "label": label})
        emb = self.time_embed(timestep_embedding(t, self.config.channels).to(x.dtype))
        if label is not None:
            emb = emb + self.label_emb(label)
        if vector is not None:
            emb = emb + self.vector_embed(vector)
        h = F.pixel_unshuffle(x if concat is None else torch.cat([x, concat], dim=1), self.config.space_to_depth)
        skips = []
        for block in self.input_blocks:
            h = block(h, emb, context, context_mask)
            skips.append(h)
        h = self.middle_block(h, emb, context, context_mask)
        for block in self.output_blocks:
            h = block(torch.cat([h, skips.pop()], dim=1), emb, context, context_mask)
        if self.config.codes is not None:
            return self.id_predictor(h)
        return F.pixel_shuffle(self.out(h), self.config.space_to_depth)

    def _attention(self, channels: int, heads: int | None = None) -> nn.Module:
        config = self.config
        heads = heads or config.heads or channels // (config.head_channels or channels)
        if config.transformer_depth == 0:
            return AttentionBlock(channels, heads=heads, split_heads_first=config.split_heads_first)
        return SpatialTransformer(
            channels,
            heads=heads,
            head_channels=channels // heads,
            depth=config.transformer_depth,
            context_channels=config.context_channels,
        )


def _two_layers(channels: int, out_channels: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(channels, out_channels), nn.SiLU(), nn.Linear(out_channels, out_channels))
