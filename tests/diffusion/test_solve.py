import itertools
import math

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some

from calotype.diffusion import (
    DDIM,
    DDPM,
    PLMS,
    Cosine,
    DPMSolver,
    EDMStochastic,
    Estimate,
    Euler,
    Flow,
    Heun,
    Linear,
    NoiseSource,
    ScaledLinear,
    Solvers,
    UniPC,
    solve,
)
from calotype.utils.config import from_dict, to_dict

SCHEDULES = [Linear(), Cosine(), Flow()]
PUBLISHED = ScaledLinear(beta_start=0.00085, beta_end=0.012)
SOLVERS = [
    DDIM(),
    DPMSolver(order=1),
    DPMSolver(),
    DPMSolver(order=3, lower_order_final=False),
    DPMSolver(algorithm="dpm_solver", variant="taylor"),
    DPMSolver(order=3, algorithm="dpm_solver", method="singlestep"),
    DPMSolver(order=3, method="singlestep_fixed", variant="taylor"),
    DPMSolver(order=2, method="singlestep"),
    Heun(),
    EDMStochastic(churn=0.0),
    PLMS(),
    PLMS(start="euler", weights="variable_steps"),
    Euler(),
    UniPC(),
    UniPC(order=3, algorithm="dpm_solver", variant="bh1"),
]
STOCHASTIC = [
    DDIM(eta=1.0),
    DDPM(),
    DDPM(v_posterior=1.0, temperature=0.5),
    DPMSolver(algorithm="sde_dpm_solver++"),
    DPMSolver(order=3, algorithm="sde_dpm_solver++", lower_order_final=False),
    EDMStochastic(),
]


def last(states):
    *_, state = states
    return state


@pytest.mark.parametrize("steps", [1, 2, 3, 20])
@pytest.mark.parametrize("solver", [*SOLVERS, *STOCHASTIC])
@pytest.mark.parametrize("schedule", [*SCHEDULES, PUBLISHED])
def test_one_image_is_found_exactly_in_any_number_of_steps(gaussian, images, schedule, solver, steps):
    states = list(solve(gaussian(schedule, 0.7, 0.0), images, schedule.grid(steps), solver, NoiseSource([0, 1])))
    assert len(states) == steps
    torch.testing.assert_close(states[-1].x, torch.full_like(images, 0.7), rtol=0, atol=1e-10)


@pytest.mark.parametrize("solver", [solver for solver in SOLVERS if solver != PLMS()])  # its trial needs a second step
@pytest.mark.parametrize("schedule", [*SCHEDULES, PUBLISHED])
def test_one_step_between_two_noisy_levels_is_exact_for_one_image(gaussian, images, schedule, solver):
    grid = schedule.grid_at(torch.tensor([0.98, 0.3], dtype=torch.float64) * schedule.t_max, clean=False)
    noise = (images - grid.alpha[0] * 0.7) / grid.sigma[0]
    got = last(solve(gaussian(schedule, 0.7, 0.0), images, grid, solver)).x
    torch.testing.assert_close(got, grid.alpha[1] * 0.7 + grid.sigma[1] * noise, rtol=0, atol=1e-12)


@given(
    solver=some.sampled_from([*SOLVERS, *STOCHASTIC, PLMS(weights="variable_steps"), UniPC(order=1)]),
    schedule=some.sampled_from([*SCHEDULES, PUBLISHED]),
    steps=some.integers(1, 60) | some.integers(1, 5),
)
@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_evaluations_are_counted_right_and_never_at_a_clean_node(gaussian, images, schedule, solver, steps):
    denoise, times = gaussian(schedule, 0.7, 0.25), []

    def counting(x, t):
        times.append(t)
        return denoise(x, t)

    states = list(solve(counting, images, schedule.grid(steps), solver, NoiseSource([0, 1])))
    assert len(times) == solver.evaluations(steps)
    assert all(schedule.sigma(t) > 0 for t in times)
    assert [state.t.item() for state in states] == schedule.grid(steps).t[1:].tolist()
    assert states[-1].x.isfinite().all()


