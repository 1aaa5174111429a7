"""How much memory a run takes, and that it does not grow with the folder."""

import statistics
from collections import defaultdict

from tests.benchmarks.contenders import check
from tests.benchmarks.corpora import corpus
from tests.benchmarks.processes import StandIn, server, stand_in
from tests.benchmarks.sections import NEAR, Effort, Say, Section
from tests.benchmarks.tables import MEGABYTE, figure, table

_FEW_AND_MANY = {Effort.SMOKE: (20, 60), Effort.QUICK: (500, 5000), Effort.FULL: (500, 5000)}
_ROUNDS = {Effort.SMOKE: 1, Effort.QUICK: 1, Effort.FULL: 3}
_IN_FLIGHT = 32


def _peak_of_run(storage: StandIn, count: int) -> int:
    """Bytes that a fresh process has taken at the most once it has run a folder of so many images."""
    with server(storage, CONCURRENCY=str(_IN_FLIGHT)) as service:
        storage.reset(delay=NEAR, count=count)
        report = service.run()
        check(storage.requests(), report["created"], count)
        return service.used().peak_bytes


def section(effort: Effort, say: Say) -> Section:
    """Run a small and a large folder of web images, in turn."""
    few, many = _FEW_AND_MANY[effort]
    peaks: defaultdict[int, list[int]] = defaultdict(list)
    with stand_in(corpus("tiny" if effort is Effort.SMOKE else "web")) as storage:
        for _ in range(_ROUNDS[effort]):
            for count in (few, many):
                peaks[count].append(_peak_of_run(storage, count))
                say(f"{count} images: {peaks[count][-1] / MEGABYTE:.0f} MB")
    growth = (
        statistics.median(after / before for before, after in zip(peaks[few], peaks[many], strict=True)) - 1
    ) * 100
    rows = [
        (f"{count:,} web images", figure(statistics.median(of_count) / MEGABYTE)) for count, of_count in peaks.items()
    ]
    rows.append(("growth, %", figure(growth)))
    text = f"{table(('/run with 32 images in flight', 'peak MB'), rows)}\nStorage answers after 40 ms.\n"
    return Section(text, {"peak": statistics.median(peaks[many]) / MEGABYTE, "growth": growth})
