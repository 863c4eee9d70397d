import pytest

from calotype.data.image_set import ImageSet, Record
from calotype.data.pixel_format import PixelFormat
from calotype.data.splits import split
from calotype.utils.errors import UserError


class Names(ImageSet):
    fingerprint = "names"

    def __init__(self, records):
        self.source, self.records, self.pixel_format = "names", tuple(records), PixelFormat()

    def pixels(self, index):
        raise AssertionError("a split looks at no pixel")


def names(count: int) -> Names:
    return Names(Record(f"{i}.png", group=f"{i}.png") for i in range(count))


def held_out(images: ImageSet, **options) -> set[str]:
    train, held = split(images, **options)
    inside, outside = {r.name for r in train.records}, {r.name for r in held.records}
    assert not inside & outside
    assert inside | outside == {record.name for record in images.records}
    return outside


@pytest.mark.parametrize(
    ("count", "low", "high"),
    [(8, 2, 4), (20, 5, 5), (32, 8, 8), (40, 8, 12), (1000, 70, 130), (4000, 340, 460), (20_000, 512, 512)],
)
def test_sizes(count, low, high):
    assert low <= len(held_out(names(count))) <= high


def test_a_pure_function_of_seed_and_names_and_not_of_order():
    images = names(300)
    assert held_out(images) == held_out(Names(reversed(images.records)))
    assert held_out(images) != held_out(images, seed=1)


def test_sets_keep_their_order():
    train, held = split(names(100))
    for part in (train, held):
        numbers = [int(record.name.split(".")[0]) for record in part.records]
        assert numbers == sorted(numbers)


def test_adding_images_moves_no_other():
    small, large = held_out(names(300)), held_out(names(2000))
    assert small == {name for name in large if int(name.split(".")[0]) < 300}


def test_at_the_bounds_an_added_image_moves_at_most_one_other():
    for count, options in ((20, {}), (400, {"maximum": 20})):
        before, after = held_out(names(count), **options), held_out(names(count + 1), **options)
        assert len(before - after) <= 1


def test_groups_stay_together():
    images = Names(Record(f"{i}", group=f"{i // 7}") for i in range(700))
    outside = held_out(images)
    assert 35 <= len(outside) <= 140
    assert all(f"{7 * (int(name) // 7) + j}" in outside for name in outside for j in range(7))


def test_records_without_a_group_stand_alone():
    assert len(held_out(Names(Record(f"{i}") for i in range(40)))) < 20


def test_a_big_group_is_never_the_one_held_out():
    records = [Record(f"{i}", group="big") for i in range(30)] + [Record(f"x{i}", group=f"x{i}") for i in range(4)]
    assert all(name.startswith("x") for name in held_out(Names(records)))


def test_a_single_group_cannot_be_split():
    with pytest.raises(UserError, match="held out"):
        split(Names(Record(f"{i}", group="one") for i in range(30)))
