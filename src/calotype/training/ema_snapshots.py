"""Averages of any length, put together after training from a few snapshots of two (Section 3.2, arXiv:2312.02696).

While a run trains, two power-function averages are stored now and then: each snapshot is the weights of all steps under
a known profile. A profile that nobody stored is close to a sum of those, and the same sum of the snapshots is close to
the average that would have been.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from calotype.artifact import read_artifact, resolve, write_artifact
from calotype.training.ema import MovingAverage, gamma_of
from calotype.utils import distributed
from calotype.utils.errors import UserError
from calotype.utils.files import atomic_folder, atomic_write
from calotype.utils.tensors import load_tensors, save_tensors

TRACKS = (0.05, 0.10)
NARROWEST, WIDEST = 0.01, 0.25
Profile = tuple[float, float]
"""gamma and the samples seen: the weight of sample s is in proportion to ``s^gamma`` up to there, and 0 beyond."""


def snapshot_file(run: Path, seen: int) -> Path:
    """Return where the snapshot after ``seen`` samples is, or will be."""
    return run / "ema" / f"{seen:010d}.safetensors"


def save_snapshot(run: Path, average: MovingAverage, seen: int) -> None:
    """Write the tracks, in half precision: it appears at once, or not at all."""
    tensors = {
        f"{name}/{key}": value.half() if value.is_floating_point() else value
        for name, module in average.track_modules.items()
        for key, value in module.state_dict().items()
    }
    with atomic_write(snapshot_file(run, seen)) as temporary:
        save_tensors(temporary, tensors)


def snapshot_cost(run: Path, average: MovingAverage, count: int) -> str:
    """Say how much room the snapshots of a run take."""
    parameters = sum(value.numel() for each in average.track_modules.values() for value in each.state_dict().values())
    size = 2 * parameters / 2**20
    return (
        f"{count} snapshots of averaged weights, {size:.0f} MiB each ({count * size:.0f} in all), go to {run / 'ema'}"
    )


def snapshots(run: Path) -> list[int]:
    """Return the samples seen at a run's snapshots."""
    return sorted(int(file.stem) for file in (run / "ema").glob("*.safetensors") if file.stem.isdigit())


def remove_later_snapshots(run: Path, seen: int) -> None:
    """Remove what was taken after ``seen`` samples, on the main process: a run that goes back has not been there."""
    for each in snapshots(run) if distributed.is_main() else ():
        if each > seen:
            snapshot_file(run, each).unlink()


def overlap(a: Profile, b: Profile) -> float:
    """Return the integral of the product of two profiles, each of which has the integral 1 (Appendix C.2)."""
    (gamma_a, end_a), (gamma_b, end_b) = sorted((a, b), key=lambda profile: profile[1])
    ratio = (end_a / end_b) ** gamma_b
    return (gamma_a + 1) * (gamma_b + 1) / (gamma_a + gamma_b + 1) * ratio / end_b


def solve_weights(stored: Sequence[Profile], wanted: Profile) -> np.ndarray:
    """Return the weights of the stored profiles whose sum is nearest to the one wanted, in the mean square.

    As Algorithm 3 of the paper; besides, the weights sum to 1, so that what did not change in training stays as it is.
    """
    ends = [end / wanted[1] for _, end in stored]
    profiles = [(gamma, end) for (gamma, _), end in zip(stored, ends, strict=True)]
    n = len(profiles)
    system, right = np.ones((n + 1, n + 1)), np.ones(n + 1)
    system[:n, :n] = [[overlap(a, b) for b in profiles] for a in profiles]
    system[n, n] = 0
    right[:n] = [overlap(each, (wanted[0], 1.0)) for each in profiles]
    return np.linalg.solve(system, right)[:n]


def post_hoc_average(run: Path, width: float, *, seen: int | None = None) -> dict[str, dict[str, Tensor]]:
    """Return the state dicts, by component, of the power-function average of relative ``width`` after ``seen`` samples.

    ``seen`` is one of ``snapshots(run)``, by default the last.

    Raises:
        UserError: the width is out of reach, or there is no such snapshot.
    """
    if not NARROWEST <= width <= WIDEST:
        raise UserError(f"the width of an average must be between {NARROWEST} and {WIDEST}, not {width:g}")
    found = snapshots(run)
    if not found:
        raise UserError(f"{run} has no snapshots of its averages: train with --ema-snapshots 12")
    last = found[-1] if seen is None else seen
    if last not in found:
        raise UserError(f"{run} has no snapshot at {last} samples, but at {', '.join(map(str, found))}")
    stored = [(track, each) for each in found if each <= last for track in TRACKS]
    weights = solve_weights([(gamma_of(track), float(each)) for track, each in stored], (gamma_of(width), float(last)))
    share = dict(zip(stored, weights, strict=True))
    total: dict[str, Tensor] = {}
    for each in sorted({each for _, each in stored}):
        for name, value in load_tensors(snapshot_file(run, each)).items():
            track, _, key = name.partition("/")
            if value.is_floating_point():
                value = value.double() * share[float(track), each] + total.get(key, 0.0)
            total[key] = value
    states: dict[str, dict[str, Tensor]] = {}
    for name, value in total.items():
        component, _, key = name.partition("/")
        states.setdefault(component, {})[key] = value.to(torch.float32) if value.is_floating_point() else value
    return states


def write_post_hoc_average(run: Path, out: Path, width: float, *, seen: int | None = None) -> None:
    """Write the model of a diffusion run with the weights of ``post_hoc_average`` into ``out``, a new folder.

    Raises:
        UserError: as ``post_hoc_average``, ``out`` exists, or the run is of another kind.
    """
    if out.exists():
        raise UserError(f"{out} exists already; give a new name")
    latest = read_artifact(resolve(run, "latent_diffusion"), kind="latent_diffusion")
    run = latest.folder.parent.parent
    states = post_hoc_average(run, width, seen=seen)
    provenance = {**latest.provenance, "samples_seen": seen or snapshots(run)[-1], "ema_width": width}
    files = {name: path for name in ("autoencoder", "index") if (path := latest.file(name)).exists()}
    with atomic_folder(out) as folder:
        write_artifact(
            folder,
            kind=latest.kind,
            config=latest.config,
            components={**files, **states},
            provenance=provenance,
        )
