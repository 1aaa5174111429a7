"""Runs against storage that fails in every way that networks know: nothing lost, nothing twice, every picture right."""

import itertools
import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import httpx
import pytest
import urllib3
from google.cloud.storage.retry import DEFAULT_RETRY
from PIL import Image

from service.bootstrap import Service, build
from service.demo.network import local_client
from service.demo.storage import download, list_objects, make_bucket, upload
from service.naming import BOOKKEEPING_FOLDER
from service.settings import Settings
from service.storage.cloud import CloudStore
from service.web.app import create_app
from tests.support.assembly import decoders
from tests.support.browser import serving
from tests.support.eventarc import deliver
from tests.support.pictures import encoded, opened
from tests.support.proxy import Fault, Harm, Proxy, proxied

FAULTS: list[Fault] = [503, 429, Harm.RESET_BEFORE, Harm.RESET_AFTER, Harm.CUT, Harm.STALL]
LOST_ANSWERS = {Harm.RESET_AFTER, Harm.CUT}
KINDS = ["read", "write", "list", "bookkeeping stat", "bookkeeping read", "bookkeeping write"]

each_fault = pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: getattr(fault, "name", str(fault)))
each_kind = pytest.mark.parametrize("kind", KINDS)


def colour_of(number: int) -> tuple[int, int, int]:
    """A colour of its own for each number below 216, far enough from the next for JPEG to keep them apart."""
    return number % 6 * 51, number // 6 % 6 * 51, number // 36 * 51


class Case:
    """A folder, an hour and a run of its own, on the server of all tests here."""

    def __init__(
        self, client: httpx.Client, service: Service, proxy: Proxy, emulator: str, bucket: str, number: int
    ) -> None:
        self.client = client
        self.service = service
        self.proxy = proxy
        self.run_id = f"run-{number}"
        self._emulator = emulator
        self._bucket = bucket
        self._hour = f"202512{1 + number // 24:02}T{number % 24:02}Z"
        self._folder = f"in/{number}/"
        self._images: dict[str, tuple[int, str]] = {}
        """By address: the number that the colour stands for, and the generation."""

    def put(self, *names: str) -> None:
        """Put images there, no two of one colour."""
        for name in names:
            number = len(self._images)
            generation = self.put_data(name, encoded(Image.new("RGB", (16, 16), colour_of(number)), quality=95))
            self._images[f"gs://{self._bucket}/{self._folder}{name}"] = number, generation

    def put_data(self, name: str, data: bytes) -> str:
        """Put any object there, and return its generation."""
        return str(upload(self._emulator, self._bucket, self._folder + name, data, "image/jpeg")["generation"])

    def resource(self, name: str) -> dict[str, Any]:
        (resource,) = list_objects(self._emulator, self._bucket, self._folder + name)
        return resource

    def holds(self, name: str) -> bool:
        """Whether there is an object of this whole name."""
        return any(item["name"] == name for item in list_objects(self._emulator, self._bucket, name))

    def call(self, **more: object) -> httpx.Response:
        body = {"input_folder": f"gs://{self._bucket}/{self._folder}", "timestamp": self._hour, "run_id": self.run_id}
        return self.client.post("/run", json=body | more)

    def run(self, status: int = 200) -> dict[str, Any]:
        """Call, see the answer's status, and return the report."""
        answer = self.call()
        assert answer.status_code == status, answer.text
        report: dict[str, Any] = answer.json()
        assert report["assigned"] == report["created"] + report["skipped"] + report["rejected"] + report["failed"]
        return report

    def run_tasks(self, indexes: range | set[int] = range(3)) -> dict[int, httpx.Response]:
        """Call for tasks of three at the same time."""
        with ThreadPoolExecutor(3) as callers:
            answers = {index: callers.submit(self.call, task_index=index, task_count=3) for index in indexes}
        return {index: answer.result() for index, answer in answers.items()}

    def settle(self) -> dict[str, Any]:
        """See that the run is whole by what its tasks have left, and return its status."""
        status: dict[str, Any] = self.client.get(f"/runs/{self.run_id}").json()
        assert status["state"] == "whole"
        assert status["tasks"]["whole"] == status["task_count"]
        assert status["done"] == status["total"] == status["created"] + status["skipped"] + status["rejected"]
        return status

    def check(self) -> None:
        """See that each image has one thumbnail, which is its own."""
        made = self.thumbnails()
        assert Counter(item["metadata"]["thumbnail-source"] for item in made) == dict.fromkeys(self._images, 1)
        for item in made:
            number, generation = self._images[item["metadata"]["thumbnail-source"]]
            assert item["metadata"]["thumbnail-source-generation"] == generation
            picture = opened(download(self._emulator, self._bucket, item["name"]))
            assert picture.size == (16, 16)
            shown = picture.convert("RGB").tobytes()[:3]
            assert all(abs(a - b) < 25 for a, b in zip(shown, colour_of(number), strict=True)), item["name"]

    def thumbnails(self) -> list[dict[str, Any]]:
        return list_objects(self._emulator, self._bucket, f"{self._hour}/")

    def reports(self) -> list[str]:
        """The names of the reports of the tasks, without their folder."""
        folder = f"{BOOKKEEPING_FOLDER}{self.run_id}/"
        names = [item["name"].removeprefix(folder) for item in list_objects(self._emulator, self._bucket, folder)]
        return [name for name in names if name.startswith("task-")]


