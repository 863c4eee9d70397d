import math

import pytest
import torch

from calotype.diffusion import DDIM, Cosine, Estimate, Linear, UniPC, solve


def as_written(m, at, j, order, sign, variant):
    """sum_k w_k m_k of a step from node j - 1 to j, by the matrix R_p and B(h) (arXiv:2302.04867).

    ``m`` holds values by node, that of ``j`` among them for the corrector; ``order`` counts the differences.
    """
    h = sign * (at[j] - at[j - 1])
    b_h = h if variant == "bh1" else math.expm1(h)
    nodes = [node for node in m if node != j - 1]
    r = [(at[node] - at[j - 1]) / (at[j] - at[j - 1]) for node in nodes]
    if order == 0:
        return math.expm1(h) * m[j - 1]
    phi, right = math.expm1(h) / h - 1, []
    for k in range(1, order + 1):
        right.append(math.factorial(k) * phi / b_h)
        phi = phi / h - 1 / math.factorial(k + 1)
    matrix = torch.tensor([[ratio ** (k - 1) for ratio in r] for k in range(1, order + 1)], dtype=torch.float64)
    a = torch.linalg.solve(matrix, torch.tensor(right, dtype=torch.float64)) if order > 1 else [1 / 2]
    differences = [(m[node] - m[j - 1]) / ratio for node, ratio in zip(nodes, r, strict=True)]
    return math.expm1(h) * m[j - 1] + b_h * sum(w * d for w, d in zip(a, differences, strict=True))


@pytest.mark.parametrize("lower_order_final", [True, False])
@pytest.mark.parametrize("variant", ["bh1", "bh2"])
@pytest.mark.parametrize("algorithm", ["dpm_solver++", "dpm_solver"])
@pytest.mark.parametrize("order", [1, 2, 3])
def test_it_is_the_paper_s_step_by_step(gaussian, images, order, algorithm, variant, lower_order_final):
    schedule = Cosine()
    nodes = -4 + 8 * (torch.arange(7, dtype=torch.float64) / 6) ** 1.5
    grid = schedule.grid_at(schedule.time(nodes), clean=False)
    at, denoise, sign = (grid.log_snr / 2).tolist(), gaussian(schedule, 0.7, 0.25), -1
    kept, other = grid.sigma, grid.alpha
    if algorithm == "dpm_solver":
        kept, other, sign = grid.alpha, grid.sigma, 1
    x, predicted, m = images, images, {}
    solver = UniPC(order=order, algorithm=algorithm, variant=variant, lower_order_final=lower_order_final)
    for i, state in enumerate(solve(denoise, images, grid, solver)):
        estimate = denoise(predicted, grid.t[i])
        value = estimate.x0 if algorithm == "dpm_solver++" else estimate.eps
        if i > 0:  # correct
            of_step = as_written({**m, i: value}, at, i, len(m), sign, variant)
            x = kept[i] / kept[i - 1] * x - other[i] * of_step
        m = dict([(i, value), *m.items()][: min(order, 6 - i) if lower_order_final else order])
        predicted = kept[i + 1] / kept[i] * x - other[i + 1] * as_written(m, at, i + 1, len(m) - 1, sign, variant)
        torch.testing.assert_close(state.x, predicted, rtol=0, atol=1e-10)


def test_a_constraint_on_x_is_not_undone_by_the_correction(images):
    """Where the estimate does not depend on x there is nothing to correct, and a step starts from x as it is."""

    def denoise(x, t):
        alpha, sigma = Linear().marginal(t, x)
        return Estimate(torch.ones_like(x), (x - alpha) / sigma, alpha, sigma)

    def constrain(x, alpha, sigma):
        return x + 0.5 * sigma

    grid = Linear().grid(6)
    ours = solve(denoise, images, grid, UniPC(), constrain=constrain)
    theirs = solve(denoise, images, grid, DDIM(), constrain=constrain)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a.x, b.x, rtol=0, atol=1e-12)
