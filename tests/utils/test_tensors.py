import stat
from pathlib import Path

import pytest
import torch

from calotype.utils.errors import UserError
from calotype.utils.files import default_mode
from calotype.utils.tensors import load_tensors, save_tensors


def test_round_trip_of_any_layout_and_type(tmp_path: Path) -> None:
    tensors = {
        "conv": torch.randn(2, 3, 4, 4).to(memory_format=torch.channels_last),
        "transposed": torch.arange(6.0, dtype=torch.float64).view(2, 3).T,
        "scalar": torch.tensor(7),
        "half": torch.ones(2, dtype=torch.bfloat16, requires_grad=True),
        "empty": torch.zeros(0, 3),
    }
    save_tensors(tmp_path / "it.safetensors", tensors)
    assert stat.S_IMODE((tmp_path / "it.safetensors").stat().st_mode) == default_mode()
    loaded = load_tensors(tmp_path / "it.safetensors")
    assert loaded.keys() == tensors.keys()
    for key, value in tensors.items():
        assert loaded[key].dtype == value.dtype
        assert torch.equal(loaded[key], value)


def test_every_failure_to_write_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file or directory"):
        save_tensors(tmp_path / "no folder" / "it.safetensors", {"a": torch.zeros(1)})


@pytest.mark.parametrize("contents", [b"", b"abc", b"\x08\x00\x00\x00\x00\x00\x00\x00{}      extra", b"\xff" * 64])
def test_damaged_files_are_told_in_one_line(contents: bytes, tmp_path: Path) -> None:
    path = tmp_path / "it.safetensors"
    path.write_bytes(contents)
    with pytest.raises(UserError, match=r"it.safetensors cannot be read: ") as error:
        load_tensors(path)
    assert "\n" not in str(error.value)


def test_missing_and_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"it.safetensors is missing$"):
        load_tensors(tmp_path / "it.safetensors")
    with pytest.raises(UserError, match="cannot be read"):
        load_tensors(tmp_path)
