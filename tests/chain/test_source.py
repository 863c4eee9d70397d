import logging
from pathlib import Path

import numpy as np
import pytest

from calotype.chain.source import open_images, open_source
from calotype.utils.errors import UserError
from calotype.utils.images import save_png


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for index in range(20):
        save_png(tmp_path / f"{index:02}.png", np.full((30 + index, 90, 3), 10 * index, np.uint8))
    return tmp_path


def test_a_folder_is_split_and_measured(folder: Path) -> None:
    source = open_source(str(folder))
    assert source.name == str(folder)
    assert (len(source.train), len(source.held_out)) == (15, 5)
    names = {record.name for images in (source.train, source.held_out) for record in images.records}
    assert len(names) == 20
    assert source.questions == {"unseen images": source.held_out}
    assert source.notes == ["5 of 20 images held out"]
    assert source.native_size == 40  # the median of the shorter sides, 30 to 49


def test_what_is_left_out_is_told(folder: Path) -> None:
    (folder / "broken.png").write_bytes(b"no picture")
    (folder / "notes.md").write_text("# notes")
    notes = open_source(str(folder)).notes
    told = "2 files and values left out, the first: broken.png (not an image); `calotype data check` lists them all, "
    assert notes[0] == f"{told}--strict ends there"
    with pytest.raises(UserError, match=r"broken.png: not an image$"):
        open_source(str(folder), strict=True)


def test_emoji_ask_two_questions() -> None:
    source = open_source("emoji:faces")
    assert source.name == "emoji:faces"
    assert list(source.questions) == ["unseen concepts", "unseen concept-style pairs"]
    assert source.held_out is source.questions["unseen concepts"]
    assert source.native_size == 64


def test_open_images_takes_whole_folders_but_held_out_emoji(folder: Path) -> None:
    assert len(open_images(str(folder))) == 20
    assert open_images("emoji:faces").records == open_source("emoji:faces").held_out.records


@pytest.mark.parametrize("text", ["missing", "emoji:nothing", "emojis"])
def test_what_cannot_be_opened(text: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    for opening in (open_source, open_images):
        with pytest.raises(UserError):
            opening(text)


def test_reading_shows_progress(
    folder: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("calotype.utils.progress.LINE_SECONDS", 0.0)
    with caplog.at_level(logging.INFO, logger="calotype"):
        open_source(str(folder))
    assert caplog.messages[-1].startswith("reading 100 %, 20/20 images")
