import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

import pytest
import torch
from safetensors.torch import save_file
from synthetic import FACTS, FOREIGN, write_checkpoint
from torch import Tensor, nn

from calotype.interop.original import reader
from calotype.interop.original.reader import read_checkpoint
from calotype.utils.errors import UserError

TYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.int64, torch.int32, torch.int16)


def state_dict() -> dict[str, Tensor]:
    """Every type, shared storages, views that are not contiguous, parameters, scalars, empty tensors."""
    generator = torch.Generator().manual_seed(0)
    whole = torch.randn(4, 6, generator=generator)
    typed = {f"typed.{index}": (10 * whole).to(dtype) for index, dtype in enumerate((*TYPES, torch.int8, torch.uint8))}
    return {
        **typed,
        "flags": whole > 0,
        "whole": whole,
        "part": whole[1:3, 2:],
        "turned": whole.T,
        "parameter": nn.Parameter(torch.randn(3, generator=generator)),
        "scalar": torch.tensor(7, dtype=torch.int32),
        "empty": torch.zeros(0, 3),
    }


def same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> bool:
    return list(found) == list(expected) and all(
        tensor.dtype == expected[name].dtype and torch.equal(tensor, expected[name]) for name, tensor in found.items()
    )


def save_safetensors(path: Path) -> None:
    save_file({name: tensor.detach().clone().contiguous() for name, tensor in state_dict().items()}, path)


PLAIN: dict[str, Callable[[Path], object]] = {
    "bare": lambda path: torch.save(state_dict(), path),
    "ordered": lambda path: torch.save(OrderedDict(state_dict()), path),
    "wrapped": lambda path: torch.save({"state_dict": state_dict(), "global_step": 3}, path),
}
OTHERS: dict[str, Callable[[Path], object]] = {
    "lightning": lambda path: write_checkpoint(path, state_dict()),
    "protocol 4": lambda path: write_checkpoint(path, state_dict(), pickle_protocol=4),
    "protocol 5": lambda path: torch.save(state_dict(), path, pickle_protocol=5),
    "before 1.6": lambda path: write_checkpoint(path, state_dict(), _use_new_zipfile_serialization=False),
    "bare before 1.6": lambda path: torch.save(state_dict(), path, _use_new_zipfile_serialization=False),
}


@pytest.mark.parametrize("form", [*PLAIN, *OTHERS])
def test_every_tensor_of_every_form_is_read(form: str, tmp_path: Path) -> None:
    path = tmp_path / "model.ckpt"
    (PLAIN | OTHERS)[form](path)
    found = read_checkpoint(path)
    assert same(found.state, state_dict())
    assert not any(tensor.requires_grad for tensor in found.state.values())


def test_safetensors_are_told_apart_by_their_contents(tmp_path: Path) -> None:
    save_safetensors(tmp_path / "model.ckpt")
    found = read_checkpoint(tmp_path / "model.ckpt").state
    assert found.keys() == state_dict().keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in state_dict().items())


@pytest.mark.parametrize("form", [*PLAIN, *OTHERS])
def test_torch_reads_plain_files_by_weights_only_and_no_others(form: str, tmp_path: Path) -> None:
    path = tmp_path / "model.ckpt"
    (PLAIN | OTHERS)[form](path)
    with patch.object(torch, "load", wraps=torch.load) as load:
        read_checkpoint(path)
    assert [call.kwargs["weights_only"] for call in load.call_args_list] == [True] * (form in PLAIN)


def test_both_readers_agree_and_what_was_left_out_is_named(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "lightning.ckpt", state_dict())
    torch.save(state_dict(), tmp_path / "plain.ckpt")
    found = read_checkpoint(tmp_path / "lightning.ckpt")
    assert same(found.state, read_checkpoint(tmp_path / "plain.ckpt").state)
    assert found.facts == FACTS
    assert set(found.foreign) >= {f"{module}.{name}" for module, names in FOREIGN.items() for name in names}


def test_tensors_are_mapped_not_copied_and_the_file_stays_as_it_is(tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path / "model.ckpt", state_dict())
    before = path.read_bytes()
    found = read_checkpoint(path).state
    assert found["part"].untyped_storage().data_ptr() == found["whole"].untyped_storage().data_ptr()
    found["whole"].zero_()
    assert not found["part"].any()
    assert path.read_bytes() == before


