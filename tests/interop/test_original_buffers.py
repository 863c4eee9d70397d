import pytest
import torch

from calotype.diffusion.schedule import Cosine, Linear, ScaledLinear, Sqrt
from calotype.diffusion.schedule.table import Table
from calotype.interop.original.buffers import BUFFERS, schedule_buffers

SCHEDULES = (ScaledLinear(timesteps=50), Linear(timesteps=50), Sqrt(timesteps=50), Cosine(timesteps=50))


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda schedule: schedule.kind)
def test_the_tables_say_the_same_in_twelve_ways(schedule: Table) -> None:
    tables = schedule_buffers(schedule)
    assert tuple(tables) == BUFFERS
    beta, bar, before, root, sigma, log_variance, inverse, ratio, *posterior = (
        table.double() for table in tables.values()
    )
    variance, log_clipped, of_x0, of_x = posterior
    times = torch.arange(50.0, dtype=torch.float64)
    close = {"rtol": 2e-5, "atol": 1e-6}
    torch.testing.assert_close(beta, schedule.betas(), **close)
    torch.testing.assert_close(root, schedule.alpha(times), **close)
    torch.testing.assert_close(sigma, schedule.sigma(times), **close)
    torch.testing.assert_close(before[1:], bar[:-1], **close)
    assert before[0] == 1
    torch.testing.assert_close(root**2 + sigma**2, torch.ones_like(root), **close)
    torch.testing.assert_close(log_variance.exp(), sigma**2, **close)
    torch.testing.assert_close(inverse * root, torch.ones_like(root), **close)
    torch.testing.assert_close(ratio * root, sigma, **close)
    torch.testing.assert_close(of_x0 + of_x * root, before.sqrt(), **close)
    precision = (1 - beta) / beta + 1 / (1 - before)
    torch.testing.assert_close(variance[1:], 1 / precision[1:], rtol=1e-3, atol=1e-6)
    torch.testing.assert_close(log_clipped[1:].exp(), variance[1:], **close)
    assert log_clipped[0] == pytest.approx(-46.0517, abs=1e-3)


def test_the_variance_may_be_that_of_a_single_step() -> None:
    half, whole = (schedule_buffers(SCHEDULES[0], v_posterior=v) for v in (0.5, 1.0))
    plain = schedule_buffers(SCHEDULES[0])
    torch.testing.assert_close(whole["posterior_variance"], whole["betas"])
    torch.testing.assert_close(half["posterior_variance"], (plain["posterior_variance"] + plain["betas"]) / 2)
