"""The shape of a UNet in the words of diffusers, and back."""

from collections.abc import Mapping, Sequence
from typing import Any

from calotype.interop.diffusers.layout import refuse
from calotype.interop.diffusers.unet_blocks import Family, read_blocks, write_blocks
from calotype.interop.diffusers.unet_layouts import UNET, UNET_CONDITION
from calotype.models.unet import UNetConfig
from calotype.utils.errors import UserError


def unet_config_to_diffusers(config: UNetConfig, sample_size: int, groups: int) -> dict[str, Any]:
    """Return the config.json of a network for latents of ``sample_size`` that normalises in ``groups`` groups.

    Raises:
        UserError: an option that has no image, and why.
    """
    _check(config)
    family: Family = "cross" if config.transformer_depth else "attention"
    widths = [config.channels * multiplier for multiplier in config.channel_multipliers]
    attends = [2**level in config.attention_factors for level in range(len(widths))]
    values = write_blocks(family, attends, "resnet" if config.resblock_updown else "conv") | {
        "sample_size": sample_size,
        "in_channels": config.in_channels,
        "out_channels": config.out_channels,
        "block_out_channels": widths,
        "layers_per_block": config.num_res_blocks,
        "dropout": config.dropout,
        "norm_num_groups": groups,
        "resnet_time_scale_shift": "scale_shift" if config.scale_shift_norm else "default",
        "num_class_embeds": config.num_classes,
    }
    if family == "attention":
        head_widths = _head_widths(config)
        head_width = head_widths[0] if len(set(head_widths)) == 1 else None
        return UNET.write(**values, attention_head_dim=head_width, attn_norm_num_groups=groups)
    if config.vector_channels is not None:
        values["class_embed_type"] = "projection"
        values["projection_class_embeddings_input_dim"] = config.vector_channels
    heads = [_heads(config, width) for width in widths]
    tokens = (
        config.context_channels or widths
    )  # without a context a position attends to positions: as wide as the level
    return UNET_CONDITION.write(
        **values,
        attention_head_dim=heads[0] if len(set(heads)) == 1 else heads,
        cross_attention_dim=tokens,
        transformer_layers_per_block=config.transformer_depth,
    )


