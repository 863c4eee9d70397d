"""Images and their fields: folders of the user's own, the embedded emoji, and batches made of either."""

from calotype.data.batch import Batch
from calotype.data.emoji import EmojiSplits, emoji
from calotype.data.folder import ImageFolder, scan_folder
from calotype.data.image_set import ImageSet, Record
from calotype.data.loader import Loader
from calotype.data.order import BatchOrder, Order
from calotype.data.pixel_format import PixelFormat
from calotype.data.splits import split
from calotype.data.transforms import Transform

__all__ = [
    "Batch",
    "BatchOrder",
    "EmojiSplits",
    "ImageFolder",
    "ImageSet",
    "Loader",
    "Order",
    "PixelFormat",
    "Record",
    "Transform",
    "emoji",
    "scan_folder",
    "split",
]
