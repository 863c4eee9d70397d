import logging
import sys

import pytest

from calotype.utils import distributed
from calotype.utils import progress as module
from calotype.utils.progress import clock, progress


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.0, "0 s"), (59.4, "59 s"), (59.6, "1:00"), (200.0, "3:20"), (3723.0, "1:02:03")]
)
def test_clock(seconds: float, text: str) -> None:
    assert clock(seconds) == text


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(sys.stderr, "isatty", lambda: False, raising=False)
    return now


def test_a_line_tells_rate_and_time_left_of_this_session(now: list[float], caplog: pytest.LogCaptureFixture) -> None:
    """What was done before the start counts as done, not towards the rate."""
    with caplog.at_level(logging.INFO), progress("ae", 1000, done=500) as bar:
        now[0] += 10
        bar.advance(100, "loss 0.5")
        assert bar.line() == "ae  60 %, 600/1000 images, 10.0/s, 40 s left, loss 0.5"
        assert caplog.messages == []
        now[0] += 10
        bar.advance(100)
        bar.advance(1)
    assert caplog.messages == ["ae  70 %, 700/1000 images, 10.0/s, 30 s left, loss 0.5"]


def test_nothing_done_yet(now: list[float]) -> None:
    with progress("ae", 10, quiet=True) as bar:
        assert bar.line() == "ae   0 %, 0/10 images, 0.0/s"


def test_only_the_first_process_tells(
    now: list[float], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(distributed, "rank", lambda: 1)
    with caplog.at_level(logging.INFO), progress("ae", 10) as bar:
        now[0] += 100
        bar.advance(1)
    assert bar.done == 1
    assert caplog.messages == []


def test_a_bar_on_a_terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    with progress("ae", 10) as bar:
        bar.advance(5, "loss 0.5")
    assert "ae" in capsys.readouterr().err
    assert bar.done == 5
