"""Many events at once for one process within the memory that Cloud Run gives by default."""

import asyncio
import sys
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import pytest

from tests.benchmarks.corpora import corpus
from tests.benchmarks.processes import server, stand_in
from tests.benchmarks.sections import NEAR, Effort, Say, Section
from tests.benchmarks.tables import MEGABYTE, figure, table
from tests.benchmarks.wire import connect, event, exchange
from tests.system.test_soak import LIMIT, MEBIBYTE, memory_group

_IN_FLIGHT = {Effort.SMOKE: (10,), Effort.QUICK: (80, 250), Effort.FULL: (80, 250, 1000)}
_CORPORA = {Effort.SMOKE: ("tiny",), Effort.QUICK: ("web", "phone"), Effort.FULL: ("web", "phone")}
_EVENTS = 1000
"""At the most; so many that each place in flight is taken several times, where they allow it."""
_TURNS = 3
_PATIENCE = 300


@dataclass(frozen=True, slots=True)
class Held:
    """How so many events at once went."""

    outcomes: Counter[str]
    seconds: float
    slowest: float
    """Seconds from an event to its answer."""
    peak_bytes: int
    """Of the process."""
    group_bytes: int
    """Of the control group."""
    kills: int

    @property
    def failed(self) -> int:
        """Events that were not answered `created`."""
        return self.outcomes.total() - self.outcomes["created"]


async def _post(port: int, events: Iterable[bytes], in_flight: int) -> tuple[Counter[str], float, float]:
    """Post events over so many connections, each of which waits for its answer before it sends another one.

    Returns:
        What became of them, the seconds that all of them took, and those of the slowest.
    """
    left = iter(events)
    outcomes: Counter[str] = Counter()
    took: list[float] = []

    async def post() -> None:
        reader, writer = await connect(port)
        for sent in left:
            began = time.perf_counter()
            try:
                outcomes[(await asyncio.wait_for(exchange(reader, writer, sent), _PATIENCE)).outcome] += 1
            except (OSError, TimeoutError) as error:
                outcomes[repr(error)] += 1
                return
            finally:
                took.append(time.perf_counter() - began)
        writer.close()

    began = time.perf_counter()
    ends = await asyncio.gather(*(post() for _ in range(in_flight)), return_exceptions=True)
    outcomes.update(repr(error) for error in ends if error)
    return outcomes, time.perf_counter() - began, max(took, default=0)


def _hold(name: str, in_flight: int) -> Held:
    """Have one process hold so many events about images of a corpus.

    Raises:
        pytest.skip.Exception: memory cannot be limited here.
    """
    with (
        stand_in(corpus(name)) as storage,
        memory_group(LIMIT) as group,
        server(storage, command=group.command(sys.executable, "-m", "service")) as service,
    ):
        count = min(_EVENTS, in_flight * _TURNS)
        storage.reset(delay=NEAR, count=count)
        sent = [event(described) for described in storage.described(count)]
        outcomes, seconds, slowest = asyncio.run(_post(service.port, sent, in_flight))
        return Held(outcomes, seconds, slowest, service.used().peak_bytes, group.peak, group.kills)


def section(effort: Effort, say: Say) -> Section:
    """Post web images and phone photos."""
    rows = []
    failed: Counter[int] = Counter()
    for name in _CORPORA[effort]:
        for in_flight in _IN_FLIGHT[effort]:
            try:
                held = _hold(name, in_flight)
            except pytest.skip.Exception as reason:
                return Section(f"Not measured: {reason}\n")
            say(f"{name}, {in_flight} in flight: {dict(held.outcomes)}, killed {held.kills} times")
            failed[in_flight] += held.failed + held.kills
            rows.append(
                (
                    f"{name}, {in_flight} in flight",
                    figure(held.outcomes.total()),
                    figure(held.failed),
                    figure(held.outcomes.total() / held.seconds),
                    figure(held.slowest),
                    figure(held.peak_bytes / MEGABYTE),
                    figure(held.group_bytes / MEGABYTE),
                )
            )
    titles = ("", "events", "failed", "events/s", "slowest, s", "peak MB", "with what the kernel keeps of files, MB")
    without_failure = [in_flight for in_flight in _IN_FLIGHT[effort] if not failed[in_flight]]
    text = f"{table(titles, rows)}\nOne process within {LIMIT / MEBIBYTE:.0f} MiB; storage answers after 40 ms.\n"
    return Section(text, {"in flight": max(without_failure, default=0)})
