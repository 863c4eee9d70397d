"""Times by importance: equal at first, then where the loss is, and right on average always."""

import pytest
import torch

from calotype.diffusion import Flow, ImportanceSampler, ImportanceTimes, Linear

FLOW = Flow()
T = torch.tensor([0.1, 0.3, 0.6, 0.9], dtype=torch.float64)  # one in each of four parts


def sampler(schedule=FLOW, **options):
    made = ImportanceSampler(ImportanceTimes(bins=4, history=3, **options))
    t = schedule.training_time(T)
    for _ in range(3):
        made.record(t, torch.tensor([1.0, 2.0, 3.0, 10.0]), schedule)
    return made


def draw(made, n, schedule=FLOW):
    return made.sample(n, torch.Generator().manual_seed(0), schedule)


def test_all_parts_are_equal_until_all_are_known():
    made = ImportanceSampler(ImportanceTimes(bins=4, history=3))
    for _ in range(3):
        made.record(T[:3], torch.tensor([1.0, 5.0, 2.0]), FLOW)
        assert made.probabilities().tolist() == [0.25] * 4
    made.record(T[3:].expand(3), torch.ones(3), FLOW)
    assert made.probabilities().tolist() != [0.25] * 4


def test_probabilities_follow_the_root_of_the_mean_of_the_last_squares():
    made = sampler(uniform=0.001)
    importance = torch.tensor([1.0, 2.0, 3.0, 10.0], dtype=torch.float64) / 16
    torch.testing.assert_close(made.probabilities(), 0.999 * importance + 0.001 / 4)
    for loss in (3.0, 4.0, 5.0, 3.0):
        made.record(T[:1], torch.tensor([loss]), FLOW)
    expected = torch.tensor([(4**2 + 5**2 + 3**2) / 3, 4.0, 9.0, 100.0], dtype=torch.float64).sqrt()
    torch.testing.assert_close(made.probabilities(), 0.999 * expected / expected.sum() + 0.001 / 4)


@pytest.mark.parametrize("schedule", [FLOW, Linear(timesteps=20)])
def test_weighted_losses_have_the_mean_of_uniform_times(schedule):
    made, n = sampler(schedule), 40_000
    t = draw(made, n, schedule)
    u = schedule.training_position(t)
    assert (u > 0.75).double().mean() == pytest.approx(10 / 16, abs=0.01)
    loss = 1 + u**2
    weighted = made.weights(t, schedule) * loss
    every = schedule.training_position(schedule.training_time((torch.arange(1000, dtype=torch.float64) + 0.5) / 1000))
    assert weighted.mean() == pytest.approx((1 + every**2).mean().item(), abs=float(5 * weighted.std() / n**0.5))
    assert abs(loss.mean() - (1 + every**2).mean()) > 0.2, "without weights it is another number"


def test_what_is_remembered_is_state():
    made, other = sampler(), ImportanceSampler(ImportanceTimes(bins=4, history=3))
    assert not list(made.parameters())
    other.load_state_dict(made.state_dict())
    assert torch.equal(draw(made, 50), draw(other, 50))