_worlds = itertools.count()


@pytest.fixture(scope="module")
def world(emulator: str) -> Iterator[Callable[[], Case]]:
    """A server with storage behind a proxy; to start one for each of a hundred tests takes most of their time."""
    # A module's fixture may be made again where tests move between workers.
    bucket = f"faulty-{next(_worlds)}"
    make_bucket(emulator, bucket)
    numbers = itertools.count()
    with proxied(emulator) as proxy, pytest.MonkeyPatch.context() as patch, ExitStack() as stack:
        patch.setenv("STORAGE_EMULATOR_HOST", proxy.url)
        service = build(Settings(input_folder=f"gs://{bucket}/in"), decoders=decoders())
        url = stack.enter_context(serving(create_app(service)))
        client = stack.enter_context(local_client())
        client.base_url = httpx.URL(url)

        yield lambda: Case(client, service, proxy, emulator, bucket, next(numbers))


@pytest.fixture
def case(world: Callable[[], Case]) -> Iterator[Case]:
    made = world()
    made.proxy.requests.clear()
    yield made
    made.proxy.fault = lambda *_: None


@pytest.fixture(autouse=True)
def timings(monkeypatch: pytest.MonkeyPatch) -> None:
    """No report but the last, and no long wait for a task that gave planning up."""
    monkeypatch.setattr("service.runs.reporter.FIRST_SECONDS", 60)
    monkeypatch.setattr("service.runs.reporter.SPACING_SECONDS", 0)
    monkeypatch.setattr("service.runs.lease.LEASE_SECONDS", 0.4)


def patience(case: Case, monkeypatch: pytest.MonkeyPatch, seconds: float, silence: float = 15) -> None:
    """Set how long storage calls are tried, and how long one attempt may take without a word."""
    retry = DEFAULT_RETRY.with_timeout(seconds).with_delay(initial=0.02)
    monkeypatch.setattr("service.storage.cloud._RETRY", retry)
    monkeypatch.setattr("service.storage.cloud._TIMEOUT", (silence, silence))
    store = case.service.store
    assert isinstance(store, CloudStore)
    media = store._media
    monkeypatch.setattr(media, "_retry", retry)
    monkeypatch.setattr(media, "_retried_request", retry(media._request))
    monkeypatch.setattr(media, "_retried_read", retry(media._read_once))
    monkeypatch.setattr(media, "_retried_write", retry(media._write_once))
    monkeypatch.setattr(media, "_timeout", urllib3.Timeout(silence))