def order(gaussian, images, schedule, solver, steps=(80, 160, 320)):
    """Slopes of the error against the closed form of the probability-flow ODE, over doublings of the steps."""
    mean, std = 0.7, 0.25
    ends = schedule.log_snr(torch.tensor([0.999 * schedule.t_max, 0.02 * schedule.t_max], dtype=torch.float64)).tolist()
    errors = []
    for n in steps:
        grid = schedule.grid_at(schedule.time(torch.linspace(*ends, n + 1, dtype=torch.float64)), clean=False)
        spread = (grid.alpha**2 * std**2 + grid.sigma**2).sqrt()
        exact = grid.alpha[-1] * mean + spread[-1] / spread[0] * (images - grid.alpha[0] * mean)
        got = last(solve(gaussian(schedule, mean, std), images, grid, solver)).x
        errors.append((got - exact).abs().max().item())
    return [math.log2(a / b) for a, b in itertools.pairwise(errors)]


@pytest.mark.usefixtures("long_walk")
@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize(
    ("solver", "low", "high"),
    [
        (DDIM(), 0.85, 1.35),
        (DPMSolver(order=1), 0.85, 1.35),
        (DPMSolver(), 1.75, 2.25),
        (DPMSolver(variant="taylor"), 1.75, 2.25),
        (DPMSolver(algorithm="dpm_solver"), 1.75, 2.25),
        (DPMSolver(order=3), 2.75, 4.3),
        (DPMSolver(order=3, curvature="half"), 1.75, 2.35),
        (DPMSolver(order=2, method="singlestep"), 1.75, 2.25),
        (DPMSolver(order=2, method="singlestep", algorithm="dpm_solver", variant="taylor"), 1.75, 2.25),
        (Heun(), 1.75, 2.25),
        (EDMStochastic(churn=0.0), 1.75, 2.25),
        (Euler(), 0.85, 1.35),
        (PLMS(), 1.75, 2.25),
        (PLMS(start="euler", weights="variable_steps"), 3.6, 4.4),
        (UniPC(order=1), 1.75, 2.25),
        (UniPC(lower_order_final=False), 2.75, 3.3),
        (UniPC(algorithm="dpm_solver", variant="bh1", lower_order_final=False), 2.75, 3.3),
        (UniPC(order=3, lower_order_final=False), 3.6, 4.4),
    ],
)
def test_solvers_converge_at_their_order(gaussian, images, schedule, solver, low, high):
    slopes = order(gaussian, images, schedule, solver)
    assert all(low < slope < high for slope in slopes), slopes


def mixture(schedule):
    """The exact denoiser of data from 0.3 N(-0.8, 0.2^2) + 0.7 N(0.5, 0.3^2)."""
    weight, mean, std = torch.tensor([[0.3, 0.7], [-0.8, 0.5], [0.2, 0.3]], dtype=torch.float64).view(3, 2, 1, 1, 1, 1)

    def denoise(x, t):
        alpha, sigma = schedule.marginal(t, x)
        variance = alpha**2 * std**2 + sigma**2
        residual = x - alpha * mean
        part = (weight.log() - variance.log() / 2 - residual**2 / (2 * variance)).softmax(0)
        return Estimate(
            (part * (mean + alpha * std**2 * residual / variance)).sum(0),
            (part * sigma * residual / variance).sum(0),
            alpha,
            sigma,
        )

    return denoise


def runge_kutta(denoise, grid, x):
    """The classical method on dz/dr = eps - x_0, in double steps of ``grid``."""
    total = grid.alpha + grid.sigma
    r, z = grid.sigma / total, x / total[0]

    def u(z, i):
        now = denoise(total[i] * z, grid.t[i])
        return now.eps - now.x0

    for i in range(0, grid.steps, 2):
        h = r[i + 2] - r[i]
        a = u(z, i)
        b = u(z + h / 2 * a, i + 1)
        c = u(z + h / 2 * b, i + 1)
        z = z + h / 6 * (a + 2 * b + 2 * c + u(z + h * c, i + 2))
    return total[-1] * z


