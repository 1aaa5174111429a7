"""One correct thumbnail of the newest generation, whoever comes at the same time, and in whatever order.

Three ways to look for what could go wrong: every order in which two callers' storage calls can fall; many threads at
once; and a machine that adds, replaces, deletes, breaks, stops and tries again at random, with others coming between
any two calls.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from enum import Enum
from functools import cache, partial
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from PIL import Image
from structlog.testing import capture_logs

from service.errors import NameTaken, RetryLater, ServiceError, StorageUnavailable
from service.events import ObjectFinalized
from service.images.spec import ThumbnailSpec
from service.naming import BOOKKEEPING_FOLDER, GENERATION_KEY, SOURCE_KEY, Hour, is_output
from service.outcome import Outcome, Result
from service.runs.report import RunReport
from service.runs.request import RunRequest
from service.storage.addresses import FolderLocation
from service.storage.base import StoredObject
from service.thumbnailer import Thumbnailer
from tests.support.assembly import Task, finished, make_service, make_thumbnailer
from tests.support.memory_store import EPOCH, MemoryStore
from tests.support.pictures import encoded, opened

HOUR = Hour.of(EPOCH)
LATER = Hour("20251203T16Z")
FENCE = FolderLocation("photos", "in/")
SPEC = ThumbnailSpec()
WAIT_SECONDS = 30
"""For another thread, which comes at once unless something is wrong."""

COLOURS = ((255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (255, 0, 255), (0, 255, 255), (0, 0, 0))
FORMATS = {"jpg": "JPEG", "png": "PNG", "tif": "TIFF"}


@cache
def picture(colour: int, extension: str) -> bytes:
    return encoded(Image.new("RGB", (8, 8), COLOURS[colour]), FORMATS[extension])


@cache
def colour_of(data: bytes) -> int:
    """Which colour a picture is, as near as JPEG keeps it."""
    pixel = opened(data).convert("RGB").getpixel((4, 4))
    assert isinstance(pixel, tuple)
    distances = [sum(abs(a - b) for a, b in zip(pixel, colour, strict=True)) for colour in COLOURS]
    assert min(distances) < 60
    return distances.index(min(distances))


class WatchedStore(MemoryStore):
    """Remembers what every generation was a picture of, and notes what must never be written or read."""

    def __init__(self) -> None:
        super().__init__("photos")
        self.hour = 0
        """How many hours after the first one objects are made."""
        self.colours: dict[int, int | None] = {}
        """By generation; None of one that is no picture."""
        self.wrongs: list[str] = []
        self.replaced: list[str] = []
        """Names in hour folders that held something already when they were written."""
        self.after_write: Callable[[], None] = lambda: None
        """Called when a write is done, and before its caller knows."""

    def upload(self, name: str, colour: int | None) -> StoredObject:
        extension = name.rpartition(".")[2]
        data = picture(0, extension)[:-40] if colour is None else picture(colour, extension)
        with self._lock:
            created = EPOCH + timedelta(hours=self.hour, seconds=len(self.colours))
            found = self.put(f"gs://photos/{name}", data, "", created=created)
            self.colours[found.generation] = colour
        return found

    def live(self) -> list[StoredObject]:
        """The sources that are there."""
        return [self.held(f"gs://photos/{name}").described for name in self.names("photos", FENCE.prefix)]

    def put(self, uri: str, *args: Any, **kwargs: Any) -> StoredObject:  # noqa: ANN401 - as in MemoryStore
        name = uri.removeprefix("gs://photos/")
        with self._lock:
            before = self._buckets["photos"].get(name)
            found = super().put(uri, *args, **kwargs)
            if not name.startswith((FENCE.prefix, BOOKKEEPING_FOLDER)):
                self._check(name, before.described if before else None, found)
        return found

    def _check(self, name: str, before: StoredObject | None, after: StoredObject) -> None:
        source = after.metadata.get(SOURCE_KEY, "")
        if not is_output(name):
            self.wrongs.append(f"{name} is outside the folders that the service writes to")
        if not source.startswith(str(FENCE)):
            self.wrongs.append(f"{name} is a thumbnail of {source}")
        if before:
            self.replaced.append(name)
            if before.metadata.get(SOURCE_KEY) != source:
                self.wrongs.append(f"{name}: {source} over {before.metadata.get(SOURCE_KEY)}")
            if int(before.metadata[GENERATION_KEY]) > int(after.metadata[GENERATION_KEY]):
                self.wrongs.append(f"{name}: {after.metadata} over {before.metadata}")

    def read(self, found: StoredObject, max_bytes: int) -> bytes:
        if found.location not in FENCE and not found.location.name.startswith(BOOKKEEPING_FOLDER):
            self.wrongs.append(f"{found.location} was read")
        return super().read(found, max_bytes)

    def write(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - as in MemoryStore
        super().write(*args, **kwargs)
        self.after_write()


def check(store: WatchedStore, hours: Sequence[Hour] = (HOUR,)) -> None:
    """Every source that is there has one thumbnail in these hours, the right one, and every thumbnail is what it says.

    Of a source that is no picture there is none of this generation.
    """
    assert store.wrongs == []
    for hour in hours:
        thumbnails = [store.held(f"gs://photos/{name}") for name in store.names("photos", f"{hour}/")]
        for held in thumbnails:
            made_from = int(held.described.metadata[GENERATION_KEY])
            assert colour_of(held.data) == store.colours[made_from], "it shows another picture than it says"
        made = [
            (held.described.metadata[SOURCE_KEY], int(held.described.metadata[GENERATION_KEY])) for held in thumbnails
        ]
        assert len({source for source, _ in made}) == len(made), "a source has two thumbnails"
        for found in store.live():
            there = (str(found.location), found.generation) in made
            assert there == (store.colours[found.generation] is not None), f"{found}: {made}"


def event(found: StoredObject, *, bare: bool = False) -> ObjectFinalized:
    return ObjectFinalized(found.location, found.generation, None if bare else found)


def delivered(thumbnailer: Thumbnailer, found: StoredObject, *, bare: bool = False) -> Outcome:
    """Deliver an event again and again, as Pub/Sub does, until it is not to be tried again."""
    for _ in range(20):
        with suppress(RetryLater):
            return thumbnailer.process_event(event(found, bare=bare))
    raise AssertionError("it never succeeds")


class Inline(Executor):
    """Does at once, in the caller's thread, what it is given."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:  # noqa: ANN401 - as in Executor
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except BaseException as error:  # noqa: BLE001 - as any executor
            future.set_exception(error)
        return future


