"""The tasks of a job killed at random moments and started again: nothing lost, nothing twice, every picture right."""

import gzip
import itertools
import json
import multiprocessing
import os
import random
import signal
import sys
import threading
import time
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta, tzinfo
from functools import cache
from http.client import HTTPConnection
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any, NamedTuple, Self
from urllib.parse import quote, urlencode, urlsplit

import pytest
from PIL import Image
from urllib3 import BaseHTTPResponse, HTTPConnectionPool

from service.demo.storage import download, list_objects, make_bucket, storage_emulator
from service.job import main
from service.naming import BOOKKEEPING_FOLDER, Hour
from service.process import leave
from service.runs.lease import LEASE_SECONDS
from service.runs.status import RunStatus, run_status
from service.storage.cloud import CloudStore
from tests.conftest import Put
from tests.support.pictures import encoded, opened
from tests.support.proxy import Fault, Harm, Proxy, kind_and_name
from tests.system.test_end_to_end import job, thumbnails

pytestmark = pytest.mark.slow

IMAGES = int(os.environ.get("KILLING_IMAGES", "1000"))
"""Of each seed; the emulator takes longer for each object that it holds."""
TASKS = 8
CONCURRENCY = 4
SIDE = 32
"""Of the pictures, in pixels; less than a thumbnail has, so that nothing is lost in it."""
BITS = 16
"""Of the number that a picture shows: a grid of four by four squares, black and white."""
WHOLE_IN_SECONDS = 200
BUCKET = "photos"
RUN_ID = "thumbs-abcde"


@cache
def picture(number: int, image_format: str = "JPEG") -> bytes:
    """A file that shows a number, so that no picture can be taken for another."""
    squares = Image.new("L", (4, 4))
    squares.putdata([255 * (number >> bit & 1) for bit in range(BITS)])
    return encoded(squares.resize((SIDE, SIDE), Image.Resampling.NEAREST), image_format, quality=90)


def number_in(data: bytes) -> int:
    """The number that a picture shows."""
    shown = opened(data).convert("L")
    assert shown.size == (SIDE, SIDE)
    lights = shown.resize((4, 4), Image.Resampling.NEAREST).tobytes()
    assert not any(60 < light < 195 for light in lights), "a square is neither black nor white"
    return sum(1 << bit for bit, light in enumerate(lights) if light > 127)


