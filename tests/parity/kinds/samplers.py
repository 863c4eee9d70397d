import torch
from golden_file import Golden
from torch import Tensor

from calotype.diffusion import CFG, DDIM, Conditioning, Denoiser, DPMSolver, Estimate, NoiseSource, ScaledLinear, solve
from calotype.diffusion.solve import Constrain
from kinds import kind

SCHEDULE = ScaledLinear(beta_start=0.0015, beta_end=0.0195)


class Trace:
    """The guided denoiser of the stand-in network, with what it was asked."""

    def __init__(self, golden: Golden) -> None:
        cond, null = (Conditioning(context=golden.inputs.get(name)) for name in ("cond", "uncond"))
        scale = golden.config["guidance_scale"] if null.slots() else None
        self.x: list[Tensor] = []
        self.t: list[Tensor] = []
        self._inner = CFG(scale or 1.0)(Denoiser(_eps, SCHEDULE, "eps"), cond, null)
        self._codebook = golden.state["embedding.weight"] if golden.config["quantize_x0"] else None

    def __call__(self, x_t: Tensor, t: Tensor) -> Estimate:
        self.x.append(x_t)
        self.t.append(t.float().expand(len(x_t)))
        estimate = self._inner(x_t, t)
        if self._codebook is None:
            return estimate
        codes = torch.cdist(estimate.x0.movedim(1, -1), self._codebook).argmin(-1)
        return estimate.with_x0(self._codebook[codes].movedim(-1, 1), keep_eps=True)

    def outputs(self) -> dict[str, Tensor]:
        return {"model_x": torch.stack(self.x), "model_t": torch.stack(self.t)}


class Recorded(NoiseSource):
    """The draws of a golden file, one after another."""

    def __init__(self, draws: Tensor) -> None:
        super().__init__(range(draws.shape[1]))
        self._draws = iter(draws)

    def draw(self, shape, dtype=torch.float32, device="cpu") -> Tensor:
        return next(self._draws).to(device, dtype)


@kind("sampler_ddim")
def ddim(golden: Golden) -> dict[str, Tensor]:
    trace, start = Trace(golden), golden.inputs["x_T"]
    grid, solver = SCHEDULE.grid(golden.config["S"], "reference"), DDIM(eta=golden.config["eta"])
    states = list(solve(trace, start, grid, solver, Recorded(golden.inputs["noise_step"]), _inpainting(golden)))
    return {
        "sample": states[-1].x,
        "x_inter": torch.stack([start, *(state.x for state in states)]),
        "pred_x0": torch.stack([start, *(state.x0 for state in states)]),
        **trace.outputs(),
    }


@kind("sampler_dpmsolver_2m")
def dpm_solver(golden: Golden) -> dict[str, Tensor]:
    trace, steps = Trace(golden), golden.config["S"]
    grid = SCHEDULE.grid_at(torch.linspace(999, 0, steps + 1, dtype=torch.float64), clean=False)
    *_, last = solve(trace, golden.inputs["x_T"], grid, DPMSolver(order=2))
    return {"sample": last.x, **trace.outputs()}


def _eps(x: Tensor, t: Tensor, context: Tensor | None = None) -> Tensor:
    mean = torch.zeros(len(x)) if context is None else context.mean(dim=(1, 2))
    return 0.3 * x + (0.1 * torch.sin(t / 100) + 0.05 * mean).view(-1, 1, 1, 1)


def _inpainting(golden: Golden) -> Constrain | None:
    if "mask" not in golden.inputs:
        return None
    x0, known, noise = golden.inputs["x0"], golden.inputs["mask"], Recorded(golden.inputs["noise_mask_qsample"])
    return lambda x, alpha, sigma: known * (alpha * x0 + sigma * noise.draw(x.shape[1:])) + (1 - known) * x
