"""Files that are either the old one or the new one, never half of either."""

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from calotype.utils.errors import UserError


def lies_in(path: Path, folder: Path) -> bool:
    """Return whether ``path`` leads to something in ``folder``, its links followed (a loop of links leads nowhere)."""
    try:
        return path.resolve().is_relative_to(folder.resolve())
    except (OSError, RuntimeError):
        return False


@contextlib.contextmanager
def atomic_write(path: Path | str) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; on success sync it and rename it over ``path``, on failure remove it.

    Raises:
        UserError: the disk is full or not writable, with the space that is left.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    except OSError as error:
        raise UserError(_disk_message(path, error)) from error
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        _sync(temporary)
        temporary.chmod(default_mode())
        temporary.replace(path)
        _sync(path.parent)
    except OSError as error:
        raise UserError(_disk_message(path, error)) from error
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_folder(path: Path | str) -> Iterator[Path]:
    """Yield a temporary folder beside ``path``; on success sync its files and rename it to ``path``, a new folder.

    Raises:
        UserError: the disk is full or not writable, with the space that is left.
    """
    path = Path(path)
    temporary = path.parent / f".{path.name}.tmp"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        yield temporary
        for file in temporary.rglob("*"):
            _sync(file)
        _sync(temporary)
        temporary.rename(path)
        _sync(path.parent)
    except OSError as error:
        raise UserError(_disk_message(path, error)) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def remove_litter(folder: Path | str) -> None:
    """Remove what writers that were killed left in ``folder``, which nobody else may be writing to."""
    for path in Path(folder).glob(".*.tmp"):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def write_json(path: Path | str, data: Any) -> None:
    """Write ``data`` as indented JSON, atomically."""
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(data, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def read_json(path: Path | str) -> Any:
    """Read JSON.

    Raises:
        UserError: the file is missing or is not JSON.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path} does not exist") from None
    except (ValueError, OSError) as error:
        raise UserError(f"{path} cannot be read as JSON: {error}") from error


def digest(*parts: bytes | str | Path) -> str:
    """Hash strings, bytes and the contents of files (``Path``) to 32 hexadecimal digits (half of SHA-256)."""
    total = hashlib.sha256()
    for part in parts:
        if isinstance(part, Path):
            with part.open("rb") as file:
                total.update(hashlib.file_digest(file, "sha256").digest())
        else:
            data = part.encode() if isinstance(part, str) else part
            total.update(hashlib.sha256(data).digest())
    return total.hexdigest()[:32]


def _disk_message(path: Path, error: OSError) -> str:
    place = path.parent
    while not place.exists() and place != place.parent:
        place = place.parent
    free = shutil.disk_usage(place).free / 2**20
    return f"cannot write {path}: {error.strerror or error} ({free:.0f} MiB free on that disk)"


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def default_mode() -> int:
    """Return the permissions that a new file gets by the process's umask; temporary files have narrower ones."""
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask
