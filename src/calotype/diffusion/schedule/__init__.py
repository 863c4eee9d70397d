"""Noise schedules: tables of betas, and flow."""

from calotype.diffusion.schedule.base import NoiseSchedule
from calotype.diffusion.schedule.flow import Flow
from calotype.diffusion.schedule.table import Cosine, Linear, ScaledLinear, Sqrt

NoiseSchedules = Linear | ScaledLinear | Sqrt | Cosine | Flow

__all__ = ["Cosine", "Flow", "Linear", "NoiseSchedule", "NoiseSchedules", "ScaledLinear", "Sqrt"]
