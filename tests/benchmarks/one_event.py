"""One event after the other, warm, beside what an event cannot do without."""

import statistics
import sys
import time
from collections import defaultdict

from tests.benchmarks.corpora import Corpus, corpus
from tests.benchmarks.processes import BenchmarkFailed, Server, StandIn, last_json_with, run_to_end, server, stand_in
from tests.benchmarks.sections import Effort, Say, Section
from tests.benchmarks.tables import figure, table
from tests.benchmarks.wire import Connection, event

_BYTES = 150_000
_EVENTS = {Effort.SMOKE: 5, Effort.QUICK: 100, Effort.FULL: 200}
_ROUNDS = {Effort.SMOKE: 1, Effort.QUICK: 2, Effort.FULL: 5}
_WARM = 20
"""Events before the clock counts."""


def _one_file(effort: Effort) -> Corpus:
    """The web image that is nearest to the size."""
    images = corpus("tiny" if effort is Effort.SMOKE else "web")
    nearest = min(images.files, key=lambda file: abs(file.stat().st_size - _BYTES))
    return Corpus(images.name, images.folder, (nearest,))


def _events(service: Server, storage: StandIn, count: int) -> tuple[list[float], float]:
    """Post events; return the milliseconds of each, and the CPU milliseconds of the service for one."""
    storage.reset(delay=0, count=count + _WARM)
    sent = [event(described) for described in storage.described(count + _WARM)]
    connection = Connection(service.port)
    times = []
    cpu = 0.0
    for number, post in enumerate(sent):
        if number == _WARM:
            cpu = service.used().cpu_seconds
        began = time.perf_counter()
        reply = connection.exchange(post)
        times.append((time.perf_counter() - began) * 1000)
        if reply.outcome != "created":
            raise BenchmarkFailed(f"an event was answered {reply.body!r}")
    connection.close()
    return times[_WARM:], (service.used().cpu_seconds - cpu) * 1000 / count


def section(effort: Effort, say: Say) -> Section:
    """Measure events and parts in turn."""
    count = _EVENTS[effort]
    command = [sys.executable, "-m", "tests.benchmarks.parts", "--count", str(count)]
    file = _one_file(effort)
    times: list[float] = []
    cpu: list[float] = []
    parts: defaultdict[str, list[float]] = defaultdict(list)
    with stand_in(file) as storage, server(storage) as service:
        for number in range(_ROUNDS[effort]):
            some, used = _events(service, storage, count)
            times += some
            cpu.append(used)
            storage.reset(delay=0, count=count * 2)
            for what, milliseconds in last_json_with("read", run_to_end(command, storage.environment()).output).items():
                parts[what].append(milliseconds)
            say(f"round {number + 1}: an event takes {figure(statistics.median(some))} ms")
    whole = statistics.median(times)
    part = {what: statistics.median(several) for what, several in parts.items()}
    least = part["pixels"] + part["read"] + part["write"]
    rows = [
        ("decode, shrink, encode with the least of Pillow", figure(part["pixels"]), ""),
        ("one read", figure(part["read"]), ""),
        ("one write", figure(part["write"]), ""),
        ("the three together", figure(least), "1"),
        ("one event, its answer included", figure(whole), f"{whole / least:.2f}"),
        ("slowest of a hundred", figure(statistics.quantiles(times, n=100)[-1]), ""),
        ("CPU of the service", figure(statistics.median(cpu)), ""),
        ("decode, shrink, encode by the service's own", figure(part["pixels by the service"]), ""),
    ]
    about = (
        f"Medians of {len(times):,} events about a JPEG of {file.mean_bytes / 1000:.0f} KB; storage answers at once."
    )
    return Section(f"{table(('', 'ms', 'of that'), rows)}\n{about}\n", {"event": whole / least})
