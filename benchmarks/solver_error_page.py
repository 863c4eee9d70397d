"""What solver_error.py found, as docs/results/solvers.md and as a picture."""

from pathlib import Path
from typing import Any

from solver_error_moments import SAMPLES

PROTOCOL = """# Solvers against the exact answer

Written by `benchmarks/solver_error.py`; the picture is [solver_error.png](solver_error.png), the numbers are in
[solver_error.json](solver_error.json).

The network is the exact denoiser of data in 8 dimensions: a mixture of six Gaussians (means standard normal, deviations
0.1 to 0.4). 128 starts; the exact end is that of the probability-flow ODE from the same start (DOP853, 1e-11).
The error is the median over starts of the root mean square over dimensions. E evaluations: the most steps that cost no
more than E. Ours is float64; diffusers is {version} with its float32 tables.

*Same nodes*: our solver on the levels of diffusers' scheduler (`trailing`, or as said), its network shown the same
rounded times: what differs then is the method. Each is measured where it ends itself: at the clean image, or at the
noise of t = 0 where diffusers cannot end elsewhere. *Ours*: our own grids, times not rounded. Tables are Stable
Diffusion's betas, `flow` is alpha = 1 - t, `EDM` goes from 80 to 0.002 with rho 7.
"""

STOCHASTIC = f"""The Wasserstein-2 distance of the normal with the samples' moments from the data N(-1, 0.1^2), in
one dimension, on the table, `trailing`; {SAMPLES:,} samples, so that differences below 2e-3 are chance.
"""
CAUSE = """Ours coincides with theirs in the last table, but for cases in which *their x is not at the time that the
network is shown*. DDIM and PNDM step from t to t - 1000 // N and then show the next rounded time, which is lower unless
N divides 1000; exponential spacing cuts times to whole numbers. *Doing the same*: our solver made to do that. It ends
where theirs does, to 3e-5 and less: that is the whole difference.

Why it can help: for data N(0, std^2) a step of DDIM multiplies x by too little, by the cosine of the angle between
(alpha std, sigma) before and after it; an x that is shown for less noisy than it is was too large if std < 1, too small
if std > 1. For narrow data the two partly cancel, at some N almost wholly; for wide data they add up, and what the
times do does not become less with more steps. The factors are exact: their product is what is measured.
"""
BEST = """The least error of the image that comes out, against the clean end of the exact path from t = 999, over what
either library offers: diffusers {theirs};
ours {ours}. In brackets the spacing.
The least of several spacings is at the mercy of errors that cancel. Where theirs is less it is by times that do not
fit: cut ones with `log_snr`, as above, which make up for part of the last step, of order 1, to the clean image; the
stride of DDIM with `linspace`; at 5, `leading` from a lower start.
"""
EVERY = """At every count from {first} to {last}, not only at these, one spacing of ours against the best of theirs:
"""
FINDINGS = """
## What it says

- On the same nodes, shown the same times, the methods coincide at every count: single steps of order 3, which are
  divided otherwise near the end, within 1 %.
- Where DDIM and PNDM of diffusers err less than ours on the times that they show (15, 80, 160; 8 to 10 and 20 to 40),
  two errors of theirs cancel. On data of deviation 2 DDIM errs up to 8, PNDM up to 170 times as much as ours, and no
  number of steps helps (see *Why*).
- With the best method and spacing that either has, ours errs less at every count but 25, where it errs 2 % more.
- UniPC with `bh1` is NaN in diffusers where it ends at the clean image; here it ends at t = 0.
- On a table, `trailing` spends a last step of order 1 on the way from t = 1000/N to the clean image. With 8
  evaluations and more, `log_snr`, `karras` and `quadratic` err far less here; on a flow `trailing` is the better one
  where evaluations are few. But an exact denoiser is no judge of spacings: on a trained network that predicts eps
  ([spacings.md](spacings.md)) `quadratic` is the worst, `log_snr` better than `trailing` with DPM-Solver++ from 10
  steps on and much worse with 5, and with DDIM never better. The default stays `trailing`.
- Their floor at about 1.4e-3 is the step of order 1 from t = 0 to the clean image. `PLMS(weights="variable_steps")`
  integrates over sigma / alpha up to 0 and has no such floor.
- DPM-Solver of order 3 with half the curvature, as its authors and diffusers have it, is of order 2 but errs less than
  the whole where steps are few.
"""


