"""The job as somebody at a terminal sees it."""

import json
import os
import pty
import re
import subprocess
import sys
import termios
from threading import Thread

import pytest

from tests.conftest import Put
from tests.support.pictures import jpeg
from tests.support.proxy import Proxy


def shown(*, both: bool, columns: int, **settings: str) -> tuple[str, str, int]:
    """Run the job with stderr, or both streams, on a terminal; return what that showed, stdout and the exit status."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24 if columns else 0, columns))
    seen: list[bytes] = []

    def read() -> None:
        try:
            while data := os.read(ours, 4096):
                seen.append(data)
        except OSError:
            return  # The way a terminal says on Linux that nobody is at its other end any more.

    reader = Thread(target=read)
    reader.start()
    process = subprocess.Popen(
        [sys.executable, "-m", "service.job"],
        env=os.environ | {"PYTHONWARNINGS": "error"} | settings,
        stdout=theirs if both else subprocess.PIPE,
        stderr=theirs,
    )
    os.close(theirs)
    output, _ = process.communicate(timeout=60)
    reader.join()
    os.close(ours)
    return b"".join(seen).decode(), (output or b"").decode(), process.returncode


@pytest.mark.parametrize(("both", "columns"), [(False, 0), (True, 120)], ids=["only stderr, no size", "both"])
def test_a_bar_shows_the_total_the_rate_and_what_was_rejected_or_failed(
    bucket: str, put: Put, proxy: Proxy, *, both: bool, columns: int
) -> None:
    for index in range(8):
        put(f"in/{index}.jpg", jpeg(16, 12))
    put("in/broken.jpg", b"nothing")
    proxy.fault = lambda kind, name: 403 if kind == "write" and "7.jpg" in name else None
    settings = {"INPUT_FOLDER": f"gs://{bucket}/in", "STORAGE_EMULATOR_HOST": proxy.url}
    screen, output, status = shown(both=both, columns=columns, **settings)
    assert status == 1
    last = screen.rstrip("\r\n").rpartition("\r")[2]
    assert re.search(r"thumbnails: 100%.* 9/9 \[.* images/s.*failed=1, rejected=1\]", last), screen
    if both:
        # Each line of the log is one of the screen's, with nothing of the bar in it.
        (line,) = [line for line in screen.split("\n") if "image rejected" in line]
        assert "images/s" not in line.rstrip("\r").rpartition("\r")[2]
        assert "broken.jpg" in line
    else:
        assert [json.loads(line)["message"] for line in output.splitlines()][-1] == "run ended"


def test_where_nobody_watches_there_is_none(bucket: str, put: Put, emulator: str) -> None:
    put("in/a.jpg", jpeg(16, 12))
    done = subprocess.run(
        [sys.executable, "-m", "service.job"],
        env=os.environ | {"INPUT_FOLDER": f"gs://{bucket}/in", "STORAGE_EMULATOR_HOST": emulator},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0
    assert done.stderr == ""
