"""More work than there is room for, callers that go away, and the end of the process while storage hangs.

However many requests there are, so many images are in flight, and whoever cannot be served in time is told so.
"""

import asyncio
import json
import socket
import threading
from asyncio import timeout
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import httpx
import pytest

from service.bootstrap import MAX_OPEN_RUNS, Service, build
from service.naming import BOOKKEEPING_FOLDER
from service.process import Shutdown, Stop
from service.runs.report import Report
from service.runs.request import RunParameters
from service.runs.runner import run_task
from service.runs.start import Start, preflight
from service.settings import Settings
from service.storage.addresses import FolderLocation, ObjectLocation
from service.storage.base import StoredObject
from service.thumbnailer import SMALL_BYTES
from service.web.app import create_app
from tests.conftest import Put, Serve
from tests.support.assembly import decoders
from tests.support.eventarc import deliver
from tests.support.memory_store import MemoryStore
from tests.support.pictures import encoded, jpeg, quadrants
from tests.support.proxy import Proxy
from tests.support.waiting import until

SMALL = jpeg(16, 12)
LARGE = encoded(quadrants(2000, 1600), "PNG")
"""Decoding it takes more memory than a worker has without asking."""
PLACES = 3
WAIT_SECONDS = 30
"""For what comes at once unless something is wrong."""

HOURS = [f"202601{day:02}T{hour:02}Z" for day in (1, 2) for hour in range(24)]
"""For more runs than may be open at once."""


class Gate:
    """Stands between the service and its store, holds back calls of one kind, and counts those that are under way."""

    def __init__(self, service: Service, monkeypatch: pytest.MonkeyPatch, kind: str = "read") -> None:
        """Hold back what the proxy calls so, such as `read` or `bookkeeping write`."""
        self._kind = kind
        self._open = threading.Event()
        self._lock = threading.Lock()
        self.inside = 0
        self.most = 0
        self.calls = 0
        """In all, and those that were let go by now."""
        store = service.store
        for name, method in (("read", "read"), ("write", "write"), ("stat", "stat"), ("list", "list_objects")):
            monkeypatch.setattr(store, method, partial(self._call, name, getattr(store, method)))

    def _call(
        self,
        name: str,
        method: Callable[..., Any],
        about: StoredObject | ObjectLocation | FolderLocation,
        *args: Any,  # noqa: ANN401 - the store's own
        **more: Any,  # noqa: ANN401 - the store's own
    ) -> Any:  # noqa: ANN401 - the store's own
        location = about.location if isinstance(about, StoredObject) else about
        bookkeeping = f"/{BOOKKEEPING_FOLDER}" in str(location)
        if self._kind != f"{'bookkeeping ' * bookkeeping}{name}":
            return method(about, *args, **more)
        with self._lock:
            self.calls += 1
            self.inside += 1
            self.most = max(self.most, self.inside)
        try:
            assert self._open.wait(2 * WAIT_SECONDS)
            return method(about, *args, **more)
        finally:
            with self._lock:
                self.inside -= 1

    def open(self) -> None:
        """Let all calls go, now and from now on."""
        self._open.set()


@contextmanager
def callers(gate: Gate) -> Iterator[ThreadPoolExecutor]:
    """Threads to make requests from; at the end all calls go on, whatever the test found."""
    with ThreadPoolExecutor(64) as threads:
        try:
            yield threads
        finally:
            gate.open()


class Runs:
    """Watches what the requests for runs do in their threads."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Stand before `preflight` and `run_task`."""
        self.stops: list[Callable[[], bool]] = []
        """What each that works asks whether it is to stop."""
        self.at_it = 0
        self._lock = threading.Lock()

        def watched_preflight(params: RunParameters, service: Service, report: Report) -> Start | None:
            with self._counted():
                return preflight(params, service, report)

        def watched_task(params: RunParameters, service: Service, start: Start, report: Report, stop: Stop) -> None:
            self.stops.append(stop.is_set)
            with self._counted():
                run_task(params, service, start, report, stop)

        monkeypatch.setattr("service.runs.supervisor.preflight", watched_preflight)
        monkeypatch.setattr("service.runs.supervisor.run_task", watched_task)

    @contextmanager
    def _counted(self) -> Iterator[None]:
        with self._lock:
            self.at_it += 1
        try:
            yield
        finally:
            with self._lock:
                self.at_it -= 1


def call_run(client: httpx.Client, accept: str, body: dict[str, str]) -> socket.socket:
    """Ask for a run, and return the connection without waiting for the answer."""
    caller = socket.create_connection((client.base_url.host, client.base_url.port or 0))
    content = json.dumps(body).encode()
    caller.sendall(
        b"POST /run HTTP/1.1\r\nHost: service\r\nAccept: %b\r\nContent-Length: %d\r\n\r\n%b"
        % (accept.encode(), len(content), content)
    )
    return caller


