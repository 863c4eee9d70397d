import ctypes
import functools
import importlib
import io
import operator
import os
import pickle
import pickletools
import resource
import runpy
import shutil
import socket
import struct
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from synthetic import write_checkpoint

from calotype.interop.original import archive, pickles
from calotype.interop.original.reader import read_checkpoint
from calotype.utils.errors import UserError

STATE = {"weight": torch.ones(2, 3), "bias": torch.zeros(3)}
SCRIPT = "open({!r}, 'w').write('here')"


class Calls:
    """An object that, unpickled, calls ``function(*arguments)``."""

    def __init__(self, function: Callable[..., Any], *arguments: Any, state: Any = None) -> None:
        self.parts = (function, arguments) if state is None else (function, arguments, state)

    def __reduce__(self) -> tuple[Any, ...]:
        return self.parts


def payloads(canary: str) -> dict[str, Any]:
    """Objects that would leave ``canary`` behind, or that stand at the beginning of a way to it."""
    shell, script = f"touch {canary}", SCRIPT.format(canary)
    return {
        "os.system": Calls(os.system, shell),
        "subprocess.Popen": Calls(subprocess.Popen, ["touch", canary]),
        "subprocess.run": Calls(subprocess.run, ["touch", canary]),
        "os.execv": Calls(os.execv, "/bin/touch", ["touch", canary]),
        "os.mkdir": Calls(os.mkdir, canary),
        "eval": Calls(eval, script),
        "exec": Calls(exec, script),
        "compile": Calls(compile, script, "x", "exec"),
        "import": Calls(__import__, "os"),
        "open": Calls(open, canary, "w"),
        "getattr": Calls(getattr, Calls(__import__, "os"), "system"),
        "setattr": Calls(setattr, dict, "x", 1),
        "map": Calls(map, os.system, [shell]),
        "import_module": Calls(importlib.import_module, "antigravity"),
        "run_path": Calls(runpy.run_path, canary),
        "rmtree": Calls(shutil.rmtree, canary),
        "copyfile": Calls(shutil.copyfile, "/etc/hostname", canary),
        "socket": Calls(socket.create_connection, ("127.0.0.1", 9)),
        "partial": Calls(functools.partial, os.system, shell),
        "attrgetter": operator.attrgetter("system"),
        "methodcaller": operator.methodcaller("system", shell),
        "reduce": Calls(functools.reduce, os.system, [shell]),
        "library": Calls(ctypes.CDLL, "libc.so.6"),
        "pickle.loads": Calls(pickle.loads, pickle.dumps(Calls(os.system, shell))),
        "torch.load": Calls(torch.load, canary),
        "torch.hub": Calls(torch.hub.load_state_dict_from_url, "http://127.0.0.1:9/x"),
        "torch.jit.load": Calls(torch.jit.load, canary),
        "in arguments": Calls(dict, [("x", Calls(os.system, shell))]),
        "in a state": Calls(dict, state={"x": Calls(os.system, shell)}),
        "in a key": {(1, Calls(tuple, [Calls(os.system, shell)])): 2},
        "sys.exit": Calls(sys.exit, 3),
    }


NAMES = payloads("x")
PLACES: dict[str, Callable[[Any], Any]] = {
    "in the state dict": lambda payload: {"state_dict": STATE | {"x": payload}},
    "beside the state dict": lambda payload: {"callbacks": {"x": [payload]}, "state_dict": STATE},
    "alone": lambda payload: payload,
}


def refused(path: Path) -> str:
    """What is said about the file, in one line and at once."""
    start = time.perf_counter()
    with pytest.raises(UserError) as caught:
        read_checkpoint(path)
    message = str(caught.value)
    assert message.startswith(f"{path} cannot be read: ")
    assert len(message.removeprefix(str(path))) < 250
    assert "\n" not in message
    assert time.perf_counter() - start < 10  # on a busy machine, with every type checked
    return message


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("name", NAMES)
def test_a_crafted_checkpoint_leaves_no_trace(name: str, place: str, tmp_path: Path) -> None:
    canary, path = tmp_path / "canary", tmp_path / "model.ckpt"
    forms: list[dict[str, Any]] = [{}, {"_use_new_zipfile_serialization": False}, {"pickle_protocol": 4}]
    for form in forms:
        torch.save(PLACES[place](payloads(str(canary))[name]), path, **form)
        modules, environment = set(sys.modules), dict(os.environ)
        assert "can run code" in refused(path)
        assert not canary.exists()
        assert set(sys.modules) == modules
        assert dict(os.environ) == environment


def write_pickle(path: Path, data: bytes, storage: bytes = bytes(24)) -> Path:
    """Write a checkpoint with this pickle and one storage, ``0``."""
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("archive/data.pkl", data)
        file.writestr("archive/data/0", storage)
    return path


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def number(value: int) -> bytes:
    data = value.to_bytes(16, "little", signed=True)
    return b"\x8a\x10" + data


