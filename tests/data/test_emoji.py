import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
import torch

from calotype.data.emoji import (
    EMBEDDED,
    SIZE,
    STYLES,
    EmojiSet,
    EmojiSplits,
    _lost_style,
    concept_group,
    emoji,
    emoji_source,
)
from calotype.data.image_set import Record
from calotype.utils.errors import UserError


def records(splits: EmojiSplits) -> list[Record]:
    return [record for part in splits for record in part.records]


def names(part: EmojiSet) -> set[str]:
    return {record.name for record in part.records}


@pytest.fixture(scope="module")
def splits() -> EmojiSplits:
    return emoji()


def test_every_style_has_its_images(splits: EmojiSplits) -> None:
    counts = Counter(record.fields["style"] for record in records(splits))
    assert counts == {"3d": 1376, "flat": 1363, "noto": 1412}
    assert len({record.name for record in records(splits)}) == counts.total() == 4151


def test_about_one_group_in_twenty_is_held_out_and_one_loses_a_style(splits: EmojiSplits) -> None:
    groups = {record.group for record in records(splits)}
    unseen = {record.group for record in splits.held_out_concepts.records}
    lost = {record.group for record in splits.held_out_pairs.records}
    assert 0.04 < len(unseen) / len(groups) < 0.07
    assert 0.04 < len(lost) / len(groups - unseen) < 0.07


def test_a_held_out_concept_is_in_no_other_split(splits: EmojiSplits) -> None:
    unseen = {record.group for record in splits.held_out_concepts.records}
    assert unseen.isdisjoint(record.group for record in splits.train.records + splits.held_out_pairs.records)


def test_a_held_out_pair_is_new_as_a_pair_and_known_in_parts(splits: EmojiSplits) -> None:
    seen_pairs = {(record.group, record.fields["style"]) for record in splits.train.records}
    seen_concepts = {record.fields["hexcode"] for record in splits.train.records}
    assert {record.fields["style"] for record in splits.held_out_pairs.records} == set(STYLES)
    for record in splits.held_out_pairs.records:
        assert (record.group, record.fields["style"]) not in seen_pairs
        assert record.fields["hexcode"] in seen_concepts


def test_a_style_that_some_member_has_alone_is_never_lost() -> None:
    members = [{"3d", "flat", "noto"}, {"noto"}]
    lost = Counter(_lost_style(f"group {number}", members) for number in range(400))
    assert set(lost) == {None, "3d", "flat"}


@pytest.mark.parametrize("style", STYLES)
def test_no_near_duplicate_crosses_from_training_to_a_held_out_set(splits: EmojiSplits, style: str) -> None:
    def small(part: EmojiSet) -> torch.Tensor:
        chosen = [index for index, record in enumerate(part.records) if record.fields["style"] == style]
        images = torch.from_numpy(np.stack([part.pixels(index) for index in chosen])).float() / 255
        return torch.nn.functional.avg_pool2d(images.permute(0, 3, 1, 2), 2).flatten(1)

    held_out = torch.cat([small(splits.held_out_concepts), small(splits.held_out_pairs)])
    distances = torch.cdist(held_out, small(splits.train)) / held_out.shape[1] ** 0.5
    assert distances.min() > 0.04


def test_splits_are_the_same_in_every_process(splits: EmojiSplits) -> None:
    code = "from calotype.data.emoji import emoji; print(*(part.fingerprint for part in emoji()))"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert other == [part.fingerprint for part in splits] == [part.fingerprint for part in emoji()]
    assert len(set(other)) == 3


@pytest.mark.parametrize("category", ["faces", "Animals & Nature", "people-body"])
def test_a_category_keeps_every_image_in_its_split(splits: EmojiSplits, category: str) -> None:
    for part, whole in zip(emoji(category), splits, strict=True):
        assert part.records
        assert names(part) < names(whole)


def test_faces_are_422_images_without_hearts() -> None:
    faces = records(emoji_source("emoji:faces"))
    assert len(faces) == 422
    assert {record.fields["category"] for record in faces} == {"Smileys & Emotion"}
    assert not any("heart" in record.fields["name"] for record in faces)


def test_sources_name_categories_by_slug(splits: EmojiSplits) -> None:
    animals = emoji_source("emoji:animals-nature")
    assert {record.fields["category"] for record in records(animals)} == {"Animals & Nature"}
    assert animals.train.source == "emoji:animals-nature"
    assert [part.fingerprint for part in emoji_source("emoji")] == [part.fingerprint for part in splits]


