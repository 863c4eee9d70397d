"""Error against evaluations of every solver and of diffusers' schedulers, where the exact answer is known.

    OMP_NUM_THREADS=1 .venv/bin/python benchmarks/solver_error.py

The network is the exact denoiser of a Gaussian or of a mixture of six, in 8 dimensions. Writes
docs/results/solver_error.json, docs/results/solver_error.png and docs/results/solvers.md, which states the protocol.
"""

import argparse
import json
import platform
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import diffusers
import numpy as np
import torch
from scipy.integrate import solve_ivp
from torch import Tensor

from calotype.artifact import versions
from calotype.diffusion import (
    DDIM,
    DDPM,
    EDM,
    PLMS,
    DPMSolver,
    EDMStochastic,
    Estimate,
    Euler,
    Flow,
    Grid,
    Heun,
    NoiseSchedule,
    NoiseSource,
    ScaledLinear,
    Solver,
    UniPC,
    solve,
)

EVALUATIONS = (5, 8, 10, 15, 20, 25, 40, 80, 160, 320)
IMAGES, DIMENSIONS, SAMPLES = 128, 8, 20_000
TABLE, FLOW, LEVELS = ScaledLinear(beta_start=0.00085, beta_end=0.012), Flow(), EDM()
PUBLISHED = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}


@dataclass(frozen=True)
class Mixture:
    """Gaussians with diagonal covariance: weights [k], means and standard deviations [k, d]."""

    weight: Tensor
    mean: Tensor
    std: Tensor

    def estimate(self, x: Tensor, alpha: Tensor, sigma: Tensor) -> Estimate:
        variance = alpha**2 * self.std**2 + sigma**2  # k d
        residual = x.flatten(1)[:, None] - alpha * self.mean  # n k d
        log = self.weight.log() - (residual**2 / variance + variance.log()).sum(-1) / 2
        part = log.softmax(1)[..., None]
        x0 = (part * (self.mean + alpha * self.std**2 * residual / variance)).sum(1)
        eps = (part * sigma * residual / variance).sum(1)
        return Estimate(x0.view_as(x), eps.view_as(x), alpha, sigma)


def data() -> dict[str, Mixture]:
    generator = torch.Generator().manual_seed(0)
    one = {"generator": generator, "dtype": torch.float64}
    gaussian = Mixture(
        torch.ones(1, dtype=torch.float64),
        torch.linspace(-1, 1, DIMENSIONS, dtype=torch.float64)[None],
        torch.linspace(0.1, 0.8, DIMENSIONS, dtype=torch.float64)[None],
    )
    weight = torch.rand(6, **one) + 0.5
    mixture = Mixture(weight / weight.sum(), torch.randn(6, DIMENSIONS, **one), 0.1 + 0.3 * torch.rand(6, 1, **one))
    return {"gaussian": gaussian, "mixture": mixture}


class Exact:
    """The path of the probability-flow ODE from one start; dz/dr = eps - x_0 in z = x / (alpha + sigma)."""

    def __init__(self, target: Mixture, alpha: float, sigma: float) -> None:
        noise = NoiseSource(range(IMAGES)).initial((DIMENSIONS, 1, 1), torch.float64)
        which = torch.multinomial(target.weight, IMAGES, replacement=True, generator=torch.Generator().manual_seed(1))
        image = (target.mean + target.std * NoiseSource([7]).initial((DIMENSIONS,), torch.float64))[which]
        start = alpha * image.view_as(noise) + sigma * noise
        self.first = sigma / (alpha + sigma)

        def slope(r: float, z: np.ndarray) -> np.ndarray:
            level = torch.tensor([1 - r, r], dtype=torch.float64)
            now = target.estimate(torch.from_numpy(z).view_as(noise), *level)
            return (now.eps - now.x0).numpy().ravel()

        z = (start / (alpha + sigma)).numpy().ravel()
        path = solve_ivp(slope, (self.first, 0.0), z, "DOP853", rtol=1e-11, atol=1e-12, dense_output=True)
        self.z: Callable[[float], np.ndarray] = path.sol

    def at(self, alpha: float, sigma: float) -> Tensor:
        r = min(sigma / (alpha + sigma), self.first)
        return (alpha + sigma) * torch.from_numpy(self.z(r)).view(IMAGES, DIMENSIONS, 1, 1)


def error_of(x: Tensor, exact: Tensor) -> float:
    """The median over images of the root mean square over dimensions."""
    return (x.double() - exact).square().mean((1, 2, 3)).sqrt().median().item()


