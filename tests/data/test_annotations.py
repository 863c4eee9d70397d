from pathlib import Path

import pytest

from calotype.data.annotations import EMPTY, NOT_UTF8, TOO_LONG, read_annotations
from calotype.data.tables import Tables, read_tables

IMAGES = ["a.png", "b/c.jpg", "b/d.png"]


@pytest.fixture
def read(tmp_path: Path):
    def read(files: dict[str, bytes]):
        for name, data in files.items():
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_bytes(data)
        texts = [name for name in files if name.endswith(".txt")]
        tables = read_tables(tmp_path, [name for name in files if name.endswith(".jsonl")])
        return read_annotations(tmp_path, IMAGES, texts, tables)

    return read


def test_side_cars(read):
    found = read({"a.txt": "\ufeff Müller’s oak \n".encode(), "b/c.txt": b"x" * 4096})
    assert found.fields == {"a.png": {"caption": "Müller’s oak"}, "b/c.jpg": {"caption": "x" * 4096}}
    assert found.ignored == []


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", EMPTY),
        (b" \n\t", EMPTY),
        (b"caf\xe9", NOT_UTF8),
        (b"x" * 4097, TOO_LONG),
        (b"x" * 10_000_000, TOO_LONG),
        (b"x" + "é".encode() * 10_000, TOO_LONG),
    ],
)
def test_unusable_side_cars_are_reported(read, data, reason):
    found = read({"a.txt": data})
    assert found.fields == {}
    assert found.ignored == [("a.txt", reason)]
    assert found.captions == {reason: 1}


def test_two_images_of_one_stem_share_a_side_car(tmp_path):
    (tmp_path / "a.txt").write_text("both")
    found = read_annotations(tmp_path, ["a.png", "a.jpg"], ["a.txt"], Tables())
    assert found.fields == {"a.png": {"caption": "both"}, "a.jpg": {"caption": "both"}}


def test_metadata_lines(read):
    found = read(
        {
            "metadata.jsonl": b"\xef\xbb\xbf"
            b'{"file_name": "a.png", "text": "an oak", "year": 1841, "new": true, "x": null}\r\n\n'
            b'{"file_name": "./b/c.jpg", "caption": "fog", "weight": 0.5, "name": "seven"}'
        }
    )
    assert found.fields == {
        "a.png": {"caption": "an oak", "year": 1841, "new": True},
        "b/c.jpg": {"caption": "fog", "weight": 0.5, "name": "seven"},
    }
    assert found.ignored == []


def test_metadata_of_a_sub_folder_is_relative_to_it(read):
    found = read({"b/metadata.jsonl": b'{"file_name": "c.jpg", "text": "here"}'})
    assert found.fields == {"b/c.jpg": {"caption": "here"}}


def test_metadata_wins_over_side_cars(read):
    found = read({"a.txt": b"side-car", "metadata.jsonl": b'{"file_name": "a.png", "text": "table"}'})
    assert found.fields["a.png"] == {"caption": "table"}


def test_bad_lines_are_reported_with_their_number(read):
    bad = [
        b"{",
        b"[1]",
        b'{"text": "no name"}',
        b'{"file_name": 3}',
        b'{"file_name": "a\xff.png"}',
        b"[" * 200_000,
        b'{"file_name": "a.png", "text": "\\ud800"}',
        b'{"file_name": "a.png", "n": ' + b"9" * 5000 + b"}",
    ]
    found = read({"metadata.jsonl": b"\n".join([*bad, b'{"file_name": "a.png", "text": "good"}'])})
    assert found.fields == {"a.png": {"caption": "good"}}
    assert [where for where, _ in found.ignored] == [f"metadata.jsonl:{line}" for line in range(1, len(bad) + 1)]
    assert {reason for _, reason in found.ignored} == {'not a JSON object with a "file_name"', "not UTF-8"}
    assert [where for where, reason in found.ignored if reason == "not UTF-8"] == ["metadata.jsonl:5"]


def test_entries_that_do_not_fit_are_reported(read):
    found = read(
        {
            "metadata.jsonl": b'{"file_name": "gone.png", "text": "x"}\n{"file_name": "../a.png"}\n'
            b'{"file_name": "a.png", "text": 7, "tags": ["x"], "kept": "yes"}\n'
            b'{"file_name": "a.png", "text": "again"}\n'
            b'{"file_name": "b/c.jpg", "text": ""}'
        }
    )
    assert found.fields == {"a.png": {"kept": "yes"}}
    assert found.ignored == [
        ("metadata.jsonl:1", "no readable image 'gone.png'"),
        ("metadata.jsonl:2", "no readable image '../a.png'"),
        ("metadata.jsonl:3", '"text" is not text'),
        ("metadata.jsonl:3", '"tags" is a list, but not of numbers'),
        ("metadata.jsonl:4", "second entry for 'a.png'"),
        ("metadata.jsonl:5", EMPTY),
    ]


def test_a_huge_table_is_not_read(read, monkeypatch):
    monkeypatch.setattr("calotype.data.tables.MAX_METADATA_BYTES", 2**20)
    found = read({"metadata.jsonl": b"\n" * (2**20 + 1)})
    assert found.ignored == [("metadata.jsonl", "larger than 1 MiB")]
