import errno
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from calotype.utils.errors import UserError
from calotype.utils.files import atomic_folder, atomic_write, digest, read_json, remove_litter, write_json


def write(path: Path, text: str) -> None:
    with atomic_write(path) as temporary:
        temporary.write_text(text)


def test_a_file_appears_whole(tmp_path: Path) -> None:
    path = tmp_path / "new" / "it.txt"
    with atomic_write(path) as temporary:
        temporary.write_text("one")
        assert temporary.parent == path.parent
        assert not path.exists()
    write(path, "two")
    assert path.read_text() == "two"
    assert [child.name for child in path.parent.iterdir()] == ["it.txt"]


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    write(tmp_path / "it.txt", "old")

    def interrupted() -> None:
        with atomic_write(tmp_path / "it.txt") as temporary:
            temporary.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert (tmp_path / "it.txt").read_text() == "old"
    assert [child.name for child in tmp_path.iterdir()] == ["it.txt"]


def test_files_get_the_usual_permissions(tmp_path: Path) -> None:
    former = os.umask(0o027)
    try:
        write(tmp_path / "it.txt", "")
        assert os.umask(0o027) == 0o027
    finally:
        os.umask(former)
    assert stat.S_IMODE((tmp_path / "it.txt").stat().st_mode) == 0o640


@pytest.mark.parametrize("place", ["os.fsync", "pathlib.Path.replace", "tempfile.mkstemp"])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_a_full_disk_is_told_in_one_line(
    place: str, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "it.txt", "old")

    def fail(*_: Any, **__: Any) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(place, fail)
    with pytest.raises(
        UserError, match=rf"^cannot write \S+it.txt: {os.strerror(code)} \(\d+ MiB free on that disk\)$"
    ):
        write(tmp_path / "it.txt", "new")
    monkeypatch.undo()
    assert (tmp_path / "it.txt").read_text() == "old"
    assert [child.name for child in tmp_path.iterdir()] == ["it.txt"]


def test_a_file_where_a_folder_should_be(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"^cannot write .*it.txt: "):
        write(tmp_path / "file" / "it.txt", "")


def test_a_folder_appears_whole(tmp_path: Path) -> None:
    with atomic_folder(tmp_path / "new" / "it") as folder:
        (folder / "a").write_text("a")
        (folder / "inner").mkdir()
        (folder / "inner" / "b").write_text("b")
        assert not (tmp_path / "new" / "it").exists()
    assert (tmp_path / "new" / "it" / "inner" / "b").read_text() == "b"
    assert [child.name for child in (tmp_path / "new").iterdir()] == ["it"]


def test_a_folder_that_fails_is_absent(tmp_path: Path) -> None:
    def broken() -> None:
        with atomic_folder(tmp_path / "it") as folder:
            (folder / "a").write_text("a")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        broken()
    assert list(tmp_path.iterdir()) == []


def test_litter_of_a_killed_writer_is_removed(tmp_path: Path) -> None:
    (tmp_path / ".it.tmp" / "inner").mkdir(parents=True)
    (tmp_path / ".config.json.abc.tmp").touch()
    (tmp_path / ".keep").touch()
    (tmp_path / "own.tmp").touch()
    remove_litter(tmp_path)
    assert {child.name for child in tmp_path.iterdir()} == {".keep", "own.tmp"}
    remove_litter(tmp_path / "not there")


def test_an_old_half_written_folder_is_not_mixed_in(tmp_path: Path) -> None:
    (tmp_path / ".it.tmp").mkdir()
    (tmp_path / ".it.tmp" / "stale").touch()
    with atomic_folder(tmp_path / "it") as folder:
        (folder / "fresh").touch()
    assert [child.name for child in (tmp_path / "it").iterdir()] == ["fresh"]


def test_json_round_trip_and_mistakes(tmp_path: Path) -> None:
    data = {"a": [1, 2.5, None], "ü": "é"}
    write_json(tmp_path / "it.json", data)
    assert read_json(tmp_path / "it.json") == data
    assert "ü" in (tmp_path / "it.json").read_text(encoding="utf-8")
    with pytest.raises(UserError, match=r"none.json does not exist$"):
        read_json(tmp_path / "none.json")
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(UserError, match=r"bad.json cannot be read as JSON") as error:
        read_json(tmp_path / "bad.json")
    assert "\n" not in str(error.value)


def test_digest_depends_on_contents_and_boundaries(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"bytes")
    (tmp_path / "b").write_bytes(b"bytes")
    assert digest(tmp_path / "a") == digest(tmp_path / "b") == digest(b"bytes") == digest("bytes")
    assert len(digest("")) == 32
    assert digest("ab", "c") != digest("a", "bc") != digest("abc")
    assert digest("a", "b") != digest("b", "a")
