"""From the fields of the data (caption, class, image) to what the network is conditioned on."""

from calotype.conditioner.conditioner import Conditioner, ConditionerConfig
from calotype.conditioner.embedders.base import Embedder, EmbedderConfig, FieldConfig, Widths
from calotype.conditioner.embedders.bert import BERTEmbedder, BERTEmbedderConfig, TokensConfig
from calotype.conditioner.embedders.boxes import BoxesConfig, BoxesEmbedder
from calotype.conditioner.embedders.bpe import BPEConfig, BPETokens, train_bpe
from calotype.conditioner.embedders.class_token import ClassEmbedder, ClassEmbedderConfig
from calotype.conditioner.embedders.encoded_image import EncodedImage, EncodedImageConfig
from calotype.conditioner.embedders.frozen_text import FrozenTextEmbedder, FrozenTextEmbedderConfig
from calotype.conditioner.embedders.image_embedding import ImageEmbedding, ImageEmbeddingConfig
from calotype.conditioner.embedders.label import LabelEmbedder, LabelEmbedderConfig
from calotype.conditioner.embedders.layout import Box, Layout, LayoutConfig, LayoutObject, LayoutTokens
from calotype.conditioner.embedders.low_resolution import LowResolution, LowResolutionConfig
from calotype.conditioner.embedders.neighbours import Neighbours, NeighboursConfig
from calotype.conditioner.embedders.pass_through import PassThrough, PassThroughConfig
from calotype.conditioner.embedders.projection import ProjectedVectors, Projection, ProjectionConfig
from calotype.conditioner.embedders.spatial_rescaler import SpatialRescaler, SpatialRescalerConfig
from calotype.conditioner.embedders.text import TextEmbedder, TextEmbedderConfig
from calotype.conditioner.embedders.tokenizer import WordTokenizer
from calotype.conditioner.embedders.tokens import TokenIdsConfig
from calotype.conditioner.embedders.wordpiece import WordPieceConfig, WordPieceTokens

__all__ = [
    "BERTEmbedder",
    "BERTEmbedderConfig",
    "BPEConfig",
    "BPETokens",
    "Box",
    "BoxesConfig",
    "BoxesEmbedder",
    "ClassEmbedder",
    "ClassEmbedderConfig",
    "Conditioner",
    "ConditionerConfig",
    "Embedder",
    "EmbedderConfig",
    "EncodedImage",
    "EncodedImageConfig",
    "FieldConfig",
    "FrozenTextEmbedder",
    "FrozenTextEmbedderConfig",
    "ImageEmbedding",
    "ImageEmbeddingConfig",
    "LabelEmbedder",
    "LabelEmbedderConfig",
    "Layout",
    "LayoutConfig",
    "LayoutObject",
    "LayoutTokens",
    "LowResolution",
    "LowResolutionConfig",
    "Neighbours",
    "NeighboursConfig",
    "PassThrough",
    "PassThroughConfig",
    "ProjectedVectors",
    "Projection",
    "ProjectionConfig",
    "SpatialRescaler",
    "SpatialRescalerConfig",
    "TextEmbedder",
    "TextEmbedderConfig",
    "TokenIdsConfig",
    "TokensConfig",
    "Widths",
    "WordPieceConfig",
    "WordPieceTokens",
    "WordTokenizer",
    "train_bpe",
]
