"""Pictures that take over, crash or hang their decoder: the real programs, with decoders made for it."""

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from service.demo.processes import service_process
from tests.conftest import Put
from tests.support import hostile
from tests.support.eventarc import deliver
from tests.support.pictures import jpeg
from tests.support.waiting import until
from tests.system.test_end_to_end import environment, thumbnails

HOSTILE = str(Path(next(iter(hostile.__path__))))
PPM = "image/x-portable-anymap"
IMAGES = 300
SMALL = jpeg(16, 12)
CODES = {
    "crash": "decoder_crashed",
    "abort": "decoder_crashed",
    "exit": "decoder_crashed",
    "answer": "decoder_crashed",
    "hang": "decoder_timed_out",
    "eat": "picture_too_large",
    "fill": "corrupt_image",
    "connect": "corrupt_image",
    "kill": "corrupt_image",
    "kill all": "corrupt_image",
    "join": "corrupt_image",
    "own": "corrupt_image",
    "type": "corrupt_image",
    "start": "corrupt_image",
    "fork": "corrupt_image",
    "write": "corrupt_image",
    "remove": "corrupt_image",
    "read": "corrupt_image",
    "secrets": "corrupt_image",
    "shout": "",
}
"""By what a picture's decoder does: the code of the rejection, empty if it does no harm."""
FORBIDDEN = {"connect", "kill", "kill all", "join", "own", "type", "start", "fork", "write", "remove", "read"}
"""What the system refuses."""


def hostile_picture(deed: str) -> bytes:
    return b"P6 16 16 255\n" + bytes(16 * 16 * 3) + b"\n" + deed.encode()


def settings(emulator: str, bucket: str) -> dict[str, str]:
    return {
        "INPUT_FOLDER": f"gs://{bucket}/in",
        "STORAGE_EMULATOR_HOST": emulator,
        "MAX_DECODE_SECONDS": "2",
        "LOG_LEVEL": "DEBUG",
        "LOG_FORMAT": "json",
    }


