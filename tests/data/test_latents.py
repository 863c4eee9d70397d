from pathlib import Path

import pytest
import torch

from calotype.data import latents
from calotype.data.image_set import Record
from calotype.data.latents import LatentLoader, LatentStore, Moments
from calotype.data.order import Order
from calotype.utils.tensors import load_tensors

MEAN, LOGVAR = torch.arange(10 * 4 * 2 * 2, dtype=torch.float32).view(2, 10, 2, 2, 2)
MOMENTS = Moments(MEAN, LOGVAR)


def same(ours: Moments, theirs: Moments) -> bool:
    pairs = ours.tensors(), theirs.tensors()
    return pairs[0].keys() == pairs[1].keys() and all(torch.equal(pairs[0][name], pairs[1][name]) for name in pairs[0])


class Encoder:
    """Returns the moments of the rows it is asked for and remembers these."""

    def __init__(self) -> None:
        self.asked: list[range] = []

    def __call__(self, rows: range) -> Moments:
        self.asked.append(rows)
        return MOMENTS[torch.tensor(rows)]


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LatentStore:
    monkeypatch.setattr(latents, "SHARD", 4)
    return LatentStore(tmp_path, "key", 10)


SHARDS = [range(4), range(4, 8), range(8, 10)]


def test_filling_and_reading(store: LatentStore) -> None:
    encode = Encoder()
    assert store.missing() == SHARDS
    assert list(store.fill(encode)) == [4, 4, 2]
    assert encode.asked == SHARDS
    assert store.missing() == []
    assert same(store.moments(), MOMENTS)
    assert list(store.fill(encode)) == []


def test_filling_goes_on_where_it_stopped(store: LatentStore) -> None:
    first, second = Encoder(), Encoder()
    steps = store.fill(first)
    next(steps)
    with pytest.raises(ValueError, match="key is incomplete: encode it again"):
        store.moments()
    assert list(store.fill(second)) == [4, 2]
    assert second.asked == SHARDS[1:]
    assert same(store.moments(), MOMENTS)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def of_another_length(path: Path) -> None:
    path.write_bytes((path.parent / "00000008.safetensors").read_bytes())


@pytest.mark.parametrize("damage", [Path.unlink, cut, of_another_length, lambda path: path.write_bytes(b"")])
def test_a_damaged_shard_alone_is_encoded_again(damage: object, store: LatentStore) -> None:
    list(store.fill(Encoder()))
    damage(store.folder / "00000004.safetensors")
    again = Encoder()
    list(store.fill(again))
    assert again.asked == [range(4, 8)]
    assert same(store.moments(), MOMENTS)


def test_a_failure_leaves_no_shard(store: LatentStore) -> None:
    def fail(rows: range) -> Moments:
        raise MemoryError

    with pytest.raises(MemoryError):
        list(store.fill(fail))
    assert store.missing() == SHARDS


def test_another_key_or_length_is_another_store(store: LatentStore, tmp_path: Path) -> None:
    list(store.fill(Encoder()))
    assert LatentStore(tmp_path, "other", 10).missing() == SHARDS
    assert LatentStore(tmp_path, "key", 9).missing() == [range(8, 9)]


RECORDS = [Record(str(i), {"caption": f"number {i}"} if i != 3 else {}) for i in range(10)]


def test_batches_follow_the_order(store: LatentStore) -> None:
    loader = LatentLoader(MOMENTS, RECORDS, seed=5)
    batch = loader.batch(8, 4)
    assert batch.indices.tolist() == Order(5, 10).indices(8, 4)
    assert same(batch.moments, MOMENTS[batch.indices])
    assert batch.fields == {"caption": [None if i == 3 else f"number {i}" for i in batch.indices.tolist()]}
    assert len(loader) == 10


def test_rows_are_those_of_the_whole_batch() -> None:
    loader = LatentLoader(MOMENTS, RECORDS)
    whole, parts = loader.batch(4, 6), [loader.batch(4, 6, rows) for rows in (slice(0, 3), slice(3, 6))]
    assert same(whole.moments, Moments.cat([part.moments for part in parts]))
    assert whole.fields["caption"] == [caption for part in parts for caption in part.fields["caption"]]


def test_every_latent_needs_a_record() -> None:
    with pytest.raises(ValueError, match="10 latents for 9 records"):
        LatentLoader(MOMENTS, RECORDS[:9])


def test_sampling() -> None:
    noise = torch.randn(10, 2, 2, 2)
    torch.testing.assert_close(Moments(MEAN, LOGVAR / 9).sample(noise), MEAN + (LOGVAR / 18).exp() * noise)


def test_a_point_has_no_variance_on_disk_either(tmp_path: Path) -> None:
    store = LatentStore(tmp_path, "key", 10)
    list(store.fill(lambda rows: Moments(MEAN[rows.start : rows.stop])))
    assert store.moments().logvar is None
    assert load_tensors(store.folder / "00000000.safetensors").keys() == {"mean"}
    batch = LatentLoader(store.moments(), RECORDS).batch(0, 4)
    assert torch.equal(batch.moments.sample(torch.randn(4, 2, 2, 2)), MEAN[batch.indices])


def test_half_of_the_samples_are_mirrored_by_their_position_alone():
    turned = Moments(MOMENTS.mean + 100, MOMENTS.logvar)
    plain, mixed = LatentLoader(MOMENTS, RECORDS, seed=5), LatentLoader(MOMENTS, RECORDS, 5, turned)
    one, other = plain.batch(0, 200), mixed.batch(0, 200)
    assert torch.equal(one.indices, other.indices)
    moved = (other.moments.mean - one.moments.mean).flatten(1)
    assert set(moved.unique().tolist()) == {0.0, 100.0}
    mirrored = moved[:, 0] == 100
    assert 70 < int(mirrored.sum()) < 130
    assert torch.equal(moved.min(dim=1).values, moved.max(dim=1).values)
    later = mixed.batch(150, 50, slice(10, 20))
    assert torch.equal(later.moments.mean, other.moments.mean[160:170])
    assert torch.equal(mixed.at([1, 2]).moments.mean, MOMENTS.mean[[1, 2]]), "held-out images are seen as they are"
    with pytest.raises(ValueError, match="9 latents for 10 records"):
        LatentLoader(MOMENTS, RECORDS, 5, MOMENTS[torch.arange(9)])
