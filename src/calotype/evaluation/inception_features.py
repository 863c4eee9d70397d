"""The features that FID is defined on, for a local file of their published weights; none come with the package."""

import hashlib
import pickle
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from calotype.encoders.image_features import ImageFeatures
from calotype.evaluation.inception import InceptionV3
from calotype.utils.errors import UserError

PUBLISHED = "6726825d"
SIZE = 299


class InceptionFeatures(ImageFeatures):
    """The 2048 pooled features of the Inception network that FID is defined on (arXiv:1706.08500).

    ``weights`` is a file with the keys and shapes of ``pt_inception-2015-12-05-6726825d.pth``, the weights of the
    original TensorFlow graph as pytorch-fid and torch-fidelity publish them. Images are
    prepared as torch-fidelity does: rounded to 8 bits, resized to 299 x 299 by the bilinear interpolation of
    TensorFlow 1 (``resize_like_tensorflow_1``), then ``(x - 128) / 128``. Whether the file is that one is told by the
    start of its SHA-256: distances on other weights are no FID (``is_of_fid``), and ``short_name`` tells them apart.

    Raises:
        UserError: the file is missing, unreadable, or lacks keys.
    """

    network_name = "Inception"
    width = 2048

    def __init__(self, weights: Path | str, chunk: int = 16) -> None:
        super().__init__()
        self.chunk = chunk
        path = Path(weights)
        state = _read(path)
        with path.open("rb") as file:
            self.sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        self.fingerprint = self.sha256[:32]
        self.is_of_fid = self.sha256.startswith(PUBLISHED)
        self.short_name = "Inception" if self.is_of_fid else f"Inception({self.sha256[:8]})"
        self.network = InceptionV3()
        self.network.load(state, str(path))
        self.freeze()

    @property
    def protocol(self) -> str:
        """How images become features, in a sentence."""
        source = "the published weights 2015-12-05" if self.is_of_fid else "other weights than the published ones"
        return (
            f"Features: 2048 pooled numbers of FID's Inception network, {source} (SHA-256 {self.sha256[:16]}), of "
            "images rounded to 8 bits and resized to 299 x 299 as TensorFlow 1 does (bilinear, without antialiasing)."
        )

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return self.network.fc.weight.device

    def features(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 2048"]:
        """Return the features of float32 images on the module's device."""
        levels = ((images.clamp(-1, 1) + 1) * 127.5).round()
        return self.network((resize_like_tensorflow_1(levels, SIZE) - 128) / 128)


def resize_like_tensorflow_1(images: Float[Tensor, "b c h w"], size: int) -> Float[Tensor, "b c size size"]:
    """Resize as TensorFlow 1's ``ResizeBilinear`` does without aligned corners.

    Output pixel i lies at ``i * h / size`` of the input, not at pixel centres, between pixels ``floor`` of that and the
    next; nothing is averaged in shrinking.
    """
    rows, columns = (_interpolation(n, size).to(images) for n in images.shape[2:])
    return rows @ images @ columns.T


def _interpolation(n: int, size: int) -> Float[Tensor, "size n"]:
    position = torch.arange(size, dtype=torch.float32) * (n / size)
    below = position.floor().long().clamp(max=n - 1)
    share = position - below
    weights = torch.zeros(size, n)
    output = torch.arange(size)
    weights[output, below] += 1 - share
    weights[output, (below + 1).clamp(max=n - 1)] += share
    return weights


def _read(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise UserError(f"the Inception weights {path} do not exist")
    try:
        state = torch.load(path, "cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError, LookupError) as error:
        reason = str(error).partition("\n")[0]
        raise UserError(f"the Inception weights {path} cannot be read: {reason}") from error
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise UserError(f"the Inception weights {path} are not a state dict")
    return state