def unet_config_from_diffusers(data: Mapping[str, Any], where: str) -> UNetConfig:
    """Return the shape that a config.json describes.

    Raises:
        UserError: the class or one of its options has no counterpart here.
    """
    layouts = {layout.name: layout for layout in (UNET, UNET_CONDITION)}
    layout = layouts.get(data.get("_class_name", ""))
    if layout is None:
        raise UserError(f"{where}: {data.get('_class_name')} is not one of {', '.join(layouts)}")
    values = layout.read(data, where)
    family, attends, resample = read_blocks(values, where)
    widths: list[int] = values["block_out_channels"]
    if any(width % widths[0] for width in widths):
        raise UserError(f"{where}: block_out_channels {widths} must be multiples of the first")
    if values["resnet_time_scale_shift"] not in ("default", "scale_shift"):
        raise UserError(f"{where}: resnet_time_scale_shift {values['resnet_time_scale_shift']!r} has no counterpart")
    if values["resnet_time_scale_shift"] == "scale_shift" and values.get("attn_norm_num_groups", 0) is None:
        raise UserError(f"{where}: attn_norm_num_groups None leaves the middle attention without normalisation")
    everywhere = [True] * len(widths)
    shared: dict[str, Any] = {
        "in_channels": values["in_channels"],
        "out_channels": values["out_channels"],
        "channels": widths[0],
        "channel_multipliers": tuple(width // widths[0] for width in widths),
        "num_res_blocks": _single(values, "layers_per_block", everywhere, where),
        "attention_factors": tuple(2**level for level, here in enumerate(attends) if here),
        "resblock_updown": resample == "resnet",
        "scale_shift_norm": values["resnet_time_scale_shift"] == "scale_shift",
        "dropout": values["dropout"],
    }
    shared |= _class_embedding(values, where) | _heads_of(values, widths, attends, family, where)
    if family == "cross":
        shared["transformer_depth"] = _single(values, "transformer_layers_per_block", attends, where)
        if values["cross_attention_dim"] != widths:
            shared["context_channels"] = _single(values, "cross_attention_dim", attends, where)
    return UNetConfig(**shared)


def _check(config: UNetConfig) -> None:
    if config.codes is not None:
        raise refuse("codes", "its UNets predict images")
    if config.space_to_depth > 1:
        raise refuse(f"space_to_depth {config.space_to_depth}", "its UNets work at the resolution of the latents")
    if not config.conv_resample:
        raise refuse("conv_resample False", "its UNets change resolution by convolutions or residual blocks")
    if config.heads_up not in (None, config.heads):
        raise refuse(f"heads_up {config.heads_up}", "its UNets have as many heads on the way up as on the way down")
    if config.vector_channels is not None and config.num_classes is not None:
        raise refuse("vector_channels with num_classes", "its UNets embed one of the two")
    if config.transformer_depth and config.resblock_updown:
        raise refuse("resblock_updown with transformer_depth", "its CrossAttn blocks change resolution by convolutions")
    if not config.transformer_depth:
        if config.vector_channels is not None:
            raise refuse("vector_channels without transformer_depth", f"its {UNET.name} embeds no vector")
        if config.heads != 1 and len(widths := set(_head_widths(config))) > 1:
            found = ", ".join(map(str, sorted(widths)))
            reason = f"the heads of its {UNET.name} are as wide at every level; here they are {found} channels wide"
            raise refuse(f"heads {config.heads}", reason)


def _heads(config: UNetConfig, width: int) -> int:
    return config.heads or max(1, width // (config.head_channels or width))


def _head_widths(config: UNetConfig) -> list[int]:
    """The width of one head at every level with attention, and in the middle."""
    levels = enumerate(config.channel_multipliers)
    widths = [config.channels * multiplier for level, multiplier in levels if 2**level in config.attention_factors]
    widths.append(config.channels * config.channel_multipliers[-1])
    return [width // _heads(config, width) for width in widths]


def _heads_of(
    values: Mapping[str, Any], widths: list[int], attends: list[bool], family: Family, where: str
) -> dict[str, int | None]:
    """One number of heads, or one width of them. ``cross`` networks state numbers, the others widths (None: all)."""
    stated, used = _attended(values["attention_head_dim"], attends), _attended(widths, attends)
    if family == "cross":
        numbers, head_widths = stated, [width // number for width, number in zip(used, stated, strict=True)]
    else:
        head_widths = [own or width for width, own in zip(used, stated, strict=True)]
        numbers = [width // own for width, own in zip(used, head_widths, strict=True)]
    if len(set(numbers)) == 1 and (family == "cross" or len(set(head_widths)) > 1):
        return {"heads": numbers[0], "head_channels": None}
    if len(set(head_widths)) == 1:
        return {"heads": None, "head_channels": head_widths[0]}
    raise UserError(f"{where}: attention_head_dim {values['attention_head_dim']} differs in number and width of heads")


def _class_embedding(values: Mapping[str, Any], where: str) -> dict[str, int | None]:
    match values.get("class_embed_type"):
        case None:
            return {"num_classes": values["num_class_embeds"]}
        case "projection":
            return {"vector_channels": values["projection_class_embeddings_input_dim"]}
    raise UserError(f"{where}: class_embed_type {values['class_embed_type']!r} has no counterpart in calotype")


def _attended(value: Any, attends: Sequence[bool]) -> list[Any]:
    """The values (or the one value) at every level with attention, and in the middle."""
    levels = value if isinstance(value, list) else [value] * len(attends)
    return [entry for entry, here in zip(levels, attends, strict=True) if here] + levels[-1:]


def _single(values: Mapping[str, Any], key: str, attends: Sequence[bool], where: str) -> int:
    found = set(map(str, _attended(values[key], attends)))
    if len(found) > 1 or not next(iter(found)).isdecimal():
        raise UserError(f"{where}: {key} {values[key]} differs between levels; calotype has one for all")
    return int(found.pop())
