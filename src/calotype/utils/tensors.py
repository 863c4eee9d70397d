"""Named tensors in safetensors files, with errors that the callers of ``utils.files`` and users understand."""

from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from calotype.utils.errors import UserError
from calotype.utils.files import default_mode


def save_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write ``tensors``, from any device and in any layout.

    Raises:
        OSError: the disk is full or not writable; ``utils.files`` turns that into a ``UserError``.
    """
    try:
        save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, path)
        path.chmod(default_mode())
    except SafetensorError as error:
        raise OSError(str(error)) from error


def load_tensors(path: Path) -> dict[str, Tensor]:
    """Read what ``save_tensors`` wrote, to the CPU.

    Raises:
        UserError: the file is missing or damaged.
    """
    try:
        return load_file(path)
    except FileNotFoundError:
        raise UserError(f"{path} is missing") from None
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path} cannot be read: {error}") from None
