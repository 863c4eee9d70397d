"""How likely a diffusion model finds data: by its probability-flow ODE, and by the variational bound."""

from calotype.diffusion.likelihood.bound import VariationalBound, variational_bound
from calotype.diffusion.likelihood.discretised import DiscretisedLaplace, DiscretisedNormal, PixelLikelihood
from calotype.diffusion.likelihood.divergence import Divergence, Hutchinson, exact_divergence
from calotype.diffusion.likelihood.probability_flow import bits_per_dim, log_likelihood

__all__ = [
    "DiscretisedLaplace",
    "DiscretisedNormal",
    "Divergence",
    "Hutchinson",
    "PixelLikelihood",
    "VariationalBound",
    "bits_per_dim",
    "exact_divergence",
    "log_likelihood",
    "variational_bound",
]