def make_run(
    thumbnailer: Thumbnailer,
    executor: Executor,
    hour: Hour = HOUR,
    **request: Any,  # noqa: ANN401 - whatever a field is
) -> Task:
    service = replace(make_service(thumbnailer._store, executor), thumbnailer=thumbnailer)
    return Task(service, RunRequest(**request), hour)


@pytest.fixture
def store() -> WatchedStore:
    return WatchedStore()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nobody waits longer than for others' calls, and thousands of lines of log are kept from the terminal."""
    monkeypatch.setattr("service.runs.reporter.SPACING_SECONDS", 0)
    monkeypatch.setattr("service.runs.plan._POLL_SECONDS", 0.001)
    monkeypatch.setattr("service.runs.lease._PAUSES", (0, 0, 0, 0))
    with capture_logs():
        yield


class Turns:
    """Lets callers make their storage calls one at a time, in an order that is chosen call by call."""

    def __init__(self, choose: Callable[[int], int], *, bookkeeping: bool) -> None:
        """Assemble.

        Args:
            choose: picks one of so many callers.
            bookkeeping: whether calls about plans and reports wait for their turn, too.
        """
        self._choose = choose
        self._bookkeeping = bookkeeping
        self._who = threading.local()
        self._changed = threading.Condition()
        self._alive: set[int] = set()
        self._waiting: set[int] = set()
        self._next: int | None = None

    def step(self, kind: str = "", _: object = None) -> None:
        """Wait for one's turn; the store's `fault`. Threads that are none of the callers pass."""
        me = getattr(self._who, "number", None)
        if me is None or (kind.startswith("bookkeeping") and not self._bookkeeping):
            return
        with self._changed:
            self._waiting.add(me)
            self._changed.notify_all()
            assert self._changed.wait_for(lambda: self._next == me, WAIT_SECONDS)
            self._next = None
            self._waiting.remove(me)

    def play(self, store: MemoryStore, callers: Sequence[Callable[[], object]]) -> list[Any]:
        """Have them all call, and return what each of them returned."""
        store.fault = self.step
        self._alive = set(range(len(callers)))
        with ThreadPoolExecutor(len(callers)) as threads:
            futures = [threads.submit(self._call, number, caller) for number, caller in enumerate(callers)]
            with self._changed:
                while True:
                    assert self._changed.wait_for(
                        lambda: self._next is None and self._waiting == self._alive, WAIT_SECONDS
                    )
                    if not self._alive:
                        break
                    self._next = sorted(self._waiting)[self._choose(len(self._waiting))]
                    self._changed.notify_all()
        store.fault = lambda *_: None
        return [future.result() for future in futures]

    def _call(self, number: int, caller: Callable[[], object]) -> object:
        self._who.number = number
        try:
            return caller()
        finally:
            with self._changed:
                self._alive.remove(number)
                self._changed.notify_all()


