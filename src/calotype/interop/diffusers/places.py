"""Where every module of our networks sits in those of diffusers: the key map, as data, for both directions.

A `Place` is a pair of module paths with the names of the layers inside where those differ. State dicts are moved from
one set of paths to the other; a key without a place is an error, never dropped.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from torch import Tensor

from calotype.models.unet import UNetConfig
from calotype.utils.errors import UserError

RES_BLOCK = {
    "in_layers.0": "norm1",
    "in_layers.2": "conv1",
    "emb_layers.1": "time_emb_proj",
    "out_layers.0": "norm2",
    "out_layers.3": "conv2",
    "skip_connection": "conv_shortcut",
}
ATTENTION_BLOCK = {"norm": "group_norm", "q": "to_q", "k": "to_k", "v": "to_v", "proj_out": "to_out.0"}
RESNET_BLOCK = {"norm1": "norm1", "conv1": "conv1", "norm2": "norm2", "conv2": "conv2", "nin_shortcut": "conv_shortcut"}
TWO_LAYERS = {"0": "linear_1", "2": "linear_2"}


@dataclass(frozen=True)
class Place:
    """A module of ours, the same in diffusers, and the layers inside that have another name (none: all the same)."""

    ours: str
    theirs: str
    layers: Mapping[str, str] = field(default_factory=dict)

    def pairs(self) -> Iterator[tuple[str, str]]:
        """Yield the paths of the layers, ours and theirs."""
        if not self.layers:
            yield self.ours, self.theirs
        for ours, theirs in self.layers.items():
            yield f"{self.ours}.{ours}", f"{self.theirs}.{theirs}"


def unet_places(config: UNetConfig) -> list[Place]:
    """Return the places of a UNet."""
    attention = ATTENTION_BLOCK if config.transformer_depth == 0 else {}
    places = [Place("input_blocks.0.0", "conv_in"), Place("time_embed", "time_embedding", TWO_LAYERS)]
    if config.num_classes is not None:
        places.append(Place("label_emb", "class_embedding"))
    if config.vector_channels is not None:
        places.append(Place("vector_embed", "class_embedding", TWO_LAYERS))
    places += [
        Place("middle_block.0", "mid_block.resnets.0", RES_BLOCK),
        Place("middle_block.1", "mid_block.attentions.0", attention),
        Place("middle_block.2", "mid_block.resnets.1", RES_BLOCK),
        Place("out.0", "conv_norm_out"),
        Place("out.2", "conv_out"),
    ]
    levels, blocks = len(config.channel_multipliers), config.num_res_blocks
    for level in range(levels):
        attends = 2**level in config.attention_factors
        first = 1 + level * (blocks + 1)
        for block in range(blocks):
            places.append(Place(f"input_blocks.{first + block}.0", f"down_blocks.{level}.resnets.{block}", RES_BLOCK))
            if attends:
                ours, theirs = f"input_blocks.{first + block}.1", f"down_blocks.{level}.attentions.{block}"
                places.append(Place(ours, theirs, attention))
        if level < levels - 1:
            resampler = RES_BLOCK if config.resblock_updown else {"op": "conv"}
            places.append(Place(f"input_blocks.{first + blocks}.0", f"down_blocks.{level}.downsamplers.0", resampler))
        up, first = levels - 1 - level, (levels - 1 - level) * (blocks + 1)
        for block in range(blocks + 1):
            places.append(Place(f"output_blocks.{first + block}.0", f"up_blocks.{up}.resnets.{block}", RES_BLOCK))
            if attends:
                ours, theirs = f"output_blocks.{first + block}.1", f"up_blocks.{up}.attentions.{block}"
                places.append(Place(ours, theirs, attention))
        if level:
            resampler = RES_BLOCK if config.resblock_updown else {}
            ours = f"output_blocks.{first + blocks}.{1 + attends}"
            places.append(Place(ours, f"up_blocks.{up}.upsamplers.0", resampler))
    return places


def autoencoder_places(levels: int, blocks: int) -> list[Place]:
    """Return the places of an encoder with ``blocks`` residual blocks per level and a decoder with one more."""
    names = ("quant_conv", "post_quant_conv", "quantize", "encoder.conv_in", "encoder.conv_out", "decoder.conv_in")
    places = [Place(name, name) for name in (*names, "decoder.conv_out")]
    for half in ("encoder", "decoder"):
        places += [
            Place(f"{half}.mid.block_1", f"{half}.mid_block.resnets.0", RESNET_BLOCK),
            Place(f"{half}.mid.attn_1", f"{half}.mid_block.attentions.0", ATTENTION_BLOCK),
            Place(f"{half}.mid.block_2", f"{half}.mid_block.resnets.1", RESNET_BLOCK),
            Place(f"{half}.norm_out", f"{half}.conv_norm_out"),
        ]
    for level in range(levels):
        ends = (
            (f"encoder.down.{level}", f"encoder.down_blocks.{level}", "downsample", blocks),
            (f"decoder.up.{level}", f"decoder.up_blocks.{levels - 1 - level}", "upsample", blocks + 1),
        )
        for ours, theirs, resample, count in ends:
            for block in range(count):
                places.append(Place(f"{ours}.block.{block}", f"{theirs}.resnets.{block}", RESNET_BLOCK))
                places.append(Place(f"{ours}.attn.{block}", f"{theirs}.attentions.{block}", ATTENTION_BLOCK))
            places.append(Place(f"{ours}.{resample}", f"{theirs}.{resample}rs.0"))
    return places


def to_theirs(state: Mapping[str, Tensor], places: list[Place]) -> dict[str, Tensor]:
    """Move a state dict from our paths to those of diffusers."""
    return _moved(state, {ours: theirs for place in places for ours, theirs in place.pairs()})


def to_ours(state: Mapping[str, Tensor], places: list[Place]) -> dict[str, Tensor]:
    """Move a state dict from the paths of diffusers to ours."""
    return _moved(state, {theirs: ours for place in places for ours, theirs in place.pairs()})


def _moved(state: Mapping[str, Tensor], paths: Mapping[str, str]) -> dict[str, Tensor]:
    moved, lost = {}, []
    for key, tensor in state.items():
        parts = key.split(".")
        heads = (".".join(parts[:end]) for end in range(len(parts), 0, -1))
        head = next((head for head in heads if head in paths), None)
        if head is None:
            lost.append(key)
        else:
            moved[paths[head] + key[len(head) :]] = tensor
    if lost:
        raise UserError(f"weights with no place in the network: {', '.join(lost[:5])}{' ...' if len(lost) > 5 else ''}")
    return moved