def tuple_of(*items: bytes) -> bytes:
    return b"(" + b"".join(items) + b"t"


def storage(count: int = 6, kind: bytes = b"ctorch\nFloatStorage\n", word: str = "storage", key: str = "0") -> bytes:
    return tuple_of(text(word), kind, text(key), text("cpu"), number(count)) + b"Q"


def tensor(
    size: tuple[int, ...] = (2, 3), stride: tuple[int, ...] = (3, 1), offset: int = 0, of: bytes | None = None
) -> bytes:
    shape = tuple_of(*map(number, size)), tuple_of(*map(number, stride))
    arguments = tuple_of(storage() if of is None else of, number(offset), *shape, b"\x89", b"}")
    return b"ctorch._utils\n_rebuild_tensor_v2\n" + arguments + b"R"


THING = text("x") + b"ctrainer\nThing\n)R"


def state_of(*values: bytes) -> bytes:
    """A pickle of a state dict with these values, and a stub beside it so that our reader reads it."""
    items = b"".join(text(str(index)) + value for index, value in enumerate(values))
    return b"\x80\x02}(" + text("state_dict") + b"}(" + items + b"u" + THING + b"u."


def test_hand_made_pickles_are_read(tmp_path: Path) -> None:
    """The tools of the next test make good files, too."""
    state = read_checkpoint(write_pickle(tmp_path / "good.ckpt", state_of(tensor(), tensor((6,), (1,))))).state
    assert {name: tuple(value.shape) for name, value in state.items()} == {"0": (2, 3), "1": (6,)}


def nested_tuples(depth: int) -> bytes:
    """((((), ()), ((), ())), ...): two to the power of ``depth`` parts, in three bytes a level."""
    return b")" + b"2\x86" * depth


