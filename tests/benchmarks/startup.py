"""How long it takes from the start of the process to its first answers, beside a bare FastAPI on uvicorn."""

import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from service.demo.network import free_port
from tests.benchmarks.corpora import corpus
from tests.benchmarks.processes import BenchmarkFailed, StandIn, environment, running, stand_in, usage
from tests.benchmarks.sections import Effort, Say, Section
from tests.benchmarks.tables import figure, table
from tests.benchmarks.wire import Connection, event, request

_STARTS = {Effort.SMOKE: 1, Effort.QUICK: 5, Effort.FULL: 15}
_POLL_SECONDS = 0.0005
_MOST_SECONDS = 30
_HEALTH = request("GET", "/health")

SERVICE, BARE = "service", "bare FastAPI"


@dataclass(frozen=True, slots=True)
class Start:
    """One start: milliseconds from the start of the process to each first answer."""

    health: float
    ignored: float
    """An event that asks for nothing."""
    created: float | None
    """An event that asks for a thumbnail."""
    cpu: float
    """CPU milliseconds until the first of them, which those that others take do not change."""


def _start(command: Sequence[str], env: Mapping[str, str], port: int, events: Mapping[str, bytes]) -> Start:
    began = time.perf_counter()
    with running(command, env, subprocess.DEVNULL) as process:
        connection = _connect(process, port)
        if connection.exchange(_HEALTH).status != 200:
            raise BenchmarkFailed("/health does not answer 200")
        health = _milliseconds_since(began)
        cpu = usage(process.pid).cpu_seconds * 1000
        answered = {}
        for outcome, sent in events.items():
            if (reply := connection.exchange(sent)).outcome != outcome:
                raise BenchmarkFailed(f"an event was answered {reply.outcome} instead of {outcome}: {reply.body!r}")
            answered[outcome] = _milliseconds_since(began)
        connection.close()
    return Start(health, answered["ignored"], answered.get("created"), cpu)


def _connect(process: subprocess.Popen[bytes], port: int) -> Connection:
    """Connect as soon as anybody listens."""
    deadline = time.perf_counter() + _MOST_SECONDS
    while True:
        try:
            return Connection(port)
        except ConnectionRefusedError:
            if process.poll() is not None or time.perf_counter() > deadline:
                raise BenchmarkFailed(f"{process.args!r} does not listen") from None
            time.sleep(_POLL_SECONDS)


def _milliseconds_since(began: float) -> float:
    return (time.perf_counter() - began) * 1000


def _service(storage: StandIn) -> Start:
    port = free_port()
    storage.reset(delay=0, count=1)
    described = storage.described(1)[0]
    events = {"ignored": event(described, "deleted"), "created": event(described)}
    return _start([sys.executable, "-m", "service"], storage.environment(PORT=str(port)), port, events)


def _bare(storage: StandIn) -> Start:
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", "tests.benchmarks.bare:app", "--host", "0.0.0.0", "--port", str(port)]  # noqa: S104 - as the service does
    return _start(command, environment(), port, {"ignored": event(storage.described(1)[0])})


def section(effort: Effort, say: Say) -> Section:
    """Start both in turn."""
    starters = {SERVICE: _service, BARE: _bare}
    found: dict[str, list[Start]] = {name: [] for name in starters}
    with stand_in(corpus("tiny")) as storage:
        # The first start of each counts for nothing: it writes the bytecode of all that is imported.
        for number in range(_STARTS[effort] + 1):
            for name, starter in starters.items():
                start = starter(storage)
                say(f"start {number} of {name}: {start.health:.0f} ms to /health")
                if number:
                    found[name].append(start)
    health, ignored, cpu = (
        {name: statistics.median(getattr(start, what) for start in starts) for name, starts in found.items()}
        for what in ("health", "ignored", "cpu")
    )
    created = statistics.median(start.created or 0 for start in found[SERVICE])
    rows = [
        *((name, figure(health[name]), figure(ignored[name]), figure(created if name == SERVICE else None),
           figure(cpu[name])) for name in starters),
        (
            "service ÷ bare FastAPI", *(f"{what[SERVICE] / what[BARE]:.2f}" for what in (health, ignored)), "",
            f"{cpu[SERVICE] / cpu[BARE]:.2f}",
        ),
    ]  # fmt: skip
    titles = (
        "ms from the start of the process", "first 200 on /health", "first event, ignored", "first thumbnail",
        "CPU ms to the first",
    )  # fmt: skip
    text = f"{table(titles, rows)}\nMedians of {_STARTS[effort]} starts, in turn, with compiled bytecode.\n"
    return Section(text, {"start": health[SERVICE] / health[BARE]})