def test_a_job_makes_all_others_at_its_first_attempt(emulator: str, bucket: str, put: Put) -> None:
    for index in range(IMAGES):
        put(f"in/{index:03}.jpg", SMALL)
    for number, deed in enumerate(CODES):
        put(f"in/{number * 20:03}-{deed}/{deed}.ppm", hostile_picture(deed), PPM)
    done = subprocess.run(
        [sys.executable, "-m", "service.job"],
        env=environment(**settings(emulator, bucket), PYTHONPATH=HOSTILE, PYTHONWARNINGS="default"),
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    (report,) = [line for line in lines if line["message"] == "run ended"]
    rejected = {Path(line["source"]).stem: line for line in lines if line["message"] == "image rejected"}
    assert {deed: line["code"] for deed, line in rejected.items()} == {
        deed: code for deed, code in CODES.items() if code
    }
    assert {deed for deed, line in rejected.items() if "Operation not permitted" in line["reason"]} == FORBIDDEN
    harmless = sum(not code for code in CODES.values())
    assert (report["created"], report["failed"]) == (IMAGES + harmless, 0)
    assert Counter(line["message"] for line in lines)["a library's complaint"] == 2
    assert not Path("/tmp/hostile-was-here").exists()  # noqa: S108 - where the decoder would write
    assert len(thumbnails(emulator, bucket)) == IMAGES + harmless


def test_forty_events_at_once_are_each_answered_for_their_own_picture(emulator: str, bucket: str, put: Put) -> None:
    pictures = {f"in/{index}.jpg": SMALL for index in range(40 - len(CODES))}
    pictures |= {f"in/{deed}.ppm": hostile_picture(deed) for deed in CODES}
    resources = {
        name: put(name, data, "image/jpeg" if name.endswith("jpg") else PPM) for name, data in pictures.items()
    }
    with (
        service_process(settings(emulator, bucket) | {"PYTHONPATH": HOSTILE}) as service,
        httpx.Client(base_url=service.url, timeout=100) as client,
        ThreadPoolExecutor(len(pictures)) as callers,
    ):
        waiting = {name: callers.submit(deliver, client, resource) for name, resource in resources.items()}
        answers = {name: future.result() for name, future in waiting.items()}
        assert {answer.status_code for answer in answers.values()} == {200}
        os.kill(service.pid, 0)
    for name, answer in answers.items():
        assert answer.json().get("code", "") == CODES.get(Path(name).stem, ""), name


def children(pid: int) -> set[int]:
    """The processes that a process has started."""
    started: set[int] = set()
    for thread in Path(f"/proc/{pid}/task").iterdir():
        # A thread may end while it is looked at.
        with suppress(OSError):
            started |= set(map(int, (thread / "children").read_text().split()))
    return started


def is_running(pid: int) -> bool:
    # A process that has ended may still be in the table.
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.parametrize("number", [signal.SIGKILL, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_workers_end_with_the_service_though_they_hang(emulator: str, bucket: str, put: Put, number: int) -> None:
    resource = put("in/hang.ppm", hostile_picture("hang"), PPM)
    hanging = settings(emulator, bucket) | {"PYTHONPATH": HOSTILE, "MAX_DECODE_SECONDS": "1000"}
    with (
        service_process(hanging) as service,
        httpx.Client(base_url=service.url, timeout=100) as client,
        ThreadPoolExecutor(1) as caller,
    ):
        answer = caller.submit(deliver, client, resource)
        until(lambda: any(seconds_of_cpu(pid) > 1 for pid in children(service.pid)))
        workers = children(service.pid)
        os.kill(service.pid, number)
        until(lambda: not any(map(is_running, workers)), 15)
        if number == signal.SIGTERM:
            assert answer.result().status_code == 503
        else:
            assert isinstance(answer.exception(), httpx.HTTPError)


def seconds_of_cpu(pid: int) -> float:
    # A worker may end while it is looked at.
    with suppress(OSError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return int(fields[11]) / os.sysconf("SC_CLK_TCK")
    return 0.0


@pytest.mark.slow
def test_ctrl_c_ends_a_job_without_a_word_of_its_workers(emulator: str, bucket: str, put: Put) -> None:
    put("in/hang.ppm", hostile_picture("hang"), PPM)
    job = subprocess.Popen(
        [sys.executable, "-m", "service.job"],
        env=environment(**settings(emulator, bucket) | {"MAX_DECODE_SECONDS": "1000"}, PYTHONPATH=HOSTILE)
        | {"PYTHONWARNINGS": "default"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    until(lambda: any(seconds_of_cpu(pid) > 1 for pid in children(job.pid)))
    os.killpg(job.pid, signal.SIGINT)
    output, _ = job.communicate(timeout=30)
    assert job.returncode == 1
    assert "Traceback" not in output
    assert "KeyboardInterrupt" not in output


def test_workers_that_cannot_be_started_are_a_failure_that_says_so(
    emulator: str, bucket: str, put: Put, tmp_path: Path
) -> None:
    resource = put("in/a.jpg", SMALL)
    (tmp_path / "sitecustomize.py").write_text(
        "import os, sys\nif 'service.images.worker' in sys.orig_argv: os._exit(7)\n"
    )
    with (
        service_process(settings(emulator, bucket) | {"PYTHONPATH": str(tmp_path)}) as service,
        httpx.Client(base_url=service.url, timeout=100) as client,
    ):
        answer = deliver(client, resource)
        assert (answer.status_code, answer.json()["code"]) == (503, "decoder_unavailable")
        assert "exit status 7" in answer.json()["reason"]
        run = client.post("/run")
        assert (run.status_code, run.json()["failed"], run.json()["rejected"]) == (503, 1, 0)
        assert client.get("/health").status_code == 200
        (tmp_path / "sitecustomize.py").write_text("")
        # Each failure asks for another start.
        until(lambda: deliver(client, resource).status_code == 200)
