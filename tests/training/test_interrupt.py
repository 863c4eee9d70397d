import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from calotype.artifact import latest_checkpoint
from calotype.training.interrupt import stop_request
from calotype.training.logs import read_metrics
from calotype.utils.files import read_json

HERE = Path(__file__).parent
BOTH = (signal.SIGINT, signal.SIGTERM)


@pytest.mark.parametrize("number", BOTH)
def test_the_first_signal_asks_the_second_ends(number: signal.Signals) -> None:
    former = [signal.getsignal(each) for each in BOTH]
    with stop_request() as stop:
        assert not stop
        signal.raise_signal(number)
        assert stop
        assert stop.exit_code == 128 + number
        assert [signal.getsignal(each) for each in BOTH] == [signal.SIG_DFL, signal.SIG_DFL]
    assert [signal.getsignal(each) for each in BOTH] == former


def test_other_threads_go_without() -> None:
    found = []

    def run() -> None:
        with stop_request() as stop:
            found.append(bool(stop))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert found == [False]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_run_is_saved_and_ends_with_the_code_of_its_signal(number: int, code: int, tmp_path: Path) -> None:
    paths = {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(HERE / "stoppable.py"), str(tmp_path / "run")]
    process = subprocess.Popen(command, env={**os.environ, **paths}, stderr=subprocess.PIPE, text=True)
    try:
        deadline = time.monotonic() + 60
        while not read_metrics(tmp_path / "run" / "metrics.jsonl"):
            assert process.poll() is None, process.stderr.read()
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.send_signal(number)
        _, errors = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == code
    assert "Traceback" not in errors
    assert "all saved in" in errors.splitlines()[-1]
    seen = read_json(latest_checkpoint(tmp_path / "run") / "training.json")["samples_seen"]
    assert f"stopped at {seen} of 1000000000 images" in errors
    assert read_metrics(tmp_path / "run" / "metrics.jsonl")[-1]["samples"] == seen, "no step is lost"
