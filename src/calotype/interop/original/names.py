"""What a pickle may name, and what it must not."""

import sys
from dataclasses import dataclass

import torch

_OLD_MODULES = {"__builtin__": "builtins", "copy_reg": "copyreg", "exceptions": "builtins"}
_DATA_CLASSES = {
    "builtins": "bool bytearray bytes complex dict float frozenset int list object range set slice str tuple",
    "_codecs": "encode",
    "argparse": "Namespace",
    "collections": "Counter OrderedDict defaultdict deque",
    "copyreg": "_reconstructor",
    "datetime": "date datetime time timedelta timezone",
    "decimal": "Decimal",
    "pathlib": "Path PosixPath PurePath PurePosixPath PureWindowsPath WindowsPath",
    "types": "SimpleNamespace",
    "typing": "Any Callable Dict List Optional Sequence Tuple Union",
    "uuid": "UUID",
}
_RUN_CODE = {
    "cloudpickle": "",
    "commands": "",
    "dill": "",
    "distutils": "",
    "imp": "",
    "joblib": "",
    "numpy": "ctypeslib distutils f2py load testing",
    "pandas": "",
    "pip": "",
    "pkg_resources": "",
    "popen2": "",
    "setuptools": "",
    "torch": "_dynamo _inductor fx hub jit load package serialization utils",
}
STORAGES = {
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "DoubleStorage": torch.float64,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}


@dataclass(frozen=True)
class Name:
    """A class or function that a pickle names; it is never looked up."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self._module}.{self.name}"

    @property
    def is_plain(self) -> bool:
        """Whether it is one of Python's own classes that hold data and do nothing."""
        return self.name in _DATA_CLASSES.get(self._module, "").split()

    @property
    def can_run_code(self) -> bool:
        """Whether it belongs to Python's library (but for classes that hold data), or to what loads or runs code.

        Classes of other packages are none of our business: they become stubs.
        """
        root, *parts = str(self).split(".")
        if root in sys.stdlib_module_names:
            return not self.is_plain
        if root in _RUN_CODE and (not _RUN_CODE[root] or parts[0] in _RUN_CODE[root].split()):
            return True
        return any(part.startswith("__") for part in parts)

    @property
    def _module(self) -> str:
        return _OLD_MODULES.get(self.module, self.module)


PLAIN = frozenset(
    {
        Name("collections", "OrderedDict"),
        Name("torch._utils", "_rebuild_parameter"),
        Name("torch._utils", "_rebuild_tensor_v2"),
        *(Name("torch", storage) for storage in STORAGES),
    }
)
"""What the pickle of a state dict names."""
