"""Figures for reports, as PNG bytes: white ground, few colours, readable at 800 pixels."""

import io
import math
from collections.abc import Mapping, Sequence
from itertools import cycle
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#2563a8", "#d1622b", "#3c8a5f", "#7b5ea7")
INK, FAINT = "#333333", "#d9d9d9"
_INCHES, _DPI = (8.0, 3.4), 200


def loss_curves(
    rows: Sequence[Mapping[str, Any]],
    *,
    training: Mapping[str, str],
    validation: Mapping[str, str] | None = None,
    ylabel: str = "loss",
) -> bytes:
    """Plot metrics against samples seen, from the rows of a ``metrics.jsonl``.

    ``training`` and ``validation`` map names of metrics to what the legend calls them. A training metric is drawn faint
    as logged, and smoothed; the validation metric at the same position is darker, with a mark for every value. Rows
    without a metric, or where it is not finite, are skipped. The scale is logarithmic where all values are positive.
    """
    figure, axes = _figure("samples seen", ylabel)
    drawn: list[float] = []
    for colour, (name, label) in zip(cycle(COLOURS), training.items(), strict=False):
        x, y = _series(rows, name)
        drawn += y
        axes.plot(x, y, color=colour, alpha=0.22, linewidth=0.8)
        axes.plot(x, _smoothed(y), color=colour, linewidth=1.8, label=label)
    for colour, (name, label) in zip(cycle(COLOURS), (validation or {}).items(), strict=False):
        x, y = _series(rows, name)
        drawn += y
        axes.plot(
            x, y, color=_darker(colour), linewidth=1.2, linestyle=(0, (4, 2)), marker="o", markersize=3.5, label=label
        )
    if drawn and min(drawn) > 0:
        _logarithmic(axes, drawn)
    axes.xaxis.set_major_formatter(lambda samples, _: _thousands(samples))
    axes.set_xlim(left=0)
    return _png(figure, axes)


def histogram(values: Mapping[str, Sequence[float]], xlabel: str, *, mark: tuple[float, str] | None = None) -> bytes:
    """Plot the distributions of one or more sets of per-image values, as shares, in common bins.

    The median of each set is a thin line in its colour; ``mark`` is a position on the axis with its name (a threshold).
    Values that are not finite are left out.
    """
    finite = {label: [float(value) for value in series if math.isfinite(value)] for label, series in values.items()}
    finite = {label: series for label, series in finite.items() if series}
    figure, axes = _figure(xlabel, "share of images")
    everything = [value for series in finite.values() for value in series]
    edges = np.histogram_bin_edges(everything, bins=_bins(finite)).tolist()
    for colour, (label, series) in zip(cycle(COLOURS), finite.items(), strict=False):
        weights = [1 / len(series)] * len(series)
        middle = median(series)
        legend = f"{label} (median {middle:.3g}, n = {len(series)})"
        axes.hist(series, edges, weights=weights, color=colour, alpha=0.35, histtype="stepfilled", label=legend)
        axes.hist(series, edges, weights=weights, color=colour, linewidth=1.2, histtype="step")
        axes.axvline(middle, color=colour, linewidth=1.2)
    if mark is not None:
        axes.axvline(mark[0], color=INK, linewidth=1.0, linestyle=(0, (2, 2)), label=mark[1])
    axes.yaxis.set_major_formatter(lambda share, _: f"{share:.0%}")
    return _png(figure, axes)


def spectra(curves: Mapping[str, Sequence[tuple[float, float]]]) -> bytes:
    """Plot relative power over spatial frequency (``PowerSpectrum.curve``) for one or more sets of images.

    White noise, 1 everywhere, is a thin line, and the upper half of frequencies is shaded. Powers that are not positive
    are left out of the logarithmic scale.
    """
    figure, axes = _figure("spatial frequency (1: Nyquist)", "power, relative to the mean")
    drawn = [1.0]
    for colour, (label, curve) in zip(cycle(COLOURS), curves.items(), strict=False):
        points = [(x, y) for x, y in curve if y > 0]
        drawn += [y for _, y in points]
        axes.plot([x for x, _ in points], [y for _, y in points], color=colour, linewidth=1.8, marker="o", markersize=3)
        axes.plot([], [], color=colour, linewidth=1.8, label=label)
    axes.axhline(1, color=INK, linewidth=1.0, linestyle=(0, (2, 2)), label="white noise")
    axes.axvspan(0.5, 1.5, color=FAINT, alpha=0.4, linewidth=0)
    axes.set_xlim(0, 1.5)
    _logarithmic(axes, drawn)
    return _png(figure, axes)


def _figure(xlabel: str, ylabel: str) -> tuple["Figure", "Axes"]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=_INCHES, dpi=_DPI, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.set_xlabel(xlabel, color=INK, fontsize=10)
    axes.set_ylabel(ylabel, color=INK, fontsize=10)
    axes.tick_params(which="both", colors=INK, labelsize=9, length=0, pad=5)
    axes.grid(axis="y", color=FAINT, linewidth=0.6)
    axes.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(INK)
    axes.spines["bottom"].set_linewidth(0.8)
    return figure, axes


def _png(figure: "Figure", axes: "Axes") -> bytes:
    if labels := axes.get_legend_handles_labels()[1]:
        columns = 2 if len(labels) == 4 else min(3, len(labels))
        figure.legend(
            loc="outside upper left", ncols=columns, frameon=False, fontsize=9, labelcolor=INK, handlelength=1.8
        )
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def _series(rows: Sequence[Mapping[str, Any]], name: str) -> tuple[list[float], list[float]]:
    points = [(float(row["samples"]), float(row[name])) for row in rows if row.get(name) is not None]
    points = sorted(point for point in points if math.isfinite(point[1]))
    return [x for x, _ in points], [y for _, y in points]


def _bins(sets: Mapping[str, Sequence[float]]) -> int:
    smallest = min((len(values) for values in sets.values()), default=0)
    return min(30, max(8, int(1.5 * smallest**0.5)))


def _smoothed(values: Sequence[float]) -> list[float]:
    """Weighted mean over a triangle about each value, which reaches a thirtieth of the curve to both sides."""
    if not values:
        return []
    reach = len(values) // 30
    weights = 1 - np.abs(np.arange(-reach, reach + 1)) / (reach + 1)
    smoothed: list[float] = (
        np.convolve(values, weights, "same") / np.convolve(np.ones(len(values)), weights, "same")
    ).tolist()
    return smoothed


def _logarithmic(axes: "Axes", values: Sequence[float]) -> None:
    from matplotlib.ticker import LogLocator, NullFormatter

    axes.set_yscale("log")
    decades = math.log10(max(values) / min(values))
    steps = (1.0, 2.0, 3.0, 5.0, 7.0) if decades < 1 else (1.0, 2.0, 5.0) if decades < 2.5 else (1.0,)
    axes.yaxis.set_major_locator(LogLocator(subs=steps))
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.yaxis.set_minor_formatter(NullFormatter())


def _thousands(value: float) -> str:
    if value >= 1e6:
        return f"{value / 1e6:g} M"
    return f"{value / 1e3:g} k" if value >= 1e3 else f"{value:g}"


def _darker(colour: str) -> str:
    return "#" + "".join(f"{int(int(colour[at : at + 2], 16) * 0.6):02x}" for at in (1, 3, 5))
