"""Captions as byte pairs learned from a set's own captions, through the optional library ``tokenizers``."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from calotype.conditioner.embedders.tokens import Tokens
from calotype.utils.config import Config
from calotype.utils.errors import UserError

PAD, START, END = "[PAD]", "[START]", "[END]"
MAX_MERGES = 100_000


@dataclass(frozen=True, kw_only=True)
class BPEConfig(Config):
    """Byte pair encoding (arXiv:1508.07909) over bytes: ``merges`` are pairs of tokens (``"a b"``), in order.

    They are all there is to the vocabulary: three marks, 256 bytes, and what each merge makes. No text is unknown.
    """

    kind: Literal["bpe"] = "bpe"
    merges: tuple[str, ...]

    def __post_init__(self) -> None:
        if len(self.merges) > MAX_MERGES:
            raise ValueError(f"merges must be {MAX_MERGES} at most, not {len(self.merges)}")
        if wrong := [merge for merge in self.merges if len(merge.split(" ")) != 2]:
            raise ValueError(f"merges must be pairs of tokens, not {wrong[0]!r}")

    def check(self, length: int, vocabulary_size: int) -> None:
        """Raise ``ValueError`` where no token fits between the marks, or a token has no embedding."""
        if length < 3:
            raise ValueError(f"length must be at least 3 for captions, not {length}")
        if vocabulary_size < self.most_tokens:
            raise ValueError(f"vocabulary_size must be at least {self.most_tokens}, not {vocabulary_size}")

    @property
    def most_tokens(self) -> int:
        """The size of the vocabulary; less, where two merges make the same token."""
        return 3 + 256 + len(self.merges)

    def build(self, length: int) -> "BPETokens":
        """Make the tokeniser."""
        return BPETokens(self, length)


class BPETokens(Tokens):
    """``[START]``, byte pairs of the lower-case text, ``[END]``, ``[PAD]`` up to ``length``; longer texts are cut."""

    def __init__(self, config: BPEConfig, length: int) -> None:
        self.config, self.length = config, length

    def takes(self, value: Any) -> bool:
        """Return whether ``value`` is text."""
        return isinstance(value, str)

    def encode(self, value: Any) -> list[int]:
        """Return the ids of a caption."""
        ids = [1, *self._tokenizer.encode(value).ids[: self.length - 2], 2]
        return ids + [0] * (self.length - len(ids))

    def empty(self) -> list[int]:
        """Return the ids of the empty caption."""
        return self.encode("")

    @cached_property
    def _tokenizer(self) -> Any:
        library = _library()
        pairs = [(first, second) for first, _, second in (merge.partition(" ") for merge in self.config.merges)]
        alphabet = sorted(library.pre_tokenizers.ByteLevel.alphabet())
        tokens = dict.fromkeys([PAD, START, END, *alphabet, *(first + second for first, second in pairs)])
        vocabulary = {token: index for index, token in enumerate(tokens)}
        try:
            model = library.models.BPE(vocab=vocabulary, merges=pairs)
        except Exception as error:  # tokenizers raises bare Exceptions
            raise UserError(f"the merges of this model's captions cannot be used: {error}") from None
        return _prepared(library, model)


def train_bpe(texts: Iterable[str], *, vocabulary_size: int = 4096) -> BPEConfig:
    """Learn merges from ``texts`` until there are ``vocabulary_size`` tokens, or nothing to merge that occurs twice.

    Raises:
        UserError: the library is not installed.
    """
    import json

    library = _library()
    tokenizer = _prepared(library, library.models.BPE())
    trainer = library.trainers.BpeTrainer(
        vocab_size=vocabulary_size,
        min_frequency=2,
        special_tokens=[PAD, START, END],
        initial_alphabet=library.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    merges = json.loads(tokenizer.to_str())["model"]["merges"]
    return BPEConfig(merges=tuple(" ".join(pair) for pair in merges))


def _prepared(library: Any, model: Any) -> Any:
    tokenizer = library.Tokenizer(model)
    tokenizer.normalizer = library.normalizers.Sequence([library.normalizers.NFC(), library.normalizers.Lowercase()])
    tokenizer.pre_tokenizer = library.pre_tokenizers.ByteLevel(add_prefix_space=True)
    return tokenizer


def _library() -> Any:
    try:
        import tokenizers
    except ImportError:
        raise UserError("captions for this model need the library tokenizers: pip install 'calotype[text]'") from None
    return tokenizers
