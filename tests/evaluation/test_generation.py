import json

import pytest
import torch

from calotype.evaluation import FeatureSet, frechet_distance, generation_metrics, kernel_distance
from calotype.utils.errors import UserError
from calotype.utils.seeds import generator


def concepts(n: int, *key: int | str, shift: float = 0.0, first: int = 0) -> FeatureSet:
    """Features near the point of their caption, in two styles that lie apart."""
    places = torch.randn(200, 16, generator=generator("places"))[first : first + n]
    styles = torch.arange(n) % 2
    noise = torch.randn(n, 16, generator=generator("generation", *key))
    features = places + 1.5 * styles[:, None] + 0.1 * noise + shift
    captions = [f"concept {index}" for index in range(first, first + n)]
    return FeatureSet(features, {"caption": captions, "style": [("flat", "3d")[style] for style in styles]})


def test_metrics_of_a_good_sampler() -> None:
    training, held_out = concepts(120, "training"), concepts(40, "held out", first=120)
    samples = concepts(40, "samples", first=120)
    metrics = generation_metrics(samples, held_out, training)
    assert json.loads(json.dumps(metrics)) == metrics
    expected = kernel_distance(samples.features, training.features)
    assert (metrics["kid"]["value"], metrics["kid"]["standard_error"]) == (expected.value, expected.standard_error)
    assert metrics["kid"]["name"] == "KID-EffLite0"
    assert (metrics["kid"]["n"], metrics["kid"]["n_reference"]) == (40, 120)
    assert metrics["fd"]["value"] == frechet_distance(samples.features, training.features)
    assert metrics["kid_held_out"]["value"] == kernel_distance(samples.features, held_out.features).value
    assert "40 images against the training images (120)" in metrics["kid"]["protocol"]
    assert metrics["caption_agreement"]["top_1"]["value"] == 1.0
    assert metrics["caption_agreement"]["top_1"]["chance"] == pytest.approx(1 / 160)
    assert metrics["style_agreement"]["value"] == 1.0
    assert "class_agreement" not in metrics


def test_the_real_baseline_is_a_scale() -> None:
    training, held_out = concepts(120, "training"), concepts(40, "held out", first=120)
    metrics = generation_metrics(concepts(40, "bad", shift=1.0), held_out, training)
    baseline = metrics["real_baseline"]
    assert (baseline["kid"]["n"], baseline["kid"]["n_reference"]) == (40, 80)
    assert abs(baseline["kid"]["value"]) < 3 * baseline["kid"]["standard_error"]
    assert metrics["kid"]["value"] > 2 * metrics["kid"]["standard_error"] + 10 * baseline["kid"]["standard_error"]
    assert metrics["fd"]["value"] > 2 * baseline["fd"]["value"]
    assert baseline["kid_held_out"]["value"] == kernel_distance(held_out.features, training.features).value
    assert metrics["real_baseline"] == generation_metrics(concepts(40, "other"), held_out, training)["real_baseline"]


def test_without_fields_and_held_out_images_there_are_the_distances_alone() -> None:
    training = concepts(20, "training")
    none = FeatureSet(training.features[:0])
    metrics = generation_metrics(FeatureSet(concepts(30, "samples").features), none, training)
    assert set(metrics) == {"kid", "fd", "real_baseline"}
    assert set(metrics["real_baseline"]) == {"kid", "fd"}
    assert metrics["real_baseline"]["kid"]["n"] == 10


def test_too_few_images_are_refused() -> None:
    training = concepts(20, "training")
    with pytest.raises(UserError, match="at least 3 samples and 6 training images, there are 2 and 20"):
        generation_metrics(concepts(2, "samples"), training, training)
    with pytest.raises(UserError, match="there are 3 and 5"):
        generation_metrics(concepts(3, "samples"), training, concepts(5, "few"))
