import itertools
import math

import pytest
import torch

from calotype.diffusion import DDIM, Cosine, DPMSolver, Estimate, Flow, Linear, solve

TABLE = Linear()


def uniform(schedule, steps, low=-4.0, high=4.0):
    """A grid uniform in log SNR, without ends of infinite lambda."""
    return schedule.grid_at(schedule.time(torch.linspace(low, high, steps + 1, dtype=torch.float64)), clean=False)


def uneven(schedule, steps):
    nodes = -4 + 8 * (torch.arange(steps + 1, dtype=torch.float64) / steps) ** 1.5
    return schedule.grid_at(schedule.time(nodes), clean=False)


@pytest.mark.usefixtures("long_walk")
@pytest.mark.parametrize("method", ["singlestep", "singlestep_fixed"])
@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize("schedule", [TABLE, Flow()])
def test_single_steps_come_out_even_for_every_number_of_steps(schedule, order, method):
    solver = DPMSolver(order=order, method=method)
    for steps in range(1, 1001):
        orders = solver.orders(schedule.grid(steps))
        assert sum(orders) == steps == solver.evaluations(steps)
        assert min(orders) >= 1
        assert orders[-1] == 1, "into the clean node"
        assert orders[0] == 1 or schedule is TABLE, "out of pure noise"


@pytest.mark.parametrize(
    ("steps", "orders"), [(1, [1]), (2, [2]), (3, [2, 1]), (9, [3, 3, 2, 1]), (10, [3, 3, 3, 1]), (11, [3, 3, 3, 2])]
)
def test_the_orders_of_dpm_solver_fast(steps, orders):
    grid = TABLE.grid(steps, "log_snr", end=TABLE.t_min)
    assert DPMSolver(order=3, method="singlestep").orders(grid) == orders
    refined = TABLE.refine(TABLE.grid(len(orders), "log_snr", end=TABLE.t_min), orders)
    assert refined.steps == steps
    assert DPMSolver(order=3, method="singlestep").orders(refined) == orders


@pytest.mark.parametrize("algorithm", ["dpm_solver++", "dpm_solver"])
@pytest.mark.parametrize("method", ["multistep", "singlestep"])
@pytest.mark.parametrize("schedule", [TABLE, Cosine(), Flow()])
def test_order_one_is_ddim(gaussian, images, schedule, method, algorithm):
    denoise, grid = gaussian(schedule, 0.7, 0.25), schedule.grid(9)
    solver = DPMSolver(order=1, method=method, algorithm=algorithm)
    for ours, theirs in zip(solve(denoise, images, grid, solver), solve(denoise, images, grid, DDIM()), strict=True):
        torch.testing.assert_close(ours.x, theirs.x, rtol=0, atol=1e-10)


def polynomial(schedule, algorithm, coefficients):
    """Estimates that are a polynomial of lambda, whatever x is."""

    def denoise(x, t):
        alpha, sigma = schedule.marginal(t, x)
        at = (alpha / sigma).log()
        value = torch.ones_like(x) * sum(c * at**k for k, c in enumerate(coefficients))
        if algorithm == "dpm_solver++":
            return Estimate(value, (x - alpha * value) / sigma, alpha, sigma)
        return Estimate((x - sigma * value) / alpha, value, alpha, sigma)

    return denoise


def integral(coefficients, sign, a, b):
    """The integral of e^(sign s) times the polynomial from a to b, by parts."""

    def primitive(s):
        derivative, total, factor = list(coefficients), 0.0, sign
        while derivative:
            total += factor * sum(c * s**k for k, c in enumerate(derivative))
            derivative, factor = [k * c for k, c in enumerate(derivative)][1:], -factor * sign
        return math.exp(sign * s) * total

    return primitive(b) - primitive(a)


@pytest.mark.parametrize(
    ("solver", "coefficients"),
    [
        (DPMSolver(order=1), [0.4]),
        (DPMSolver(order=2, variant="taylor"), [0.4, -0.3]),
        (DPMSolver(order=3), [0.4, -0.3, 0.2]),
        (DPMSolver(order=2, method="singlestep", variant="taylor"), [0.4, -0.3]),
        (DPMSolver(order=3, method="singlestep_fixed"), [0.4, -0.3]),
        (DPMSolver(order=3, method="singlestep_fixed", variant="taylor"), [0.4, -0.3, 0.2]),
    ],
)
@pytest.mark.parametrize("algorithm", ["dpm_solver++", "dpm_solver"])
def test_steps_are_exact_for_polynomials_of_lambda(images, solver, coefficients, algorithm):
    """One step, and for multistep the steps after enough history, against the solution of the equation."""
    solver = DPMSolver(**{**solver.__dict__, "algorithm": algorithm, "lower_order_final": False})
    grid = uneven(Cosine(), 6)
    at, sign = (grid.log_snr / 2).tolist(), 1 if algorithm == "dpm_solver++" else -1
    scale, other = (grid.sigma, grid.alpha) if sign == 1 else (grid.alpha, grid.sigma)
    states = list(solve(polynomial(Cosine(), algorithm, coefficients), images, grid, solver))
    x = [images, *(state.x for state in states)]
    span = 1 if solver.method == "multistep" else solver.order
    for i in range(solver.order - 1 if span == 1 else 0, 6, span):
        j = i + span
        exact = scale[j] * (x[i] / scale[i] + sign * integral(coefficients, sign, at[i], at[j]))
        torch.testing.assert_close(x[j], exact, rtol=1e-9, atol=1e-9)
    assert other[0] != scale[0]


@pytest.mark.usefixtures("long_walk")
@pytest.mark.parametrize("algorithm", ["dpm_solver++", "dpm_solver"])
@pytest.mark.parametrize("variant", ["dpm_solver", "taylor"])
@pytest.mark.parametrize("schedule", [TABLE, Flow()])
def test_single_steps_of_order_three_converge_so(gaussian, images, schedule, variant, algorithm):
    """A common factor keeps off the steps of lower order that would come at the end."""
    solver, errors = DPMSolver(order=3, method="singlestep_fixed", variant=variant, algorithm=algorithm), []
    for steps in (48, 96, 192):
        grid = uniform(schedule, steps)
        spread = (grid.alpha**2 * 0.25**2 + grid.sigma**2).sqrt()
        exact = grid.alpha[-1] * 0.7 + spread[-1] / spread[0] * (images - grid.alpha[0] * 0.7)
        *_, last = solve(gaussian(schedule, 0.7, 0.25), images, grid, solver)
        errors.append((last.x - exact).abs().max().item())
    slopes = [math.log2(a / b) for a, b in itertools.pairwise(errors)]
    assert all(2.6 < slope < 3.5 for slope in slopes), slopes


def test_few_steps_end_in_lower_orders(gaussian, images):
    denoise, grid = gaussian(TABLE, 0.7, 0.25), uniform(TABLE, 14)
    steady, bold = (
        list(solve(denoise, images, grid, DPMSolver(order=3, lower_order_final=on))) for on in (True, False)
    )
    same = [torch.equal(a.x, b.x) for a, b in zip(steady, bold, strict=True)]
    assert same == [True] * 12 + [False] * 2
    grid = uniform(TABLE, 15)
    steady, bold = (
        list(solve(denoise, images, grid, DPMSolver(order=3, lower_order_final=on))) for on in (True, False)
    )
    assert torch.equal(steady[-1].x, bold[-1].x)
