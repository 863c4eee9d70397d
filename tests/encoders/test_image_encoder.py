from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.nn.functional import cosine_similarity, interpolate

from calotype.encoders import EfficientNetLite0Features, EncodingCache, ImageEncoderConfig, describe_image_encoder
from calotype.encoders.clip_features import CLIP_MEAN, CLIP_STD
from calotype.utils.config import from_dict, to_dict
from calotype.utils.errors import UserError


def test_vectors_are_the_features_at_length_one(pictures: torch.Tensor) -> None:
    config = describe_image_encoder()
    vectors = config.build().encode(pictures)
    assert vectors.shape == (3, config.channels)
    torch.testing.assert_close(vectors.norm(dim=1), torch.ones(3))
    torch.testing.assert_close(cosine_similarity(vectors, EfficientNetLite0Features()(pictures)), torch.ones(3))


def test_each_image_is_encoded_once(pictures: torch.Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = describe_image_encoder().build()
    encoder.cache = EncodingCache()
    seen: list[int] = []
    encoder.network.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
    first = encoder.encode(pictures)
    assert torch.equal(encoder.encode(pictures.flip(0)), first.flip(0))
    encoder.encode(pictures.flip(3))
    assert seen == [3, 3], "a mirrored image is another one"


def test_clip_vectors_are_those_of_transformers(clip_folder: Path, pictures: torch.Tensor) -> None:
    from transformers import CLIPModel

    config = describe_image_encoder(str(clip_folder))
    assert config.channels == 8
    seen = interpolate(pictures, (16, 16), mode="bicubic", antialias=True).clamp(-1, 1)
    seen = ((seen + 1) / 2 - torch.tensor(CLIP_MEAN).view(3, 1, 1)) / torch.tensor(CLIP_STD).view(3, 1, 1)
    with torch.no_grad():
        expected = CLIPModel.from_pretrained(clip_folder).eval().get_image_features(pixel_values=seen)
    expected = getattr(expected, "pooler_output", expected)
    torch.testing.assert_close(cosine_similarity(config.build().encode(pictures), expected), torch.ones(3))


def test_the_configuration_names_the_weights(bert_folder: Path, clip_folder: Path) -> None:
    config = describe_image_encoder(str(clip_folder))
    assert from_dict(ImageEncoderConfig, to_dict(config)) == config
    with pytest.raises(UserError, match="has other weights than the frozen network that this model was trained with"):
        replace(config, fingerprint="0" * 32).build()
    with pytest.raises(UserError, match="holds a network of kind 'bert', not a CLIP"):
        describe_image_encoder(str(bert_folder))
