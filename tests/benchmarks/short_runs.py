"""Short runs: how many answers of storage one after another a run waits for, beside the two of an image itself."""

import json
import statistics
import time
from collections import defaultdict

from tests.benchmarks.corpora import corpus
from tests.benchmarks.processes import BenchmarkFailed, Requests, Server, StandIn, server, stand_in
from tests.benchmarks.sections import NEAR, Effort, Say, Section
from tests.benchmarks.tables import figure, table
from tests.benchmarks.wire import Connection, request

_IMAGES = (20, 1)
_PROCESSES = {Effort.SMOKE: 1, Effort.QUICK: 3, Effort.FULL: 7}
_LATER_RUNS = {Effort.SMOKE: 1, Effort.QUICK: 4, Effort.FULL: 7}
_OWN_ROUND_TRIPS = 2
"""Of an image: its read and its write."""


def _run(service: Server, storage: StandIn, images: int, run_id: str) -> tuple[float, Requests]:
    """Run a folder of so many images; return the seconds until the answer, and what was asked of storage."""
    storage.reset(delay=NEAR, count=images)
    post = request("POST", "/run", json.dumps({"run_id": run_id}).encode())
    connection = Connection(service.port)
    began = time.perf_counter()
    reply = connection.exchange(post)
    seconds = time.perf_counter() - began
    connection.close()
    if reply.status != 200 or json.loads(reply.body)["created"] != images:
        raise BenchmarkFailed(f"a run of {images} images was answered {reply.body!r}")
    return seconds, storage.requests()


def section(effort: Effort, say: Say) -> Section:
    """Measure runs of each length in turn, in one process after the other."""
    firsts: defaultdict[int, list[float]] = defaultdict(list)
    later: defaultdict[int, list[float]] = defaultdict(list)
    asked: dict[int, Requests] = {}
    with stand_in(corpus("tiny" if effort is Effort.SMOKE else "web")) as storage:
        for number in range(_PROCESSES[effort]):
            for images in _IMAGES:
                with server(storage) as service:
                    first, asked[images] = _run(service, storage, images, "first")
                    firsts[images].append(first)
                    for run in range(_LATER_RUNS[effort]):
                        later[images].append(_run(service, storage, images, f"later-{run}")[0])
                say(f"process {number + 1}, {images} images: the first run takes {first * 1000:.0f} ms")
    rows = [
        (
            f"{images}",
            *(_figures(several[images]) for several in (firsts, later)),
            f"{asked[images].total}",
            f"{asked[images].bookkeeping}",
        )
        for images in _IMAGES
    ]
    titles = (
        "images", "first run of a process: round trips (ms)", "later runs: round trips (ms)", "requests",
        "bookkeeping",
    )  # fmt: skip
    text = (
        f"{table(titles, rows)}\nMedians of {len(firsts[1])} first and {len(later[1])} later runs over web JPEG. "
        f"A round trip is {NEAR * 1000:.0f} ms. The two of the images themselves are not counted; their decoding is.\n"
    )
    return Section(text, {f"short {images}": _round_trips(firsts[images]) for images in _IMAGES})


def _round_trips(seconds: list[float]) -> float:
    return statistics.median(seconds) / NEAR - _OWN_ROUND_TRIPS


def _figures(seconds: list[float]) -> str:
    return f"{figure(_round_trips(seconds), 2)} ({statistics.median(seconds) * 1000:.0f})"
