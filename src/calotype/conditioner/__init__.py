"""From the fields of the data (caption, class) to what the network is conditioned on."""

from calotype.conditioner.conditioner import Conditioner, ConditionerConfig, EmbedderConfig
from calotype.conditioner.embedders.label import LabelEmbedder, LabelEmbedderConfig
from calotype.conditioner.embedders.text import TextEmbedder, TextEmbedderConfig
from calotype.conditioner.embedders.tokenizer import WordTokenizer

__all__ = [
    "Conditioner",
    "ConditionerConfig",
    "EmbedderConfig",
    "LabelEmbedder",
    "LabelEmbedderConfig",
    "TextEmbedder",
    "TextEmbedderConfig",
    "WordTokenizer",
]
