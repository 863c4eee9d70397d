"""The container of a checkpoint: a zip archive that ``torch.save`` wrote (1.6 or newer), or the format before it."""

import io
import struct
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from calotype.interop.original.pickles import MOST_BYTES, read_pickle
from calotype.interop.original.values import StorageRef, TensorRef

ZIP_START = b"PK\x03\x04"
_LOCAL_HEADER = struct.Struct("<26xHH")
_LEGACY_MAGIC, _LEGACY_PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
LEGACY_START = b"\x80\x02\x8a\x0a" + _LEGACY_MAGIC.to_bytes(10, "little")


@dataclass(frozen=True)
class Archive:
    """A file's pickle, and where in the file each storage lies: first byte and number of bytes."""

    path: Path
    pickle: bytes
    storages: Mapping[str, tuple[int, int]]

    def tensors(self, references: Mapping[str, TensorRef]) -> dict[str, Tensor]:
        """Map tensors from the file; their numbers are read when they are used.

        Raises:
            ValueError: a storage is not in the file, or not as large as the pickle says.
        """
        file = torch.UntypedStorage.from_file(str(self.path), False, self.path.stat().st_size)
        assert isinstance(file, torch.UntypedStorage)
        return {name: self._tensor(file, reference) for name, reference in references.items()}

    def _tensor(self, file: torch.UntypedStorage, reference: TensorRef) -> Tensor:
        start, length = self._place(reference.storage)
        storage = file[start : start + length]
        if start % reference.storage.dtype.itemsize:
            storage = storage.clone()
        empty = torch.empty(0, dtype=reference.storage.dtype, device="cpu")
        return empty.set_(storage, reference.offset, reference.size, reference.stride)

    def _place(self, storage: StorageRef) -> tuple[int, int]:
        if storage.key not in self.storages:
            raise ValueError(f"its storage {storage.key[:40]!r} is missing")
        start, length = self.storages[storage.key]
        if length != storage.count * storage.dtype.itemsize:
            raise ValueError(f"its storage {storage.key[:40]!r} has {length} bytes, which is not what its pickle says")
        return start, length


def open_zip(path: Path) -> Archive:
    """Open a zip archive.

    Raises:
        ValueError: it is damaged, or holds something else than a checkpoint.
    """
    try:
        with zipfile.ZipFile(path) as archive, path.open("rb") as file:
            prefix = _prefix(archive.namelist())
            places = _places(file, archive.infolist(), path.stat().st_size)
            if sum(places.get(f"{prefix}{name}", (0, 0))[1] for name in ("data.pkl", "byteorder")) > MOST_BYTES:
                raise ValueError(f"its pickle has more than {MOST_BYTES:,} bytes")
            if f"{prefix}byteorder" in places and archive.read(f"{prefix}byteorder") != b"little":
                raise ValueError("it was written on a big-endian machine")
            pickle = archive.read(f"{prefix}data.pkl")
    except (zipfile.BadZipFile, EOFError, NotImplementedError, OSError, RuntimeError, struct.error) as error:
        raise ValueError(f"its zip archive is damaged ({error})") from None
    folder = f"{prefix}data/"
    storages = {name.removeprefix(folder): place for name, place in places.items() if name.startswith(folder)}
    return Archive(path, pickle, storages)


def _places(file: io.BufferedReader, entries: list[zipfile.ZipInfo], size: int) -> dict[str, tuple[int, int]]:
    """Return first byte and length of every entry's contents: behind its local header, name and extra field."""
    places = {}
    for entry in entries:
        if entry.compress_type != zipfile.ZIP_STORED or entry.file_size != entry.compress_size:
            raise ValueError("its zip archive is compressed, which `torch.save` never does")
        file.seek(entry.header_offset)
        header = file.read(_LOCAL_HEADER.size)
        if not header.startswith(ZIP_START):
            raise ValueError("its zip archive is damaged (an entry has no header)")
        start = entry.header_offset + _LOCAL_HEADER.size + sum(_LOCAL_HEADER.unpack(header))
        if start + entry.file_size > size:
            raise ValueError("its zip archive is cut short")
        if entry.filename in places:
            raise ValueError("its zip archive holds a name twice")
        places[entry.filename] = start, entry.file_size
    return places


def _prefix(names: list[str]) -> str:
    """Return the folder that holds everything, as in ``archive/data.pkl``."""
    pickles = [name for name in names if name.count("/") == 1 and name.endswith("/data.pkl")]
    if len(pickles) != 1:
        raise ValueError("its zip archive holds no data.pkl: `torch.save` did not write it")
    prefix = pickles[0].removesuffix("data.pkl")
    if f"{prefix}constants.pkl" in names:
        raise ValueError("it is a TorchScript program, not a checkpoint")
    return prefix


def open_legacy(path: Path) -> Archive:
    """Open a file of the format before torch 1.6: five pickles, then each storage behind its number of elements.

    Raises:
        ValueError: it is damaged.
    """
    with path.open("rb") as file:
        head = io.BytesIO(file.read(MOST_BYTES))
    magic, protocol, system = (read_pickle(head).value for _ in range(3))
    if (magic, protocol) != (_LEGACY_MAGIC, _LEGACY_PROTOCOL):
        raise ValueError("it is of an unknown old format")
    if not isinstance(system, dict) or system.get("little_endian") is not True:
        raise ValueError("it was written on a big-endian machine")
    start = head.tell()
    storages = read_pickle(head).storages
    pickle = head.getvalue()[start : head.tell()]
    keys, end, places = read_pickle(head).value, head.tell(), {}
    for key in keys if isinstance(keys, list) else ():
        if key not in storages:
            raise ValueError("it holds a storage that its pickle does not know")
        length = storages[key].count * storages[key].dtype.itemsize
        places[key] = end + 8, length
        end += 8 + length
    if end > path.stat().st_size:
        raise ValueError("it is cut short")
    return Archive(path, pickle, places)
