from golden_file import Golden
from torch import Tensor

from calotype.models.distributions import DiagonalGaussianDistribution, normal_kl
from kinds import kind


@kind("distributions_diag_gaussian")
def diagonal_gaussian(golden: Golden) -> dict[str, Tensor]:
    deterministic = golden.config.get("deterministic", False)
    posterior = DiagonalGaussianDistribution(golden.inputs["parameters"], deterministic)
    other = DiagonalGaussianDistribution(golden.inputs["parameters_other"])
    third = DiagonalGaussianDistribution(golden.inputs["parameters_third"])
    sample = golden.inputs["nll_sample"]
    found = {
        "mean": posterior.mean,
        "logvar": posterior.logvar,
        "std": posterior.std,
        "var": posterior.var,
        "mode": posterior.mode(),
        "sample": posterior.sample(golden.inputs["noise"]),
        "kl": posterior.kl(),
        "kl_other": posterior.kl(other),
        "nll": posterior.nll(sample),
        "other_kl": other.kl(),
        "other_nll": other.nll(sample),
        "other_nll_dims23": other.nll(sample, dims=(2, 3)),
        "third_kl": third.kl(),
        "third_kl_other": third.kl(other),
        "third_nll": third.nll(sample),
    }
    if deterministic:  # the reference says zero once, we say it for each image
        found |= {name: found[name].unique() for name in ("kl", "kl_other", "nll")}
    return found


@kind("distributions_normal_kl")
def elementwise_kl(golden: Golden) -> dict[str, Tensor]:
    mean1, logvar1, mean2, logvar2 = (golden.inputs[name] for name in ("mean1", "logvar1", "mean2", "logvar2"))
    return {"kl": normal_kl(mean1, logvar1, mean2, logvar2), "kl_std": normal_kl(mean1, logvar1, 0.0, 0.0)}
