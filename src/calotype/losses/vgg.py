"""LPIPS on VGG16 (arXiv:1801.03924), with the reference's state-dict keys."""

import logging
import pickle
from pathlib import Path

import torch
from jaxtyping import Float
from safetensors.torch import load_file
from torch import Tensor, nn

from calotype.losses.feature_distance import FeatureDistance
from calotype.utils.errors import UserError

TAP_CHANNELS = (64, 128, 256, 512, 512)
_SLICES: tuple[tuple[int | str, ...], ...] = (
    (64, 64),
    ("pool", 128, 128),
    ("pool", 256, 256, 256),
    ("pool", 512, 512, 512),
    ("pool", 512, 512, 512),
)

logger = logging.getLogger(__name__)


class LPIPS(FeatureDistance):
    """Learned perceptual distance over VGG16's relu1_2, 2_2, 3_3, 4_3 and 5_3 (version 0.1 of the authors' weights).

    Keys: `scaling_layer.shift|scale`, `net.sliceK.N.weight|bias` (N counts as in torchvision's ``features``) and
    `linK.model.1.weight`. Freshly built, the network is random and every channel weighs the same, 1/10, which makes the
    distance the mean of ``1 - cos`` over taps and positions.
    """

    smallest_size = 16

    def __init__(self) -> None:
        super().__init__()
        self.scaling_layer = ScalingLayer()
        self.net = VGG16Features()
        for level, channels in enumerate(TAP_CHANNELS):
            self.add_module(f"lin{level}", NetLinLayer(channels))

    def taps(self, images: Float[Tensor, "b 3 h w"]) -> list[Tensor]:
        """Return the five feature maps."""
        return self.net(self.scaling_layer(images))

    def weigh(self, level: int, squares: Float[Tensor, "b c h w"]) -> Float[Tensor, "b 1 h w"]:
        """Combine the channels of tap ``level`` with its learned weights."""
        return self.get_submodule(f"lin{level}")(squares)


class VGG16Features(nn.Module):
    """The convolutions of VGG16 (arXiv:1409.1556) in five slices that end at the taps."""

    def __init__(self) -> None:
        super().__init__()
        channels, position = 3, 0
        for number, layout in enumerate(_SLICES, start=1):
            part = nn.Sequential()
            for width in layout:
                if isinstance(width, str):
                    part.add_module(str(position), nn.MaxPool2d(2))
                    position += 1
                else:
                    part.add_module(str(position), nn.Conv2d(channels, width, 3, padding=1))
                    part.add_module(str(position + 1), nn.ReLU())
                    channels, position = width, position + 2
            self.add_module(f"slice{number}", part)

    def forward(self, x: Float[Tensor, "b 3 h w"]) -> list[Tensor]:
        """Return the maps at strides 1, 2, 4, 8 and 16."""
        maps = []
        for part in self.children():
            x = part(x)
            maps.append(x)
        return maps


class ScalingLayer(nn.Module):
    """Map [-1, 1] to ImageNet's normalised range, in at least float32."""

    shift: Tensor
    scale: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("shift", torch.tensor([-0.030, -0.088, -0.188])[None, :, None, None])
        self.register_buffer("scale", torch.tensor([0.458, 0.448, 0.450])[None, :, None, None])

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
        """Return ``(images - shift) / scale``."""
        return (images - self.shift) / self.scale


class NetLinLayer(nn.Module):
    """A weighted sum over channels, a 1x1 convolution to one channel written out so that autocast leaves it alone.

    The identity stands where the reference has its dropout, which was for training these weights: it keeps their key.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        convolution = nn.Conv2d(channels, 1, 1, bias=False)
        nn.init.constant_(convolution.weight, 1 / (2 * len(TAP_CHANNELS)))
        self.model = nn.Sequential(nn.Identity(), convolution)

    def forward(self, squares: Float[Tensor, "b c h w"]) -> Float[Tensor, "b 1 h w"]:
        """Return the weighted sum."""
        return (self.model.get_parameter("1.weight") * squares).sum(dim=1, keepdim=True)


def load_lpips(weights: str | None, heads: str | None = None, *, download: bool = False) -> LPIPS:
    """Return the frozen distance with weights from local files, or fetched by torchvision where ``download`` is set.

    ``weights`` holds LPIPS's keys (`net.slice1.0.weight`) or torchvision's (`features.0.weight`); the channel weights
    (`lin0.model.1.weight`) come from it or from ``heads``. Where neither has them, every channel weighs the same.

    Raises:
        UserError: no weights are named, or a file is missing, unreadable or lacks keys.
    """
    if weights is not None:
        found = _read(Path(weights))
    elif download:
        found = _download()
    else:
        raise UserError(
            "the vgg16 perceptual loss needs weights: set weights to a file of LPIPS or torchvision's VGG16 weights "
            "(.safetensors or .pth), or download=True"
        )
    found = {_lpips_key(name): tensor for name, tensor in found.items()}
    if heads is not None:
        found |= _read(Path(heads))
    model = LPIPS()
    wanted = model.state_dict()
    optional: tuple[str, ...] = ("scaling_layer",)
    if not any(name.startswith("lin") for name in found):
        logger.warning("no LPIPS channel weights (lin0.model.1.weight ...) given: every channel weighs the same")
        optional += ("lin",)
    state = {name: tensor for name, tensor in wanted.items() if name.startswith(optional)}
    state |= {name: tensor for name, tensor in found.items() if name in wanted}
    wrong = [name for name in wanted if name not in state or state[name].shape != wanted[name].shape]
    if wrong:
        raise UserError(
            f"{weights or 'the weights fetched'}: these LPIPS weights are missing or misshapen: {', '.join(wrong)}"
        )
    model.load_state_dict(state)
    model.freeze()
    return model


def _download() -> dict[str, Tensor]:
    try:
        from torchvision.models import VGG16_Weights
    except (ImportError, RuntimeError) as error:
        raise UserError("fetching VGG16's weights needs a working torchvision; or name a local file") from error
    fetched: dict[str, Tensor] = VGG16_Weights.IMAGENET1K_V1.get_state_dict(check_hash=True, weights_only=True)
    return fetched


def _read(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise UserError(f"the perceptual weights {path} do not exist")
    try:
        state = load_file(path) if path.suffix == ".safetensors" else torch.load(path, "cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError, LookupError) as error:
        reason = str(error).partition("\n")[0]
        raise UserError(f"the perceptual weights {path} cannot be read: {reason}") from error
    if not isinstance(state, dict):
        raise UserError(f"the perceptual weights {path} are not a state dict")
    return state


def _lpips_key(name: str) -> str:
    """Rename torchvision's `features.N.weight` to `net.sliceK.N.weight`; leave other names."""
    if not name.startswith("features."):
        return name
    position = int(name.split(".")[1])
    first_of_slice = (0, 4, 9, 16, 23)
    number = sum(position >= first for first in first_of_slice)
    return f"net.slice{number}.{name.removeprefix('features.')}"