def page(found: dict[str, Any], version: str) -> str:
    """The tables for the mixture, how far ours is from diffusers on the same nodes, why, and with the best spacings."""
    lines = [PROTOCOL.format(version=version)]
    for family, series in found["mixture"].items():
        lines += [f"\n## {family}\n", *table(rows(series))]
    lines += ["\n## stochastic\n", STOCHASTIC, *table(rows(found["stochastic"]["stochastic"]))]
    lines += ["\n## Ours over theirs, same nodes, mixture\n", *table(ratios(found["mixture"]))]
    lines += ["\n## Why\n", CAUSE]
    for what, series in found["cause"].items():
        lines += [f"\n### {what}\n", *table(rows(series, digits=3))]
    return "\n".join([*lines, *best_spacings(found["best"]), FINDINGS])


def best_spacings(best: dict[str, Any]) -> list[str]:
    cells: dict[str, dict[str, str]] = {}
    for method, sides in best["methods"].items():
        for whose, errors in sides.items():
            cells[f"{method}, {whose}"] = {e: f"{error:.1e} ({spacing})" for e, (error, spacing) in errors.items()}
        cells[f"{method}, ours over theirs"] = over(sides["ours"], sides["diffusers"])
    least = {
        whose: {e: [min(sides[whose][e][0] for sides in best["methods"].values())] for e in errors}
        for whose, errors in sides.items()
    }
    cells |= {
        f"**best of all, {whose}**": {e: f"{error:.1e}" for e, (error,) in row.items()} for whose, row in least.items()
    }
    cells["**best of all, ours over theirs**"] = over(least["ours"], least["diffusers"])
    every = [
        f"- {name} with `{each['spacing']}` errs less at {each['better']} counts, and at most {each['worst']:.2f} "
        f"times as much (at {each['at']})"
        for name, each in best["every"]["methods"].items()
    ]
    return [
        *("\n## Each with its best spacing\n", BEST.format(**best["offered"]), *table(cells), ""),
        *(EVERY.format(**best["every"]["range"]), *every),
    ]


def over(ours: dict[str, Any], theirs: dict[str, Any]) -> dict[str, str]:
    return {e: f"{ours[e][0] / theirs[e][0]:.2f}" for e in ours}


def rows(series: dict[str, dict[str, float]], digits: int = 1) -> dict[str, dict[str, str]]:
    return {name.replace(" | ", ", "): {e: number(v, digits) for e, v in row.items()} for name, row in series.items()}


def number(value: float, digits: int) -> str:
    return f"{value:.{digits}f}" if value > 0.1 and digits > 1 else f"{value:.{min(digits, 1)}e}"


def ratios(families: dict[str, dict[str, dict[str, float]]]) -> dict[str, dict[str, str]]:
    found = {}
    for family, series in families.items():
        for name, errors in series.items():
            pair = series.get(name.replace(" | diffusers", " | ours, same nodes"))
            if name.endswith(" | diffusers") and pair:
                label = f"{family}: {name.removesuffix(' | diffusers')}"
                found[label] = {e: f"{pair[e] / error:.3f}" for e, error in errors.items()}
    return found


def table(cells: dict[str, dict[str, str]]) -> list[str]:
    counts = list(next(iter(cells.values())))
    head = [f"| | {' | '.join(counts)} |", f"|---|{'---|' * len(counts)}"]
    return head + [f"| {name} | {' | '.join(row.values())} |" for name, row in cells.items()]


def draw(found: dict[str, Any], out: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(2, 5, figsize=(24, 10), sharex=True)
    axes.flat[-1].set_visible("stochastic" in found)
    for axis, (family, series) in zip(
        axes.flat, {**found["mixture"], **found.get("stochastic", {})}.items(), strict=False
    ):
        colours: dict[str, str] = {}
        for name, errors in series.items():
            method, whose = name.split(" | ")
            colour = colours.setdefault(method, f"C{len(colours)}")
            style = {"diffusers": "--o", "ours, same nodes": "-", "ours": "-"}[whose]
            width = {"diffusers": 2.5, "ours, same nodes": 1.2, "ours": 1.8}[whose]
            label = f"{method}{', diffusers' if whose == 'diffusers' else ''}" if whose != "ours, same nodes" else None
            evaluations = [int(e) for e in errors]
            axis.loglog(
                evaluations, list(errors.values()), style, color=colour, lw=width, ms=5, mfc="none", label=label
            )
        axis.set_title(family)
        axis.set_xticks([5, 10, 20, 40, 80, 160, 320], labels=["5", "10", "20", "40", "80", "160", "320"])
        axis.minorticks_off()
        axis.grid(alpha=0.3)
        axis.legend(fontsize=8, loc="upper right", framealpha=0.5)
    figure.supxlabel(
        "evaluations of the network (dashed: diffusers, solid: ours; the same colour is on the same nodes)"
    )
    figure.supylabel("error")
    figure.tight_layout()
    figure.savefig(out, dpi=80)
