"""A folder listed in ranges of names side by side, for a caller to whom the order of the ranges does not matter.

Makes a few listings more than one after the other would: 2.5 %, and 16. A folder of one page takes one, as ever.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from operator import itemgetter
from queue import Empty, SimpleQueue
from typing import Any

from service.bootstrap import Service
from service.process import POLL_SECONDS, Stop
from service.runs.bounded import submit
from service.storage.addresses import ALL_NAMES, FolderLocation
from service.storage.base import Page
from service.storage.ranges import ListedRange, RangeSplitter

_MOST_AT_ONCE = 32
"""More keep the interpreter no busier, if storage answers within 50 ms."""


@dataclass(frozen=True, slots=True)
class _Listed:
    """The next page of a range."""

    names: Sequence[str]
    """Of all objects."""
    selected: Sequence[Mapping[str, Any]]
    next_token: str


@dataclass(frozen=True, slots=True)
class Part:
    """What a page has of a range."""

    range_start: str
    objects: int
    """How many there are."""
    selected: Sequence[Mapping[str, Any]]
    """The resources of those that were selected."""


def list_in_parallel(
    folder: FolderLocation,
    first_page: Page | None,
    select: Callable[[Page], Sequence[Mapping[str, Any]]],
    service: Service,
    stop: Stop,
    *,
    keep_alive: Callable[[], object],
) -> Iterator[Part]:
    """Yield the objects of each page that are selected, with the start of the range that the page is of.

    The pages of a range come in order, and no two ranges share a name. `first_page` is that of the folder, if it was
    listed already. `keep_alive` is called several times a second.

    Raises:
        ShuttingDown: the run is to stop.
    """

    def read(page: Page) -> _Listed:
        return _Listed([resource["name"] for resource in page.resources], select(page), page.next_token)

    def list_next(listed: ListedRange) -> _Listed:
        return read(service.store.list_page(folder, listed.asked, listed.token))

    splitter = RangeSplitter(folder.prefix, ALL_NAMES)
    limit = min(service.settings.concurrency, _MOST_AT_ONCE)
    in_flight: dict[Future[_Listed], ListedRange] = {}
    ended = SimpleQueue[Future[_Listed]]()
    if first_page and (whole := splitter.next_range()):
        listed = read(first_page)
        splitter.add_page(whole, listed.names, listed.next_token)
        yield Part(whole.asked.start, len(listed.names), listed.selected)
    try:
        while True:
            stop.raise_if_set("the run was stopped while it was planned")
            keep_alive()
            while len(in_flight) < limit and (chosen := splitter.next_range()):
                future = submit(service.executor, list_next, chosen, stop)
                in_flight[future] = chosen
                future.add_done_callback(ended.put)
            if not in_flight:
                return
            try:
                future = ended.get(timeout=POLL_SECONDS)
            except Empty:
                # Images may have all threads. Then this one lists.
                any(waiting.cancel() for waiting in in_flight)
                continue
            range_ = in_flight.pop(future)
            listed = list_next(range_) if future.cancelled() else future.result()
            splitter.add_page(range_, listed.names, listed.next_token)
            # Names from the end on are listed by the range that was split off meanwhile.
            objects, own = len(listed.names), len(listed.selected)
            if range_.end is not None:
                objects = bisect_left(listed.names, range_.end)
                own = bisect_left(listed.selected, range_.end, key=itemgetter("name"))
            yield Part(range_.asked.start, objects, listed.selected[:own])
    finally:
        for future in in_flight:
            future.cancel()
