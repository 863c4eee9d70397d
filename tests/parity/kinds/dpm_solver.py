from collections.abc import Iterator
from typing import Any

import torch
from golden_file import Golden
from torch import Tensor

from calotype.diffusion import Denoise, DPMSolver, State, dynamic_threshold, map_x0, solve, solve_adaptively
from calotype.diffusion.schedule.table import Table
from kinds import kind
from kinds.samplers import Trace, stand_in
from kinds.schedules import schedule_of

SPACINGS = {"time_uniform": "linspace", "time_quadratic": "quadratic", "logSNR": "log_snr"}
ALGORITHMS = {True: "dpm_solver++", False: "dpm_solver"}
PREDICTIONS = {"noise": "eps", "x_start": "x0", "v": "v"}


@kind("sampler_dpmsolver")
def sampler(golden: Golden) -> dict[str, Tensor]:
    schedule = schedule_of(golden.config, 0.0015, 0.0195)
    trace = _trace(golden, schedule)
    grid = schedule.grid(golden.config["S"], "linspace", end=schedule.t_min)
    *_, last = solve(trace, golden.inputs["x_T"], grid, DPMSolver(order=2))
    return {"sample": last.x, **_outputs(trace, schedule)}


@kind("dpmsolver")
def solver(golden: Golden) -> dict[str, Tensor]:
    config, schedule = golden.config, schedule_of(golden.config, 0.0015, 0.0195)
    trace = _trace(golden, schedule)
    denoise = trace
    if config.get("thresholding", False):
        denoise = map_x0(trace, lambda x0: dynamic_threshold(x0, least=config.get("max_val", 1.0)), keep_eps=True)
    walk = _adaptive if config.get("method") == "adaptive" else _fixed
    *_, last = walk(golden, schedule, denoise)
    if config.get("denoise_to_zero", False):
        *_, last = solve(denoise, last.x, schedule.grid_at(last.t.view(1)), DPMSolver(order=1))
    return {"sample": last.x, **_outputs(trace, schedule), **_functions(golden, schedule)}


def _rule(config: dict[str, Any]) -> dict[str, Any]:
    return {
        "order": config.get("order", 3),
        "algorithm": ALGORITHMS[config.get("predict_x0", False)],
        "variant": config.get("solver_type", "dpm_solver"),
    }


def _ends(config: dict[str, Any], schedule: Table) -> dict[str, float]:
    """The reference's times, (index + 1) / N, as indices."""
    start, end = config.get("t_start"), config.get("t_end")
    return {
        "start": schedule.t_max if start is None else start * schedule.timesteps - 1,
        "end": schedule.t_min if end is None else end * schedule.timesteps - 1,
    }


def _adaptive(golden: Golden, schedule: Table, denoise: Denoise) -> Iterator[State]:
    config = golden.config
    tolerance = {"rtol": config.get("rtol", 0.05), "atol": config.get("atol", 0.0078)}
    start = golden.inputs["x_T"]
    return solve_adaptively(denoise, start, schedule, **_rule(config), **tolerance, **_ends(config, schedule))


def _fixed(golden: Golden, schedule: Table, denoise: Denoise) -> Iterator[State]:
    config = golden.config
    method, final = config.get("method", "singlestep"), config.get("lower_order_final", True)
    rule = DPMSolver(method=method, lower_order_final=final, curvature="half", **_rule(config))
    steps, spacing = config.get("steps", 20), SPACINGS[config.get("skip_type", "time_uniform")]
    if method == "singlestep_fixed":
        steps -= steps % rule.order
    ends = _ends(config, schedule)
    grid = schedule.grid(steps, spacing, **ends)
    if method == "singlestep" and spacing == "log_snr":
        orders = rule.orders(grid)
        grid = schedule.refine(schedule.grid(len(orders), spacing, **ends), orders)
    return solve(denoise, golden.inputs["x_T"], grid, rule)


def _functions(golden: Golden, schedule: Table) -> dict[str, Tensor]:
    if "t" not in golden.inputs:
        return {}
    log_alpha = schedule.log_alpha(golden.inputs["t"].double() * schedule.timesteps - 1, outside="extend")
    sigma = (-torch.expm1(2 * log_alpha)).sqrt()
    log_snr = 2 * (log_alpha - sigma.log())
    inverse = (schedule.time(log_snr, outside="extend") + 1) / schedule.timesteps
    return {"log_alpha": log_alpha, "sigma": sigma, "lambda": log_snr / 2, "inverse_lambda": inverse}


def _trace(golden: Golden, schedule: Table) -> Trace:
    scale = 1000 / schedule.timesteps  # the reference shows thousandths, however long the table
    prediction = PREDICTIONS[golden.config.get("model_type", "noise")]
    return Trace(golden, schedule, prediction, lambda x, t, **slots: stand_in(x, t * scale, **slots))


def _outputs(trace: Trace, schedule: Table) -> dict[str, Tensor]:
    outputs = trace.outputs()
    return outputs | {"model_t": outputs["model_t"] * 1000 / schedule.timesteps}
