import io
import math

import numpy as np
import pytest
from PIL import Image

from calotype.evaluation import histogram, loss_curves, spectra
from calotype.evaluation.plots import _series, _smoothed


def pixels(png: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(png)) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB")).astype(int)


def count(png: bytes, colour: str) -> int:
    wanted = [int(colour[at : at + 2], 16) for at in (1, 3, 5)]
    return int((np.abs(pixels(png) - wanted).sum(-1) < 12).sum())


def rows(n: int = 60) -> list[dict[str, float]]:
    logged = [{"samples": 64.0 * i, "train/loss": math.exp(-i / 20) + 0.1} for i in range(n)]
    for row in logged[::10]:
        row["validation/loss"] = row["train/loss"] + 0.05
    return logged


def test_loss_curves_show_training_and_validation() -> None:
    training = loss_curves(rows(), training={"train/loss": "training"})
    both = loss_curves(rows(), training={"train/loss": "training"}, validation={"validation/loss": "held out"})
    assert pixels(both).shape[1] == 1600
    assert (pixels(both)[0, 0] == 255).all()
    assert count(training, "#2563a8") > 1000
    assert count(training, "#163b64") == 0
    assert count(both, "#163b64") > 500
    assert both == loss_curves(rows(), training={"train/loss": "training"}, validation={"validation/loss": "held out"})


@pytest.mark.parametrize("broken", [[], [{"samples": 0, "train/loss": -1.0}], [{"samples": 5, "train/loss": math.nan}]])
def test_loss_curves_of_odd_logs_are_drawn(broken: list[dict[str, float]]) -> None:
    assert pixels(loss_curves(broken, training={"train/loss": "training"})).shape[1] == 1600


def test_series_skip_what_is_missing_or_not_finite() -> None:
    log: list[dict[str, float | None]] = [
        {"samples": 3, "loss": 1},
        {"samples": 1, "loss": None},
        {"samples": 2},
        {"samples": 4, "loss": math.inf},
    ]
    assert _series([*log, {"samples": 0, "loss": 2}], "loss") == ([0.0, 3.0], [2.0, 1.0])


def test_smoothing_keeps_lines_and_damps_noise() -> None:
    assert _smoothed([]) == []
    assert _smoothed([3.0, 1.0]) == pytest.approx([3.0, 1.0])
    assert _smoothed([2.0] * 100) == pytest.approx([2.0] * 100)
    line = [float(i) for i in range(100)]
    assert _smoothed(line)[10:90] == pytest.approx(line[10:90])
    noise = [float((-1) ** i) for i in range(300)]
    assert max(abs(value) for value in _smoothed(noise)) < 0.2


def test_histogram_compares_sets() -> None:
    one = histogram({"samples": [0.1, 0.2, 0.2, math.inf]}, "distance")
    two = histogram({"samples": [0.1, 0.2], "held out": [0.5, 0.6]}, "distance", mark=(0.3, "threshold"))
    assert count(one, "#d1622b") == 0
    assert count(one, "#2563a8") > 500
    assert count(two, "#d1622b") > 500
    assert pixels(histogram({"none": []}, "distance")).shape[1] == 1600


def test_spectra_have_a_curve_for_each_set() -> None:
    curve = [(0.1, 30.0), (0.5, 1.0), (1.2, 0.01)]
    two = spectra({"images": curve, "latents": [(0.2, 2.0), (0.9, 0.0), (1.2, 0.7)]})
    assert count(two, "#2563a8") > 500
    assert count(two, "#d1622b") > 500
    assert two == spectra({"images": curve, "latents": [(0.2, 2.0), (1.2, 0.7)]})  # no power has no logarithm