HOSTILE = {
    "eval by INST": state_of(b"(" + text("1") + b"ibuiltins\neval\n"),
    "eval by OBJ": state_of(b"(cbuiltins\neval\n" + text("1") + b"o"),
    "eval of Python 2": state_of(b"c__builtin__\neval\n" + tuple_of(text("1")) + b"R"),
    "eval by STACK_GLOBAL": state_of(text("builtins") + text("eval") + b"\x93" + tuple_of(text("1")) + b"R"),
    "eval by NEWOBJ": state_of(b"cbuiltins\neval\n" + tuple_of(text("1")) + b"\x81"),
    "eval by NEWOBJ_EX": state_of(b"cbuiltins\neval\n" + tuple_of(text("1")) + b"}\x92"),
    "an attribute of a tensor's maker": state_of(b"ctorch._utils\n_rebuild_tensor_v2.__globals__\n)R"),
    "posix": state_of(b"cposix\nsystem\n" + tuple_of(text("true")) + b"R"),
    "nt": state_of(b"cnt\nsystem\n" + tuple_of(text("true")) + b"R"),
    "pip": state_of(b"cpip._internal\nmain\n" + tuple_of(text("install")) + b"R"),
    "numpy's runner": state_of(b"cnumpy.testing._private.utils\nrunstring\n" + tuple_of(text("1"), b"}") + b"R"),
    "torch's compiler": state_of(b"ctorch.utils.cpp_extension\nload_inline\n)R"),
    "extension codes": state_of(b"\x82\x01"),
    "a buffer from outside": state_of(b"\x97"),
    "a call of text": state_of(text("eval") + b")R"),
    "a call of a tensor": state_of(tensor() + b")R"),
    "a name that is no text": state_of(b"K\x01K\x02\x93"),
    "a stub as a tensor": state_of(b"ctrainer\nThing\n)R"),
    "a class as a tensor": state_of(b"ctrainer\nThing\n"),
    "a tensor of text": state_of(tensor(of=text("storage"))),
    "appending to text": state_of(text("x") + b"(K\x01e"),
    "keys of a list": state_of(b"](K\x01K\x02u"),
    "half a pair": state_of(b"}(K\x01u"),
    "a key that cannot be one": state_of(b"}]K\x01s"),
    "itself as key": b"\x80\x02}q\x00h\x00K\x01s.",
    "nested keys": state_of(b"}" + nested_tuples(60) + b"K\x01s"),
    "nested keys of an ordered one": state_of(
        b"ccollections\nOrderedDict\n" + tuple_of(b"]" + nested_tuples(60) + b"K\x01\x86a") + b"R"
    ),
    "no end": state_of(tensor())[:-1],
    "nothing at the end": b"\x80\x02}0.",
    "a mark too few": b"\x80\x02}u.",
    "an unknown memory": state_of(b"h\x07"),
    "text longer than the file": state_of(b"\x8d" + struct.pack("<Q", 2**60)),
    "bytes longer than the file": state_of(b"\x8e" + struct.pack("<Q", 2**40)),
    "a number longer than the file": state_of(b"\x8b" + struct.pack("<i", 2**30)),
    "a number of a million digits": state_of(b"I" + b"9" * 1_000_000 + b"\n"),
    "a huge shape": state_of(tensor((2**40, 2**40), (1, 1))),
    "a shape beyond every number": state_of(tensor((2**62, 2**62, 2**62), (1, 1, 1))),
    "a shape that repeats": state_of(tensor((10**9,), (0,))),
    "a shape beyond the storage": state_of(tensor((3, 3))),
    "strides beyond the storage": state_of(tensor((2, 3), (100, 1))),
    "an offset beyond the storage": state_of(tensor(offset=1)),
    "an offset before the storage": state_of(tensor(offset=-1)),
    "negative sizes": state_of(tensor((-2, -3))),
    "negative strides": state_of(tensor(stride=(-3, -1))),
    "fewer strides than sizes": state_of(tensor(stride=(1,))),
    "very many dimensions": state_of(tensor((1,) * 65, (1,) * 65)),
    "a storage larger than its record": state_of(tensor(of=storage(10**12))),
    "a storage smaller than its record": state_of(tensor((2,), (1,), of=storage(2))),
    "a negative storage": state_of(tensor((0,), (1,), of=storage(-6))),
    "a storage in two ways": state_of(tensor(), tensor((3,), (1,), of=storage(3, b"ctorch\nDoubleStorage\n"))),
    "a storage that is not there": state_of(tensor(of=storage(key="1"))),
    "a storage by a path": state_of(tensor(of=storage(key="../../data/0"))),
    "a storage of something": state_of(tensor(of=storage(kind=b"ctorch\nQInt8Storage\n"))),
    "a storage of a foreign class": state_of(tensor(of=storage(kind=b"ctrainer\nFloatStorage\n"))),
    "no storage": state_of(tensor(of=storage(word="module"))),
    "a tensor of another class": state_of(b"ctorch._tensor\n_rebuild_from_type_v2\n" + tuple_of(b"NNNN") + b"R"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_pickle_is_refused_in_one_line(name: str, tmp_path: Path) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    refused(write_pickle(tmp_path / "model.ckpt", HOSTILE[name]))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 512 * 2**10


@pytest.mark.parametrize("name", [name for name in HOSTILE if THING in HOSTILE[name]])
def test_nor_does_it_reach_torch_without_a_foreign_class(name: str, tmp_path: Path) -> None:
    """The same without the stub that makes our reader read the file: torch does not see it."""
    refused(write_pickle(tmp_path / "model.ckpt", HOSTILE[name].replace(THING, b"")))


def test_a_program_without_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pickles, "MOST_OPERATIONS", 1000)
    path = write_pickle(tmp_path / "model.ckpt", b"\x80\x02" + b"}0" * 500 + b"}.")
    assert "more than 1,000 operations" in refused(path)
    monkeypatch.setattr(archive, "MOST_BYTES", 1000)
    assert "more than 1,000 bytes" in refused(path)


def test_what_is_put_onto_stubs_is_lost(tmp_path: Path) -> None:
    """Items, attributes and states that a pickle gives to objects of unknown classes go nowhere."""
    thing = b"ctrainer\nThing\n)R"
    given = thing + b"(" + text("k") + b"K\x01u" + b"(K\x01e" + b"}" + text("__class__") + b"ctrainer\nEvil\nsb"
    pickled = b"\x80\x02}(" + text("state_dict") + b"}" + text("w") + tensor() + b"s" + text("x") + given + b"u."
    found = read_checkpoint(write_pickle(tmp_path / "model.ckpt", pickled))
    assert torch.equal(found.state["w"], torch.zeros(2, 3))
    assert found.foreign == ("trainer.Evil", "trainer.Thing")


def test_an_archive_within_is_not_opened(tmp_path: Path) -> None:
    inner = io.BytesIO()
    torch.save({"x": Calls(os.system, "true")}, inner)
    with zipfile.ZipFile(tmp_path / "model.ckpt", "w") as file:
        file.writestr("archive/inner.ckpt", inner.getvalue())
    assert "no data.pkl" in refused(tmp_path / "model.ckpt")


def test_damaged_files_are_read_or_refused(tmp_path: Path) -> None:
    """In a process of its own, which must live to the end."""
    command = [sys.executable, str(Path(__file__).parent / "fuzz.py"), str(tmp_path), "150"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.count("150 files") == 4


def test_the_lightning_checkpoint_of_these_tests_is_not_harmless_by_chance(tmp_path: Path) -> None:
    """It names classes that are not there, and operations of every kind."""
    path = write_checkpoint(tmp_path / "model.ckpt", STATE)
    with zipfile.ZipFile(path) as file:
        data = file.read("model/data.pkl")
    assert b"omegaconf.dictconfig\nDictConfig" in data
    assert {"BUILD", "NEWOBJ", "REDUCE", "APPENDS", "SETITEMS"} <= {
        name.name for name, _, _ in pickletools.genops(data)
    }
    with pytest.raises(ModuleNotFoundError):
        torch.load(path, weights_only=False)