@pytest.mark.usefixtures("long_walk")
@pytest.mark.parametrize("schedule", [Linear(), Flow()])
def test_solvers_converge_at_their_order_on_a_mixture_of_gaussians(images, schedule):
    ends = schedule.log_snr(torch.tensor([0.999 * schedule.t_max, 0.02 * schedule.t_max], dtype=torch.float64)).tolist()

    def halved(grid):
        """The middle node of every step is that of r, where the classical method looks."""
        r = grid.sigma / (grid.alpha + grid.sigma)
        r = torch.stack([r[:-1], r[:-1].lerp(r[1:], 0.5)]).T.flatten()
        return torch.cat([2 * ((1 - r) / r).log(), grid.log_snr[-1:]])

    def at(log_snr):
        return schedule.grid_at(schedule.time(log_snr), clean=False)

    denoise, even = mixture(schedule), [torch.linspace(*ends, n + 1, dtype=torch.float64) for n in (80, 160, 320)]
    exact = runge_kutta(denoise, at(halved(at(even[1]))), images)
    for solver, low, high in [
        (Euler(), 0.85, 1.35),
        (DPMSolver(), 1.75, 2.25),
        (EDMStochastic(churn=0.0), 1.75, 2.25),
        (UniPC(lower_order_final=False), 2.5, 3.5),
        (PLMS(start="euler", weights="variable_steps"), 3.25, 4.6),
    ]:
        errors = [(last(solve(denoise, images, at(nodes), solver)).x - exact).square().mean().sqrt() for nodes in even]
        slopes = [math.log2(a / b) for a, b in itertools.pairwise(errors)]
        assert all(low < slope < high for slope in slopes), (solver, slopes)


@pytest.mark.parametrize(("solver", "steps"), [(DPMSolver(), 40), (Heun(), 20)])
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_second_order_beats_first_at_forty_evaluations(gaussian, images, schedule, solver, steps):
    denoise = gaussian(schedule, 0.7, 0.25)
    alpha, sigma = schedule.marginal(torch.tensor(schedule.t_max, dtype=torch.float64), images)
    exact = 0.7 + 0.25 * (images - alpha * 0.7) / (alpha**2 * 0.25**2 + sigma**2).sqrt()

    def error(solver, steps):
        return (last(solve(denoise, images, schedule.grid(steps, "log_snr"), solver)).x - exact).abs().max()

    assert error(solver, steps) < 0.5 * error(DDIM(), 40)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_ddim_without_noise_is_dpm_solver_of_order_one(gaussian, images, schedule):
    denoise, grid = gaussian(schedule, 0.7, 0.25), schedule.grid(9)
    for ours, theirs in zip(
        solve(denoise, images, grid, DDIM()), solve(denoise, images, grid, DPMSolver(order=1)), strict=True
    ):
        torch.testing.assert_close(ours.x, theirs.x, rtol=0, atol=1e-12)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_euler_is_ddim_without_noise(gaussian, images, schedule):
    denoise, grid = gaussian(schedule, 0.7, 0.25), schedule.grid(9)
    for ours, theirs in zip(solve(denoise, images, grid, Euler()), solve(denoise, images, grid, DDIM()), strict=True):
        torch.testing.assert_close(ours.x, theirs.x, rtol=0, atol=1e-13)
        assert torch.equal(ours.t, theirs.t)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_the_default_solver_is_2m_as_it_is_written(gaussian, images, schedule):
    denoise, grid, x, before = gaussian(schedule, 0.7, 0.25), schedule.grid(9), images, None
    h = grid.log_snr.diff() / 2
    for i, state in enumerate(solve(denoise, images, grid, DPMSolver())):
        x0 = data = denoise(x, grid.t[i]).x0
        if before is not None and i < 8:
            data = x0 + h[i] / (2 * h[i - 1]) * (x0 - before)
        x, before = grid.sigma[i + 1] / grid.sigma[i] * x - grid.alpha[i + 1] * (-h[i]).expm1() * data, x0
        assert torch.equal(state.x, x)