def in_every_order(scenario: Callable[[Turns], None], *, at_least: int) -> None:
    """Play a scenario in each order that its callers' calls can fall in."""
    first: list[int] = []
    for played in range(1, 10_000):
        choices: list[tuple[int, int]] = []

        def choose(count: int, first: list[int] = first, choices: list[tuple[int, int]] = choices) -> int:
            choice = first[len(choices)] if len(choices) < len(first) else 0
            choices.append((choice, count))
            return choice

        scenario(Turns(choose, bookkeeping=False))
        while choices and choices[-1][0] + 1 == choices[-1][1]:
            choices.pop()
        if not choices:
            assert played >= at_least, "hardly anything was played"
            return
        first = [choice for choice, _ in choices[:-1]] + [choices[-1][0] + 1]
    raise AssertionError("more orders than can be played")


def in_some_orders(scenario: Callable[[Turns], None], count: int) -> None:
    """Play a scenario in so many orders."""
    for seed in range(count):
        scenario(Turns(Random(seed).randrange, bookkeeping=True))  # noqa: S311 - the same ones each time


class TestEveryOrder:
    """Between any two storage calls of one caller, any number of another one's."""

    @pytest.mark.parametrize("bare", [False, True])
    @pytest.mark.parametrize("taken", [False, True])
    def test_two_deliveries_of_one_event(self, *, taken: bool, bare: bool) -> None:
        def scenario(turns: Turns) -> None:
            store = WatchedStore()
            thumbnailer = make_thumbnailer(store)
            if taken:
                thumbnailer.process_event(event(store.upload("in/x.png", 0)))
            found = store.upload("in/x.png", 1)
            deliver = partial(delivered, thumbnailer, found, bare=bare)
            outcomes = turns.play(store, [deliver, deliver])
            assert sorted(outcome.result for outcome in outcomes) == [Result.CREATED, Result.SKIPPED]
            assert len(store.replaced) == int(taken), "it was written twice"
            check(store)

        in_every_order(scenario, at_least=6)

    @pytest.mark.parametrize("taken", [False, True])
    def test_the_events_of_two_generations(self, *, taken: bool) -> None:
        def scenario(turns: Turns) -> None:
            store = WatchedStore()
            thumbnailer = make_thumbnailer(store)
            if taken:
                thumbnailer.process_event(event(store.upload("in/x.png", 0)))
            older = store.upload("in/x.png", 1)

            def newer() -> Outcome:
                turns.step()
                return delivered(thumbnailer, store.upload("in/x.png", 2))

            first, second = turns.play(store, [partial(delivered, thumbnailer, older), newer])
            assert second.result is Result.CREATED
            assert first.result in {Result.CREATED, Result.SKIPPED, Result.IGNORED}
            check(store)

        in_every_order(scenario, at_least=6)

    def test_the_events_of_three_generations_each_delivered_twice(self) -> None:
        # Far more orders than can be played.
        def scenario(turns: Turns) -> None:
            store = WatchedStore()
            thumbnailer = make_thumbnailer(store)
            first = store.upload("in/x.png", 0)

            def newer(colour: int) -> Outcome:
                turns.step()
                found = store.upload("in/x.png", colour)
                delivered(thumbnailer, found)
                return delivered(thumbnailer, found, bare=True)

            deliver = partial(delivered, thumbnailer, first)
            turns.play(store, [deliver, deliver, partial(newer, 1), partial(newer, 2)])
            check(store)

        in_some_orders(scenario, 200)

    def test_two_sources_of_one_name(self) -> None:
        def scenario(turns: Turns) -> None:
            store = WatchedStore()
            thumbnailer = make_thumbnailer(store)
            found = [store.upload("in/a/x.png", 0), store.upload("in/b/x.png", 1)]
            outcomes = turns.play(store, [partial(delivered, thumbnailer, one) for one in found])
            assert [outcome.result for outcome in outcomes] == [Result.CREATED] * 2
            assert sorted(bool(outcome.renamed) for outcome in outcomes) == [False, True]
            assert store.replaced == []
            check(store)

        in_every_order(scenario, at_least=6)

    def test_a_name_and_its_twin_with_another_extension(self) -> None:
        # The thumbnail of x.tif is called x.tif.jpg, which is what the other one's is called as well.
        def scenario(turns: Turns) -> None:
            store = WatchedStore()
            thumbnailer = make_thumbnailer(store)
            found = [store.upload("in/x.tif", 0), store.upload("in/x.tif.jpg", 1)]
            turns.play(store, [partial(delivered, thumbnailer, one) for one in found])
            assert store.replaced == []
            check(store)

        in_every_order(scenario, at_least=6)

    @pytest.mark.parametrize("overwrite", [False, pytest.param(True, marks=pytest.mark.slow)])
    def test_a_run_and_the_event_of_a_newer_generation(self, *, overwrite: bool) -> None:
        def scenario(turns: Turns) -> None:
            store = WatchedStore()
            thumbnailer = make_thumbnailer(store)
            thumbnailer.process_event(event(store.upload("in/x.png", 0)))

            def replacing() -> Outcome:
                turns.step()
                return delivered(thumbnailer, store.upload("in/x.png", 1))

            run = make_run(thumbnailer, Inline(), overwrite=overwrite)
            report, outcome = turns.play(store, [partial(finished, run), replacing])
            assert (report.assigned, report.created + report.skipped) == (1, 1)
            assert outcome.result in {Result.CREATED, Result.SKIPPED}
            check(store)

        in_every_order(scenario, at_least=100)

    def test_a_run_and_a_source_that_is_replaced_twice_meanwhile(self) -> None:
        # Without events: what the run finds is what it has to make, whichever generation that is by then.
        def scenario(turns: Turns) -> None:
            store = WatchedStore()
            thumbnailer = make_thumbnailer(store)
            listed = store.upload("in/x.png", 0)

            def replacing() -> None:
                for colour in (1, 2):
                    turns.step()
                    store.upload("in/x.png", colour)

            report, _ = turns.play(store, [partial(finished, make_run(thumbnailer, Inline())), replacing])
            # It may have to be tried again; but it is there, so it was not deleted and will work.
            assert report.rejections == []
            assert report.created + report.failed == 1
            if report.created:
                (name,) = store.names("photos", f"{HOUR}/")
                made_from = int(store.held(f"gs://photos/{name}").described.metadata[GENERATION_KEY])
                assert made_from >= listed.generation
            assert finished(make_run(thumbnailer, Inline())).whole
            check(store)

        in_every_order(scenario, at_least=10)

    def test_a_run_and_a_source_that_is_deleted_meanwhile(self) -> None:
        def scenario(turns: Turns) -> None:
            store = WatchedStore()
            thumbnailer = make_thumbnailer(store)
            store.upload("in/x.png", 0)
            kept = store.upload("in/y.png", 1)

            def deleting() -> None:
                turns.step()
                store.delete("gs://photos/in/x.png")

            report, _ = turns.play(store, [partial(finished, make_run(thumbnailer, Inline())), deleting])
            assert report.whole
            assert {rejection.code for rejection in report.rejections} <= {"source_gone"}
            assert store.live() == [kept]
            check(store)

        in_every_order(scenario, at_least=5)

    @pytest.mark.parametrize("count", [1, 2])
    @pytest.mark.parametrize("overwrite", [False, True])
    def test_one_task_of_one_run_twice(self, count: int, *, overwrite: bool) -> None:
        # Far more orders than can be played.
        def scenario(turns: Turns) -> None:
            store = WatchedStore()
            thumbnailer = make_thumbnailer(store)
            for index in range(2 * count):
                store.upload(f"in/{index}.png", index)
            callers = []
            for hour in (HOUR, LATER):
                run = make_run(thumbnailer, Inline(), hour, run_id="nightly", task_count=count, overwrite=overwrite)
                callers.append(partial(finished, run))
            reports = turns.play(store, callers)
            for report in reports:
                assert report.whole
                assert (report.discovered, report.assigned) == (2 * count, 2)
            # Whoever was first with the plan has said which hour it is.
            assert [report.timestamp for report in reports] == [reports[0].timestamp] * 2
            assert store.names("photos", "2025") == [f"{reports[0].timestamp}/{index}.png" for index in range(2)]
            assert overwrite or store.replaced == []
            assert store.wrongs == []

        in_some_orders(scenario, 60)

    @pytest.mark.parametrize("lease", [30, 0])
    def test_two_tasks_of_one_run_agree_on_one_plan_though_one_starts_an_hour_later(
        self, lease: float, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # Without a lease both of them plan.
        monkeypatch.setattr("service.runs.lease.LEASE_SECONDS", lease)

        def scenario(turns: Turns) -> None:
            store = WatchedStore()
            thumbnailer = make_thumbnailer(store)
            for index in range(4):
                store.upload(f"in/{index}.png", index)
            runs = [
                make_run(thumbnailer, Inline(), hour, run_id="nightly", task_index=index, task_count=2)
                for index, hour in enumerate((HOUR, LATER))
            ]
            reports = turns.play(store, [partial(finished, run) for run in runs])
            assert [report.assigned for report in reports] == [2, 2]
            assert len({report.timestamp for report in reports}) == 1
            assert store.replaced == []
            check(store, [Hour(reports[0].timestamp)])

        in_some_orders(scenario, 60)


def test_what_is_made_again_is_written_once_though_the_answer_is_lost(store: WatchedStore) -> None:
    thumbnailer = make_thumbnailer(store)
    found = store.upload("in/x.png", 0)
    thumbnailer.process(found, HOUR)

    def lose() -> None:
        raise NameTaken("by the try before")

    store.after_write = lose
    assert thumbnailer.process(found, HOUR, overwrite=True).result is Result.CREATED
    assert store.replaced == [f"{HOUR}/x.png"]
    check(store)


class TestManyThreads:
    @pytest.mark.parametrize("kind", ["read", "write"])
    def test_one_event_twenty_times_at_once_is_written_once(self, store: WatchedStore, kind: str) -> None:
        thumbnailer = make_thumbnailer(store)
        found = store.upload("in/x.png", 3)
        together = threading.Barrier(20, timeout=WAIT_SECONDS)

        def meet(called: str, _: object) -> None:
            # The first call of this kind that each of them makes: none of them reads, or writes, before all do.
            if called == kind:
                together.wait()

        store.fault = meet
        with ThreadPoolExecutor(20) as threads:
            outcomes = list(threads.map(thumbnailer.process_event, [event(found)] * 20))
        assert sorted(outcome.result for outcome in outcomes) == [Result.CREATED] + [Result.SKIPPED] * 19
        assert len({outcome.thumbnails for outcome in outcomes}) == 1
        assert (store.calls["read"], store.calls["write"], store.replaced) == (20, 20, [])
        check(store)

    @pytest.mark.parametrize("sources", [2, 8])
    @pytest.mark.parametrize("kind", ["read", "write"])
    def test_sources_of_one_name_in_eight_threads(self, store: WatchedStore, sources: int, kind: str) -> None:
        thumbnailer = make_thumbnailer(store)
        found = [store.upload(f"in/{index}/x.png", index % len(COLOURS)) for index in range(sources)]
        together = threading.Barrier(8, timeout=WAIT_SECONDS)
        met = threading.local()

        def meet(called: str, _: object) -> None:
            if called == kind and not hasattr(met, "once"):
                met.once = True
                together.wait()

        store.fault = meet
        with ThreadPoolExecutor(8) as threads:
            outcomes = list(
                threads.map(thumbnailer.process_event, [event(found[index % sources]) for index in range(8)])
            )
        assert [outcome.result for outcome in outcomes].count(Result.CREATED) == sources
        assert len({outcome.thumbnails for outcome in outcomes}) == sources
        plain = {outcome.source for outcome in outcomes if not outcome.renamed}
        assert len(plain) == 1
        assert store.replaced == []
        check(store)

    @pytest.mark.parametrize("count", [1, 3])
    def test_a_run_twice_and_events_of_the_same_objects_that_are_replaced_meanwhile(
        self, store: WatchedStore, count: int
    ) -> None:
        thumbnailer = make_thumbnailer(store)
        names = [f"in/{index % 3}/{index // 3:02}.png" for index in range(30)]
        found = [store.upload(name, index % len(COLOURS)) for index, name in enumerate(names)]
        start = threading.Barrier(8, timeout=WAIT_SECONDS)

        def events(order: int) -> None:
            start.wait()
            shuffled = list(enumerate(found))
            Random(order).shuffle(shuffled)  # noqa: S311 - the same each time
            for index, one in shuffled:
                delivered(thumbnailer, one, bare=bool(order % 2))
                if index % 4 == order:
                    delivered(thumbnailer, store.upload(one.location.name, (index + order) % len(COLOURS)))

        def tasks(executor: Executor) -> None:
            start.wait()
            for index in range(count):
                report = finished(make_run(thumbnailer, executor, task_index=index, task_count=count))
                assert not report.failures or {problem.code for problem in report.failures} == {"storage_unavailable"}

        with ThreadPoolExecutor(4) as executor, ThreadPoolExecutor(8) as threads:
            jobs = [threads.submit(events, order) for order in range(6)]
            jobs += [threads.submit(tasks, executor) for _ in range(2)]
            for job in jobs:
                job.result(WAIT_SECONDS)
        check(store)

    @pytest.mark.parametrize("count", [1, 4])
    def test_two_calls_of_one_run_id_at_once_make_each_thumbnail_once(self, store: WatchedStore, count: int) -> None:
        thumbnailer = make_thumbnailer(store)
        for index in range(24):
            store.upload(f"in/{index:02}.png", index % len(COLOURS))
        start = threading.Barrier(2 * count, timeout=WAIT_SECONDS)

        def task(executor: Executor, index: int) -> RunReport:
            run = make_run(thumbnailer, executor, run_id="nightly", task_index=index, task_count=count)
            start.wait()
            return finished(run)

        with ThreadPoolExecutor(4) as executor, ThreadPoolExecutor(2 * count) as threads:
            reports = list(threads.map(partial(task, executor), [*range(count)] * 2))
        assert all(report.whole for report in reports)
        assert [report.assigned for report in reports] == [24 // count] * 2 * count
        # One of the two has made each.
        assert sum(report.created for report in reports) == 24
        assert store.replaced == []
        check(store)


class Lost(Enum):
    """What becomes of the answer to a write that was done."""

    NO_ANSWER = "none comes, however often it is tried again"
    TRIED_AGAIN = "the client tries again, and finds the name taken by its own first try"


SOURCES = (
    "in/a/x.png",
    "in/b/x.png",
    "in/c/x.png",
    "in/a/y.jpg",
    "in/b/y.jpg",
    "in/a/z.tif",
    "in/b/z.tif.jpg",
    "in/z.png",
)
"""Some of one name, some whose thumbnails get one name."""

RUNS = ((None, HOUR, 1), ("nightly", HOUR, 3), (None, LATER, 2), ("weekly", LATER, 1))
"""The id, the hour and the number of tasks of each run that there may be."""


class Machine(RuleBasedStateMachine):
    """What happens to a bucket; `settle` is when everything that is due has been done, and all has to be right."""

    def __init__(self) -> None:
        super().__init__()
        self.store = WatchedStore()
        self.store.fault = self._called
        self.store.after_write = self._written
        self.thumbnailer = make_thumbnailer(self.store)
        self.due: list[tuple[StoredObject, bool]] = []
        """Events that have to be delivered, and whether they are to be without description."""
        self.past: list[StoredObject] = []
        """Events that may be delivered again."""
        self.begun: set[int] = set()
        """Of RUNS."""
        self.trouble: Callable[[], None] | None = None
        self.calls_until_trouble = 0
        self.lost: Lost | None = None

    def _called(self, *_: object) -> ServiceError | None:
        if self.trouble is None or threading.current_thread().name == "reporter":
            return None  # What the reporter's thread does is another one's call as well, but not in a certain order.
        self.calls_until_trouble -= 1
        if self.calls_until_trouble > 0:
            return None
        trouble, self.trouble = self.trouble, None
        try:
            trouble()
        except StorageUnavailable as error:
            return error
        return None

    def _written(self) -> None:
        lost, self.lost = self.lost, None
        if lost is Lost.NO_ANSWER:
            raise StorageUnavailable("the answer was lost")
        if lost is Lost.TRIED_AGAIN:
            raise NameTaken("by the try before")

    @rule(name=st.sampled_from(SOURCES), colour=st.integers(0, len(COLOURS) - 1) | st.none(), bare=st.booleans())
    def add_or_replace(self, name: str, colour: int | None, *, bare: bool) -> None:
        self.due.append((self.store.upload(name, colour), bare))

    @rule(number=st.integers(0, 10))
    def delete(self, number: int) -> None:
        if live := self.store.live():
            self.store.delete(str(live[number % len(live)].location))

    @precondition(lambda self: self.due)
    @rule(number=st.integers(0, 10))
    def deliver_one(self, number: int) -> None:
        found, bare = self.due[number % len(self.due)]
        with suppress(RetryLater):
            self.thumbnailer.process_event(event(found, bare=bare))
            self.past.append(found)
            if (found, bare) in self.due:  # Else it was delivered at the same time.
                self.due.remove((found, bare))

    @precondition(lambda self: self.past)
    @rule(number=st.integers(0, 30), bare=st.booleans())
    def deliver_again(self, number: int, *, bare: bool) -> None:
        with suppress(RetryLater):
            self.thumbnailer.process_event(event(self.past[number % len(self.past)], bare=bare))

    def _run(self, number: int, index: int, **request: Any) -> Task:  # noqa: ANN401 - whatever a field is
        run_id, hour, count = RUNS[number]
        self.begun.add(number)
        return make_run(
            self.thumbnailer, Inline(), hour, run_id=run_id, task_index=index % count, task_count=count, **request
        )

    @rule(number=st.integers(0, len(RUNS) - 1), index=st.integers(0, 2), overwrite=st.booleans())
    def run_a_task(self, number: int, index: int, *, overwrite: bool) -> None:
        finished(self._run(number, index, overwrite=overwrite))

    @rule(number=st.integers(0, len(RUNS) - 1), index=st.integers(0, 2), images=st.integers(0, 4))
    def stop_a_task(self, number: int, index: int, images: int) -> None:
        enough = self.store.calls["read"] + images
        run = self._run(number, index)
        run.open()
        run.work(lambda: self.store.calls["read"] >= enough)

    @rule(calls=st.integers(1, 12))
    def break_storage(self, calls: int) -> None:
        """One of the next calls fails."""

        def fail() -> None:
            raise StorageUnavailable("down for a moment")

        self.trouble, self.calls_until_trouble = fail, calls

    @rule(lost=st.sampled_from(Lost))
    def lose_an_answer(self, lost: Lost) -> None:
        self.lost = lost

    @rule(calls=st.integers(1, 12), name=st.sampled_from(SOURCES), colour=st.integers(0, len(COLOURS) - 1))
    def replace_meanwhile(self, calls: int, name: str, colour: int) -> None:
        """Before one of the next calls a source is replaced, and its event comes at once."""

        def act() -> None:
            found = self.store.upload(name, colour)
            self.due.append((found, False))
            self.thumbnailer.process_event(event(found))

        self.trouble, self.calls_until_trouble = act, calls

    @rule(calls=st.integers(1, 12), number=st.integers(0, 10))
    def delete_meanwhile(self, calls: int, number: int) -> None:
        self.trouble, self.calls_until_trouble = partial(self.delete, number), calls

    @rule(calls=st.integers(1, 12), number=st.integers(0, len(RUNS) - 1), index=st.integers(0, 2))
    def run_meanwhile(self, calls: int, number: int, index: int) -> None:
        def act() -> None:
            finished(self._run(number, index))

        self.trouble, self.calls_until_trouble = act, calls

    @rule()
    def an_hour_passes(self) -> None:
        self.store.hour = 1

    @invariant()
    def nothing_is_written_that_must_not_be(self) -> None:
        assert self.store.wrongs == []

    @rule()
    def settle(self) -> None:
        self.trouble = self.lost = None
        for found, bare in reversed(self.due):
            self.thumbnailer.process_event(event(found, bare=bare))
        self.past += [found for found, _ in self.due]
        self.due.clear()
        for number in sorted(self.begun):
            for index in range(RUNS[number][2]):
                report = finished(self._run(number, index))
                assert report.whole
                assert {problem.code for problem in report.rejections} <= {"corrupt_image"}
        check(self.store, sorted({RUNS[number][1] for number in self.begun}, key=str))
        # And each in the hour in which it was created, for its event.
        for found in self.store.live():
            if self.store.colours[found.generation] is not None:
                made = [
                    held.described.metadata[GENERATION_KEY]
                    for name in self.store.names("photos", f"{Hour.of(found.created)}/")
                    if (held := self.store.held(f"gs://photos/{name}")).described.metadata[SOURCE_KEY]
                    == str(found.location)
                ]
                assert made == [str(found.generation)]

    def teardown(self) -> None:
        self.settle()


def test_whatever_happens_in_whatever_order_everything_is_right_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    # Of a planner that was stopped, nobody waits to hear: there is one thread only.
    monkeypatch.setattr("service.runs.lease.LEASE_SECONDS", 0)
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=100, stateful_step_count=25, deadline=None, suppress_health_check=[HealthCheck.too_slow]
        ),
    )
