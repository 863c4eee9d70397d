"""Solvers: update rules from one node of a grid to the next, one per file."""

from calotype.diffusion.solvers.base import Solver, State
from calotype.diffusion.solvers.ddim import DDIM
from calotype.diffusion.solvers.ddpm import DDPM
from calotype.diffusion.solvers.dpm_solver import DPMSolver
from calotype.diffusion.solvers.heun import Heun
from calotype.diffusion.solvers.plms import PLMS

Solvers = DDIM | DDPM | DPMSolver | Heun | PLMS

__all__ = ["DDIM", "DDPM", "PLMS", "DPMSolver", "Heun", "Solver", "Solvers", "State"]
