from pathlib import Path

import torch

from calotype.encoders import EncodingCache


class Encode:
    """Makes tensors of 4 floats (16 bytes) and counts them."""

    def __init__(self) -> None:
        self.calls: list[list[int]] = []

    def __call__(self, which: list[int]) -> list[torch.Tensor]:
        self.calls.append(which)
        return [torch.full((4,), float(index)) for index in which]


def test_what_is_missing_is_encoded_once_and_in_order() -> None:
    cache, encode = EncodingCache(), Encode()
    first = cache.fetch(["a", "b", "a"], encode)
    assert [float(row[0]) for row in first] == [0, 1, 0]
    assert [float(row[0]) for row in cache.fetch(["c", "b", "a"], encode)] == [0, 1, 0]
    assert encode.calls == [[0, 1], [0]]


def test_the_last_used_stay_in_memory() -> None:
    cache, encode = EncodingCache(max_bytes=32), Encode()
    for keys in (["a", "b"], ["a"], ["c"], ["a"], ["b"]):
        cache.fetch(keys, encode)
        assert cache.bytes <= 32
    assert encode.calls == [[0, 1], [0], [0]], "b made room for c, and was encoded again"


def test_a_folder_keeps_them_all(tmp_path: Path) -> None:
    encode = Encode()
    forgetful = EncodingCache(tmp_path, max_bytes=0)
    forgetful.fetch(["a", "b"], encode)
    forgetful.fetch(["b", "a"], encode)
    EncodingCache(tmp_path).fetch(["c"], encode)
    again = EncodingCache(tmp_path, max_bytes=16)
    assert [float(row[0]) for row in again.fetch(["a", "b", "c"], encode)] == [0, 1, 0]
    assert [float(row[0]) for row in again.fetch(["a", "b", "c"], encode)] == [0, 1, 0]
    assert encode.calls == [[0, 1], [0]]


def test_a_damaged_file_is_encoded_again(tmp_path: Path) -> None:
    encode = Encode()
    EncodingCache(tmp_path).fetch(["a"], encode)
    forgetful = EncodingCache(tmp_path, max_bytes=0)
    for damaged in (lambda: forgetful, lambda: EncodingCache(tmp_path)):
        next(tmp_path.glob("*")).write_bytes(b"half")
        assert float(damaged().fetch(["a"], encode)[0][0]) == 0
    assert len(encode.calls) == 3
    EncodingCache(tmp_path).fetch(["a"], encode)
    assert len(encode.calls) == 3, "the last one mended the file"
