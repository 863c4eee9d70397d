"""What the original's models are conditioned on, as our conditioners."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from calotype.conditioner import ConditionerConfig
from calotype.conditioner.embedders.base import EmbedderConfig
from calotype.conditioner.embedders.bert import BERTEmbedderConfig
from calotype.conditioner.embedders.class_token import ClassEmbedderConfig
from calotype.conditioner.embedders.encoded_image import EncodedImageConfig
from calotype.conditioner.embedders.layout import LayoutConfig
from calotype.conditioner.embedders.pass_through import PassThroughConfig
from calotype.conditioner.embedders.spatial_rescaler import SpatialRescalerConfig
from calotype.conditioner.embedders.tokens import TokenIdsConfig
from calotype.conditioner.embedders.wordpiece import WordPieceConfig
from calotype.interop.original.parameters import MOST_REPEATS, Parameters, section
from calotype.utils.errors import UserError

UNCONDITIONAL, FIRST_STAGE = "__is_unconditional__", "__is_first_stage__"
FIELDS = {
    "caption": "caption",
    "class_label": "class",
    "coordinates_bbox": "layout",
    "LR_image": "low_resolution",
    "masked_image": "masked_image",
    "nix": "neighbours",
    "segmentation": "segmentation",
}
TEXT_ENCODERS = ("FrozenCLIPEmbedder", "FrozenCLIPTextEmbedder")
METHODS = ("nearest", "linear", "bilinear", "trilinear", "bicubic", "area")
CORNERS, CROP = 3, 2
"""Tokens of an object by the corners of its box, and of the crop."""


@dataclass(frozen=True)
class Slot:
    """Where the network takes its condition, how wide it is there, and the original's name for the data (``key``)."""

    name: Literal["context", "concat"]
    channels: int
    key: str

    @property
    def field(self) -> str:
        """Our name for the data."""
        return FIELDS.get(self.key, self.key)


def conditioner_config(node: Any, slot: Slot, latent_channels: int) -> ConditionerConfig:
    """Return our conditioner for a ``cond_stage_config``.

    Raises:
        UserError: the target or a parameter is unknown, or what it makes does not fit the slot.
    """
    if node == UNCONDITIONAL:
        return ConditionerConfig()
    if node == FIRST_STAGE:
        made, channels = EncodedImageConfig(field=slot.field, latents="raw", null="none"), latent_channels + 1
        return _fitting(FIRST_STAGE, slot, made, "concat", channels)
    target, params = section("cond_stage_config", node)
    if target not in _TARGETS:
        raise UserError(f"cond_stage_config: the target {target[:80]!r} is not among those that are read")
    embedder = _TARGETS[target](params, slot)
    if isinstance(embedder, SpatialRescalerConfig):
        return _fitting(params.target, slot, embedder, "concat", embedder.out_channels or embedder.in_channels)
    context = embedder.context_channels
    return _fitting(params.target, slot, embedder, "context" if context else slot.name, context or slot.channels)


def unused_keys(node: Any) -> tuple[str, ...]:
    """Return how those keys of a ``cond_stage_config`` begin that a checkpoint may hold and that we have no use for."""
    target = node.get("target", "") if isinstance(node, dict) else ""
    return ("cond_stage_model.",) if str(target).endswith(TEXT_ENCODERS) else ()


def _fitting(target: str, slot: Slot, embedder: EmbedderConfig, name: str, channels: int) -> ConditionerConfig:
    if (name, channels) != (slot.name, slot.channels):
        raise UserError(
            f"{target} gives {name} of {channels} channels, but the network takes {slot.name} of {slot.channels}"
        )
    return ConditionerConfig(embedders=(embedder,))


def _class_token(params: Parameters, slot: Slot) -> ClassEmbedderConfig:
    """ImageNet's classes with one more have "no class" as the last (``cin256-v2``); otherwise there is none."""
    params.ignore("key")
    classes, channels = params.integer("n_classes", 1000), params.integer("embed_dim")
    null_class = 1000 if classes == 1001 else None
    return params.make(ClassEmbedderConfig, field=slot.field, classes=classes, channels=channels, null_class=null_class)


def _bert(params: Parameters, slot: Slot) -> BERTEmbedderConfig:
    words = params.flag("use_tokenizer", True)
    return _transformer(params, slot, words=words, vocabulary_size=params.integer("vocab_size", 30522))


def _plain_transformer(params: Parameters, slot: Slot) -> BERTEmbedderConfig:
    return _transformer(params, slot, words=False, vocabulary_size=params.integer("vocab_size"))


def _transformer(params: Parameters, slot: Slot, *, words: bool, vocabulary_size: int) -> BERTEmbedderConfig:
    params.ignore("device")
    length = params.integer("max_seq_len", 77)
    tokens: WordPieceConfig | LayoutConfig | TokenIdsConfig = WordPieceConfig() if words else TokenIdsConfig()
    if slot.key == "coordinates_bbox" and not words and length > CROP and (length - CROP) % CORNERS == 0:
        tokens = params.make_part(
            LayoutConfig,
            classes=vocabulary_size - 1,
            max_objects=(length - CROP) // CORNERS,
            tokens=vocabulary_size,
            at_border="shift",
        )
    return params.make(
        BERTEmbedderConfig,
        field=slot.field,
        vocabulary_size=vocabulary_size,
        length=length,
        channels=params.integer("n_embed"),
        layers=params.integer("n_layer", most=MOST_REPEATS),
        embedding_dropout=params.number("embedding_dropout", 0.0),
        tokens=tokens,
        null="none" if isinstance(tokens, TokenIdsConfig) else "empty",
    )


def _spatial_rescaler(params: Parameters, slot: Slot) -> SpatialRescalerConfig:
    return params.make(
        SpatialRescalerConfig,
        field=slot.field,
        in_channels=params.integer("in_channels", 3),
        stages=params.integer("n_stages", 1, most=MOST_REPEATS),
        method=params.choice("method", {method: method for method in METHODS}, "bilinear"),
        multiplier=params.number("multiplier", 0.5),
        out_channels=params.integer("out_channels", None),
        bias=params.flag("bias", False),
        null="none",
    )


def _pass_through(params: Parameters, slot: Slot) -> PassThroughConfig:
    """RDM's neighbours are guided by zeros; nothing is known of others."""
    null = "zeros" if slot.key == "nix" else "none"
    return params.make(PassThroughConfig, field=slot.field, slot=slot.name, channels=slot.channels, null=null)


def _text_encoder(params: Parameters, slot: Slot) -> PassThroughConfig:
    """CLIP is not ours: its output is what the model takes."""
    params.ignore("version", "device", "max_length", "n_repeat", "normalize")
    return params.make(PassThroughConfig, field="text_embedding", slot="context", channels=slot.channels, null="none")


_MODULES = "ldm.modules.encoders.modules"
_TARGETS: dict[str, Callable[[Parameters, Slot], EmbedderConfig]] = {
    f"{_MODULES}.ClassEmbedder": _class_token,
    f"{_MODULES}.BERTEmbedder": _bert,
    f"{_MODULES}.TransformerEmbedder": _plain_transformer,
    f"{_MODULES}.SpatialRescaler": _spatial_rescaler,
    f"{_MODULES}.FrozenCLIPEmbedder": _text_encoder,
    f"{_MODULES}.FrozenCLIPTextEmbedder": _text_encoder,
    "torch.nn.Identity": _pass_through,
}
