"""Solvers: update rules from one node of a grid to the next, one per file."""

from calotype.diffusion.solvers.base import Solver, State
from calotype.diffusion.solvers.ddim import DDIM
from calotype.diffusion.solvers.ddpm import DDPM
from calotype.diffusion.solvers.dpm_solver import DPMSolver
from calotype.diffusion.solvers.edm_stochastic import EDMStochastic
from calotype.diffusion.solvers.euler import Euler
from calotype.diffusion.solvers.heun import Heun
from calotype.diffusion.solvers.plms import PLMS
from calotype.diffusion.solvers.unipc import UniPC

Solvers = DDIM | DDPM | DPMSolver | EDMStochastic | Euler | Heun | PLMS | UniPC

__all__ = [
    "DDIM",
    "DDPM",
    "PLMS",
    "DPMSolver",
    "EDMStochastic",
    "Euler",
    "Heun",
    "Solver",
    "Solvers",
    "State",
    "UniPC",
]
