"""Schedulers of diffusers on the data of solver_error_oracle.py."""

from collections.abc import Callable
from dataclasses import dataclass

import diffusers
import torch
from solver_error_oracle import Exact, Mixture, error_of, steps_for
from torch import Tensor

from calotype.diffusion import EDM, Flow, Grid, NoiseSchedule, ScaledLinear

TABLE, FLOW, LEVELS = ScaledLinear(beta_start=0.00085, beta_end=0.012), Flow(), EDM()
PUBLISHED = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}

HEUN, PLUS = (lambda n: 2 * n - 1), (lambda n: n + 1 if n > 1 else 1)
MULTISTEP, UNIPC = "DPMSolverMultistepScheduler", "UniPCMultistepScheduler"


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

    def shown(self, scheduler: object, nodes: Grid) -> Tensor:
        """Our times for what the network is shown in every step."""
        times = scheduler.timesteps
        return self.time(times if len(times) == nodes.steps else torch.unique(times).flip(0))

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
