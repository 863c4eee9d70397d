"""A data base of images as their vectors, in which the nearest are looked for: by an image, or by words."""

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from calotype.encoders.image import ImageEncoderConfig
from calotype.encoders.search import Search
from calotype.encoders.text import TextEncoderConfig
from calotype.utils.config import Config, from_dict, to_dict
from calotype.utils.errors import UserError
from calotype.utils.files import atomic_write
from calotype.utils.tensors import load_tensors, save_tensors


@dataclass(frozen=True, kw_only=True)
class Contents(Config):
    """What the rows of an index are: images of ``source`` by name, group and caption, in vectors of these encoders.

    ``fingerprint`` is that of the images, ``size`` that of the centres that were encoded.

    ``text`` encodes queries in words: that of the captions, or the text half of the image encoder, whose vectors are
    those of images.
    """

    source: str
    fingerprint: str
    size: int | tuple[int, int]
    names: tuple[str, ...]
    groups: tuple[str, ...]
    captions: tuple[str, ...]
    encoder: ImageEncoderConfig
    text: TextEncoderConfig | None = None

    def __post_init__(self) -> None:
        if not len(self.names) == len(self.groups) == len(self.captions):
            raise ValueError("names, groups and captions must be as many")

    @property
    def shares_space(self) -> bool:
        """Whether texts and images have vectors of one space."""
        return self.text is not None and self.text.source == self.encoder.source


class RetrievalIndex:
    """Unit vectors of images and, where words are looked for in captions, of these; in one file of safetensors."""

    def __init__(
        self,
        contents: Contents,
        vectors: Float[Tensor, "n d"],
        captions: Float[Tensor, "n e"] | None = None,
    ) -> None:
        rows = {len(vectors), len(contents.names), len(contents.names if captions is None else captions)}
        if rows != {len(contents.names)} or not contents.names:
            raise UserError("this index is damaged: it has not one vector for each image")
        self.contents, self.vectors, self.captions = (
            contents,
            vectors.half(),
            None if captions is None else captions.half(),
        )

    def __len__(self) -> int:
        return len(self.vectors)

    @property
    def has_text(self) -> bool:
        """Whether images can be looked for in words."""
        return self.captions is not None or self.contents.shares_space

    def nearest(self, vectors: Float[Tensor, "m d"], k: int, *, groups: Sequence[str] | None = None) -> list[list[int]]:
        """Return the rows of up to ``k`` images nearest to each vector, without those of the query's own group."""
        barred = None if groups is None else [self._rows_of.get(group, ()) for group in groups]
        return self._images.nearest(vectors, k, barred)

    def nearest_to(self, texts: Sequence[str], k: int) -> list[list[int]]:
        """Return the rows of up to ``k`` images nearest to each text.

        Raises:
            UserError: the index has no captions, and its image encoder reads no text; or the encoder is not there.
        """
        if self.contents.text is None or not self.has_text:
            raise UserError("words cannot be looked for in this index: it has no captions. Give an image instead")
        queries = self.contents.text.build().embed(texts)
        silent = [] if self.captions is None else [i for i, text in enumerate(self.contents.captions) if not text]
        return self._by_words.nearest(queries, k, [silent] * len(texts))

    def take(self, rows: Sequence[int]) -> Float[Tensor, "k d"]:
        """Return the vectors in these rows, in float32."""
        return self.vectors[list(rows)].float()

    def save(self, path: Path) -> None:
        """Write the index, atomically.

        Raises:
            UserError: the disk is full or not writable.
        """
        contents = json.dumps(to_dict(self.contents), ensure_ascii=False).encode()
        tensors = {"vectors": self.vectors, "contents": torch.frombuffer(bytearray(contents), dtype=torch.uint8)}
        with atomic_write(path) as temporary:
            save_tensors(temporary, tensors if self.captions is None else {**tensors, "captions": self.captions})

    @classmethod
    def load(cls, path: Path) -> "RetrievalIndex":
        """Read what ``save`` wrote.

        Raises:
            UserError: it is not there, damaged, or no index.
        """
        tensors = load_tensors(path)
        try:
            data = json.loads(tensors["contents"].numpy().tobytes())
            vectors = tensors["vectors"]
        except (KeyError, ValueError):
            raise UserError(f"{path} is no index: make one with `calotype retrieve index`") from None
        return cls(from_dict(Contents, data, where=str(path)), vectors, tensors.get("captions"))

    @cached_property
    def _images(self) -> Search:
        return Search(self.vectors)

    @cached_property
    def _by_words(self) -> Search:
        return Search(self.vectors if self.captions is None else self.captions, centred=False)

    @cached_property
    def _rows_of(self) -> dict[str, list[int]]:
        rows: dict[str, list[int]] = defaultdict(list)
        for row, group in enumerate(self.contents.groups):
            rows[group].append(row)
        return dict(rows)