def steps_for(solver_evaluations: Callable[[int], int], limit: int) -> int:
    """The most steps of which the evaluations do not exceed the limit."""
    return max(n for n in range(1, limit + 1) if solver_evaluations(n) <= limit)


def ours(
    target: Mixture, schedule: NoiseSchedule, exact: Exact, solver: Solver, grid: Grid, shown: Tensor | None = None
) -> float:
    """The error of a walk; the network is shown the nearest of the times ``shown``, or the node's own."""

    def denoise(x: Tensor, t: Tensor) -> Estimate:
        alpha, sigma = schedule.marginal(t, x)
        if shown is None:
            return target.estimate(x, alpha, sigma)
        now = target.estimate(x, *schedule.marginal(shown[(shown - t).abs().argmin()], x))
        if schedule == FLOW:
            flow = now.eps - now.x0
            return Estimate(x - sigma * flow, x + alpha * flow, alpha, sigma)
        return Estimate((x - sigma * now.eps) / alpha, now.eps, alpha, sigma)

    x = exact.at(grid.alpha[0].item(), grid.sigma[0].item())
    *_, state = solve(denoise, x, grid, solver, NoiseSource(range(IMAGES)))
    return error_of(state.x, exact.at(grid.alpha[-1].item(), grid.sigma[-1].item()))


@dataclass(frozen=True)
class Peer:
    """A scheduler of diffusers in the coordinates that its samples have."""

    make: Callable[[], object]
    schedule: NoiseSchedule
    evaluations: Callable[[int], int] = lambda n: n
    coordinates: str = "x"

    def time(self, t: Tensor) -> Tensor:
        """Our time for what diffusers would show the network."""
        t = t.double()
        return t / 1000 if self.schedule == FLOW else (4 * t).exp() if self.schedule == LEVELS else t

    def nodes(self, scheduler: object) -> Grid:
        """Our grid with the very nodes of the scheduler."""
        if not hasattr(scheduler, "sigmas"):
            times = torch.unique(scheduler.timesteps.double()).flip(0)
            end = times[-1:] - 1000 // scheduler.num_inference_steps
            return self.schedule.grid_at(torch.cat([times, end]) if end >= 0 else times, end < 0)
        s = torch.unique_consecutive(scheduler.sigmas.double())
        level = s[s > 0]
        return self.schedule.grid_at(
            self.schedule.time(-2 * level.log()) if self.schedule == TABLE else level, s[-1] == 0
        )

    def run(self, target: Mixture, exact: Exact, scheduler: object, x: Tensor | None = None) -> Tensor:
        first = self.nodes(scheduler)
        scaled = self.coordinates == "z"
        x = exact.at(first.alpha[0].item(), first.sigma[0].item()) if x is None else x
        x = x / first.alpha[0] if scaled else x
        for t in scheduler.timesteps:
            shown = scheduler.scale_model_input(x, t) if hasattr(scheduler, "scale_model_input") else x
            alpha, sigma = self.schedule.marginal(self.time(t), shown)
            now = target.estimate(shown.double(), alpha, sigma)
            output = now.eps
            if self.schedule == FLOW:
                output = now.eps - now.x0
            elif self.schedule == LEVELS:
                s = sigma / alpha
                output = (now.x0 - shown / (1 + s**2).sqrt()) * (1 + s**2).sqrt() / s
            x = scheduler.step(output, t, x, return_dict=False)[0]
        return x

    def error(self, target: Mixture, exact: Exact, scheduler: object) -> float:
        last = self.nodes(scheduler)
        return error_of(self.run(target, exact, scheduler), exact.at(last.alpha[-1].item(), last.sigma[-1].item()))

    def prepared(self, evaluations: int) -> object:
        scheduler = self.make()
        scheduler.set_timesteps(steps_for(self.evaluations, evaluations))
        return scheduler


def peer(name: str, schedule: NoiseSchedule = TABLE, coordinates: str = "x", **options: object) -> Peer:
    evaluations = options.pop("evaluations", lambda n: n)
    if schedule == TABLE:
        spacing = {} if "Singlestep" in name else {"timestep_spacing": "trailing"}
        options = {**PUBLISHED, **spacing, **options}
    if schedule == FLOW and "Flow" not in name:
        options = {"prediction_type": "flow_prediction", "use_flow_sigmas": True, **options}
    if schedule == LEVELS:
        options = {"sigma_data": 1.0, **options}
    return Peer(lambda: getattr(diffusers, name)(**options), schedule, evaluations, coordinates)


