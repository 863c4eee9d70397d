import pytest
import torch

from calotype.diffusion import (
    DDIM,
    DDPM,
    EDM,
    DPMSolver,
    Flow,
    Heun,
    Linear,
    NoiseSource,
    composite,
    known_region,
    solve,
)

SOLVERS = [DDIM(), DDIM(eta=1.0), DDPM(), DPMSolver(), Heun()]


@pytest.fixture
def walk(gaussian, images):
    def walked(schedule, solver, known):
        source = NoiseSource([0, 1])
        noise = source.initial(images.shape[1:], torch.float64)
        constrain = None if known is None else known_region(images, known, noise)
        return list(solve(gaussian(schedule, 0.7, 0.25), noise, schedule.grid(7), solver, source, constrain))

    return walked


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("schedule", [Linear(), Flow(), EDM()])
def test_with_nothing_known_it_is_sampling(walk, images, schedule, solver):
    free, held = (walk(schedule, solver, known)[-1].x for known in (None, torch.zeros(1, 1, 2, 2)))
    assert torch.equal(free, held)


@pytest.mark.parametrize("solver", SOLVERS)
def test_every_step_sees_the_known_part_at_its_own_noise(gaussian, images, solver):
    known, source, schedule, seen = torch.zeros(2, 1, 2, 2), NoiseSource([0, 1]), Flow(), []
    known[0, :, 0], known[1, :, :, 1] = 1, 1
    noise = source.initial(images.shape[1:], torch.float64)

    def watching(x, t):
        seen.append((x, t))
        return gaussian(schedule, 0.7, 0.25)(x, t)

    list(solve(watching, noise, schedule.grid(5), solver, source, known_region(images, known, noise)))
    asked = seen[::2] if isinstance(solver, Heun) else seen  # Heun's trials are its own
    for x, t in asked:
        alpha, sigma = schedule.marginal(t, x)
        where = (known == 1).expand_as(x)
        assert torch.equal(x[where], (alpha * images + sigma * noise)[where])


def test_a_composite_is_exact_at_both_ends_whatever_lies_on_the_other_side():
    kept, drawn = torch.randn(2, 1, 3, 2, 2)
    known = torch.tensor([[1.0, 0.0], [0.25, 1.0]])[None, None]
    got = composite(kept, torch.where(known == 1, torch.nan, drawn), known)
    assert torch.equal(got[..., 0, 0], kept[..., 0, 0])
    assert torch.equal(got[..., 1, 1], kept[..., 1, 1])
    assert torch.equal(got[..., 0, 1], drawn[..., 0, 1])
    torch.testing.assert_close(got[..., 1, 0], 0.25 * kept[..., 1, 0] + 0.75 * drawn[..., 1, 0])