def test_ddim_on_a_flow_is_euler(gaussian, images):
    denoise, grid, x = gaussian(Flow(), 0.7, 0.25), Flow().grid(9), images
    for i, state in enumerate(solve(denoise, images, grid, DDIM())):
        now = denoise(x, grid.t[i])
        x = x + (grid.t[i + 1] - grid.t[i]) * (now.eps - now.x0)
        torch.testing.assert_close(state.x, x, rtol=0, atol=1e-12)


class Fixed(NoiseSource):
    """A noise source that gives what it was given."""

    def __init__(self, z):
        super().__init__(range(len(z)))
        self.z = z

    def draw(self, shape, dtype=torch.float32, device="cpu"):
        return self.z


@pytest.mark.parametrize("schedule", [Linear(timesteps=50), Cosine(timesteps=50)])
def test_ddim_with_eta_one_on_consecutive_times_is_ddpm(images, schedule):
    """Mean and variance of each step are those of q(x_{t-1} | x_t, x_0), Eq. 7 of arXiv:2006.11239."""
    beta = schedule.betas()
    bar = (1 - beta).cumprod(0)
    grid, x0, z = schedule.grid(50), images.flip(0) / 3, torch.full_like(images, 1.0)

    def denoise(x, t):
        alpha, sigma = schedule.marginal(t, x)
        return Estimate(x0, (x - alpha * x0) / sigma, alpha, sigma)

    solver, start = DDIM(eta=1.0), next(solve(denoise, images, grid, DDIM()))
    for i, t in enumerate(range(49, -1, -1)):
        before = bar[t - 1] if t else torch.tensor(1.0, dtype=torch.float64)
        mean = before.sqrt() * beta[t] / (1 - bar[t]) * x0 + (1 - beta[t]).sqrt() * (1 - before) / (1 - bar[t]) * images
        deviation = ((1 - before) / (1 - bar[t]) * beta[t]).sqrt()
        state = type(start)(x=images, x0=x0, t=grid.t[i])
        quiet = solver.step(denoise, state, grid, i, Fixed(torch.zeros_like(images))).x
        noisy = solver.step(denoise, state, grid, i, Fixed(z)).x
        torch.testing.assert_close(quiet, mean, rtol=0, atol=1e-12)
        torch.testing.assert_close(noisy - quiet, deviation * z, rtol=0, atol=1e-12)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_ancestral_sampling_of_a_gaussian_has_the_variance_of_its_recursion(gaussian, schedule):
    """Every step is affine in x, so mean and variance after it follow from those before; 5 standard errors."""
    mean, std, n = 0.7, 0.25, 20_000
    x = NoiseSource([5]).initial((n, 1, 1), torch.float64).view(n, 1, 1, 1)
    denoise, grid = gaussian(schedule, mean, std), schedule.grid(12)
    m, v = x.mean(), x.var()

    class OneSeed(NoiseSource):
        def draw(self, shape, dtype=torch.float32, device="cpu"):
            return super().draw((n, *shape), dtype, device)[0]

    for i, state in enumerate(solve(denoise, x, grid, DDIM(eta=1.0), OneSeed([5]))):
        probe = torch.tensor([0.0, 1.0], dtype=torch.float64).view(2, 1, 1, 1)
        at = denoise(probe, grid.t[i])
        ratio = grid.alpha[i] * grid.sigma[i + 1] / (grid.alpha[i + 1] * grid.sigma[i])
        out = (grid.alpha[i + 1] * at.x0 + grid.sigma[i + 1] * ratio * at.eps).flatten()
        gain = out[1] - out[0]
        m, v = out[0] + gain * m, gain**2 * v + grid.sigma[i + 1] ** 2 * (1 - ratio**2)
        assert abs(state.x.mean() - m) < 5 * (v / n).sqrt()
        assert abs(state.x.var() - v) < 5 * v * (2 / n) ** 0.5


