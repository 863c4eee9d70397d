"""Solvers: update rules from one node of a grid to the next, one per file."""

from calotype.diffusion.solvers.base import Solver, State
from calotype.diffusion.solvers.ddim import DDIM
from calotype.diffusion.solvers.dpm_solver import DPMSolver
from calotype.diffusion.solvers.heun import Heun

Solvers = DDIM | DPMSolver | Heun

__all__ = ["DDIM", "DPMSolver", "Heun", "Solver", "Solvers", "State"]
