"""Objects in boxes, each as one context token: grounding tokens (GLIGEN, arXiv:2301.07093)."""

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from calotype.conditioner.embedders.base import Embedder, FieldConfig, Widths
from calotype.diffusion.conditioning import Conditioning
from calotype.models.autoencoder import Autoencoder
from calotype.utils.boxes import LayoutObject, as_object
from calotype.utils.errors import UserError, nearest

log = logging.getLogger(__name__)

LISTED = 12
_NONE = -1.0


@dataclass(frozen=True, kw_only=True)
class BoxesConfig(FieldConfig):
    """Up to ``max_objects`` objects of ``classes``, each a token of ``channels``; the order has no meaning.

    Edges are seen through the sines and cosines of ``frequencies`` octaves: pi times 1, 2, 4 ... With ``map_channels``
    objects are also drawn: at each position of the latents the network sees what lies there, which it learns from much
    sooner than where to look from tokens.
    """

    kind: Literal["boxes"] = "boxes"
    field: str = "boxes"
    classes: tuple[str, ...]
    channels: int
    max_objects: int = 30
    frequencies: int = 8
    map_channels: int = 0
    dropout: float = 0.0

    def __post_init__(self) -> None:
        for name in ("channels", "max_objects", "frequencies"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        if self.map_channels < 0:
            raise ValueError(f"map_channels must be at least 0, not {self.map_channels}")
        if not self.classes or len(set(self.classes)) < len(self.classes):
            raise ValueError("classes must name each class once, and at least one")
        self.check_dropout()

    def widths(self, latent_channels: int) -> Widths:  # noqa: ARG002
        """Return the width of the tokens, and that of the map."""
        return Widths(context=self.channels, concat=self.map_channels)

    def build(self) -> "BoxesEmbedder":
        """Make the embedder with fresh weights."""
        return BoxesEmbedder(self)


class BoxesEmbedder(Embedder):
    """Fills ``context`` with ``MLP(class embedding, Fourier(x, y, width, height))`` per object (Eq. 5), and the mask.

    A missing layout and one without objects are the same: the learned null token alone. With a map it fills ``concat``,
    too, with the sum over objects of their class's vector times the share of each latent's area that the box covers.
    """

    def __init__(self, config: BoxesConfig) -> None:
        super().__init__()
        self.config, self.field, self.dropout = config, config.field, config.dropout
        self.index = {name: number for number, name in enumerate(config.classes)}
        channels = config.channels
        self.embedding = nn.Embedding(len(config.classes), channels)
        self.mlp = nn.Sequential(
            nn.Linear(channels + 8 * config.frequencies, channels),
            nn.SiLU(),
            nn.Linear(channels, channels),
            nn.SiLU(),
            nn.Linear(channels, channels),
        )
        self.null_token = nn.Parameter(torch.zeros(channels))
        self._factor = 1
        if config.map_channels:
            self.map = nn.Linear(channels, config.map_channels, bias=False)

    def attach(self, autoencoder: Autoencoder) -> None:
        """Note how much smaller the latents are than the images."""
        self._factor = autoencoder.factor

    def takes(self, value: Any) -> bool:
        """Return whether ``value`` is a list of objects of known classes."""
        try:
            self._row(value)
        except UserError:
            return False
        return value is not None

    def prepare(self, values: Sequence[Any], size: tuple[int, int] | None = None) -> Float[Tensor, "b n ..."]:
        """Map layouts to one row per object: its class's number (-1: no object), x, y, width and height.

        With a map these are the first lines of an image, whose others are what the box covers.
        """
        return self._with_map(torch.stack([self._row(value) for value in values]), size)

    def null(self, count: int, size: tuple[int, int] | None = None) -> Float[Tensor, "b n ..."]:
        """Return layouts without objects."""
        return self._with_map(self._nothing().expand(count, -1, -1).clone(), size)

    def forward(self, inputs: Float[Tensor, "b n ..."], drop: Bool[Tensor, " b"] | None = None) -> Conditioning:
        """Embed objects; those of dropped layouts are not seen."""
        above = 0 if inputs.ndim == 3 else _lines(inputs.shape[3])
        rows = inputs[:, :, :above].flatten(2)[:, :, :5] if above else inputs
        there = rows[:, :, 0] >= 0  # b n
        if drop is not None:
            there = there & ~drop[:, None]
        names = self.embedding(rows[:, :, 0].clamp(min=0).long())
        tokens = self.mlp(torch.cat([names, self._fourier(rows[:, :, 1:]).to(names)], dim=2))
        # objects come first: a first token that is none is the null of a layout without objects
        first = torch.arange(rows.shape[1], device=rows.device) == 0
        context = torch.where(there[:, :, None], tokens, self.null_token.to(tokens))
        concat = None
        if self.config.map_channels:
            covered = inputs[:, :, above:] * there[:, :, None, None]
            concat = torch.einsum("bnhw,bnc->bchw", covered.to(names), self.map(names))
        return Conditioning(context=context, context_mask=there | first, concat=concat)

    def _with_map(self, rows: Float[Tensor, "b n 5"], size: tuple[int, int] | None) -> Float[Tensor, "b n ..."]:
        """Return rows above the share of each latent's area that their boxes cover; rows alone without a map."""
        if not self.config.map_channels:
            return rows
        if size is None:
            raise self.missing()
        height, width = (side // self._factor for side in size)
        x, y, wide, high = rows[:, :, 1:].unbind(2)
        covered = _shares(y, high, height)[:, :, :, None] * _shares(x, wide, width)[:, :, None]
        above = _lines(width)
        head = F.pad(rows, (0, above * width - 5)).unflatten(2, (above, width))
        return torch.cat([head, covered], dim=2)

    def _nothing(self) -> Float[Tensor, "n 5"]:
        return torch.full((self.config.max_objects, 5), _NONE)

    def _fourier(self, edges: Float[Tensor, "b n 4"]) -> Float[Tensor, "b n d"]:
        octaves = math.pi * 2.0 ** torch.arange(self.config.frequencies, device=edges.device)
        angles = (edges[..., None] * octaves).flatten(2)
        return torch.cat([angles.sin(), angles.cos()], dim=2)

    def _row(self, value: Any) -> Float[Tensor, "n 5"]:
        row, most = self._nothing(), self.config.max_objects
        if value is None:
            return row
        if not isinstance(value, Sequence) or isinstance(value, str):
            raise UserError(f"{self.field} must be a list of objects, not {type(value).__name__}: {value!r}")
        objects = [self._object(item) for item in value]
        if len(objects) > most:
            log.warning("only %d of %d objects fit into the layout", most, len(objects))
        for place, item in enumerate(objects[:most]):
            row[place] = torch.tensor([self.index[str(item.label)], *item.box])
        return row

    def _object(self, value: LayoutObject | Mapping[str, Any]) -> LayoutObject:
        item = as_object(value)
        if str(item.label) not in self.index:
            known = list(self.index)
            hint = nearest(str(item.label), known) or f" Known are {', '.join(known[:LISTED])}"
            hint += " ..." if len(known) > LISTED and hint.startswith(" Known") else ""
            raise UserError(f"class {str(item.label)!r} of the layout is unknown.{hint}")
        return item


def _lines(width: int) -> int:
    """Return how many lines of an image hold the five numbers of an object."""
    return -(-5 // width)


def _shares(start: Float[Tensor, "b n"], length: Float[Tensor, "b n"], count: int) -> Float[Tensor, "b n k"]:
    """Return the share of each of ``count`` equal parts of 0 to 1 that lies between start and start + length."""
    edges = torch.arange(count + 1) / count
    begin, end = start[:, :, None], (start + length)[:, :, None]
    return ((torch.minimum(end, edges[1:]) - torch.maximum(begin, edges[:-1])) * count).clamp(min=0)
