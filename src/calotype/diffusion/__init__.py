"""Diffusion: pure maths over a denoiser. Knows no network, no data and no autoencoder."""

from calotype.diffusion.adaptive import solve_adaptively
from calotype.diffusion.conditioning import Conditioning
from calotype.diffusion.denoiser import Denoise, Denoiser, map_x0
from calotype.diffusion.grid import Grid, Spacing
from calotype.diffusion.guidance import CFG, Autoguidance, dynamic_threshold
from calotype.diffusion.importance import ImportanceSampler
from calotype.diffusion.known_region import composite, known_region
from calotype.diffusion.log_variance import FourierLogVarianceConfig, LogVariance, LogVarianceConfig
from calotype.diffusion.loss import HuberLoss, L1Loss, L2Loss
from calotype.diffusion.noise import NoiseSource
from calotype.diffusion.objectives import LossTerms, Objective, q_sample
from calotype.diffusion.prediction import Estimate, Prediction
from calotype.diffusion.schedule import (
    EDM,
    Betas,
    Cosine,
    Flow,
    Linear,
    NoiseSchedule,
    NoiseSchedules,
    ScaledLinear,
    Sqrt,
    ZeroTerminalSNR,
)
from calotype.diffusion.solve import solve
from calotype.diffusion.solvers import (
    DDIM,
    DDPM,
    PLMS,
    DPMSolver,
    EDMStochastic,
    Euler,
    Heun,
    Solver,
    Solvers,
    State,
    UniPC,
)
from calotype.diffusion.times import ImportanceTimes, LogitNormalTimes, LogNormalTimes, TimeSampling, UniformTimes
from calotype.diffusion.variational_bound import bound_weights
from calotype.diffusion.weighting import (
    EDMWeighting,
    ELBOWeighting,
    MinSNRWeighting,
    P2Weighting,
    SimpleWeighting,
    Weighting,
    error_weights,
)

__all__ = [
    "CFG",
    "DDIM",
    "DDPM",
    "EDM",
    "PLMS",
    "Autoguidance",
    "Betas",
    "Conditioning",
    "Cosine",
    "DPMSolver",
    "Denoise",
    "Denoiser",
    "EDMStochastic",
    "EDMWeighting",
    "ELBOWeighting",
    "Estimate",
    "Euler",
    "Flow",
    "FourierLogVarianceConfig",
    "Grid",
    "Heun",
    "HuberLoss",
    "ImportanceSampler",
    "ImportanceTimes",
    "L1Loss",
    "L2Loss",
    "Linear",
    "LogNormalTimes",
    "LogVariance",
    "LogVarianceConfig",
    "LogitNormalTimes",
    "LossTerms",
    "MinSNRWeighting",
    "NoiseSchedule",
    "NoiseSchedules",
    "NoiseSource",
    "Objective",
    "P2Weighting",
    "Prediction",
    "ScaledLinear",
    "SimpleWeighting",
    "Solver",
    "Solvers",
    "Spacing",
    "Sqrt",
    "State",
    "TimeSampling",
    "UniPC",
    "UniformTimes",
    "Weighting",
    "ZeroTerminalSNR",
    "bound_weights",
    "composite",
    "dynamic_threshold",
    "error_weights",
    "known_region",
    "map_x0",
    "q_sample",
    "solve",
    "solve_adaptively",
]