HEUN, PLUS = (lambda n: 2 * n - 1), (lambda n: n + 1 if n > 1 else 1)
MULTISTEP, UNIPC = "DPMSolverMultistepScheduler", "UniPCMultistepScheduler"

PAIRS: dict[str, dict[str, tuple[Solver, Peer]]] = {
    "first order": {
        "DDIM": (DDIM(), peer("DDIMScheduler", clip_sample=False)),
        "Euler": (Euler(), peer("EulerDiscreteScheduler", coordinates="z")),
        "DPM-Solver++ 1": (DPMSolver(order=1), peer(MULTISTEP, solver_order=1)),
    },
    "DPM-Solver++, multistep": {
        "2M": (DPMSolver(), peer(MULTISTEP)),
        "2M, Karras": (DPMSolver(), peer(MULTISTEP, use_karras_sigmas=True)),
        "3M, half curvature": (DPMSolver(order=3, curvature="half"), peer(MULTISTEP, solver_order=3)),
    },
    "DPM-Solver on eps, multistep": {
        f"order {order}": (
            DPMSolver(order=order, algorithm="dpm_solver", curvature="half"),
            peer(MULTISTEP, solver_order=order, algorithm_type="dpmsolver", final_sigmas_type="sigma_min"),
        )
        for order in (2, 3)
    },
    "DPM-Solver++, single steps": {
        f"order {order}": (
            DPMSolver(order=order, method="singlestep"),
            peer("DPMSolverSinglestepScheduler", solver_order=order),
        )
        for order in (2, 3)
    },
    "UniPC": {
        **{
            f"order {order}, {b}": (UniPC(order=order, variant=b), peer(UNIPC, solver_order=order, solver_type=b))
            for order, b in ((1, "bh2"), (2, "bh2"), (3, "bh2"))
        },
        "order 2, bh1, to t = 0": (
            UniPC(variant="bh1"),
            peer(UNIPC, solver_type="bh1", final_sigmas_type="sigma_min"),
        ),
        "order 2, Karras": (UniPC(), peer(UNIPC, use_karras_sigmas=True)),
    },
    "Heun": {
        "in sigma / alpha": (
            EDMStochastic(churn=0),
            peer("HeunDiscreteScheduler", coordinates="z", evaluations=HEUN),
        ),
    },
    "PLMS": {
        "PLMS": (PLMS(), peer("PNDMScheduler", skip_prk_steps=True, set_alpha_to_one=True, evaluations=PLUS)),
    },
    "flow": {
        "Euler": (Euler(), peer("FlowMatchEulerDiscreteScheduler", FLOW)),
        "Heun": (Heun(), peer("FlowMatchHeunDiscreteScheduler", FLOW, evaluations=HEUN)),
        "2M": (DPMSolver(), peer(MULTISTEP, FLOW)),
        "UniPC 2": (UniPC(), peer(UNIPC, FLOW)),
    },
    "EDM": {
        "Euler": (Euler(), peer("EDMEulerScheduler", LEVELS, coordinates="z")),
        "2M": (DPMSolver(), peer("EDMDPMSolverMultistepScheduler", LEVELS, coordinates="z")),
        "3M, half curvature": (
            DPMSolver(order=3, curvature="half"),
            peer("EDMDPMSolverMultistepScheduler", LEVELS, coordinates="z", solver_order=3),
        ),
    },
}
OWN: dict[str, dict[str, tuple[Solver, NoiseSchedule, str]]] = {
    "first order": {"DDIM, log_snr": (DDIM(), TABLE, "log_snr")},
    "DPM-Solver++, multistep": {
        "2M, default": (DPMSolver(), TABLE, "trailing"),
        "2M, log_snr": (DPMSolver(), TABLE, "log_snr"),
        "2M, karras": (DPMSolver(), TABLE, "karras"),
        "3M, log_snr": (DPMSolver(order=3), TABLE, "log_snr"),
        "3M, half curvature, log_snr": (DPMSolver(order=3, curvature="half"), TABLE, "log_snr"),
    },
    "UniPC": {
        "order 2, log_snr": (UniPC(), TABLE, "log_snr"),
        "order 2, karras": (UniPC(), TABLE, "karras"),
        "order 3, log_snr": (UniPC(order=3), TABLE, "log_snr"),
    },
    "Heun": {
        "Heun, trailing": (Heun(), TABLE, "trailing"),
        "Heun, log_snr": (Heun(), TABLE, "log_snr"),
        "in sigma / alpha, karras": (EDMStochastic(churn=0), TABLE, "karras"),
    },
    "PLMS": {
        "iPNDM, trailing": (PLMS(start="euler"), TABLE, "trailing"),
        "variable steps, trailing": (PLMS(start="euler", weights="variable_steps"), TABLE, "trailing"),
        "variable steps, karras": (PLMS(start="euler", weights="variable_steps"), TABLE, "karras"),
    },
    "flow": {
        "2M, trailing": (DPMSolver(), FLOW, "trailing"),
        "2M, log_snr": (DPMSolver(), FLOW, "log_snr"),
        "UniPC 2, trailing": (UniPC(), FLOW, "trailing"),
        "UniPC 2, log_snr": (UniPC(), FLOW, "log_snr"),
    },
    "EDM": {
        "Heun": (EDMStochastic(churn=0), LEVELS, "karras"),
        "3M": (DPMSolver(order=3), LEVELS, "karras"),
        "UniPC 2": (UniPC(), LEVELS, "karras"),
        "UniPC 3": (UniPC(order=3), LEVELS, "karras"),
        "variable-step PLMS": (PLMS(start="euler", weights="variable_steps"), LEVELS, "karras"),
    },
}
STOCHASTIC: dict[str, tuple[Solver, Peer | None]] = {
    "DDPM": (DDPM(), peer("DDPMScheduler", variance_type="fixed_small", clip_sample=False)),
    "DDIM, eta 1": (DDIM(eta=1.0), None),
    "2M SDE": (
        DPMSolver(algorithm="sde_dpm_solver++"),
        peer(MULTISTEP, algorithm_type="sde-dpmsolver++"),
    ),
    "3M SDE": (DPMSolver(order=3, algorithm="sde_dpm_solver++"), None),
    "EDM, churn 40": (EDMStochastic(), None),
}
Results = dict[str, dict[str, dict[str, dict[int, float]]]]


