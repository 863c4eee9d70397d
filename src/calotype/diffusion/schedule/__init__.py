"""Noise schedules: tables of betas, flow, and the noise levels of EDM."""

from calotype.diffusion.schedule.base import NoiseSchedule
from calotype.diffusion.schedule.edm import EDM
from calotype.diffusion.schedule.flow import Flow
from calotype.diffusion.schedule.table import Betas, Cosine, Linear, ScaledLinear, Sqrt
from calotype.diffusion.schedule.zero_terminal_snr import ZeroTerminalSNR

NoiseSchedules = Linear | ScaledLinear | Sqrt | Cosine | Betas | ZeroTerminalSNR | Flow | EDM

__all__ = [
    "EDM",
    "Betas",
    "Cosine",
    "Flow",
    "Linear",
    "NoiseSchedule",
    "NoiseSchedules",
    "ScaledLinear",
    "Sqrt",
    "ZeroTerminalSNR",
]