class Emulator:
    """A storage emulator, asked over one connection: thousands of requests take a second or two."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._connection = HTTPConnection(urlsplit(url).netloc, timeout=60)

    def put(self, name: str, data: bytes, content_type: str = "image/jpeg") -> int:
        """Write an object, whatever is there; return its generation."""
        query = urlencode({"uploadType": "media", "name": name})
        target = f"/upload/storage/v1/b/{BUCKET}/o?{query}"
        return int(json.loads(self._ask("POST", target, data, {"Content-Type": content_type}))["generation"])

    def delete(self, name: str) -> None:
        self._ask("DELETE", f"/storage/v1/b/{BUCKET}/o/{quote(name, safe='')}")

    def get(self, name: str) -> bytes:
        return self._ask("GET", f"/storage/v1/b/{BUCKET}/o/{quote(name, safe='')}?alt=media")

    def close(self) -> None:
        self._connection.close()

    def _ask(self, method: str, target: str, body: bytes | None = None, headers: dict[str, str] | None = None) -> bytes:
        self._connection.request(method, target, body, headers or {})
        answer = self._connection.getresponse()
        data = answer.read()
        assert answer.status == 200, f"{method} {target}: {answer.status} {data[:200]!r}"
        return data


class Version(NamedTuple):
    """One generation of a source."""

    generation: int
    number: int | None
    """What it shows; None: nothing, it is corrupt."""
    since: float
    """When the emulator had answered that it was there."""


@dataclass
class Folder:
    """The sources, with all that ever was under their names."""

    emulator: Emulator
    rng: random.Random
    versions: dict[str, list[Version]] = field(default_factory=dict)
    gone: set[str] = field(default_factory=set)
    """Names that were without an object for a while, or are."""
    numbers: Iterator[int] = field(default_factory=itertools.count)
    changes: Counter[str] = field(default_factory=Counter)

    def fill(self, images: int) -> None:
        """Put images into twenty folders: a tenth of them under a name that each of the others has, too."""
        corrupt = set(self.rng.sample(range(images), images // 50))
        for index in range(images):
            number, folder = divmod(index, 20)
            name = f"same-{number:05}.jpg" if number % 10 == 0 else f"{index:06}.{'png' if index % 7 == 0 else 'jpg'}"
            self.put(f"in/{folder:02}/{name}", corrupt=index in corrupt)
        for index in range(20):
            self.emulator.put(f"in/{index:02}/notes.txt", b"no image", "text/plain")

    def put(self, name: str, *, corrupt: bool = False) -> None:
        number = next(self.numbers)
        assert number < 1 << BITS
        data = picture(number, "PNG" if name.endswith("png") else "JPEG")
        generation = self.emulator.put(name, data[: len(data) // 2] if corrupt else data)
        self.versions.setdefault(name, []).append(Version(generation, None if corrupt else number, time.monotonic()))

    def change(self) -> None:
        """Do what people do to a folder while a run goes."""
        kind = self.rng.choice(["replace", "replace", "delete", "add", "add"])
        name = self.rng.choice(list(self.versions))
        if kind == "add":
            name = f"in/{self.rng.randrange(20):02}/{self.rng.choice(['', 'same-'])}{self.rng.randrange(100):05}.jpg"
            if name in self.versions:
                kind = "replace"
        if kind == "delete" and name not in self.gone:
            self.emulator.delete(name)
            self.gone.add(name)
        elif kind != "delete":
            # One that was deleted comes back; one that was corrupt is mended.
            self.put(name)
        self.changes[kind] += 1

    def replace_sources_of(self, thumbnail: str) -> None:
        """Replace what a thumbnail may be of."""
        stem, _, extension = thumbnail.rpartition("/")[2].rpartition(".")
        for name in self.versions:
            if name.endswith(f"/{stem.partition('~')[0]}.{extension}") and name not in self.gone:
                self.put(name)
                self.changes["replace"] += 1

    def check_thumbnail(self, name: str, generation: int | None, task_started: float) -> None:
        """See that the generation that a source's thumbnail shows is right; None: it has no thumbnail.

        Args:
            name: of the source.
            generation: the thumbnail's.
            task_started: when the last attempt at the source's chunk was started. It lists the chunk after that.
        """
        versions = self.versions[name]
        assert generation is None or generation in {
            version.generation for version in versions if version.number is not None
        }
        listed = [version for version in versions if version.since < task_started][-1:]
        later = versions[len([version for version in versions if version.since < task_started]) :]
        if name in self.gone or not listed:
            return
        if listed[0].number is not None:
            assert generation in {version.generation for version in [*listed, *later]}, (
                f"{name} has an old thumbnail or none"
            )


class Death(NamedTuple):
    """When a task is killed: by itself at one of its requests to storage, or from outside after a time."""

    request: int = 0
    """Which one, from 1; 0: none."""
    answered: bool = False
    """Whether that request is processed before."""
    seconds: float | None = None
    frozen: bool = False
    """It is not killed but stopped, before the first thumbnail that it writes after that request. The next attempt is
    made meanwhile, and once that is done, it goes on: with what it has read long ago."""


class Ahead(datetime):
    """A clock that is an hour on: retries that start in another hour fill the same folder as their run's first task."""

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> Self:
        return super().now(tz) + timedelta(hours=1)


