import itertools
import math

import pytest
import torch

import calotype as ct
from calotype.diffusion import CFG, DDIM, DDPM, EDM, PLMS, DPMSolver, EDMStochastic, Estimate, Flow, Heun, Linear, solve
from calotype.tasks.invert import backwards, invert
from calotype.utils.errors import UserError
from tiny import autoencoder_artifact, diffusion_recipe, loader, settings

CAPTIONS = ["a red wave", "a blue wave", ""]
MEAN, STD = 0.7, 0.25


def gaussian(schedule):
    """The exact denoiser of N(MEAN, STD^2)."""

    def denoise(x, t):
        alpha, sigma = schedule.marginal(t, x)
        residual = (x - alpha * MEAN) / (alpha**2 * STD**2 + sigma**2)
        return Estimate(MEAN + alpha * STD**2 * residual, sigma * residual, alpha, sigma)

    return denoise


@pytest.mark.parametrize(("solver", "order"), [(DDIM(), 0.85), (DPMSolver(), 1.75), (PLMS(), 1.75), (Heun(), 1.75)])
@pytest.mark.parametrize("schedule", [Linear(), Flow(), EDM()])
def test_there_and_back_is_as_exact_as_the_solver(schedule, solver, order):
    """At least in the order of the solver: part of what is lost on the way there is won on the way back."""
    x = torch.linspace(-0.5, 2, 12, dtype=torch.float64).view(1, 3, 2, 2)
    span = torch.tensor([0.99, 0.02], dtype=torch.float64) * schedule.t_max
    ends, errors, denoise = schedule.log_snr(span).tolist(), [], gaussian(schedule)
    for steps in (40, 80, 160):
        grid = schedule.grid_at(schedule.time(torch.linspace(*ends, steps + 1, dtype=torch.float64)), clean=False)
        *_, noise = solve(denoise, x, backwards(grid, schedule), solver)
        *_, again = solve(denoise, noise.x, grid, solver)
        errors.append((again.x - x).abs().max().item())
    slopes = [math.log2(a / b) for a, b in itertools.pairwise(errors)]
    assert min(slopes) > order, (slopes, errors)


@pytest.mark.parametrize("schedule", [Linear(), Flow(), EDM()])
def test_the_noise_of_data_is_standard_normal(schedule):
    """The quantiles of the data become those of the noise: the flow of a Gaussian is monotone and affine."""
    normal = torch.linspace(-2, 2, 12, dtype=torch.float64).view(1, 3, 2, 2)
    *_, last = solve(gaussian(schedule), MEAN + STD * normal, backwards(schedule.grid(300), schedule), Heun())
    end = torch.tensor(schedule.t_max, dtype=torch.float64)
    spread = (schedule.alpha(end) ** 2 * STD**2 + schedule.sigma(end) ** 2).sqrt()
    torch.testing.assert_close(last.x, schedule.alpha(end) * MEAN + spread * normal, rtol=0, atol=0.01)


@pytest.mark.parametrize("spacing", ["trailing", "linspace", "karras"])
@pytest.mark.parametrize("schedule", [Linear(), Flow(), EDM()])
def test_the_grid_backwards_rises_from_the_least_noise_and_is_never_clean(schedule, spacing):
    grid = schedule.grid(7, spacing)
    back = backwards(grid, schedule)
    assert back.t[0].item() == pytest.approx(schedule.t_min)
    assert (back.t.diff() > 0).all()
    assert back.steps == (7 if spacing == "trailing" else 6)
    assert torch.equal(back.t[1:], grid.t[: back.steps].flip(0))
    assert (back.sigma > 0).all()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> ct.LatentDiffusion:
    folder = tmp_path_factory.mktemp("invert")
    recipe = diffusion_recipe(autoencoder_artifact(folder / "autoencoder").folder)
    model = ct.load(ct.Trainer(settings(folder / "run", samples=8)).fit(recipe, recipe.train))
    torch.nn.init.normal_(model.network.out[-1].weight, std=0.05, generator=torch.Generator().manual_seed(0))
    return model


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return loader().at(range(3)).images


def test_an_image_comes_back_from_its_noise(model, images):
    options = {"steps": 8, "solver": Heun(), "caption": CAPTIONS}
    noise = invert(model, images, batch_size=2, **options)
    assert noise.shape == (3, *model.latent_shape())
    again, same = model.sample(noise=noise, guidance=CFG(1.0), **options), model.decode(model.encode(images))
    assert (again - same).abs().mean() < 0.02 * same.std()
    other = model.sample(seeds=range(3), guidance=CFG(1.0), **options)
    assert (other - same).abs().mean() > 10 * (again - same).abs().mean()


def test_mistakes_are_told_in_one_line(model, images):
    with pytest.raises(UserError, match="caption: give a list with one value per image, 3 of them"):
        invert(model, images, caption=["a"])
    with pytest.raises(UserError, match="size must be a multiple of 4"):
        invert(model, images[:, :, :, :10])


@pytest.mark.parametrize(
    "solver", [DDPM(), DDIM(eta=1.0), DPMSolver(algorithm="sde_dpm_solver++"), EDMStochastic(churn=1.0)]
)
def test_a_solver_that_adds_noise_is_refused_before_anything_is_computed(model, images, solver, monkeypatch):
    monkeypatch.setattr(model, "encode", None)
    with pytest.raises(ValueError, match=rf"^solver: {type(solver).__name__}.* adds noise.*; take DPMSolver"):
        invert(model, images, solver=solver)
    assert not any(each.stochastic for each in (DDIM(), DPMSolver(), PLMS(), Heun(), EDMStochastic(churn=0.0)))
