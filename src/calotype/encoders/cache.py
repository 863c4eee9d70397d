"""What was encoded before: in memory, and in a folder where one is given."""

import logging
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Lock

from safetensors import SafetensorError, safe_open
from torch import Tensor

from calotype.utils.files import atomic_write, digest
from calotype.utils.tensors import save_tensors

log = logging.getLogger(__name__)
MAX_BYTES = 2**31


class EncodingCache:
    """Tensors by a key that names all they depend on: the network, its settings, the content.

    The last used stay in memory, ``max_bytes`` of them. With ``folder`` all of them are kept there too, those of one
    ``fetch`` in one file; processes may share it. What a damaged file held is encoded again. Threads take turns.
    """

    def __init__(self, folder: Path | None = None, max_bytes: int = MAX_BYTES) -> None:
        self.folder, self.max_bytes, self.bytes = folder, max_bytes, 0
        self._memory: OrderedDict[str, Tensor] = OrderedDict()
        self._files: dict[str, Path] = {}
        self._lock = Lock()
        for path in sorted(folder.glob("*.safetensors")) if folder is not None else ():
            self._note(path)

    def fetch(self, keys: Sequence[str], encode: Callable[[list[int]], Sequence[Tensor]]) -> list[Tensor]:
        """Return the tensor of each key; ``encode`` is given the positions of those that are not here, each key once.

        Raises:
            UserError: the folder cannot be written to.
        """
        with self._lock:
            found = {key: tensor for key in dict.fromkeys(keys) if (tensor := self._read(key)) is not None}
            if missing := [key for key in dict.fromkeys(keys) if key not in found]:
                new = dict(zip(missing, encode([keys.index(key) for key in missing]), strict=True))
                self._write(new)
                found.update(new)
            for key, tensor in found.items():
                self._remember(key, tensor)
        return [found[key] for key in keys]

    def _read(self, key: str) -> Tensor | None:
        if key in self._memory:
            return self._memory[key]
        if key not in self._files:
            return None
        try:
            with safe_open(self._files[key], "pt") as file:
                tensor: Tensor = file.get_tensor(key)
                return tensor
        except (SafetensorError, OSError):
            return None

    def _write(self, tensors: dict[str, Tensor]) -> None:
        if self.folder is None:
            return
        path = self.folder / f"{digest(*tensors)}.safetensors"
        with atomic_write(path) as temporary:
            save_tensors(temporary, tensors)
        self._files.update(dict.fromkeys(tensors, path))

    def _note(self, path: Path) -> None:
        try:
            with safe_open(path, "pt") as file:
                self._files.update(dict.fromkeys(file.keys(), path))
        except (SafetensorError, OSError) as error:
            log.warning("%s cannot be read, what it held is encoded again: %s", path, error)

    def _remember(self, key: str, tensor: Tensor) -> None:
        old = self._memory.pop(key, None)
        self.bytes += tensor.nbytes - (0 if old is None else old.nbytes)
        self._memory[key] = tensor
        while self.bytes > self.max_bytes:
            _, dropped = self._memory.popitem(last=False)
            self.bytes -= dropped.nbytes