def task(environment: dict[str, str], folder: Path, death: Death, *, an_hour_on: bool) -> None:
    """What a task's process does, `python -m service.job` without the second that it takes to load Google's libraries.

    A server forks it, with all of them loaded, off a process that has no other thread.
    """
    for name in [name for name in os.environ if name.startswith(("CLOUD_RUN_", "STORAGE_"))]:
        del os.environ[name]
    os.environ |= environment
    for stream in (sys.stdout, sys.stderr):
        os.dup2(os.open(folder / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND), stream.fileno())
    requests = os.open(folder / "requests", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    patch = pytest.MonkeyPatch()
    # A planner that is killed holds the others up until its lease runs out. The last test keeps the real half a minute.
    patch.setattr("service.runs.lease.LEASE_SECONDS", 0.5)
    # Each attempt would last two seconds at least, to leave its reports.
    patch.setattr("service.runs.reporter.FIRST_SECONDS", 0.1)
    patch.setattr("service.runs.reporter.SPACING_SECONDS", 0.1)
    if an_hour_on:
        patch.setattr("service.runs.request.datetime", Ahead)
    numbers = itertools.count(1)
    to_freeze = threading.Lock()
    ask = HTTPConnectionPool.urlopen

    def ask_and_die(
        pool: HTTPConnectionPool,
        method: str,
        url: str,
        body: bytes | None = None,
        *args: Any,  # noqa: ANN401 - as they come
        **more: Any,  # noqa: ANN401 - as they come
    ) -> BaseHTTPResponse:
        # What was written to a file stays, however the process ends.
        kind, name = kind_and_name(method, url, body or b"")
        os.write(requests, f"{kind}\t{name}\n".encode())
        number = next(numbers)
        if death.frozen and number >= death.request and kind == "write" and to_freeze.acquire(blocking=False):
            os.write(requests, f"frozen {environment['CLOUD_RUN_TASK_INDEX']}\t{name}\n".encode())
            os.kill(os.getpid(), signal.SIGSTOP)
        last = number == death.request and not death.frozen
        if last and not death.answered:
            os.kill(os.getpid(), signal.SIGKILL)
        answer = ask(pool, method, url, body, *args, **more)
        if last:
            os.kill(os.getpid(), signal.SIGKILL)
        return answer

    patch.setattr(HTTPConnectionPool, "urlopen", ask_and_die)
    leave(main())


_processes = multiprocessing.get_context("forkserver")
# Whatever is installed; Python 3.11 finds nothing else there.
_processes.set_forkserver_preload(["pytest", "uvicorn", "service.web.app", "service.demo.storage", "service.job"])


@dataclass
class Task:
    """One task of the job, as Cloud Run sees it."""

    index: int
    deaths: list[Death]
    """Of its attempts, one after the other; the attempt after those may come to its end."""
    environment: dict[str, str]
    folder: Path
    attempt: int = -1
    process: ForkServerProcess | None = None
    started: float = 0.0
    start_at: float = 0.0
    frozen: ForkServerProcess | None = None
    kills: int = 0
    done: bool = False

    def start(self) -> None:
        self.attempt += 1
        self.started = time.monotonic()
        settings = {"CLOUD_RUN_TASK_INDEX": str(self.index), "CLOUD_RUN_TASK_ATTEMPT": str(self.attempt)}
        self.process = _processes.Process(
            target=task,
            args=(self.environment | settings, self.folder, self._death),
            kwargs={"an_hour_on": self.attempt % 2 == 1},
            daemon=True,
        )
        self.process.start()

    def leave_frozen(self) -> None:
        """Start another attempt, since this one does not move."""
        assert self.process
        self.frozen, self.process = self.process, None

    @property
    def whole(self) -> bool:
        """Whether an attempt came to its end, and none is left behind."""
        return self.done and self.frozen is None

    @property
    def _death(self) -> Death:
        return self.deaths[self.attempt] if self.attempt < len(self.deaths) else Death()

    def look(self, pause: float) -> None:
        """Start it where it is its time, kill it where it is, and see whether it has ended."""
        now = time.monotonic()
        if self.process is None:
            if not self.done and now >= self.start_at:
                self.start()
            elif self.done and self.frozen:
                if self.frozen.exitcode is None:
                    # More than once: it may have said that it is about to stop, and not have stopped yet.
                    with suppress(ProcessLookupError):
                        os.kill(self.frozen.pid or 0, signal.SIGCONT)
                else:
                    self.frozen.close()
                    self.frozen = None
            return
        if self._death.seconds is not None and now >= self.started + self._death.seconds:
            self.process.kill()
        if (status := self.process.exitcode) is None:
            return
        self.process.close()
        self.process = None
        self.start_at = now + pause
        self.kills += status == -signal.SIGKILL
        self.done = status == 0
        assert status in {0, -signal.SIGKILL}, (
            f"task {self.index} ended with {status}:\n{(self.folder / 'log').read_text()}"
        )


def deaths(rng: random.Random, images: int) -> list[Death]:
    """Draw how often a task is killed, and when: half of the times while the run is planned or shortly after."""
    drawn = []
    for _ in range(rng.choice([0, 1, 1, 2, 3])):
        match rng.randrange(5):
            case 0 | 1:
                drawn.append(Death(rng.randint(1, 12), rng.random() < 0.5))
            case 2 | 3:
                drawn.append(Death(rng.randint(1, 5 * images // TASKS // 2), rng.random() < 0.5))
            case _:
                drawn.append(Death(seconds=rng.expovariate(1)))
    return drawn


class Watch:
    """Looks at the thumbnails while they are made: none may give way to an older one."""

    def __init__(self, emulator_url: str) -> None:
        self._url = emulator_url
        self._newest: dict[str, int] = {}
        self.looks = 0

    def look(self) -> dict[str, int]:
        """Return the source generation of each source's thumbnail."""
        made: dict[str, int] = {}
        seen: set[tuple[str, str]] = set()
        # The hour folders of this millennium, and nothing else that there is.
        for item in list_objects(self._url, BUCKET, "2"):
            address, generation = (
                item["metadata"]["thumbnail-source"],
                int(item["metadata"]["thumbnail-source-generation"]),
            )
            hour = item["name"].partition("/")[0]
            assert (address, hour) not in seen, f"{address} has two thumbnails"
            seen.add((address, hour))
            # With `created`, one that is replaced in another hour has another one there.
            generation = max(generation, made.get(address, 0))
            assert generation >= self._newest.get(address, 0), (
                f"an older thumbnail of {address} has replaced a newer one"
            )
            made[address] = generation
        assert not self._newest.keys() - made.keys(), "a thumbnail has gone"
        self._newest = made
        self.looks += 1
        return made


@dataclass
class Requests:
    """What all tasks have asked, killed or not."""

    path: Path
    lines: list[str] = field(default_factory=list)
    _read: int = 0

    def look(self) -> int:
        """Return how many requests there were so far."""
        if self.path.exists():
            with self.path.open("rb") as file:
                file.seek(self._read)
                new = file.read()
            whole = new[: new.rfind(b"\n") + 1]
            self._read += len(whole)
            self.lines += whole.decode().splitlines()
        return len(self.lines)

    def of(self, kind: str) -> list[str]:
        """The names that requests of a kind were about."""
        return [name for asked, _, name in (line.partition("\t") for line in self.lines) if asked == kind]


def status_of(emulator_url: str, monkeypatch: pytest.MonkeyPatch) -> RunStatus:
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", emulator_url)
    store = CloudStore(4)
    try:
        return run_status(store, BUCKET, RUN_ID)
    finally:
        store.close()


@pytest.mark.timeout(WHOLE_IN_SECONDS + 60)
@pytest.mark.parametrize("seed", range(20))
def test_a_run_whose_tasks_are_killed_is_whole_in_the_end(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = random.Random(seed)  # noqa: S311 - the same each time
    began = time.monotonic()
    with storage_emulator() as url, closing(Emulator(url)) as emulator:
        make_bucket(url, BUCKET)
        folder = Folder(emulator, rng)
        folder.fill(IMAGES)
        environment = {
            # Every other seed with the bucket itself as the folder: what the run writes lies in it.
            "INPUT_FOLDER": f"gs://{BUCKET}/in" if seed % 2 else f"gs://{BUCKET}",
            "STORAGE_EMULATOR_HOST": url,
            "CLOUD_RUN_TASK_COUNT": str(TASKS),
            "CLOUD_RUN_EXECUTION": RUN_ID,
            "CONCURRENCY": str(CONCURRENCY),
            # Every third seed as a repair: each image in the hour in which it was created.
            "TIMESTAMP": "created" if seed % 3 == 0 else "run",
        }
        tasks = [Task(index, deaths(rng, IMAGES), environment, tmp_path) for index in range(TASKS)]
        requests = Requests(tmp_path / "requests")
        # In three of four seeds the folder changes all the while.
        changes = sorted(rng.randrange(2 * IMAGES) for _ in range(IMAGES // 20)) if seed % 4 else []
        if changes:
            tasks[seed % TASKS].deaths.insert(0, Death(rng.randint(1, IMAGES // TASKS), frozen=True))
        filled = time.monotonic()
        watch = run(tasks, requests, changes, folder, rng)
        ended = time.monotonic()

        status = status_of(url, monkeypatch)
        check(folder, watch, tasks, status)
        if environment["TIMESTAMP"] == "created":
            check_that_nothing_is_left(environment, folder, tmp_path)
    kills, frozen = sum(task.kills for task in tasks), len(requests.of(f"frozen {seed % TASKS}"))
    corrupt = sum(versions[0].number is None for versions in folder.versions.values())
    reads = requests.of("read")
    figures = {
        "images": len(folder.versions),
        "kills": kills,
        "frozen": frozen,
        "attempts": sum(task.attempt + 1 for task in tasks),
        "changes": folder.changes.total(),
        "looks": watch.looks,
        "reads an image": round(len(reads) / len(set(reads)), 3),
        "listings": len(requests.of("list")),
        "seconds": [round(filled - began, 1), round(ended - filled, 1), round(time.monotonic() - ended, 1)],
    }
    with capsys.disabled():
        print(f"\n  seed {seed}:", ", ".join(f"{figure} {name}" for name, figure in figures.items()))  # noqa: T201 - for who tunes it
    # A task that is killed has read some images for nothing, and of those that are corrupt it may have left no word.
    # An image that is replaced is read again, and perhaps once more where that happened between listing and reading.
    # A task that was frozen goes through its chunk once more: it cannot know that another one has meanwhile.
    assert len(reads) <= len(set(reads)) + kills * CONCURRENCY + (kills + 1) * corrupt + 2 * folder.changes[
        "replace"
    ] + frozen * (IMAGES // TASKS + 1)


def run(tasks: list[Task], requests: Requests, changes: list[int], folder: Folder, rng: random.Random) -> Watch:
    """Have the tasks started, killed and started again until each of them is done.

    Args:
        tasks: none of them started.
        requests: theirs.
        changes: the numbers of requests after which something in the folder changes.
        folder: their input.
        rng: says how long Cloud Run takes to start a task.
    """
    watch = Watch(folder.emulator.url)
    deadline = time.monotonic() + WHOLE_IN_SECONDS
    look_at = 0.0
    changes = list(changes)
    for each in tasks:
        each.start_at = time.monotonic() + rng.random() / 2
    try:
        while not all(each.whole for each in tasks):
            assert time.monotonic() < deadline, f"not whole after {WHOLE_IN_SECONDS} s"
            known = len(requests.lines)
            asked = requests.look()
            for line in requests.lines[known:]:
                if line.startswith("frozen "):
                    said, _, thumbnail = line.partition("\t")
                    tasks[int(said.removeprefix("frozen "))].leave_frozen()
                    folder.replace_sources_of(thumbnail)
            for each in tasks:
                each.look(pause=rng.random() / 4)
            while changes and changes[0] <= asked:
                del changes[0]
                folder.change()
            if time.monotonic() >= look_at:
                watch.look()
                look_at = time.monotonic() + 0.5
            time.sleep(0.005)
    finally:
        for each in tasks:
            for process in filter(None, (each.process, each.frozen)):
                process.kill()
                process.join()
    return watch


def check_that_nothing_is_left(environment: dict[str, str], folder: Folder, tmp_path: Path) -> None:
    """See that another run with `created` makes what came since its chunk was listed, and a third one nothing."""
    for number in (2, 3):
        again = tmp_path / str(number)
        again.mkdir()
        one_task = environment | {"CLOUD_RUN_TASK_COUNT": "1", "CLOUD_RUN_EXECUTION": f"{RUN_ID}-{number}"}
        repair = Task(0, [], one_task, again)
        while not repair.whole:
            repair.look(pause=0)
            time.sleep(0.005)
    requests = Requests(again / "requests")
    requests.look()
    live = {name: versions[-1] for name, versions in folder.versions.items() if name not in folder.gone}
    assert set(requests.of("read")) <= {name for name, version in live.items() if version.number is None}
    assert not requests.of("write")
    made = {
        (item["metadata"]["thumbnail-source"], int(item["metadata"]["thumbnail-source-generation"]))
        for item in list_objects(folder.emulator.url, BUCKET, "2")
    }
    for name, version in live.items():
        assert ((f"gs://{BUCKET}/{name}", version.generation) in made) == (version.number is not None), name


def check(folder: Folder, watch: Watch, tasks: list[Task], status: RunStatus) -> None:
    """See that the run is whole and right."""
    emulator = folder.emulator
    watch.look()
    objects = list_objects(emulator.url, BUCKET)
    held = {item["name"]: item for item in objects}
    plan = json.loads(emulator.get(f"{BOOKKEEPING_FOLDER}{RUN_ID}/plan.json"))

    hours = {name.partition("/")[0] for name in held} - {"in", BOOKKEEPING_FOLDER.rstrip("/")}
    if plan["timestamp"] == "created":
        assert hours <= {str(Hour.of(datetime.fromisoformat(item["timeCreated"]))) for item in objects}
    else:
        assert hours == {plan["timestamp"]}
    made = {
        item["metadata"]["thumbnail-source"]: item
        for name, item in sorted(held.items())
        if name.partition("/")[0] in hours
    }
    names = {f"gs://{BUCKET}/{name}": name for name in folder.versions}
    assert made.keys() <= names.keys(), "something that is no source has a thumbnail"
    for address, name in names.items():
        owner = tasks[bisect_right(plan["boundaries"], name)]
        thumbnail = made.get(address)
        generation = int(thumbnail["metadata"]["thumbnail-source-generation"]) if thumbnail else None
        folder.check_thumbnail(name, generation, owner.started)
        if thumbnail:
            (source,) = [version for version in folder.versions[name] if version.generation == generation]
            assert number_in(emulator.get(thumbnail["name"])) == source.number, f"{address} shows another's picture"

    reports = [
        json.loads(emulator.get(f"{BOOKKEEPING_FOLDER}{RUN_ID}/task-{index:05}-of-{TASKS:05}.json"))
        for index in range(TASKS)
    ]
    for report in reports:
        assert report["state"] == "whole"
        assert report["assigned"] == report["created"] + report["skipped"] + report["rejected"]
    assert status.state == "whole"
    assert status.tasks.whole == TASKS
    assert status.done == status.total == sum(report["assigned"] for report in reports)
    if not folder.changes:
        assert status.done == len(folder.versions) == plan["total"]
        assert status.done - status.rejected == len(made)
        check_manifests(folder, held)


def check_manifests(folder: Folder, held: dict[str, dict[str, Any]]) -> None:
    """See that the manifests of all tasks name every image once, and that every line is true of the bucket."""
    names = [name for name in held if name.startswith(f"{BOOKKEEPING_FOLDER}{RUN_ID}/manifest/")]
    assert len(names) == TASKS
    lines = [
        json.loads(line) for name in names for line in gzip.decompress(folder.emulator.get(name)).decode().splitlines()
    ]
    assert Counter(line["source"] for line in lines) == Counter(f"gs://{BUCKET}/{name}" for name in folder.versions)
    for line in lines:
        (version,) = folder.versions[line["source"].removeprefix(f"gs://{BUCKET}/")]
        assert line["generation"] == version.generation
        if version.number is None:
            assert (line["outcome"], line["code"], line["thumbnail"]) == ("rejected", "corrupt_image", None)
            continue
        thumbnail = held[line["thumbnail"].removeprefix(f"gs://{BUCKET}/")]
        assert line["outcome"] in {"created", "skipped"}
        assert (line["width"], line["height"], line["thumbnail_bytes"]) == (SIDE, SIDE, int(thumbnail["size"]))
        assert thumbnail["metadata"]["thumbnail-source"] == line["source"]
        assert int(thumbnail["metadata"]["thumbnail-source-generation"]) == line["generation"]


@pytest.mark.timeout(LEASE_SECONDS + 80)
@pytest.mark.parametrize("again", [True, False])
def test_a_task_that_is_killed_while_it_plans_holds_the_run_up_till_it_is_tried_again_or_its_lease_has_run_out(
    emulator: str, bucket: str, put: Put, proxy: Proxy, *, again: bool
) -> None:
    for index in range(30):
        put(f"in/{index:02}.jpg", picture(index))
    planned = threading.Event()

    def stall_the_first_plan(kind: str, name: str) -> Fault:
        if kind == "bookkeeping write" and name.endswith("plan.json") and not planned.is_set():
            planned.set()
            return Harm.STALL
        return None

    proxy.fault = stall_the_first_plan
    settings = {
        "INPUT_FOLDER": f"gs://{bucket}/in",
        "STORAGE_EMULATOR_HOST": proxy.url,
        "CLOUD_RUN_TASK_COUNT": "3",
        "CLOUD_RUN_EXECUTION": RUN_ID,
    }
    tasks = [job(**settings, CLOUD_RUN_TASK_INDEX=str(index)) for index in range(3)]
    assert planned.wait(30)
    (lease,) = list_objects(emulator, bucket, f"{BOOKKEEPING_FOLDER}{RUN_ID}/planning-")
    planner = json.loads(download(emulator, bucket, lease["name"]))["task_index"]
    tasks[planner].kill()
    assert tasks[planner].wait(20) == -signal.SIGKILL
    tasks[planner].communicate()
    if not again:
        for index in {0, 1, 2} - {planner}:
            assert tasks[index].wait(LEASE_SECONDS + 30) == 0
    tasks[planner] = job(**settings, CLOUD_RUN_TASK_INDEX=str(planner), CLOUD_RUN_TASK_ATTEMPT="1")
    outputs = [task.communicate(timeout=LEASE_SECONDS + 30) for task in tasks]
    assert [task.returncode for task in tasks] == [0, 0, 0], outputs

    (plan,) = list_objects(emulator, bucket, f"{BOOKKEEPING_FOLDER}{RUN_ID}/plan.json")
    waited = datetime.fromisoformat(plan["timeCreated"]) - datetime.fromisoformat(lease["timeCreated"])
    if again:
        assert waited.total_seconds() < LEASE_SECONDS / 2
    else:
        assert LEASE_SECONDS - 0.5 < waited.total_seconds() < LEASE_SECONDS + 6
    sources = [item["metadata"]["thumbnail-source"] for item in thumbnails(emulator, bucket)]
    assert sorted(sources) == [f"gs://{bucket}/in/{index:02}.jpg" for index in range(30)]
