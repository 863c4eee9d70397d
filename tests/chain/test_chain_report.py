"""The report of chains that have little to tell: no conditions, few images, no features."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch

import tiny
from calotype.chain.judge import Judgement, Reconstructions, Samples
from calotype.chain.plan import Plan
from calotype.chain.report import build_report, metric_rows
from calotype.chain.source import Source
from calotype.evaluation import FeatureSet, generation_metrics, memorisation, reconstruction_metrics

SIZE = tiny.SIZE
PLAN = Plan(
    source="pictures",
    fingerprint="",
    size=SIZE,
    autoencoder="kl-f8-debug",
    diffusion="ldm-debug",
    autoencoder_minutes=1.0,
    diffusion_minutes=1.0,
    samples=14,
    reasons=("because of this", "and <b>that</b>"),
)
SOURCE = Source(tiny.Pictures(12), tiny.Pictures(4, first=12), {})


def images(count: int, seed: int, channels: int = 3) -> torch.Tensor:
    return torch.rand(count, channels, SIZE, SIZE, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def page(tmp_path: Path, *, fields: dict[str, list[Any]], channels: int = 3, **told: Any) -> str:
    """The page of a chain with these fields, of which the first conditions the model."""
    drawn, held_out, train = images(14, 0, channels), images(4, 1, channels), images(12, 2, channels)
    judgement = Judgement(
        fields=tuple(fields)[:1],
        samples=Samples(drawn, fields, fields, drawn, told.pop("metrics", None)),
        questions={},
        nearest=train[torch.arange(14) % 12],
        copies=memorisation(drawn, held_out, train).summary(),
        **told,
    )
    found = Reconstructions(held_out, held_out / 2, reconstruction_metrics(held_out, held_out / 2))
    return build_report(tmp_path, PLAN, SOURCE, found, judgement, None, None).html()


def test_without_conditions_it_claims_none(tmp_path: Path) -> None:
    html = page(tmp_path, fields={})
    assert "without conditions." in html
    assert "asks for" not in html
    assert "<h2>Guidance</h2>" not in html
    assert "<h2>Style variations</h2>" not in html
    assert "Too few images to measure samples." in html


def test_reasons_and_fields_are_escaped_and_shortened(tmp_path: Path) -> None:
    captions = ["a <wave>", None, "many words " * 50, *["x"] * 11]
    html = page(tmp_path, fields={"caption": captions, "style": ["flat"] * 14})
    assert "<p>because of this</p>" in html
    assert "and &lt;b&gt;that&lt;/b&gt;" in html
    assert "The first row asks for: a &lt;wave&gt;; anything; many words many" in html
    assert "flat" not in html
    assert max(len(line) for line in re.findall(r"<p>(.*?)</p>", html)) < 400


@pytest.mark.parametrize("channels", [1, 2])
def test_other_numbers_of_channels_are_shown(tmp_path: Path, channels: int) -> None:
    html = page(tmp_path, fields={}, channels=channels, note="no feature distances: they need 1 or 3 channels")
    assert "no feature distances" in html
    assert html.count("<img") >= 4


def test_numbers_of_few_images(tmp_path: Path) -> None:
    def features(count: int, seed: int) -> torch.Tensor:
        return torch.randn(count, 5, generator=torch.Generator().manual_seed(seed))

    captions = ["a", "b"] * 7
    metrics = generation_metrics(
        FeatureSet(features(14, 0), {"caption": captions}),
        FeatureSet(features(2, 1), {"caption": ["a", "b"]}),
        FeatureSet(features(6, 2), {"caption": ["a", "b"] * 3}),
    )
    names = [name for name, *_ in metric_rows(metrics)]
    assert names == [
        "KID-EffLite0 against training images",
        "FD-EffLite0 against training images",
        "caption agreement, top 1",
        "caption agreement, top 8",
    ]
    html = page(tmp_path, fields={"caption": captions}, metrics=metrics)
    assert "own image in the nearest 8; chance 100.0%" in html
    assert html.count("Frechet distance of two Gaussians") == 1
    assert "14 images against the training images" not in html


def test_rows_carry_value_scale_and_protocol() -> None:
    metrics = {
        "kid": {"name": "KID", "value": 0.5, "protocol": "how"},
        "real_baseline": {"kid": {"value": 0.1}},
        "class_agreement": {"value": 0.75, "chance": 0.25, "protocol": "which"},
    }
    assert metric_rows(metrics) == [
        ("KID against training images", 0.5, 0.1, "how"),
        ("class agreement", 0.75, 0.25, "which"),
    ]
    assert metric_rows({}) == []