def queued(service: Service) -> int:
    """How many images wait for a place."""
    assert isinstance(service.executor, ThreadPoolExecutor)
    return service.executor._work_queue.qsize()


def results(futures: list[Future[httpx.Response]]) -> list[httpx.Response]:
    return [future.result(WAIT_SECONDS) for future in futures]


class TestPlaces:
    def test_images_in_flight_are_bounded_for_the_process_whatever_the_number_of_requests(
        self, serve: Serve, put: Put, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        resources = [put(f"in/{index:02}.jpg", SMALL) for index in range(12)]
        client, service = serve(concurrency=PLACES)
        # Nothing but images waits in the queue.
        monkeypatch.setattr("service.runs.start.begin", lambda _, call: call)
        gate = Gate(service, monkeypatch)
        with callers(gate) as threads:
            runs = [
                threads.submit(
                    client.post, "/run", json={"timestamp": f"20260105T1{index}Z"}, headers={"Accept": accept}
                )
                for index, accept in enumerate(["application/json", "application/json", "application/x-ndjson"])
            ]
            events = [threads.submit(deliver, client, resource) for resource in resources]
            # Everything that may be handed over is: a place's worth for each run, and all of the events. What has no
            # place waits in the one queue.
            until(lambda: gate.inside + queued(service) == 3 * PLACES + len(events))
            assert gate.inside == PLACES
            assert client.get("/health").json() == {"status": "ok"}
            assert gate.inside == PLACES, "it was answered while all places were taken"
            gate.open()
            answers = results(runs + events)
        assert [answer.status_code for answer in answers] == [200] * 15
        assert [answer.json()["created"] for answer in answers[:2]] == [12, 12]
        assert {answer.json()["outcome"] for answer in answers[3:]} == {"created"}
        assert gate.most == PLACES
        assert gate.calls == 4 * 12, "once for each of the three runs, and once for its event"

    def test_events_beyond_a_bounded_wait_are_told_when_to_come_again_and_cost_nothing(
        self, serve: Serve, put: Put, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("service.web.events._PLACE_WAIT_SECONDS", 0.2)
        for index in range(PLACES):
            put(f"in/a/{index}.jpg", SMALL)
        client, service = serve(concurrency=PLACES)
        gate = Gate(service, monkeypatch)
        with callers(gate) as threads:
            run = threads.submit(client.post, "/run", json={"timestamp": "20260105T10Z"})
            until(lambda: gate.inside == PLACES)
            resources = [put(f"in/b/{index}.jpg", SMALL) for index in range(20)]
            events = [threads.submit(deliver, client, resource) for resource in resources]
            for answer in results(events):
                assert (answer.status_code, answer.json()["code"]) == (503, "overloaded")
                assert int(answer.headers["Retry-After"]) > 0
            assert client.get("/health").status_code == 200
            assert gate.inside == PLACES
            assert not run.done()
            gate.open()
            # Other work is not to blame for the flood.
            assert run.result(WAIT_SECONDS).json()["created"] == PLACES
        assert proxy.requests["read"] == PLACES, "who was sent away is not read later"
        assert {deliver(client, resource).json()["outcome"] for resource in resources} == {"created"}

    def test_an_event_that_has_its_place_is_finished_however_long_it_takes(
        self, serve: Serve, put: Put, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("service.web.events._PLACE_WAIT_SECONDS", 0.2)
        client, service = serve(concurrency=1)
        gate = Gate(service, monkeypatch)
        with callers(gate) as threads:
            slow = threads.submit(deliver, client, put("in/slow.jpg", SMALL))
            until(lambda: gate.inside == 1)
            # This one comes later and waits as long: once it is sent away, the time of the first one is over, too.
            assert deliver(client, put("in/late.jpg", SMALL)).status_code == 503
            assert not slow.done()
            gate.open()
            assert slow.result(WAIT_SECONDS).json()["outcome"] == "created"


class TestOpenRuns:
    def test_those_beyond_a_bound_are_told_when_to_come_again_and_leave_the_other_doors_open(
        self, serve: Serve, put: Put, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        resource = put("in/a.jpg", SMALL)
        client, service = serve()
        gate = Gate(service, monkeypatch, "bookkeeping stat")
        runs = Runs(monkeypatch)
        with callers(gate) as threads:
            asked = [threads.submit(client.post, "/run", json={"timestamp": hour}) for hour in HOURS]
            until(lambda: sum(run.done() for run in asked) == len(HOURS) - MAX_OPEN_RUNS)
            for answer in results([run for run in asked if run.done()]):
                assert (answer.status_code, answer.json()["code"]) == (503, "overloaded")
                assert int(answer.headers["Retry-After"]) > 0
            until(lambda: gate.inside == MAX_OPEN_RUNS)
            assert runs.at_it == MAX_OPEN_RUNS
            assert client.get("/health").status_code == 200
            assert deliver(client, resource).json()["outcome"] == "created"
            # How far the runs are matters most if there is too much to do.
            assert client.get("/runs", timeout=10).status_code == 200
            assert gate.inside == MAX_OPEN_RUNS, "they hang still"
            gate.open()
            assert sum(answer.status_code == 200 for answer in results(asked)) == MAX_OPEN_RUNS
            again = [threads.submit(client.post, "/run", json={"timestamp": hour}) for hour in HOURS[:MAX_OPEN_RUNS]]
            assert {answer.status_code for answer in results(again)} == {200}

    @pytest.mark.parametrize("accept", ["application/json", "application/x-ndjson"])
    @pytest.mark.parametrize("silent", ["bookkeeping stat", "bookkeeping write"])
    def test_one_whose_caller_has_gone_counts_until_storage_lets_go_of_it(
        self, serve: Serve, put: Put, accept: str, silent: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("service.web.runs._PROGRESS_SECONDS", 0.02)
        put("in/a.jpg", SMALL)
        client, service = serve()
        gate = Gate(service, monkeypatch, silent)
        runs = Runs(monkeypatch)
        with ExitStack() as stack:
            stack.callback(gate.open)
            with ExitStack() as impatient:
                for hour in HOURS[:MAX_OPEN_RUNS]:
                    impatient.enter_context(call_run(client, accept, {"timestamp": hour}))
                until(lambda: gate.inside == MAX_OPEN_RUNS)
            # A run that has not begun is told once it begins.
            until(lambda: all(stop() for stop in runs.stops) and len(runs.stops) in {0, MAX_OPEN_RUNS})
            assert client.post("/run").json()["code"] == "overloaded"
            assert gate.inside == MAX_OPEN_RUNS, "they hang still"
        until(lambda: client.post("/run").status_code == 200)
        until(lambda: runs.at_it == 0)


class TestSmallAmongLarge:
    def test_a_small_image_waits_for_one_large_image_and_not_for_sixty(
        self, serve: Serve, put: Put, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        client, service = serve(concurrency=9)
        decoders, permits, lock = service.decoders, threading.Semaphore(0), threading.Lock()
        original, begun, ended = decoders.make_thumbnails, Counter[str](), Counter[str]()

        def stepwise(data: bytes, *args: Any, **more: Any) -> Any:  # noqa: ANN401 - the pool's own
            kind = "large" if len(data) > SMALL_BYTES else "small"
            with lock:
                begun[kind] += 1
            if kind == "large":
                assert permits.acquire(timeout=2 * WAIT_SECONDS)
            try:
                return original(data, *args, **more)
            finally:
                with lock:
                    ended[kind] += 1

        monkeypatch.setattr(decoders, "make_thumbnails", stepwise)
        large = [put(f"in/{number}.jpg", SMALL + bytes(SMALL_BYTES)) for number in range(60)]
        small = put("in/small.jpg", SMALL)
        with ThreadPoolExecutor(61) as threads:
            try:
                waiting = [threads.submit(deliver, client, resource) for resource in large]
                until(lambda: begun["large"] == decoders.workers and service.thumbnailer._processors.waiting == 4)
                answer = threads.submit(deliver, client, small)
                until(lambda: service.thumbnailer._processors.waiting == 5)
                permits.release()
                assert answer.result(WAIT_SECONDS).json()["outcome"] == "created"
                assert (ended["large"], ended["small"]) == (1, 1)
            finally:
                permits.release(len(large))
            assert {future.result(WAIT_SECONDS).json()["outcome"] for future in waiting} == {"created"}


class TestMemory:
    @pytest.fixture(autouse=True)
    def impatience(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("service.memory.PATIENCE_SECONDS", 0.5)

    @pytest.mark.parametrize(
        ("budget", "reads", "missing"),
        [("_sources", 0, "memory"), ("_decoding", 1, "memory"), ("_processors", 1, "processors")],
    )
    def test_an_event_that_gets_no_memory_or_processor_is_told_when_to_come_again(
        self, serve: Serve, put: Put, proxy: Proxy, budget: str, reads: int, missing: str
    ) -> None:
        resource = put("in/a.jpg", LARGE)
        client, service = serve()
        memory = getattr(service.thumbnailer, budget)
        with memory.reserve(memory.total):
            answer = deliver(client, resource)
            assert (answer.status_code, answer.json()["code"]) == (503, "overloaded")
            assert int(answer.headers["Retry-After"]) > 0
            assert missing in answer.json()["reason"]
            assert client.get("/health").status_code == 200
        assert (proxy.requests["read"], proxy.requests["write"]) == (reads, 0)
        assert deliver(client, resource).json()["outcome"] == "created"

    @pytest.mark.parametrize("budget", ["_sources", "_decoding", "_processors"])
    def test_a_run_whose_images_get_no_memory_says_so_and_its_retry_makes_them(
        self, serve: Serve, put: Put, budget: str
    ) -> None:
        for index in range(3):
            put(f"in/{index}.jpg", LARGE)
        client, service = serve()
        memory = getattr(service.thumbnailer, budget)
        with memory.reserve(memory.total):
            answer = client.post("/run", json={"timestamp": "20260105T10Z"})
        assert answer.status_code == 503
        assert [failure["code"] for failure in answer.json()["failures"]] == ["overloaded"] * 3
        again = client.post("/run", json={"timestamp": "20260105T10Z"})
        assert (again.status_code, again.json()["created"]) == (200, 3)


class TestCallersThatGoAway:
    @pytest.mark.parametrize("accept", ["application/json", "application/x-ndjson"])
    def test_a_run_takes_no_further_image_once_its_caller_has_gone(
        self, serve: Serve, put: Put, accept: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("service.web.runs._PROGRESS_SECONDS", 0.02)
        for index in range(20):
            put(f"in/{index:02}.jpg", SMALL)
        client, service = serve(concurrency=2)
        gate = Gate(service, monkeypatch)
        runs = Runs(monkeypatch)
        body = {"run_id": "left", "timestamp": "20260105T10Z"}
        with ExitStack() as stack:
            stack.callback(gate.open)
            with call_run(client, accept, body):
                until(lambda: gate.inside == 2)
                assert not runs.stops[0]()
            # The run is told, while storage still has its first images.
            until(runs.stops[0])
        until(lambda: runs.at_it == 0)
        assert gate.calls == 2, "what was in flight was finished, and no further image was read"
        status = client.get("/runs/left").json()
        assert (status["state"], status["created"]) == ("unfinished", 2)
        # The next call does what is left.
        report = client.post("/run", json=body).json()
        assert (report["created"], report["skipped"]) == (18, 2)


HASTE = Shutdown(run=1, images=0.3)


class TestTheEndOfTheProcess:
    @pytest.mark.parametrize("silent", ["write", "bookkeeping stat", "bookkeeping write"])
    def test_a_run_answers_whatever_call_to_storage_hangs(
        self, serve: Serve, put: Put, silent: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        put("in/a.jpg", SMALL)
        client, service = serve(HASTE)
        gate = Gate(service, monkeypatch, silent)
        runs = Runs(monkeypatch)
        with callers(gate) as threads:
            answer = threads.submit(client.post, "/run")
            until(lambda: gate.inside > 0)
            service.stop.set()
            assert answer.result(WAIT_SECONDS).status_code == 503
            assert gate.inside > 0, "it hangs still"
        assert "shutting_down" in answer.result().text
        until(lambda: runs.at_it == 0)

    def test_events_that_hang_and_events_that_wait_are_for_another_instance(
        self, serve: Serve, put: Put, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        resources = [put(f"in/{index}.jpg", SMALL) for index in range(6)]
        client, service = serve(HASTE, concurrency=2)
        gate = Gate(service, monkeypatch)
        with callers(gate) as threads:
            events = [threads.submit(deliver, client, resource) for resource in resources]
            until(lambda: gate.inside == 2 and queued(service) == 4)
            service.stop.set()
            for answer in results(events):
                assert (answer.status_code, answer.json()["code"]) == (503, "shutting_down")
                assert int(answer.headers["Retry-After"]) > 0
            assert gate.inside == 2, "they hang still"
        # Whoever comes after all those that waited finds that none of them was read.
        service.executor.submit(lambda: None).result(WAIT_SECONDS)
        assert gate.calls == 2

    def test_the_process_ends_though_as_many_runs_hang_as_may_be_open(self, monkeypatch: pytest.MonkeyPatch) -> None:
        service = build(
            Settings(input_folder="gs://photos/in"), MemoryStore("photos"), shutdown=HASTE, decoders=decoders()
        )
        gate = Gate(service, monkeypatch, "list")
        hours = HOURS[:MAX_OPEN_RUNS]

        async def serve_and_end() -> list[int]:
            app = create_app(service)
            caller = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://service")
            try:
                # Leaving this is what the server does last.
                async with timeout(15), app.router.lifespan_context(app), caller:
                    runs = [asyncio.ensure_future(caller.post("/run", json={"timestamp": hour})) for hour in hours]
                    await asyncio.to_thread(until, lambda: gate.inside == len(hours))
                    service.stop.set()
                    answers = [await run for run in runs]
                assert gate.inside == len(hours), "they hang still"
                return [answer.status_code for answer in answers]
            finally:
                gate.open()

        assert asyncio.run(serve_and_end()) == [503] * len(hours)