def silence(fault: Fault) -> float:
    """Short only where it has to run out."""
    return 0.5 if fault is Harm.STALL else 15


def first(kind: str, fault: Fault) -> Callable[[str, str], Fault]:
    """A fault of the first request of a kind."""
    numbers = itertools.count()
    return lambda asked, _: fault if asked == kind and next(numbers) == 0 else None


@each_fault
@each_kind
def test_a_request_that_fails_once_is_made_up_for_at_the_cost_of_one_more(
    case: Case, kind: str, fault: Fault, monkeypatch: pytest.MonkeyPatch
) -> None:
    patience(case, monkeypatch, 20, silence(fault))
    case.put(*(f"{index}.jpg" for index in range(4)))
    expected = Counter({"read": 4, "write": 4, "list": 2, "bookkeeping stat": 1, "bookkeeping write": 3})
    if kind == "bookkeeping read":
        # The first task there has nothing to read: another one has.
        case.run()
        case.put("4.jpg")
        expected = Counter({"read": 1, "write": 1, "list": 2, "bookkeeping stat": 1, "bookkeeping read": 2})
        expected += Counter({"bookkeeping list": 1, "bookkeeping write": 2})
    case.proxy.requests.clear()
    case.proxy.fault = first(kind, fault)
    report = case.run()
    assert report["failed"] == 0
    case.check()
    case.settle()

    expected[kind] += 1
    if fault in LOST_ANSWERS and kind == "write":
        # It was written, which a look at what holds the name shows.
        expected["stat"] += 1
    if kind == "write":
        assert (report["created"], report["skipped"]) == (4, 0)
    if fault in LOST_ANSWERS and kind == "bookkeeping write":
        expected += Counter({"bookkeeping stat": 1, "bookkeeping read": 1})
    # What the status has asked.
    expected += Counter({"bookkeeping list": 1, "bookkeeping read": 1})
    del case.proxy.requests["connection"]
    assert case.proxy.requests == expected


@each_fault
@pytest.mark.parametrize(
    "kind",
    [pytest.param(kind, marks=[pytest.mark.slow] if kind == "bookkeeping write" else []) for kind in KINDS],
)
def test_a_failure_that_lasts_is_reported_and_what_is_left_is_done_once_it_is_over(
    case: Case, kind: str, fault: Fault, monkeypatch: pytest.MonkeyPatch
) -> None:
    patience(case, monkeypatch, 0.2, silence(fault))
    case.put(*(f"{index}.jpg" for index in range(4)))
    left = 4
    if kind == "bookkeeping read":
        case.run()
        case.put("4.jpg")
        left = 1
    case.proxy.fault = lambda asked, name: (
        fault if asked == kind and (kind not in {"read", "write"} or name.endswith(("1.jpg", "3.jpg"))) else None
    )
    report = case.run(503)
    if kind in {"read", "write"}:
        assert (report["created"], report["failed"]) == (2, 2)
        assert {failure["code"] for failure in report["failures"]} == {"storage_unavailable"}
        assert case.client.get(f"/runs/{case.run_id}").json()["state"] == "unfinished"
        left = 2
        if kind == "write" and fault in LOST_ANSWERS:
            left = 0
    else:
        assert report["error"]["code"] == "storage_unavailable"
        assert report["assigned"] == 0
    case.proxy.fault = lambda *_: None
    case.proxy.requests.clear()
    assert case.run()["failed"] == 0
    assert case.proxy.requests["read"] == case.proxy.requests["write"] == left
    case.check()
    case.settle()


