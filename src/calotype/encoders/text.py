"""Frozen text encoders: captions to the states of their tokens, and to one vector each."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from calotype.encoders.cache import EncodingCache
from calotype.encoders.pretrained import (
    MINILM,
    architecture,
    fingerprint,
    folder_of,
    folder_with,
    load,
    load_tokenizer,
)
from calotype.utils.config import Config
from calotype.utils.files import digest

_CHUNK, _MULTIPLE = 32, 8
_CLASSES = {
    "clip": "CLIPTextModelWithProjection",
    "clip_text_model": "CLIPTextModel",
    "t5": "T5EncoderModel",
    "mt5": "MT5EncoderModel",
    "umt5": "UMT5EncoderModel",
}


@dataclass(frozen=True, kw_only=True)
class TextEncoderConfig(Config):
    """A frozen text encoder: where it lies (``encoders/pretrained.py:folder_of``), which weights it must have, and the
    ``channels`` of its token states. Of a longer text the first ``length`` tokens are seen.
    """

    source: str = MINILM
    fingerprint: str
    channels: int
    length: int

    def __post_init__(self) -> None:
        for name in ("channels", "length"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")

    def build(self) -> "TextEncoder":
        """Return the encoder, which is loaded once and shared by all who ask for it.

        Raises:
            UserError: it is not on this machine, or has other weights.
        """
        return _shared(self)


class TextEncoder:
    """Encodes each text once. A state depends on its own text alone, whatever else is encoded with it."""

    def __init__(self, config: TextEncoderConfig, folder: Path) -> None:
        self.config, self.cache = config, EncodingCache()
        self.tokenizer = load_tokenizer(folder)
        self.model = load(_class_of(folder), folder)

    def to(self, device: torch.device | str) -> "TextEncoder":
        """Move the network to ``device`` and return self."""
        self.model.to(device)
        return self

    def encode(self, texts: Sequence[str]) -> tuple[Float[Tensor, "b n d"], Bool[Tensor, "b n"]]:
        """Return the last states of the tokens of each text, and where there are tokens; on the CPU, float32.

        Values are those of float16, as which they are kept.
        """
        rows = self.cache.fetch(self._keys("states", texts), lambda which: self._states([texts[i] for i in which]))
        longest = max((len(row) for row in rows), default=0)
        states = torch.stack([F.pad(row.float(), (0, 0, 0, longest - len(row))) for row in rows])
        return states, torch.arange(longest) < torch.tensor([len(row) for row in rows])[:, None]

    def embed(self, texts: Sequence[str]) -> Float[Tensor, "b d"]:
        """Return one unit vector per text, on the CPU: CLIP's in the space of its images, else the mean state."""
        rows = self.cache.fetch(self._keys("vector", texts), lambda which: self._vectors([texts[i] for i in which]))
        return torch.stack(rows)

    def token_count(self, text: str) -> int:
        """Return the number of tokens of a text, those that mark its ends included, before it is cut."""
        return len(self.tokenizer(text).input_ids)

    def _keys(self, what: str, texts: Sequence[str]) -> list[str]:
        return [digest(what, self.config.fingerprint, f" {self.config.length} ", text) for text in texts]

    def _states(self, texts: Sequence[str]) -> list[Tensor]:
        return [states.half() for states, _ in self._forward(texts)]

    def _vectors(self, texts: Sequence[str]) -> list[Tensor]:
        pairs = self._forward(texts)
        return [F.normalize(states.mean(0) if vector is None else vector, dim=0) for states, vector in pairs]

    @torch.no_grad()
    def _forward(self, texts: Sequence[str]) -> list[tuple[Tensor, Tensor | None]]:
        """Encode texts together whose lengths are padded to the same multiple: one that depends on the text alone."""
        lengths: dict[int, list[int]] = defaultdict(list)
        for index, text in enumerate(texts):
            padded = -(-self.token_count(text) // _MULTIPLE) * _MULTIPLE
            lengths[min(padded, self.config.length)].append(index)
        results: dict[int, tuple[Tensor, Tensor | None]] = {}
        for length, indices in lengths.items():
            for start in range(0, len(indices), _CHUNK):
                part = indices[start : start + _CHUNK]
                results.update(zip(part, self._batch([texts[i] for i in part], length), strict=True))
        return [results[index] for index in range(len(texts))]

    def _batch(self, texts: Sequence[str], length: int) -> list[tuple[Tensor, Tensor | None]]:
        tokens = self.tokenizer(
            list(texts), padding="max_length", truncation=True, max_length=length, return_tensors="pt"
        )
        device = self.model.device
        with torch.autocast(device.type, enabled=False):
            out = self.model(input_ids=tokens.input_ids.to(device), attention_mask=tokens.attention_mask.to(device))
        states, seen = out.last_hidden_state.float().cpu(), tokens.attention_mask.bool()
        vectors = getattr(out, "text_embeds", None)
        rows: Sequence[Any] = [None] * len(texts) if vectors is None else vectors.float().cpu()
        return [(state[mask], vector) for state, mask, vector in zip(states, seen, rows, strict=True)]


def describe_text_encoder(
    source: str = MINILM, *, length: int | None = None, download: bool = False
) -> TextEncoderConfig:
    """Return the configuration of the text encoder at ``source``; ``length`` is what it was trained for, or shorter.

    Raises:
        UserError: it is not there, or cannot be read.
    """
    folder = folder_of(source, download=download)
    path = str(folder) if _is_path(source) else source
    config = load(_class_of(folder), folder).config
    most = min(load_tokenizer(folder).model_max_length, getattr(config, "max_position_embeddings", None) or 512)
    return TextEncoderConfig(
        source=path,
        fingerprint=fingerprint(folder),
        channels=config.hidden_size,
        length=most if length is None else min(length, most),
    )


@lru_cache(maxsize=4)
def _shared(config: TextEncoderConfig) -> TextEncoder:
    return TextEncoder(config, folder_with(config.source, config.fingerprint))


def _class_of(folder: Path) -> str:
    return _CLASSES.get(architecture(folder), "AutoModel")


def _is_path(source: str) -> bool:
    return Path(source).expanduser().is_dir()
