"""The names of a UNet's blocks in diffusers: where attention sits, of which kind, and how resolution changes.

Two families of blocks serve our networks: ``attention`` (UNet2DModel: plain self-attention, one width of heads for all
levels) and ``cross`` (UNet2DConditionModel: spatial transformers). The conditional class has blocks of plain attention
as well, with a width of heads per level, but takes those widths in the wrong order on the way up.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from calotype.utils.errors import UserError

Family = Literal["attention", "cross"]
MIDDLE: dict[Family, str] = {
    "attention": "UNetMidBlock2D",
    "cross": "UNetMidBlock2DCrossAttn",
}


@dataclass(frozen=True)
class Block:
    """A sort of block; ``resample`` is how it changes resolution, None where the configuration says so elsewhere."""

    name: str
    attends: bool
    resample: Literal["conv", "resnet"] | None
    families: frozenset[Family]


BLOCKS = (
    Block("{}Block2D", False, "conv", frozenset(MIDDLE)),
    Block("Resnet{}sampleBlock2D", False, "resnet", frozenset(MIDDLE)),
    Block("Attn{}Block2D", True, None, frozenset({"attention"})),
    Block("CrossAttn{}Block2D", True, "conv", frozenset({"cross"})),
)


def write_blocks(family: Family, attends: Sequence[bool], resample: str) -> dict[str, Any]:
    """Return the keys of a configuration that name the blocks of a network; ``attends`` is per level."""
    names = [
        next(
            block.name
            for block in BLOCKS
            if family in block.families and block.attends == here and block.resample in (resample, None)
        )
        for here in attends
    ]
    types = {"downsample_type": resample, "upsample_type": resample} if family == "attention" else {}
    return types | {
        "mid_block_type": MIDDLE[family],
        "down_block_types": [name.format("Down") for name in names],
        "up_block_types": [name.format("Up") for name in reversed(names)],
    }


def read_blocks(values: Mapping[str, Any], where: str) -> tuple[Family, list[bool], str]:
    """Return the family, where attention sits and how resolution changes: what ``write_blocks`` takes.

    Raises:
        UserError: blocks that have no counterpart here, or differ between the ways down and up.
    """
    middle = values["mid_block_type"]
    family = next((family for family, name in MIDDLE.items() if name == middle), None)
    if family is None:
        raise UserError(f"{where}: mid_block_type {middle!r} has no counterpart in calotype")
    down, up = (
        [_block(name, side, family, where) for name in values[f"{side.lower()}_block_types"]] for side in ("Down", "Up")
    )
    attends = [block.attends for block in down]
    if attends != [block.attends for block in reversed(up)]:
        raise UserError(f"{where}: up_block_types must mirror down_block_types")
    # the lowest level has none below it, the topmost (the last on the way up) none above
    found = {block.resample or values["downsample_type"] for block in down[:-1]}
    found |= {block.resample or values["upsample_type"] for block in up[:-1]}
    if len(found) > 1:
        raise UserError(f"{where}: down_block_types and up_block_types mix ways to change resolution; calotype has one")
    resample = found.pop() if found else "conv"
    if resample not in ("conv", "resnet"):
        raise UserError(f"{where}: downsample_type {resample!r} has no counterpart in calotype")
    return family, attends, resample


def _block(name: str, side: str, family: Family, where: str) -> Block:
    for block in BLOCKS:
        if family in block.families and block.name.format(side) == name:
            return block
    raise UserError(f"{where}: block type {name!r} has no counterpart in calotype (with {MIDDLE[family]})")
