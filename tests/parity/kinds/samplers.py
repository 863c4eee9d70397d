from collections.abc import Callable, Sequence
from typing import Any

import torch
from golden_file import Golden
from torch import Tensor

from calotype.diffusion import (
    CFG,
    DDIM,
    DDPM,
    PLMS,
    Conditioning,
    Denoise,
    Denoiser,
    Estimate,
    NoiseSchedule,
    NoiseSource,
    Prediction,
    map_x0,
    q_sample,
    solve,
)
from calotype.diffusion.solve import Constrain
from calotype.models.quantisers import VectorQuantizer2, VectorQuantizer2Config
from calotype.tasks.img2img import add_noise
from kinds import kind
from kinds.schedules import SPACINGS, schedule_of

SLOTS = {1: "label", 2: "vector", 3: "context", 4: "concat"}


def stand_in(x: Tensor, t: Tensor, **slots: Tensor) -> Tensor:
    """The network of the golden files: 0.3 x + 0.1 sin(t / 100) + 0.05 mean(c)."""
    mean = sum((c.flatten(1).float().mean(1) for c in slots.values()), torch.zeros(len(x)))
    return 0.3 * x + (0.1 * torch.sin(t / 100) + 0.05 * mean).view(-1, 1, 1, 1)


class Trace:
    """The guided denoiser of a golden file, with what it was asked."""

    def __init__(
        self,
        golden: Golden,
        schedule: NoiseSchedule,
        prediction: Prediction = "eps",
        network: Callable[..., Tensor] = stand_in,
    ) -> None:
        cond, null = (conditioning(golden.inputs.get(name)) for name in ("cond", "uncond"))
        scale = golden.config.get("guidance_scale") if null.slots() else None
        self.x: list[Tensor] = []
        self.t: list[Tensor] = []
        self._inner = CFG(1.0 if scale is None else scale)(Denoiser(network, schedule, prediction), cond, null)

    def __call__(self, x_t: Tensor, t: Tensor) -> Estimate:
        self.x.append(x_t)
        self.t.append(t.float().expand(len(x_t)))
        return self._inner(x_t, t)

    def outputs(self) -> dict[str, Tensor]:
        return {"model_x": torch.stack(self.x), "model_t": torch.stack(self.t)}


class Recorded(NoiseSource):
    """The draws of a golden file, one after another, or that of the step that ``trace`` is in (not every one draws)."""

    def __init__(self, draws: Tensor, trace: Trace | None = None) -> None:
        super().__init__(range(draws.shape[1]))
        self._draws, self._trace, self._next = draws, trace, 0

    def draw(self, shape: Sequence[int], dtype: torch.dtype = torch.float32, device: Any = "cpu") -> Tensor:
        index = self._next if self._trace is None else len(self._trace.x) - 1
        self._next += 1
        return self._draws[index].to(device, dtype)


def conditioning(value: Tensor | None) -> Conditioning:
    return Conditioning() if value is None else Conditioning(**{SLOTS[value.ndim]: value})


def quantised(denoise: Denoise, golden: Golden) -> Denoise:
    """``denoise`` through the codebook of the golden file, if it is used."""
    if not (golden.config.get("quantize_x0") or golden.config.get("quantize_denoised")):
        return denoise
    codebook = golden.state["embedding.weight"]
    quantiser = VectorQuantizer2(VectorQuantizer2Config(codes=len(codebook)), codebook.shape[1])
    quantiser.load_state_dict(golden.state)
    return map_x0(denoise, lambda x0: quantiser(x0).z, keep_eps=True)


def known_pixels(golden: Golden) -> Constrain | None:
    """What the mask of the golden file keeps."""
    if "mask" not in golden.inputs:
        return None
    x0, known, noise = golden.inputs["x0"], golden.inputs["mask"], Recorded(golden.inputs["noise_mask_qsample"])
    return lambda x, alpha, sigma: known * (alpha * x0 + sigma * noise.draw(x.shape[1:])) + (1 - known) * x


def step_noise(golden: Golden, trace: Trace) -> Recorded | None:
    return Recorded(golden.inputs["noise_step"], trace) if "noise_step" in golden.inputs else None


def logged(values: list[Tensor], golden: Golden) -> list[Tensor]:
    """Those of one value per step that the reference keeps."""
    every = golden.config.get("log_every_t", 1)
    last = len(values) - 1
    return [value for i, value in enumerate(values) if i == 0 or (last - i) % every == 0]


def walk(golden: Golden, solver: DDIM | PLMS) -> dict[str, Tensor]:
    """The reference's DDIMSampler and PLMSSampler."""
    config, start = golden.config, golden.inputs["x_T"]
    schedule = schedule_of(config, 0.0015, 0.0195)
    trace = Trace(golden, schedule)
    grid = schedule.grid(config["S"], SPACINGS[config.get("ddim_discretize", "uniform")])
    noise = step_noise(golden, trace)
    constrain = known_pixels(golden)
    states = list(solve(quantised(trace, golden), start, grid, solver, noise, constrain))
    return {
        "sample": states[-1].x,
        "x_inter": torch.stack([start, *logged([state.x for state in states], golden)]),
        "pred_x0": torch.stack([start, *logged([state.x0 for state in states], golden)]),
        **trace.outputs(),
    }


@kind("sampler_ddim")
def ddim(golden: Golden) -> dict[str, Tensor]:
    return walk(golden, DDIM(eta=golden.config["eta"], temperature=golden.config.get("temperature", 1.0)))


@kind("sampler_plms")
def plms(golden: Golden) -> dict[str, Tensor]:
    return walk(golden, PLMS())


@kind("sampler_ddpm")
def ddpm(golden: Golden) -> dict[str, Tensor]:
    config, start = golden.config, golden.inputs["x_T"]
    pixels = golden.sidecar["reference"].endswith(".DDPM")
    schedule = schedule_of(config) if pixels else schedule_of(config, 0.0015, 0.0195)
    trace = Trace(golden, schedule, config.get("parameterization", "eps"))
    denoise = map_x0(trace, lambda x0: x0.clamp(-1, 1)) if pixels and config.get("clip_denoised", True) else trace
    progressive = config.get("progressive", False)
    solver = DDPM(
        v_posterior=config.get("v_posterior", 0.0), temperature=config.get("temperature", 1.0) if progressive else 1.0
    )
    steps = min(schedule.timesteps, config.get("start_T") or schedule.timesteps)
    grid = schedule.grid(schedule.timesteps).tail(schedule.timesteps - steps)
    noise = step_noise(golden, trace)
    constrain = known_pixels(golden)
    states = list(solve(quantised(denoise, golden), start, grid, solver, noise, constrain, constrain_when="after"))
    kept = logged([state.x0 if progressive else state.x for state in states], golden)
    return {"sample": states[-1].x, "intermediates": torch.stack(kept if progressive else [start, *kept])}


@kind("img2img_encode_decode")
def img2img(golden: Golden) -> dict[str, Tensor]:
    config, given, t = golden.config, golden.inputs, torch.tensor(float(golden.config["t_enc"]))
    schedule = schedule_of(config, 0.0015, 0.0195)
    trace, grid = Trace(golden, schedule), schedule.grid(config["S"], "reference")
    start = grid.steps - config["t_enc"]
    encoded = add_noise(given["x0"], given["noise"], grid, start, noise_at="node_before")
    noise = step_noise(golden, trace)
    *_, last = solve(trace, encoded, grid.tail(start), DDIM(eta=config["eta"]), noise)
    original = q_sample(given["x0"], given["noise"], t, schedule)
    return {"encoded": encoded, "encoded_original": original, "decoded": last.x, **trace.outputs()}
