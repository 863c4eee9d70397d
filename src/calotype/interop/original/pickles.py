"""Reads a checkpoint's pickle as data: nothing that it names is imported, and nothing is called.

A pickle is a program for a small stack machine. This machine has no operation that calls anything: where the program
asks for one, it gets a tensor's description (for the few functions that rebuild tensors), a dictionary (for
``OrderedDict``), or a ``Stub`` that swallows whatever follows.
"""

import io
import pickletools
import re
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from calotype.interop.original.names import Name
from calotype.interop.original.values import StorageRef, Stub, key_of, make, storage_of

MOST_BYTES, MOST_OPERATIONS = 16 * 2**20, 2_000_000
_LITERALS = {
    operation.name
    for operation in pickletools.opcodes
    if re.fullmatch(r"(SHORT_)?(BIN)?(INT|LONG|FLOAT|STRING|BYTES|UNICODE)\d?", operation.name)
}


@dataclass(frozen=True)
class Unpickled:
    """A pickle's value, the storages that it refers to, and all that it names; objects of unknown classes are stubs."""

    value: Any
    storages: dict[str, StorageRef]
    names: frozenset[Name]
    protocol: int

    @property
    def foreign(self) -> tuple[str, ...]:
        """The classes that are neither Python's nor torch's."""
        others = (name for name in self.names if not name.is_plain and name.module.partition(".")[0] != "torch")
        return tuple(sorted(map(str, others)))


def read_pickle(source: io.BytesIO) -> Unpickled:
    """Read the pickle at the position of ``source``, which is left behind its end.

    Raises:
        ValueError: it is damaged, names something that could run code, or does what no checkpoint does.
    """
    machine = _Machine()
    try:
        for count, (operation, argument, _) in enumerate(pickletools.genops(source)):
            if count >= MOST_OPERATIONS:
                raise ValueError(f"its pickle has more than {MOST_OPERATIONS:,} operations")
            machine.perform(operation.name, argument)
        return Unpickled(machine.pop(), machine.storages, frozenset(machine.names), machine.protocol)
    except (IndexError, KeyError, TypeError, OverflowError, struct.error) as error:
        raise ValueError(f"its pickle is damaged ({type(error).__name__})") from None