@pytest.mark.parametrize("solver", [DDIM(eta=0.5), *STOCHASTIC])
@pytest.mark.parametrize("schedule", [Linear(), Flow()])
def test_noise_is_asked_for_by_name_and_seeds_decide(gaussian, schedule, solver):
    denoise, grid, x = gaussian(schedule, 0.7, 0.25), schedule.grid(5), NoiseSource(range(4)).initial((1, 2, 2))
    with pytest.raises(ValueError, match="NoiseSource"):
        list(solve(denoise, x, grid, solver))
    many = last(solve(denoise, x, grid, solver, NoiseSource(range(4)))).x
    alone = last(solve(denoise, x[2:3], grid, solver, NoiseSource([2]))).x
    other = last(solve(denoise, x[2:3], grid, solver, NoiseSource([5]))).x
    torch.testing.assert_close(many[2:3], alone)
    assert (alone - other).abs().max() > 1e-3


@pytest.mark.parametrize("solver", [*SOLVERS, *STOCHASTIC])
def test_arithmetic_is_float32_at_least_and_leaves_no_graph(gaussian, images, solver):
    x = images.to(torch.bfloat16).requires_grad_()
    for state in solve(gaussian(Flow(), 0.7, 0.25), x, Flow().grid(3), solver, NoiseSource([0, 1])):
        assert state.x.dtype == state.x0.dtype == torch.float32
        assert not state.x.requires_grad
    with torch.inference_mode():
        list(solve(gaussian(Linear(), 0.7, 0.25), images, Linear().grid(3), solver, NoiseSource([0, 1])))


def test_a_constraint_is_put_in_before_every_step(gaussian, images):
    seen, levels, grid = [], [], Flow().grid(4)
    denoise = gaussian(Flow(), 0.7, 0.25)

    def watching(x, t):
        seen.append(x)
        return denoise(x, t)

    def constrain(x, alpha, sigma):
        levels.append((alpha.item(), sigma.item()))
        return torch.full_like(x, sigma.item())

    list(solve(watching, images, grid, DDIM(), constrain=constrain))
    assert levels == list(zip(grid.alpha[:-1].tolist(), grid.sigma[:-1].tolist(), strict=True))
    assert all(torch.equal(x, torch.full_like(x, sigma)) for x, (_, sigma) in zip(seen, levels, strict=True))


def test_a_constraint_after_every_step_has_the_level_that_the_step_came_from(gaussian, images):
    grid, levels = Flow().grid(4), []

    def constrain(x, alpha, sigma):
        levels.append((alpha.item(), sigma.item()))
        return torch.full_like(x, sigma.item())

    denoise = gaussian(Flow(), 0.7, 0.25)
    states = list(solve(denoise, images, grid, DDIM(), constrain=constrain, constrain_when="after"))
    assert levels == list(zip(grid.alpha[:-1].tolist(), grid.sigma[:-1].tolist(), strict=True))
    assert [state.x.mean().item() for state in states] == grid.sigma[:-1].tolist()


def test_a_tail_of_the_grid_is_the_end_of_the_walk(gaussian, images):
    denoise, grid = gaussian(Flow(), 0.7, 0.25), Flow().grid(9)
    states = list(solve(denoise, images, grid, DDIM()))
    rest = list(solve(denoise, states[3].x, grid.tail(4), DDIM()))
    assert [state.t for state in rest] == [state.t for state in states[4:]]
    assert torch.equal(rest[-1].x, states[-1].x)


@pytest.mark.parametrize("solver", [*SOLVERS, *STOCHASTIC])
def test_config_round_trip(solver):
    assert from_dict(Solvers, to_dict(solver)) == solver


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda: DPMSolver(order=4), "order"),
        (lambda: DDIM(eta=1.5), "eta"),
        (lambda: DDIM(temperature=-1.0), "temperature"),
        (lambda: DDPM(v_posterior=2.0), "v_posterior"),
        (lambda: DDPM(temperature=-1.0), "temperature"),
        (lambda: DPMSolver(algorithm="sde_dpm_solver++", method="singlestep"), "method"),
        (lambda: UniPC(order=0), "order"),
        (lambda: EDMStochastic(churn=-1.0), "churn"),
        (lambda: EDMStochastic(s_min=2.0, s_max=1.0), "s_min"),
        (lambda: EDMStochastic(inflation=0.0), "inflation"),
    ],
)
def test_bad_settings_are_named(make, field):
    with pytest.raises(ValueError, match=field):
        make()
