"""Networks that others trained and that stay frozen: texts to token states, images to vectors; each encoded once."""

from calotype.encoders.cache import EncodingCache
from calotype.encoders.clip_features import CLIPImageFeatures
from calotype.encoders.image import ImageEncoder, ImageEncoderConfig, describe_image_encoder
from calotype.encoders.image_features import EfficientNetLite0Features, ImageFeatures
from calotype.encoders.index import Contents, RetrievalIndex
from calotype.encoders.search import Search
from calotype.encoders.text import TextEncoder, TextEncoderConfig, describe_text_encoder

__all__ = [
    "CLIPImageFeatures",
    "Contents",
    "EfficientNetLite0Features",
    "EncodingCache",
    "ImageEncoder",
    "ImageEncoderConfig",
    "ImageFeatures",
    "RetrievalIndex",
    "Search",
    "TextEncoder",
    "TextEncoderConfig",
    "describe_image_encoder",
    "describe_text_encoder",
]
