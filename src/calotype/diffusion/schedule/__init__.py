"""Noise schedules: tables of betas, and flow."""

from calotype.diffusion.schedule.base import NoiseSchedule
from calotype.diffusion.schedule.flow import Flow
from calotype.diffusion.schedule.table import Betas, Cosine, Linear, ScaledLinear, Sqrt

NoiseSchedules = Linear | ScaledLinear | Sqrt | Cosine | Betas | Flow

__all__ = ["Betas", "Cosine", "Flow", "Linear", "NoiseSchedule", "NoiseSchedules", "ScaledLinear", "Sqrt"]
