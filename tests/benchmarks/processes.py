"""Processes that are measured, and the stand-in beside them: their start, what they used, their end. Needs Linux."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any

import httpx

from service.demo.network import free_port, local_client
from service.demo.processes import service_process
from tests.benchmarks.corpora import Corpus
from tests.benchmarks.standin import BOOKKEEPING, BUCKET, CONTROL, FOLDER, KINDS

ROOT = Path(__file__).parents[2]
_PROC = Path("/proc")
_TICKS = os.sysconf("SC_CLK_TCK")
_START_SECONDS = 30
_POLL_SECONDS = 0.01
_WATCH_SECONDS = 0.05
_REST_SECONDS = 0.3


class BenchmarkFailed(Exception):
    """A contender did not do what it was measured for."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What a process and all that it started have used."""

    cpu_seconds: float
    peak_bytes: int
    """The sum of each process's largest resident memory, which need not have been at the same time."""


def usage(pid: int) -> Usage:
    """What a tree of processes has used so far; what has ended counts once its parent waited for it."""
    seconds, peak = 0.0, 0
    for member in _tree(pid):
        try:
            # Behind the name, which may hold anything; utime, stime, cutime and cstime are fields 14 to 17 of proc(5).
            fields = (_PROC / str(member) / "stat").read_text().rpartition(")")[2].split()
            status = (_PROC / str(member) / "status").read_text()
        except OSError:
            continue
        seconds += sum(map(int, fields[11:15])) / _TICKS
        peak += _peak(status)
    return Usage(seconds, peak)


def wait_for_rest(pid: int) -> None:
    """Wait until a tree of processes takes no more processor time: what it starts by itself has started."""
    used = -1.0
    while (now := usage(pid).cpu_seconds) - used > 1 / _TICKS:
        used = now
        time.sleep(_REST_SECONDS)


class Bystanders:
    """How much of the processors others took, who have no part in a measurement and spoil it."""

    def __init__(self, *parties: int) -> None:
        """Begin to look.

        Args:
            parties: processes that take part, beside this one and those that it starts and waits for.
        """
        self._parties = parties
        self._began = time.monotonic()
        self._busy, self._ours = _busy_seconds(), self._taken()

    def share(self) -> float:
        """Of all processors since then, 0 to 1."""
        busy = _busy_seconds() - self._busy - (self._taken() - self._ours)
        return max(0, busy / ((time.monotonic() - self._began) * (os.cpu_count() or 1)))

    def _taken(self) -> float:
        times = os.times()
        return sum(times[:4]) + sum(usage(party).cpu_seconds for party in self._parties)


def _busy_seconds() -> float:
    """Of all processors, since the machine was started: user, nice, system, irq, softirq and steal of proc(5)."""
    fields = [int(field) for field in (_PROC / "stat").read_text().partition("\n")[0].split()[1:9]]
    return sum(fields[:3] + fields[5:8]) / _TICKS


def own_peak_bytes() -> int:
    """The largest resident memory that this process has had."""
    return _peak((_PROC / "self" / "status").read_text())


