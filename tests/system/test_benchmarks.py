"""The benchmarks work. What they measure is no matter of tests."""

import os
import secrets
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SECTIONS = (
    "Images a second",
    "Start",
    "One event",
    "Short runs",
    "Events in flight",
    "Memory of a run",
    "Large folders",
    "What planning takes",
    "Many tasks",
    "A million phone photos",
    "Progressive JPEG",
    "More processors",
    "Beside other programs",
    "Figures to reach",
)
MARK = "BENCHMARK_UNDER_TEST"


def benchmarks(*arguments: str, mark: str = "") -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.benchmarks", *arguments],
        cwd=ROOT,
        env=os.environ | {MARK: mark},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def bearing(mark: str) -> list[int]:
    """The processes whose environment has a mark, this one and those that have ended aside."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if f"{MARK}={mark}".encode() in (process / "environ").read_bytes().split(b"\0"):
                found.append(int(process.name))
        except OSError:
            continue
    return found


@pytest.mark.skipif(sys.platform != "linux", reason="the benchmarks need /proc")
@pytest.mark.slow
@pytest.mark.timeout(300)  # It takes 20 s, and several times that where others have the processors.
def test_a_smoke_run_has_every_section() -> None:
    with benchmarks("--smoke") as process:
        output, progress = process.communicate()
    assert process.returncode == 0, progress
    assert [line.removeprefix("## ") for line in output.splitlines() if line.startswith("## ")] == list(SECTIONS)


@pytest.mark.skipif(sys.platform != "linux", reason="the benchmarks need /proc")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_what_was_started(number: signal.Signals) -> None:
    mark = secrets.token_hex(8)
    with benchmarks("--section", "scale", mark=mark) as process:
        deadline = time.monotonic() + 30
        # The benchmarks, the storage and the service.
        while len(bearing(mark)) < 3 and time.monotonic() < deadline:
            time.sleep(0.05)
        assert len(bearing(mark)) == 3
        process.send_signal(number)
        _, progress = process.communicate(timeout=60)
    assert process.returncode == 130, progress
    assert "Traceback" not in progress
    assert bearing(mark) == []
