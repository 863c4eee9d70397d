"""Each library with the spacing that suits it best, on a table: the error of the image that comes out."""

import inspect

import diffusers
from solver_error_oracle import Exact, Mixture, error_of, ours, steps_for
from solver_error_peers import HEUN, MULTISTEP, PLUS, TABLE, UNIPC, Peer, peer

from calotype.diffusion import DDIM, PLMS, DPMSolver, EDMStochastic, Euler, Heun, Solver, UniPC

OURS = ("trailing", "leading", "linspace", "quadratic", "log_snr", "karras", "beta")
THEIRS = {
    **{name: {"timestep_spacing": name} for name in ("trailing", "leading", "linspace")},
    "karras": {"use_karras_sigmas": True},
    "log_snr": {"use_exponential_sigmas": True},
    "log_snr, rounded": {"use_lu_lambdas": True},
    "beta": {"use_beta_sigmas": True},
}
SINGLE = "DPMSolverSinglestepScheduler"
METHODS: dict[str, tuple[tuple[Solver, ...], str, dict[str, object]]] = {
    "DDIM": ((DDIM(),), "DDIMScheduler", {"clip_sample": False}),
    "Euler": ((Euler(),), "EulerDiscreteScheduler", {"coordinates": "z"}),
    "DPM-Solver++ 2M": ((DPMSolver(),), MULTISTEP, {}),
    "DPM-Solver++ 3M": ((DPMSolver(order=3, curvature="half"), DPMSolver(order=3)), MULTISTEP, {"solver_order": 3}),
    "DPM-Solver++ 2S": ((DPMSolver(method="singlestep"),), SINGLE, {"solver_order": 2}),
    "DPM-Solver++ 3S": ((DPMSolver(order=3, method="singlestep"),), SINGLE, {"solver_order": 3}),
    "UniPC 2": ((UniPC(),), UNIPC, {"solver_order": 2}),
    "UniPC 3": ((UniPC(order=3),), UNIPC, {"solver_order": 3}),
    "Heun": ((EDMStochastic(churn=0), Heun()), "HeunDiscreteScheduler", {"coordinates": "z", "evaluations": HEUN}),
    "PLMS": (
        (PLMS(), PLMS(start="euler"), PLMS(start="euler", weights="variable_steps")),
        "PNDMScheduler",
        {"skip_prk_steps": True, "set_alpha_to_one": True, "evaluations": PLUS},
    ),
}
EVERY = {"DDIM": "quadratic", "PLMS": "log_snr"}
Best = dict[int, tuple[float, str]]


class Race:
    """Errors against the clean end of the exact path from ``t_max``."""

    def __init__(self, target: Mixture) -> None:
        first = TABLE.grid(1)
        self.target, self.exact = target, Exact(target, first.alpha[0].item(), first.sigma[0].item())
        self.clean = self.exact.at(1.0, 0.0)

    def theirs(self, method: str, limit: int) -> dict[str, float]:
        _, name, options = METHODS[method]
        offered = inspect.signature(getattr(diffusers, name)).parameters
        peers = {key: peer(name, **options, **own) for key, own in THEIRS.items() if own.keys() <= offered.keys()}
        return {key: self._run(each, limit) for key, each in peers.items()}

    def _run(self, each: Peer, limit: int) -> float:
        try:
            return error_of(each.run(self.target, self.exact, each.prepared(limit)), self.clean)
        except (ValueError, IndexError, AssertionError):  # times that are rounded to the same are not told apart
            return float("nan")

    def ours(self, method: str, limit: int, spacings: tuple[str, ...] = OURS) -> dict[str, float]:
        found = {}
        for solver in METHODS[method][0]:
            grids = {key: TABLE.grid(steps_for(solver.evaluations, limit), key) for key in spacings}
            for key, grid in grids.items():
                error = ours(self.target, TABLE, self.exact, solver, grid)
                found[key] = min(error, found.get(key, error))
        return found


def least(errors: dict[str, float]) -> tuple[float, str]:
    return min((error, key) for key, error in errors.items() if error == error)


def measure_best(target: Mixture, evaluations: tuple[int, ...]) -> dict[str, dict[str, Best]]:
    """Method -> whose -> evaluations -> the least error and its spacing."""
    race, found = Race(target), {}
    for method in METHODS:
        found[method] = {
            "diffusers": {limit: least(race.theirs(method, limit)) for limit in evaluations},
            "ours": {limit: least(race.ours(method, limit)) for limit in evaluations},
        }
    return found


def measure_every(target: Mixture, counts: range) -> dict[str, dict[str, object]]:
    """For the methods of which diffusers' steps are uneven: the worst ratio over all counts, ours with one spacing."""
    race, found = Race(target), {}
    for method, spacing in EVERY.items():
        ratios = {n: race.ours(method, n, (spacing,))[spacing] / least(race.theirs(method, n))[0] for n in counts}
        worst = max(ratios, key=ratios.__getitem__)
        found[method] = {
            "spacing": spacing,
            "worst": ratios[worst],
            "at": worst,
            "better": sum(ratio < 1 for ratio in ratios.values()),
        }
    return found
