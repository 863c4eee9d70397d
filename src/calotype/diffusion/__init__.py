"""Diffusion: pure maths over a denoiser. Knows no network, no data and no autoencoder."""

from calotype.diffusion.conditioning import Conditioning
from calotype.diffusion.denoiser import Denoise, Denoiser
from calotype.diffusion.grid import Grid, Spacing
from calotype.diffusion.guidance import CFG
from calotype.diffusion.noise import NoiseSource
from calotype.diffusion.objectives import LogitNormalTimes, Objective, TimeSampling, UniformTimes, q_sample
from calotype.diffusion.prediction import Estimate, Prediction
from calotype.diffusion.schedule import Cosine, Flow, Linear, NoiseSchedule, NoiseSchedules, ScaledLinear, Sqrt
from calotype.diffusion.solve import solve
from calotype.diffusion.solvers import DDIM, DPMSolver, Heun, Solver, Solvers, State

__all__ = [
    "CFG",
    "DDIM",
    "Conditioning",
    "Cosine",
    "DPMSolver",
    "Denoise",
    "Denoiser",
    "Estimate",
    "Flow",
    "Grid",
    "Heun",
    "Linear",
    "LogitNormalTimes",
    "NoiseSchedule",
    "NoiseSchedules",
    "NoiseSource",
    "Objective",
    "Prediction",
    "ScaledLinear",
    "Solver",
    "Solvers",
    "Spacing",
    "Sqrt",
    "State",
    "TimeSampling",
    "UniformTimes",
    "q_sample",
    "solve",
]