def rewritten(source: Path, target: Path, change: Callable[[str, bytes], bytes | None], compression: int = 0) -> Path:
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w", compression) as new:
        for entry in old.infolist():
            data = change(entry.filename.partition("/")[2], old.read(entry))
            if data is not None:
                new.writestr(entry.filename, data)
    return target


def keep(name: str, data: bytes) -> bytes:
    return data


@pytest.fixture
def lightning(tmp_path: Path) -> Path:
    return write_checkpoint(tmp_path / "whole.ckpt", state_dict())


def test_storages_anywhere_in_the_file_are_read(lightning: Path, tmp_path: Path) -> None:
    moved = read_checkpoint(rewritten(lightning, tmp_path / "moved.ckpt", keep)).state
    assert same(moved, state_dict())
    assert not any(tensor.data_ptr() % tensor.dtype.itemsize for tensor in moved.values())


@pytest.mark.parametrize(
    ("change", "compression", "said"),
    [
        (keep, zipfile.ZIP_DEFLATED, "compressed"),
        (lambda name, data: b"big" if name == "byteorder" else data, 0, "big-endian"),
        (lambda name, data: None if name == "data.pkl" else data, 0, "no data.pkl"),
        (lambda name, data: None if name == "data/0" else data, 0, "'0' is missing"),
        (lambda name, data: data[:-4] if name == "data/0" else data, 0, "not what its pickle says"),
        (lambda name, data: data + b"1234" if name == "data/0" else data, 0, "not what its pickle says"),
        (lambda name, data: data[:-9] if name == "data.pkl" else data, 0, "pickle"),
        (lambda name, data: b"" if name == "data.pkl" else data, 0, "pickle"),
        (lambda name, data: b"\x80\x02}." if name == "data.pkl" else data, 0, "no state dict"),
        (lambda name, data: b"\x80\x02K\x01." if name == "data.pkl" else data, 0, "no state dict"),
        (lambda name, data: b"\x80\x02}X\x01\x00\x00\x00aK\x01s." if name == "data.pkl" else data, 0, "no tensor, 'a'"),
    ],
)
def test_a_damaged_archive_is_refused_in_one_line(
    change: Callable[[str, bytes], bytes | None], compression: int, said: str, lightning: Path, tmp_path: Path
) -> None:
    damaged = rewritten(lightning, tmp_path / "damaged.ckpt", change, compression)
    with pytest.raises(UserError, match=said) as caught:
        read_checkpoint(damaged)
    assert str(damaged) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kept", [0, 3, 4, 50, 3000, -1])
@pytest.mark.parametrize("form", ["lightning", "before 1.6", "bare"])
def test_a_file_that_is_cut_is_refused_in_one_line(kept: int, form: str, tmp_path: Path) -> None:
    path = tmp_path / "cut.ckpt"
    (PLAIN | OTHERS)[form](path)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(UserError, match=r"cut\.ckpt cannot be read: .{8}"):
        read_checkpoint(path)


def test_what_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    (tmp_path / "page.ckpt").write_text("<html>not found</html>")
    with zipfile.ZipFile(tmp_path / "program.ckpt", "w", zipfile.ZIP_DEFLATED) as program:
        for name in ("data.pkl", "constants.pkl", "code/forward.py"):
            program.writestr(f"program/{name}", b"\x80\x02}.")
    for name, said in {
        "page.ckpt": "neither",
        "program.ckpt": "TorchScript",
        "absent.ckpt": "exist",
        ".": "no",
    }.items():
        with pytest.raises(UserError, match=said):
            read_checkpoint(tmp_path / name)


def test_no_way_of_reading_leads_to_pickle() -> None:
    """Neither here nor anywhere else in the package is anything unpickled without restriction."""
    package = Path(reader.__file__).parents[2]
    sources = {path: path.read_text(encoding="utf-8") for path in package.rglob("*.py")}
    assert len(sources) > 100
    for word in (
        "weights_only=False",
        "pickle.Unpickler(",
        "pickle.load",
        "cloudpickle.",
        "dill.",
        "joblib.",
        "import_module(target",
    ):
        assert not [path for path, text in sources.items() if word in text], word
    loads = [line for text in sources.values() for line in text.splitlines() if "torch.load(" in line]
    assert loads
    assert all("weights_only=True" in line for line in loads)