def _peak(status: str) -> int:
    return next((int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM")), 0)


def _tree(pid: int) -> list[int]:
    found = [pid]
    for member in found:
        try:
            for task in (_PROC / str(member) / "task").iterdir():
                found += map(int, (task / "children").read_text().split())
        except OSError:
            continue  # It has ended meanwhile, or one of its threads has.
    return found


def environment(**settings: str) -> dict[str, str]:
    """This process's environment with further settings, and without what might change how a contender behaves."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("CLOUD_RUN_", "COVERAGE_"))
        and name not in {"INPUT_FOLDER", "CONCURRENCY", "PYTHONDONTWRITEBYTECODE"}
    }
    return kept | settings


@dataclass(frozen=True, slots=True)
class Ended:
    """A program that ran to its end."""

    output: str
    seconds: float
    """From its start to its end."""
    used: Usage


@contextmanager
def running(
    command: Sequence[str], env: Mapping[str, str], output: IO[str] | int, told: str = ""
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program until the block ends; then kill it and all that it has started, where they are still there.

    Args:
        command: the program and its arguments.
        env: the whole of its environment.
        output: where stdout and stderr go.
        told: what it reads from stdin.
    """
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=output,
        stderr=subprocess.STDOUT,
        env=env,
        cwd=ROOT,
        # A group of its own: Ctrl-C reaches this process alone, which ends the others.
        start_new_session=True,
    )
    try:
        if process.stdin:
            process.stdin.write(told.encode())
            process.stdin.close()
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def run_to_end(command: Sequence[str], env: Mapping[str, str]) -> Ended:
    """Run a program.

    Raises:
        BenchmarkFailed: it ends with another status than 0.
    """
    with TemporaryFile("w+") as output, running(command, env, output) as process:
        watch = _PeakWatch(process.pid)
        watch.start()
        try:
            ended = _ended(process, output, time.monotonic())
        finally:
            watch.ended.set()
            watch.join()
    return Ended(ended.output, ended.seconds, Usage(ended.used.cpu_seconds, watch.peak_bytes))


def run_together(command: Sequence[str], envs: Sequence[Mapping[str, str]]) -> list[Ended]:
    """Run a program several times at once, each with an environment of its own; memory is not looked at.

    Returns:
        The ends; each one's seconds are until those before it have ended, too.

    Raises:
        BenchmarkFailed: one of them ends with another status than 0.
    """
    with ExitStack() as stack:
        began = time.monotonic()
        outputs = [stack.enter_context(TemporaryFile("w+")) for _ in envs]
        programs = [
            stack.enter_context(running(command, env, output)) for env, output in zip(envs, outputs, strict=True)
        ]
        return [_ended(process, output, began) for process, output in zip(programs, outputs, strict=True)]


def _ended(process: subprocess.Popen[bytes], output: IO[str], began: float) -> Ended:
    # Not `Popen.wait`, which keeps the usage to itself.
    _, status, resources = os.wait4(process.pid, 0)
    seconds = time.monotonic() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    output.seek(0)
    text = output.read()
    if process.returncode:
        raise BenchmarkFailed(f"{process.args!r} ended with status {process.returncode}:\n{text[-2000:]}")
    return Ended(text, seconds, Usage(resources.ru_utime + resources.ru_stime, 0))


class _PeakWatch(threading.Thread):
    """Looks at a tree's memory until it has ended.

    `ru_maxrss` does not do: it begins with what the parent had at the fork, and knows the largest process only.
    """

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.ended = threading.Event()
        self.peak_bytes = 0
        self._pid = pid

    def run(self) -> None:
        while not self.ended.wait(_WATCH_SECONDS):
            self.peak_bytes = max(self.peak_bytes, usage(self._pid).peak_bytes)


@dataclass(frozen=True, slots=True)
class Requests:
    """What was asked of the stand-in."""

    by_kind: Counter[str] = field(default_factory=Counter)
    """As the stand-in counts them: bookkeeping apart, and with what is no request but worth a note."""
    written: int = 0
    """Thumbnails that are there for it."""
    cpu_seconds: float = 0
    """What the stand-in has used since its start."""

    @property
    def total(self) -> int:
        """All requests."""
        return sum(self.by_kind[kind] for kind in KINDS) + self.bookkeeping

    @property
    def bookkeeping(self) -> int:
        """Those about plans and reports."""
        return sum(self.by_kind[BOOKKEEPING + kind] for kind in KINDS)


class StandIn:
    """The storage that contenders talk to."""

    def __init__(self, url: str, pid: int) -> None:
        self.url = url
        self.pid = pid
        self._client = local_client()

    def reset(self, *, delay: float, count: int) -> None:
        """Forget counts and writes.

        Args:
            delay: seconds before each answer from now on.
            count: how many objects the folder has from now on.
        """
        self._client.post(f"{self.url}{CONTROL}", params={"delay": delay, "count": count}).raise_for_status()

    def requests(self) -> Requests:
        """What was asked since then."""
        answer: dict[str, Any] = self._client.get(f"{self.url}{CONTROL}").raise_for_status().json()
        return Requests(Counter(answer["counts"]), answer["thumbnails"], answer["seconds"])

    def described(self, count: int) -> list[dict[str, Any]]:
        """The first objects of the folder as the JSON API describes them, which is what events carry; 1,000 at most.

        The folder has to have so many, and the requests are counted.
        """
        query: dict[str, str | int] = {"prefix": FOLDER, "maxResults": count}
        answer = self._client.get(f"{self.url}/storage/v1/b/{BUCKET}/o", params=query).raise_for_status()
        items: list[dict[str, Any]] = answer.json()["items"]
        return items

    def environment(self, **settings: str) -> dict[str, str]:
        """What makes a contender use it."""
        return environment(
            STORAGE_EMULATOR_HOST=self.url, INPUT_FOLDER=f"gs://{BUCKET}/{FOLDER.removesuffix('/')}", **settings
        )


@contextmanager
def stand_in(corpus: Corpus) -> Iterator[StandIn]:
    """Run a stand-in with a corpus."""
    port = free_port()
    command = [sys.executable, "-m", "tests.benchmarks.standin", "--port", str(port), "--count", "0"]
    files = "\n".join(map(str, corpus.files))
    with running(command, environment(), sys.stderr.fileno(), files) as process:
        _wait_for(f"http://127.0.0.1:{port}{CONTROL}", process)
        yield StandIn(f"http://127.0.0.1:{port}", process.pid)


@dataclass(frozen=True, slots=True)
class Server:
    """A service that answers."""

    url: str
    pid: int

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self.url.rpartition(":")[2])

    def used(self) -> Usage:
        """What it has used so far."""
        return usage(self.pid)

    def run(self, body: Mapping[str, object] | None = None) -> dict[str, Any]:
        """Have it run the folder, and return the report.

        Raises:
            BenchmarkFailed: it is not whole.
        """
        with local_client(timeout=7200) as client:
            answer = client.post(f"{self.url}/run", json=dict(body or {}))
        if answer.status_code != httpx.codes.OK:
            raise BenchmarkFailed(f"/run answered {answer.status_code}: {answer.text[:2000]}")
        report: dict[str, Any] = answer.json()
        return report


@contextmanager
def server(
    storage: StandIn, *, command: Sequence[str] = (sys.executable, "-m", "service"), **settings: str
) -> Iterator[Server]:
    """Run the service, and yield it once it and its workers have loaded all that they import behind the open port."""
    with service_process(storage.environment(**settings), command=command) as process:
        with local_client(timeout=_START_SECONDS) as client:
            client.get(f"{process.url}/openapi.json").raise_for_status()
        wait_for_rest(process.pid)
        yield Server(process.url, process.pid)


def _wait_for(url: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _START_SECONDS
    with local_client() as client:
        while True:
            try:
                if client.get(url).is_success:
                    return
            except httpx.TransportError:
                pass
            if process.poll() is not None or time.monotonic() > deadline:
                raise BenchmarkFailed(f"{process.args!r} does not answer")
            time.sleep(_POLL_SECONDS)


def last_json_with(key: str, output: str) -> dict[str, Any]:
    """The last line of a log or output that is a JSON object with this key; empty where there is none."""
    for line in reversed(output.splitlines()):
        try:
            found = json.loads(line)
        except ValueError:
            continue
        if isinstance(found, dict) and key in found:
            return found
    return {}