@pytest.mark.parametrize(("fault", "writes", "looks"), [(200, 3, 0), (Harm.TWICE, 2, 1)])
def test_a_write_that_was_answered_for_another_one_has_created_its_thumbnail(
    case: Case, fault: Fault, writes: int, looks: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    patience(case, monkeypatch, 20)
    case.put("0.jpg", "1.jpg")
    case.proxy.fault = first("write", fault)
    report = case.run()
    assert (report["created"], report["skipped"]) == (2, 0)
    assert (case.proxy.requests["write"], case.proxy.requests["stat"]) == (writes, looks)
    case.check()


@each_fault
def test_reports_that_cannot_be_written_as_the_run_goes_fail_no_run(
    case: Case, fault: Fault, monkeypatch: pytest.MonkeyPatch
) -> None:
    patience(case, monkeypatch, 0.1, silence(fault))
    often_reported(monkeypatch)
    case.put(*(f"{index}.jpg" for index in range(4)))
    tries, tried = itertools.count(1), threading.Event()
    # A stalled one takes as long as a read may take.
    enough = 1 if fault is Harm.STALL else 3

    def no_early_report(kind: str, name: str) -> Fault:
        if kind == "read":
            assert tried.wait(20)
        if not (kind == "bookkeeping write" and f"{case.run_id}/task-" in name) or tried.is_set():
            return None
        if next(tries) == enough:
            tried.set()
        return fault

    case.proxy.fault = no_early_report
    assert case.run()["created"] == 4
    case.check()
    case.settle()
    assert case.reports() == ["task-00000-of-00001.json"]


@each_fault
def test_a_last_report_that_is_lost_leaves_its_run_to_be_called_again(
    case: Case, fault: Fault, monkeypatch: pytest.MonkeyPatch
) -> None:
    patience(case, monkeypatch, 0.1, silence(fault))
    monkeypatch.setattr("service.runs.reporter._LAST_PAUSES", (0, 0, 0))
    case.put(*(f"{index}.jpg" for index in range(4)))
    case.proxy.fault = lambda kind, name: (
        fault if kind == "bookkeeping write" and f"{case.run_id}/task-" in name else None
    )
    report = case.run(503)
    assert (report["created"], report["failed"], report["error"]["code"]) == (4, 0, "storage_unavailable")
    assert "last report could not be written" in report["error"]["reason"]
    case.check()
    case.proxy.fault = lambda *_: None
    assert case.run()["skipped"] == 4
    case.settle()
    assert case.reports() == ["task-00000-of-00001.json"]


def often_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    """As often as it can be, on a run that lasts no minute."""
    monkeypatch.setattr("service.runs.reporter.FIRST_SECONDS", 0.01)
    monkeypatch.setattr("service.runs.reporter._SHORTEST_SECONDS", 0.01)
    monkeypatch.setattr("service.runs.reporter._LONGEST_SECONDS", 0.05)


@each_fault
def test_tasks_of_one_run_that_each_meet_every_failure_are_whole_at_the_first_call(
    case: Case, fault: Fault, monkeypatch: pytest.MonkeyPatch
) -> None:
    patience(case, monkeypatch, 20, silence(fault))
    # As long as it is: nobody takes planning over from one who is stalled.
    monkeypatch.setattr("service.runs.lease.LEASE_SECONDS", 30)
    case.put(*(f"{folder}/{index}.jpg" for folder in "abc" for index in range(4)))
    met = Counter[str]()
    lock = threading.Lock()

    def each_once(kind: str, _: str) -> Fault:
        with lock:
            met[kind] += 1
            return fault if met[kind] == 1 else None

    case.proxy.fault = each_once
    answers = case.run_tasks()
    assert {answer.status_code for answer in answers.values()} == {200}, [answer.text for answer in answers.values()]
    reports = [answer.json() for answer in answers.values()]
    assert [report["assigned"] for report in reports] == [4, 4, 4]
    assert sum(report["created"] for report in reports) == 12
    assert case.proxy.requests["read"] == 13
    assert case.settle()["done"] == 12
    case.check()


@pytest.mark.parametrize("seed", [0, 1, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(2, 6))])
def test_failures_at_random_lose_nothing_and_make_nothing_twice(
    case: Case, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Half of them without the client's own retries: more fails then.
    patience(case, monkeypatch, 1 if seed % 2 else 0, 0.3)
    rng, lock = random.Random(seed), threading.Lock()  # noqa: S311 - the same each time
    case.put(*(f"{folder}/{index}.jpg" for folder in "abc" for index in range(5)))
    asked = Counter[str]()

    def at_random(kind: str, _: str) -> Fault:
        with lock:
            asked[kind] += 1
            harmed = asked[kind] == 1 or rng.random() < 0.1
            return rng.choices(FAULTS, [3, 3, 3, 3, 3, 1])[0] if harmed else None

    case.proxy.fault = at_random
    left: set[int] = {0, 1, 2}
    rounds = 0
    while left:
        rounds += 1
        assert rounds <= 40
        for index, answer in case.run_tasks(left).items():
            assert answer.status_code in {200, 503}, answer.text
            if answer.status_code == 200:
                left.remove(index)
    assert rounds > 1 or seed % 2
    case.proxy.fault = lambda *_: None
    case.proxy.requests.clear()
    reports = [answer.json() for answer in case.run_tasks().values()]
    assert sum(report["skipped"] for report in reports) == 15
    assert case.proxy.requests["read"] == case.proxy.requests["write"] == 0
    assert case.settle()["done"] == 15
    case.check()


SAID = "HTTP 412 from Cloud Storage (made up)"


def test_a_412_to_every_write_ends_each_task_after_a_few_tries(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as in a bucket of an organisation whose policy forbids the write."""
    monkeypatch.setattr("service.runs.lease._PAUSES", (0, 0.01, 0.02))
    case.put(*(f"{index}.jpg" for index in range(6)))
    case.proxy.fault = lambda kind, _: 412 if kind.endswith("write") else None
    for index, answer in case.run_tasks().items():
        assert answer.status_code == 503, index
        error = answer.json()["error"]
        assert (error["code"], SAID in error["reason"]) == ("storage_unavailable", True)
    assert case.proxy.requests["bookkeeping write"] == 3 * 3
    case.proxy.fault = lambda *_: None
    assert {answer.status_code for answer in case.run_tasks().values()} == {200}
    case.check()


@pytest.mark.parametrize("tasks", [1, 3])
def test_a_412_to_the_write_of_a_plan_ends_each_task_after_a_few_tries(
    case: Case, tasks: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.runs.lease._PAUSES", (0, 0.01, 0.02))
    patience(case, monkeypatch, 0.2)
    case.put(*(f"{index}.jpg" for index in range(6)))
    tried = Counter[str]()
    lock = threading.Lock()

    def no_plan(kind: str, name: str) -> Fault:
        with lock:
            tried[name.rpartition("/")[2]] += kind.endswith("write")
        return 412 if name.endswith("/plan.json") and kind.endswith("write") else None

    case.proxy.fault = no_plan
    answers = case.run_tasks() if tasks == 3 else {0: case.call()}
    for answer in answers.values():
        assert answer.status_code == 503
        error = answer.json()["error"]
        assert (error["code"], SAID in error["reason"]) == ("storage_unavailable", True)
    assert tried["plan.json"] == 3 * tasks
    assert case.thumbnails() == []


def test_a_412_to_an_images_write_is_an_images_failure_in_storages_words(case: Case) -> None:
    case.put("0.jpg", "1.jpg")
    case.proxy.fault = lambda kind, name: 412 if kind == "write" and name.endswith("1.jpg") else None
    report = case.run(503)
    assert (report["created"], report["failed"]) == (1, 1)
    (failure,) = report["failures"]
    assert (failure["code"], SAID in failure["reason"]) == ("storage_unavailable", True)
    assert case.proxy.requests["write"] == 1 + 2


@pytest.mark.parametrize("kind", ["read", "list", "bookkeeping stat"])
def test_a_412_to_what_is_no_write_is_said_in_storages_words(case: Case, kind: str) -> None:
    case.put("0.jpg")
    case.proxy.fault = lambda asked, _: 412 if asked == kind else None
    report = case.run(503)
    error = report["failures"][0] if kind == "read" else report["error"]
    assert (error["code"], SAID in error["reason"]) == ("storage_unavailable", True)
    assert case.proxy.requests["read"] <= 1


def test_the_event_of_an_image_that_storage_refuses_to_give_is_delivered_again(case: Case) -> None:
    case.put("0.jpg")
    case.proxy.fault = lambda kind, _: 412 if kind == "read" else None
    answer = deliver(case.client, case.resource("0.jpg"))
    assert (answer.status_code, SAID in answer.json()["reason"]) == (503, True)
    case.proxy.fault = lambda *_: None
    assert deliver(case.client, case.resource("0.jpg")).json()["outcome"] == "created"


class CreateOnly:
    """Storage that lets objects be created and not replaced."""

    def __init__(self, case: Case, reports: int) -> None:
        """Assemble.

        Args:
            case: whose storage it is.
            reports: how many of them are tried before the first image is read, by all tasks together.
        """
        self._case = case
        self._lock = threading.Lock()
        self._reports = reports
        self._reported = threading.Event()
        self.refused = Counter[str]()

    def __call__(self, kind: str, name: str) -> Fault:
        if kind == "read":
            assert self._reported.wait(20)
        if not kind.endswith("write"):
            return None
        with self._lock:
            if f"{self._case.run_id}/task-" in name:
                self._reports -= 1
                if self._reports <= 0:
                    self._reported.set()
            if not self._case.holds(name):
                return None
            self.refused[kind] += 1
            return 403


def test_a_run_that_may_only_create_ends_with_a_report(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    often_reported(monkeypatch)
    case.put("a/same.jpg", "b/same.jpg", "c.jpg")
    case.proxy.fault = CreateOnly(case, reports=3)
    assert case.run()["created"] == 3
    case.check()
    plain, *numbered = sorted(case.reports(), key=len)
    assert plain == "task-00000-of-00001.json"
    assert len(numbered) >= 2
    assert len({len(name) for name in numbered}) == 1
    assert case.settle()["created"] == 3

    case.proxy.requests.clear()
    assert case.run()["skipped"] == 3
    assert case.proxy.requests["read"] == case.proxy.requests["write"] == 0
    # The status shows what all attempts have made.
    assert case.settle()["created"] == 3
    case.check()


def test_tasks_that_may_only_create_are_summed_up_right(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    often_reported(monkeypatch)
    case.put(*(f"{folder}/{index}.jpg" for folder in "abc" for index in range(3)))
    create_only = CreateOnly(case, reports=9)
    case.proxy.fault = create_only
    answers = case.run_tasks()
    assert {answer.status_code for answer in answers.values()} == {200}, [answer.text for answer in answers.values()]
    assert create_only.refused["bookkeeping write"]
    for index in range(3):
        assert any(name.startswith(f"task-{index:05}-of-00003.20") for name in case.reports())
    status = case.settle()
    assert (status["done"], status["created"], status["renamed"]) == (9, 9, 6)
    case.check()


@pytest.mark.parametrize("times", [1, 2, 3, 6])
def test_an_image_that_is_replaced_again_and_again_between_listing_and_reading_is_not_lost(
    case: Case, times: int
) -> None:
    generations = [case.put_data("a.jpg", encoded(Image.new("RGB", (16, 16), "white")))]

    def replace(kind: str, _: str) -> None:
        if kind == "read" and len(generations) <= times:
            generations.append(case.put_data("a.jpg", encoded(Image.new("RGB", (16, 16), "black"))))

    case.proxy.fault = replace
    answer = case.call()
    if answer.status_code == 503:
        # Once it is left alone.
        answer = case.call()
    report = answer.json()
    assert (report["created"], report["rejected"]) == (1, 0), report["rejections"]
    (thumbnail,) = case.thumbnails()
    assert thumbnail["metadata"]["thumbnail-source-generation"] == generations[times]
