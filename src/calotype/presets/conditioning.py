"""Which conditioning a data set's fields call for."""

from collections.abc import Sequence

from calotype.conditioner import ConditionerConfig, LabelEmbedderConfig, TextEmbedderConfig
from calotype.conditioner.embedders.tokenizer import build_vocabulary
from calotype.data.image_set import ImageSet

MAX_CLASSES = 1_000


def conditioner_for(images: ImageSet, *, channels: int, layers: int) -> ConditionerConfig:
    """Return a text embedder where there are captions, else a label where there are 2 to 1,000 classes, else nothing.

    The vocabulary is made of the set's captions and keywords (a ``tags`` field).
    """
    names = images.field_names
    if "caption" in names:
        keywords = "tags" if "tags" in names else None
        texts = [record.fields.get("caption") or "" for record in images.records]
        texts += [_words(record.fields.get("tags")) for record in images.records]
        vocabulary = build_vocabulary(texts)
        if vocabulary:
            text = TextEmbedderConfig(vocabulary=vocabulary, channels=channels, layers=layers, keyword_field=keywords)
            return ConditionerConfig(embedders=(text,))
    if "class" in names:
        classes = sorted({str(record.fields["class"]) for record in images.records if "class" in record.fields})
        if 2 <= len(classes) <= MAX_CLASSES:
            return ConditionerConfig(embedders=(LabelEmbedderConfig(classes=tuple(classes)),))
    return ConditionerConfig()


def _words(keywords: str | Sequence[str] | None) -> str:
    return keywords if isinstance(keywords, str) else " ".join(keywords or ())