def measure(target: Mixture) -> Results:
    """family -> series ("NAME | ours", "NAME | diffusers", "NAME | ours, own grid") -> evaluations -> error."""
    starts = {schedule: schedule.grid(1) for schedule in (TABLE, FLOW, LEVELS)}
    exact = {s: Exact(target, grid.alpha[0].item(), grid.sigma[0].item()) for s, grid in starts.items()}
    found: Results = {}
    for family, pairs in PAIRS.items():
        series = found.setdefault(family, {})
        for name, (solver, theirs) in pairs.items():
            for limit in EVALUATIONS:
                scheduler, path = theirs.prepared(limit), exact[theirs.schedule]
                grid = theirs.nodes(scheduler)
                series.setdefault(f"{name} | diffusers", {})[limit] = theirs.error(target, path, scheduler)
                shown = theirs.time(torch.unique(scheduler.timesteps))
                mine = ours(target, theirs.schedule, path, solver, grid, shown)
                series.setdefault(f"{name} | ours, same nodes", {})[limit] = mine
        for name, (solver, schedule, spacing) in OWN.get(family, {}).items():
            for limit in EVALUATIONS:
                grid = schedule.grid(steps_for(solver.evaluations, limit), spacing)
                mine = ours(target, schedule, exact[schedule], solver, grid)
                series.setdefault(f"{name} | ours", {})[limit] = mine
    return found