class _Machine:
    """The pickle machine's stack, the stacks below its marks, and its memo."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.marks: list[list[Any]] = []
        self.memo: dict[int, Any] = {}
        self.storages: dict[str, StorageRef] = {}
        self.names: set[Name] = set()
        self.protocol = 0

    def perform(self, operation: str, argument: Any) -> None:
        """Do one operation; ``argument`` is what follows it in the pickle."""
        if operation in _OPERATIONS:
            _OPERATIONS[operation](self, argument)
        elif operation in _LITERALS:
            self.push(argument)
        else:
            raise ValueError(f"its pickle uses {operation}, which no checkpoint does")

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def pop(self) -> Any:
        return self.stack.pop()

    def mark(self) -> None:
        self.marks.append(self.stack)
        self.stack = []

    def pop_to_mark(self) -> list[Any]:
        items, self.stack = self.stack, self.marks.pop()
        return items

    def pop_one(self) -> None:
        """Drop the top of the stack, which may be a mark."""
        if self.stack:
            self.pop()
        else:
            self.pop_to_mark()

    def remember(self, index: int | None) -> None:
        self.memo[len(self.memo) if index is None else index] = self.stack[-1]

    def name(self, module: Any, name: Any) -> None:
        if not isinstance(module, str) or not isinstance(name, str):
            raise ValueError("its pickle names a class by something that is not text")
        named = Name(module, name)
        if named.can_run_code:
            raise ValueError(f"it names {str(named)[:80]!r}, which can run code and which no model needs")
        self.names.add(named)
        self.push(named)

    def construct(self, callee: Any, arguments: Any) -> None:
        """Push what stands for ``callee(*arguments)``."""
        if not isinstance(callee, Name | Stub) or not isinstance(arguments, tuple):
            raise ValueError("its pickle calls what is no class")
        self.push(make(callee, arguments))

    def storage(self) -> None:
        storage = storage_of(self.pop())
        if self.storages.setdefault(storage.key, storage) != storage:
            raise ValueError("its pickle describes a storage in two ways")
        self.push(storage)

    def extend(self, target: Any, items: list[Any]) -> None:
        if isinstance(target, list):
            target.extend(items)
        elif not isinstance(target, Stub):
            raise ValueError("its pickle appends to what is no list")

    def set_items(self, target: Any, items: list[Any]) -> None:
        if isinstance(target, dict):
            for key, value in zip(items[::2], items[1::2], strict=True):
                target[key_of(key)] = value
        elif not isinstance(target, Stub):
            raise ValueError("its pickle sets a key of what is no dictionary")

    def make_dict(self, items: list[Any]) -> None:
        result: dict[Any, Any] = {}
        self.set_items(result, items)
        self.push(result)


def _nothing(machine: _Machine, argument: Any) -> None:
    """Do nothing: frames, the end."""


def _construct(machine: _Machine, _: Any) -> None:
    arguments, callee = machine.pop(), machine.pop()
    machine.construct(callee, arguments)


def _construct_with_keywords(machine: _Machine, _: Any) -> None:
    machine.pop()
    _construct(machine, _)


def _construct_marked(machine: _Machine, _: Any) -> None:
    callee, *arguments = machine.pop_to_mark()
    machine.construct(callee, tuple(arguments))


def _construct_named(machine: _Machine, argument: str) -> None:
    arguments = tuple(machine.pop_to_mark())
    machine.name(*argument.split(" ", 1))
    machine.construct(machine.pop(), arguments)


def _name_on_stack(machine: _Machine, _: Any) -> None:
    name, module = machine.pop(), machine.pop()
    machine.name(module, name)


def _pop_into_tuple(count: int) -> Callable[[_Machine, Any], None]:
    return lambda machine, _: machine.push(tuple([machine.pop() for _ in range(count)][::-1]))


_OPERATIONS: dict[str, Callable[[_Machine, Any], None]] = {
    **dict.fromkeys(("FRAME", "STOP"), _nothing),
    "PROTO": lambda machine, number: setattr(machine, "protocol", number),
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"), _Machine.remember),
    **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), lambda machine, index: machine.push(machine.memo[index])),
    **dict.fromkeys(("REDUCE", "NEWOBJ"), _construct),
    **dict.fromkeys(("LIST", "FROZENSET"), lambda machine, _: machine.push(machine.pop_to_mark())),
    **dict.fromkeys(("EMPTY_LIST", "EMPTY_SET"), lambda machine, _: machine.push([])),
    **dict.fromkeys(
        ("APPENDS", "ADDITEMS"), lambda machine, _: machine.extend(machine.marks[-1][-1], machine.pop_to_mark())
    ),
    "NONE": lambda machine, _: machine.push(None),
    "NEWTRUE": lambda machine, _: machine.push(True),
    "NEWFALSE": lambda machine, _: machine.push(False),
    "EMPTY_TUPLE": lambda machine, _: machine.push(()),
    "EMPTY_DICT": lambda machine, _: machine.push({}),
    "TUPLE": lambda machine, _: machine.push(tuple(machine.pop_to_mark())),
    "TUPLE1": _pop_into_tuple(1),
    "TUPLE2": _pop_into_tuple(2),
    "TUPLE3": _pop_into_tuple(3),
    "DICT": lambda machine, _: machine.make_dict(machine.pop_to_mark()),
    "MARK": lambda machine, _: machine.mark(),
    "POP": lambda machine, _: machine.pop_one(),
    "POP_MARK": lambda machine, _: _nothing(machine, machine.pop_to_mark()),
    "DUP": lambda machine, _: machine.push(machine.stack[-1]),
    "APPEND": lambda machine, _: machine.extend(machine.stack[-2], [machine.pop()]),
    "SETITEM": lambda machine, _: machine.set_items(machine.stack[-3], [machine.pop(), machine.pop()][::-1]),
    "SETITEMS": lambda machine, _: machine.set_items(machine.marks[-1][-1], machine.pop_to_mark()),
    "GLOBAL": lambda machine, argument: machine.name(*argument.split(" ", 1)),
    "STACK_GLOBAL": _name_on_stack,
    "NEWOBJ_EX": _construct_with_keywords,
    "INST": _construct_named,
    "OBJ": _construct_marked,
    "BUILD": lambda machine, _: _nothing(machine, machine.pop()),
    "BINPERSID": lambda machine, _: machine.storage(),
}
