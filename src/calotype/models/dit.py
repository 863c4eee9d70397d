"""The diffusion transformer: a frozen configuration and the network it builds."""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from calotype.models.inputs import check_inputs
from calotype.nn.normalisation import RMSNorm, zero_init
from calotype.nn.rotary import rotary_table
from calotype.nn.timestep import timestep_embedding
from calotype.nn.transformer import DiTBlock, linear, modulate
from calotype.utils.config import Config

TIME_CHANNELS = 256


@dataclass(frozen=True, kw_only=True)
class DiTConfig(Config):
    """Shape of a DiT: ``depth`` blocks, ``channels`` wide, over patches of ``patch_size`` x ``patch_size`` positions.

    Heads are ``head_channels`` wide. With ``context_channels`` every block attends to tokens of that width.
    ``num_classes`` makes the network take a ``label``, ``vector_channels`` a ``vector``; both are added to the time
    embedding. ``in_channels`` counts the channels of x together with those of ``concat``.
    """

    kind: Literal["dit"] = "dit"
    in_channels: int
    out_channels: int
    channels: int = 384
    depth: int = 12
    head_channels: int = 64
    patch_size: int = 2
    context_channels: int | None = None
    num_classes: int | None = None
    vector_channels: int | None = None

    def __post_init__(self) -> None:
        counts = ("in_channels", "out_channels", "channels", "depth", "patch_size")
        for name in (*counts, "context_channels", "vector_channels", "num_classes"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, not {value}")
        if self.head_channels < 4 or self.head_channels % 4:
            raise ValueError(f"head_channels must be a multiple of 4, not {self.head_channels}")
        if self.channels % self.head_channels:
            raise ValueError(f"head_channels must divide the {self.channels} channels; {self.head_channels} does not")

    @property
    def factor(self) -> int:
        """What height and width must be multiples of."""
        return self.patch_size

    def build(self) -> "DiT":
        """Make the network with fresh weights."""
        return DiT(self)


class DiT(nn.Module):
    """Diffusion transformer with adaLN-zero (arXiv:2212.09748) in the form that later work settled on.

    RMSNorm, SwiGLU and rotary positions as in arXiv:2501.01423, normalised queries and keys, and cross-attention to a
    context. Positions are relative, so that any size will do. Weights start as the paper's: the last layer and all
    gates at zero (an untrained network returns 0), embeddings with standard deviation 0.02, the rest Xavier-uniform.
    """

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        self.config = config
        width, area = config.channels, config.patch_size**2
        self.patch_embed = linear(config.in_channels * area, width)
        self.time_embed = _two_layers(TIME_CHANNELS, width)
        if config.num_classes is not None:
            self.label_embed = nn.Embedding(config.num_classes, width)
            nn.init.normal_(self.label_embed.weight, std=0.02)
        if config.vector_channels is not None:
            self.vector_embed = _two_layers(config.vector_channels, width)
        self.blocks = nn.ModuleList(
            DiTBlock(width, heads=width // config.head_channels, context_channels=config.context_channels)
            for _ in range(config.depth)
        )
        self.norm_out = RMSNorm(width, scale=False)
        self.modulation = nn.Sequential(nn.SiLU(), zero_init(nn.Linear(width, 2 * width)))
        self.out = zero_init(nn.Linear(width, config.out_channels * area))

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
        """Predict from noisy ``x`` at network time ``t`` (any real number; the schedules' times are 0 .. 1000).

        Raises:
            ValueError: height or width is not a multiple of ``config.factor``, or the inputs are not those that the
                configuration asks for.
        """
        config = self.config
        check_inputs(config, x, concat, {"context": context, "vector": vector, "label": label})
        emb = self.time_embed(timestep_embedding(t, TIME_CHANNELS).to(x.dtype))
        if label is not None:
            emb = emb + self.label_embed(label)
        if vector is not None:
            emb = emb + self.vector_embed(vector)
        patches = F.pixel_unshuffle(x if concat is None else torch.cat([x, concat], dim=1), config.patch_size)
        height, width = patches.shape[-2:]
        rotary = rotary_table(
            height, width, config.head_channels, device=x.device, dtype=torch.promote_types(x.dtype, torch.float32)
        )
        tokens = self.patch_embed(rearrange(patches, "b c h w -> b (h w) c"))
        for block in self.blocks:
            tokens = block(tokens, emb, context, context_mask, rotary=rotary)
        shift, scale = self.modulation(emb)[:, None].chunk(2, dim=-1)
        tokens = self.out(modulate(self.norm_out(tokens), shift, scale))
        return F.pixel_shuffle(rearrange(tokens, "b (h w) c -> b c h w", h=height), config.patch_size)


def _two_layers(channels: int, out_channels: int) -> nn.Sequential:
    first, last = linear(channels, out_channels), linear(out_channels, out_channels)
    for layer in (first, last):
        nn.init.normal_(layer.weight, std=0.02)
    return nn.Sequential(first, nn.SiLU(), last)
