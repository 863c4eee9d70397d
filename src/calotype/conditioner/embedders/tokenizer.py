"""Words to numbers. The vocabulary is plain data in the artifact's configuration."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence

WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)?")
START = 0


def words_of(text: str) -> list[str]:
    """Return the words of a text, lower case, without punctuation."""
    return WORD.findall(text.lower())


class WordTokenizer:
    """Maps captions to ``length`` token ids: a start token, one id per known word, start tokens as padding.

    Words outside the vocabulary are left out (``unknown`` lists them); captions longer than ``length - 1`` known words
    are cut. An empty caption is a row of start tokens: the null.
    """

    def __init__(self, vocabulary: Sequence[str], length: int) -> None:
        self.length = length
        self.ids = {word: index for index, word in enumerate(vocabulary, start=1)}

    @property
    def size(self) -> int:
        """Number of token ids, the start token included."""
        return len(self.ids) + 1

    def encode(self, text: str) -> list[int]:
        """Return exactly ``length`` ids."""
        known = [self.ids[word] for word in words_of(text) if word in self.ids][: self.length - 1]
        return [START, *known] + [START] * (self.length - 1 - len(known))

    def unknown(self, text: str) -> list[str]:
        """Return the words of ``text`` that are not in the vocabulary."""
        return [word for word in words_of(text) if word not in self.ids]


def build_vocabulary(texts: Iterable[str], *, minimum_count: int = 1, maximum_size: int = 20_000) -> tuple[str, ...]:
    """Return the words of ``texts``, the most frequent first, ties in alphabetical order."""
    counts = Counter(word for text in texts for word in words_of(text))
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return tuple(word for word, count in ranked if count >= minimum_count)[:maximum_size]
