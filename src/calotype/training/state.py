"""Everything that a training step changes, as one flat set of tensors: to be saved, and to go back to."""

from collections.abc import Mapping

from torch import Tensor, nn

from calotype.training.ema import MovingAverage
from calotype.training.recipe import Recipe

State = dict[str, Tensor]


def training_state(recipe: Recipe, average: MovingAverage | None = None) -> State:
    """Copy weights, buffers, optimisers and (if given) averages into the CPU's memory."""
    tensors = module_tensors("module", {**recipe.averaged, **recipe.auxiliary}) | optimiser_tensors(recipe)
    if average is not None:
        tensors |= module_tensors("average", average.modules | average.track_modules)
    return {key: tensor.detach().to("cpu", copy=True) for key, tensor in tensors.items()}


def restore_training_state(recipe: Recipe, state: Mapping[str, Tensor], average: MovingAverage | None = None) -> None:
    """Put back, bit for bit, what ``training_state`` copied; ``state`` can be put back again. Gradients are dropped."""
    restore_modules("module", {**recipe.averaged, **recipe.auxiliary}, state)
    if average is not None:
        restore_modules("average", average.modules | average.track_modules, state)
    restore_optimisers(recipe, state)
    for optimiser, _ in recipe.optimisers.values():
        optimiser.zero_grad(set_to_none=True)


def module_tensors(prefix: str, modules: Mapping[str, nn.Module]) -> State:
    """Return the modules' tensors themselves, as ``prefix/module/key``."""
    states = {name: module.state_dict() for name, module in modules.items()}
    return {f"{prefix}/{name}/{key}": value for name, state in states.items() for key, value in state.items()}


def optimiser_tensors(recipe: Recipe) -> State:
    """Return the optimisers' tensors themselves, as ``optimiser/name/index/key``."""
    return {
        f"optimiser/{name}/{index}/{key}": value
        for name, (optimiser, _) in recipe.optimisers.items()
        for index, values in optimiser.state_dict()["state"].items()
        for key, value in values.items()
    }


def restore_modules(prefix: str, modules: Mapping[str, nn.Module], state: Mapping[str, Tensor]) -> None:
    """Copy into the modules what ``module_tensors`` named so."""
    for name, module in modules.items():
        module.load_state_dict(under(f"{prefix}/{name}/", state))


def restore_optimisers(recipe: Recipe, state: Mapping[str, Tensor]) -> None:
    """Copy into the optimisers what ``optimiser_tensors`` named so; those without anything become empty."""
    for name, (optimiser, _) in recipe.optimisers.items():
        found: dict[int, State] = {}
        for key, value in under(f"optimiser/{name}/", state).items():
            index, _, field = key.partition("/")
            found.setdefault(int(index), {})[field] = value.clone()
        optimiser.load_state_dict({"state": found, "param_groups": optimiser.state_dict()["param_groups"]})


def under(prefix: str, tensors: Mapping[str, Tensor]) -> State:
    """Return the tensors whose names begin with ``prefix``, without it."""
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