def moments(target: Mixture) -> dict[str, dict[int, float]]:
    """The Wasserstein-2 distance between N(mean, std^2), the data, and the normal of the samples' moments, in 1-D."""
    mean, std = target.mean[0, :1], target.std[0, :1]
    one = Mixture(target.weight, mean[None], std[None])
    x = NoiseSource([3]).initial((SAMPLES, 1, 1), torch.float64).view(-1, 1, 1, 1)
    found: dict[str, dict[int, float]] = {}

    def distance(samples: Tensor) -> float:
        return ((samples.mean() - mean) ** 2 + (samples.std() - std) ** 2).sqrt().item()

    class OneSeed(NoiseSource):
        def draw(self, shape, dtype=torch.float32, device="cpu"):  # type: ignore[no-untyped-def]
            return super().draw((SAMPLES, *shape), dtype, device)[0]

    def denoise(x: Tensor, t: Tensor) -> Estimate:
        return one.estimate(x, *TABLE.marginal(t, x))

    for name, (solver, theirs) in STOCHASTIC.items():
        for limit in EVALUATIONS:
            grid = TABLE.grid(steps_for(solver.evaluations, limit))
            if theirs is not None:
                torch.manual_seed(0)
                scheduler = theirs.prepared(limit)
                grid = theirs.nodes(scheduler)
                found.setdefault(f"{name} | diffusers", {})[limit] = distance(theirs.run(one, None, scheduler, x))
            *_, state = solve(denoise, x, grid, solver, OneSeed([5]))
            found.setdefault(f"{name} | ours", {})[limit] = distance(state.x)
    return found


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
FINDINGS = """
## What it says

- On the same nodes the methods coincide, except where the last table says otherwise; the reasons are these.
- DDIM and PNDM of diffusers step back by 1000 // N whatever the distance of their rounded times, so that for N that do
  not divide 1000 x is not at the level that the next time says. That is where they differ from ours, either way; that
  it is the whole reason, and why DDIM errs less for it at 80 and 160 and PNDM at 20 to 40, has not been taken apart.
- Single steps of order 3 are divided otherwise near the end: within 1 %.
- UniPC with `bh1` is NaN in diffusers where it ends at the clean image; here it ends at t = 0.
- On a table, `trailing` spends a last step of order 1 on the way from t = 1000/N to the clean image. With 10
  evaluations and more, `log_snr` and `karras` err far less. On a flow `trailing`
  is the better one where evaluations are few.
- Their floor at about 1.4e-3 is the step of order 1 from t = 0 to the clean image. `PLMS(weights="variable_steps")`
  integrates over sigma / alpha up to 0 and has no such floor.
- DPM-Solver of order 3 with half the curvature, as its authors and diffusers have it, is of order 2 but errs less than
  the whole where steps are few.
"""


def page(found: dict[str, dict[str, dict[str, dict[str, float]]]], version: str) -> str:
    """The tables for the mixture, and how far ours is from diffusers on the same nodes."""
    lines = [PROTOCOL.format(version=version)]
    header = f"| | {' | '.join(map(str, EVALUATIONS))} |\n|---|{'---|' * len(EVALUATIONS)}"
    for family, series in {**found["mixture"], **found.get("stochastic", {})}.items():
        lines += [f"\n## {family}\n", STOCHASTIC_NOTE if family == "stochastic" else "", header]
        for name, errors in series.items():
            lines.append(f"| {name.replace(' | ', ', ')} | {' | '.join(f'{e:.1e}' for e in errors.values())} |")
    lines += ["\n## Ours over theirs, same nodes, mixture\n", header]
    for family, series in found["mixture"].items():
        for name in series:
            pair = series.get(name.replace(" | diffusers", " | ours, same nodes"))
            if name.endswith(" | diffusers") and pair:
                ratios = " | ".join(f"{pair[e] / error:.3f}" for e, error in series[name].items())
                lines.append(f"| {family}: {name.removesuffix(' | diffusers')} | {ratios} |")
    return "\n".join(lines) + "\n" + FINDINGS


STOCHASTIC_NOTE = f"""The Wasserstein-2 distance of the normal with the samples' moments from the data N(-1, 0.1^2), in
one dimension, on the table, `trailing`; {SAMPLES:,} samples, so that differences below 2e-3 are chance.
"""


def draw(found: dict[str, dict[str, dict[str, dict[str, float]]]], out: Path) -> None:
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("docs/results"))
    parser.add_argument("--only", nargs="*", default=["gaussian", "mixture", "stochastic"], help="measure these anew")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    measure_all(arguments.out, arguments.only)
    found = json.loads((arguments.out / "solver_error.json").read_text(encoding="utf-8"))
    (arguments.out / "solvers.md").write_text(page(found["error"], found["versions"]["diffusers"]), encoding="utf-8")
    draw(found["error"], arguments.out / "solver_error.png")


def measure_all(out: Path, names: list[str]) -> None:
    """Measure what is named; keep what the file says of the others."""
    path = out / "solver_error.json"
    kept = json.loads(path.read_text(encoding="utf-8"))["error"] if path.exists() else {}
    for name in names:
        target = data().get(name)
        kept[name] = {name: moments(data()["gaussian"])} if target is None else measure(target)
    about = {"versions": {**versions(), "diffusers": diffusers.__version__}, "cpu": platform.machine()}
    text = json.dumps({"protocol": "docs/results/solvers.md", **about, "error": kept}, indent=1)
    path.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
