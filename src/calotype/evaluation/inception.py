"""Inception v3 as the graph of FID has it."""

from collections.abc import Mapping
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from calotype.utils.errors import UserError

CLASSES = 1008
Kernel = int | tuple[int, int] | Literal["fork"]
Chains = Mapping[str, tuple[tuple[int, Kernel], ...]]

_ROW, _COLUMN = (1, 7), (7, 1)
_NARROW: Chains = {
    "branch1x1": ((64, 1),),
    "branch5x5": ((48, 1), (64, 5)),
    "branch3x3dbl": ((64, 1), (96, 3), (96, 3)),
}
_EXPANDED: Chains = {
    "branch1x1": ((320, 1),),
    "branch3x3": ((384, 1), (384, "fork")),
    "branch3x3dbl": ((448, 1), (384, 3), (384, "fork")),
}


class InceptionV3(nn.Module):
    """Inception v3 (arXiv:1512.00567) as FID's graph has it, with torchvision's state-dict keys.

    It differs from torchvision's: averages leave out the padding, the last block takes maxima instead of averages, and
    there are 1008 classes, whose layer (``fc``) is there for its keys alone.
    """

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = BasicConv2d(3, 32, 3, stride=2)
        self.Conv2d_2a_3x3 = BasicConv2d(32, 32, 3, padding="valid")
        self.Conv2d_2b_3x3 = BasicConv2d(32, 64, 3)
        self.Conv2d_3b_1x1 = BasicConv2d(64, 80, 1)
        self.Conv2d_4a_3x3 = BasicConv2d(80, 192, 3, padding="valid")
        for name, channels, pooled in (("5b", 192, 32), ("5c", 256, 64), ("5d", 288, 64)):
            self.add_module(f"Mixed_{name}", Mixed(channels, _NARROW, pooled))
        self.Mixed_6a = Halving(288, {"branch3x3": ((384, 3),), "branch3x3dbl": ((64, 1), (96, 3), (96, 3))})
        for name, width in (("6b", 128), ("6c", 160), ("6d", 160), ("6e", 192)):
            self.add_module(f"Mixed_{name}", Mixed(768, _factorised(width), 192))
        self.Mixed_7a = Halving(
            768, {"branch3x3": ((192, 1), (320, 3)), "branch7x7x3": ((192, 1), (192, _ROW), (192, _COLUMN), (192, 3))}
        )
        self.Mixed_7b = Mixed(1280, _EXPANDED, 192)
        self.Mixed_7c = Mixed(2048, _EXPANDED, 192, pool="max")
        self.fc = nn.Linear(2048, CLASSES)

    def forward(self, x: Float[Tensor, "b 3 299 299"]) -> Float[Tensor, "b 2048"]:
        """Return the features before the classes for images in [-1, 1]."""
        for name, module in self.named_children():
            if name in ("Conv2d_3b_1x1", "Mixed_5b"):
                x = F.max_pool2d(x, 3, stride=2)
            x = x if name == "fc" else module(x)
        return x.mean((2, 3))

    def load(self, state: Mapping[str, Tensor], source: str) -> None:
        """Load weights from ``source``; counters of training batches, which mean nothing here, may be there or not."""
        wanted = self.state_dict()
        counters = {name: value for name, value in wanted.items() if name.endswith("num_batches_tracked")}
        found = {name: value for name, value in state.items() if name not in counters} | counters
        wrong = sorted(name for name in wanted if name not in found or found[name].shape != wanted[name].shape)
        if wrong or found.keys() - wanted.keys():
            named = ", ".join([*wrong, *sorted(found.keys() - wanted.keys())][:5])
            raise UserError(f"{source} does not hold the weights of FID's Inception network: see {named}")
        self.load_state_dict(found)


class BasicConv2d(nn.Module):
    """Convolution without bias, normalisation by running statistics, ReLU; those with a stride are not padded."""

    def __init__(
        self, channels: int, width: int, kernel: int | tuple[int, int], stride: int = 1, padding: str = "same"
    ) -> None:
        super().__init__()
        padding = "valid" if stride > 1 else padding
        self.conv = nn.Conv2d(channels, width, kernel, stride=stride, padding=padding, bias=False)
        self.bn = nn.BatchNorm2d(width, eps=1e-3)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d h2 w2"]:
        """Return the activations."""
        return F.relu(self.bn(self.conv(x)))


class Branches(nn.Module):
    """Chains of convolutions side by side: `branch7x7_1`, `branch7x7_2` ..., or `branch1x1` where there is only one.

    Each is given by the widths and kernels along it. The last has ``last_stride``; a ``"fork"`` is two convolutions of
    the same input, a row and a column of three: `branch3x3_2a` and `branch3x3_2b`.
    """

    def __init__(self, channels: int, chains: Chains, last_stride: int = 1) -> None:
        super().__init__()
        self.chains: list[list[tuple[str, ...]]] = []
        for branch, chain in chains.items():
            before, steps = channels, []
            for position, (width, kernel) in enumerate(chain, start=1):
                name = branch if len(chain) == 1 else f"{branch}_{position}"
                kernels = {f"{name}a": (1, 3), f"{name}b": (3, 1)} if kernel == "fork" else {name: kernel}
                stride = last_stride if position == len(chain) else 1
                for own, shape in kernels.items():
                    self.add_module(own, BasicConv2d(before, width, shape, stride))
                before = width
                steps.append(tuple(kernels))
            self.chains.append(steps)

    def run(self, x: Float[Tensor, "b c h w"]) -> list[Tensor]:
        """Return what the chains make of ``x``."""
        outputs = []
        for steps in self.chains:
            ends = [x]
            for names in steps:
                ends = [self.get_submodule(name)(ends[0]) for name in names]
            outputs += ends
        return outputs


class Mixed(Branches):
    """Branches at one resolution and a 1x1 convolution (`branch_pool`) of 3x3 averages or maxima."""

    def __init__(self, channels: int, chains: Chains, pooled: int, pool: Literal["average", "max"] = "average") -> None:
        super().__init__(channels, chains)
        self.pool = pool
        self.branch_pool = BasicConv2d(channels, pooled, 1)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d h w"]:
        """Return the joined outputs."""
        average = self.pool == "average"
        pooled = F.avg_pool2d(x, 3, 1, 1, count_include_pad=False) if average else F.max_pool2d(x, 3, 1, 1)
        return torch.cat([*self.run(x), self.branch_pool(pooled)], dim=1)


class Halving(Branches):
    """Branches that end with stride 2, and 3x3 maxima with stride 2."""

    def __init__(self, channels: int, chains: Chains) -> None:
        super().__init__(channels, chains, last_stride=2)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d h2 w2"]:
        """Return the joined outputs."""
        return torch.cat([*self.run(x), F.max_pool2d(x, 3, stride=2)], dim=1)


def _factorised(width: int) -> Chains:
    return {
        "branch1x1": ((192, 1),),
        "branch7x7": ((width, 1), (width, _ROW), (192, _COLUMN)),
        "branch7x7dbl": ((width, 1), (width, _COLUMN), (width, _ROW), (width, _COLUMN), (192, _ROW)),
    }