def test_a_wrong_source_gets_one_line_that_helps() -> None:
    with pytest.raises(UserError, match=r"faces, .*Did you mean 'faces'\?$"):
        emoji_source("emoji:face")
    with pytest.raises(UserError, match="choose from faces"):
        emoji_source("emoji:")
    with pytest.raises(UserError, match="emoji:faces"):
        emoji_source("emojis")


def test_every_image_has_plain_words(splits: EmojiSplits) -> None:
    for record in records(splits):
        fields = record.fields
        assert fields["caption"] == f"{fields['name']}, {fields['style']} style"
        assert record.name == f"{fields['style']}/{fields['hexcode']}"
        assert fields["class"] == fields["category"]
        for words in (fields["name"], *fields["tags"]):
            assert words.isascii()
            assert words == words.lower().strip() != ""
    apples = [record for record in records(splits) if record.name == "3d/1f34e"]
    assert apples[0].fields["caption"] == "red apple, 3d style"
    assert "fruit" in apples[0].fields["tags"]


def test_pixels_are_rgb_on_white(splits: EmojiSplits) -> None:
    white_corners = []
    for part in splits:
        for index in range(0, len(part), 20):
            image = part.pixels(index)
            assert image.shape == (SIZE, SIZE, 3)
            assert image.dtype == np.uint8
            assert image.std() > 5
            white_corners.append((image[[0, 0, -1, -1], [0, -1, 0, -1]] > 250).all())
    assert np.mean(white_corners) > 0.8


def test_each_record_gets_its_own_picture(splits: EmojiSplits) -> None:
    """Hearts (first atlas) and books (second) have their colours in every style, so names and positions agree."""
    channels = {"red heart": 0, "green heart": 1, "blue heart": 2, "closed book": 0, "green book": 1, "blue book": 2}
    checked = []
    for part in splits:
        for index, record in enumerate(part.records):
            if record.fields["name"] in channels:
                assert part.pixels(index).mean((0, 1)).argmax() == channels[record.fields["name"]], record.name
                checked.append(record.name)
    assert len(checked) == len(channels) * len(STYLES)


def test_changing_a_returned_image_changes_no_other(splits: EmojiSplits) -> None:
    before = splits.train.pixels(0).copy()
    splits.train.pixels(0)[:] = 0
    assert np.array_equal(splits.train.pixels(0), before)
    assert np.array_equal(splits.train.subset([7, 0]).pixels(1), before)


@pytest.mark.parametrize(
    ("group", "members"),
    {
        "farmer": ["farmer", "man farmer", "woman farmer"],
        "person": ["girl", "man: red hair", "old woman", "person: bald"],
        "clock face": ["three o'clock", "three-thirty", "twelve o'clock"],
        "family": ["family: man, woman, boy", "family: adult, child"],
        "holding hands": ["people holding hands", "woman and man holding hands"],
        "running": ["man running", "woman running: facing right"],
        "apple": ["red apple", "green apple"],
        "moon": ["waxing crescent moon", "full moon face"],
        "heart": ["red heart", "light blue heart"],
        "police car": ["police car"],
        "police car light": ["police car light"],
        "upside-down face": ["upside-down face"],
    }.items(),
)
def test_near_duplicates_share_a_group(group: str, members: list[str]) -> None:
    assert {concept_group(name) for name in members} == {group}


def test_the_notice_names_every_source_and_the_licences_are_there() -> None:
    notice = (EMBEDDED / "NOTICE.md").read_text(encoding="utf-8")
    for package in (
        "`@lobehub/fluent-emoji-3d` 1.1.0",
        "`@iconify-json/fluent-emoji-flat` 1.2.6",
        "`emoji-datasource-google` 16.0.0",
        "`emojibase-data` 17.0.0",
    ):
        assert package in notice
    assert "Permission is hereby granted, free of charge" in notice
    assert "END OF TERMS AND CONDITIONS" in (EMBEDDED / "LICENSE-APACHE-2.0.txt").read_text(encoding="utf-8")


def test_the_embedded_files_stay_small() -> None:
    sizes = [path.stat().st_size for path in EMBEDDED.iterdir()]
    assert max(sizes) < 4 * 2**20
    assert sum(sizes) < 12 * 2**20
