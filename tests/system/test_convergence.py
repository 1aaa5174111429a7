"""Three doors, one result, with real processes: whatever became of events, runs and jobs, one repair mends it all."""

import itertools
import random
import subprocess
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import datetime
from typing import Any

import httpx
import pytest

from service.demo.processes import service_process
from service.demo.storage import download
from service.naming import GENERATION_KEY, SOURCE_KEY, Hour
from tests.conftest import Put
from tests.support.eventarc import deliver
from tests.support.proxy import Harm, Proxy
from tests.system.test_end_to_end import environment, thumbnails
from tests.system.test_killing import number_in, picture

STEPS = 150
NAMES = [f"in/{folder}/{name}.jpg" for folder in "abc" for name in ("same", *(f"{folder}{n}" for n in range(12)))]
"""One name is in each of the folders."""


class History:
    """What people, Pub/Sub, schedulers and the platform do to a bucket and to the service."""

    def __init__(self, rng: random.Random, put: Put, objects: str, settings: dict[str, str]) -> None:
        self.live: dict[str, tuple[dict[str, Any], int]] = {}
        """Resource and number of each image that is there."""
        self.late: list[dict[str, Any]] = []
        """Of events that are not delivered yet."""
        self.jobs: list[subprocess.Popen[bytes]] = []
        self.asked: list[Future[httpx.Response]] = []
        self._rng = rng
        self._put = put
        self._objects = objects
        self._settings = settings
        self._numbers = itertools.count(rng.randrange(1000))

    def put(self) -> None:
        name, number = self._rng.choice(NAMES), next(self._numbers)
        resource = self._put(name, picture(number))
        self.live[name] = resource, number
        # Lost, delivered, or delivered twice; and not at once.
        self.late += [resource] * self._rng.choice([0, 1, 1, 1, 2])

    def delete(self) -> None:
        if self.live:
            name = self._rng.choice(sorted(self.live))
            del self.live[name]
            httpx.delete(f"{self._objects}/{name.replace('/', '%2F')}").raise_for_status()

    def deliver(self, callers: ThreadPoolExecutor, client: httpx.Client, count: int) -> None:
        self._rng.shuffle(self.late)
        now, self.late = self.late[:count], self.late[count:]
        self.asked += [callers.submit(deliver, client, resource) for resource in now]

    def start_job(self, run_id: str) -> None:
        for index in range(2):
            task = {"CLOUD_RUN_TASK_COUNT": "2", "CLOUD_RUN_TASK_INDEX": str(index)}
            command = [sys.executable, "-m", "service.job", f"--run-id={run_id}"]
            output = subprocess.DEVNULL
            env = environment(**self._settings, **task)
            self.jobs.append(subprocess.Popen(command, env=env, stdout=output, stderr=output))

    def kill_job(self) -> None:
        if self.jobs:
            self._rng.choice(self.jobs).kill()

    def happen(self, callers: ThreadPoolExecutor, client: httpx.Client) -> None:
        """Let it all happen, and end."""
        for step in range(STEPS):
            deed = self._rng.choices(["put", "delete", "deliver", "run", "job", "kill"], [50, 6, 30, 4, 4, 6])[0]
            if deed == "put":
                self.put()
            elif deed == "delete":
                self.delete()
            elif deed == "deliver":
                self.deliver(callers, client, 5)
            elif deed == "run":
                self.asked.append(callers.submit(client.post, "/run", json={"run_id": f"run-{step}"}))
            elif deed == "job":
                self.start_job(f"job-{step}")
            else:
                self.kill_job()
        self.deliver(callers, client, len(self.late))
        assert {future.result().status_code for future in self.asked} <= {200, 503}
        for job in self.jobs:
            job.wait(100)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("seed", range(3))
def test_one_repair_leaves_one_right_thumbnail_of_every_image(
    proxy: Proxy, emulator: str, bucket: str, put: Put, seed: int
) -> None:
    rng = random.Random(seed)  # noqa: S311 - no secret
    settings = {
        "INPUT_FOLDER": f"gs://{bucket}/in",
        "STORAGE_EMULATOR_HOST": proxy.url,
        "CONCURRENCY": "4",
        "TIMESTAMP": "created",
    }
    history = History(rng, put, f"{emulator}/storage/v1/b/{bucket}/o", settings)
    # Answers to writes are lost.
    proxy.fault = lambda kind, _: Harm.RESET_AFTER if kind == "write" and rng.random() < 0.05 else None
    with (
        service_process(settings) as service,
        httpx.Client(base_url=service.url, timeout=100) as client,
        ThreadPoolExecutor(16) as callers,
    ):
        history.happen(callers, client)
        proxy.fault = lambda *_: None
        repair = client.post("/run", json={"run_id": "repair"})
        assert (repair.status_code, repair.json()["discovered"]) == (200, len(history.live)), repair.text
        proxy.requests.clear()
        again = client.post("/run", json={"run_id": "again"})
        assert (again.status_code, again.json()["created"], again.json()["skipped"]) == (200, 0, len(history.live))
        assert (proxy.requests["read"], proxy.requests["write"]) == (0, 0)

    places: dict[str, list[str]] = {name: [] for name in history.live}
    for thumbnail in thumbnails(emulator, bucket):
        source = thumbnail["metadata"][SOURCE_KEY].removeprefix(f"gs://{bucket}/")
        generation = thumbnail["metadata"][GENERATION_KEY]
        if source in history.live and generation == history.live[source][0]["generation"]:
            places[source].append(thumbnail["name"])
    for name, (resource, number) in history.live.items():
        (place,) = places[name]
        hour, _, file = place.partition("/")
        stem = name.rpartition("/")[2].removesuffix(".jpg")
        assert hour == str(Hour.of(datetime.fromisoformat(resource["timeCreated"])))
        assert file == f"{stem}.jpg" or file.startswith(f"{stem}~")
        assert number_in(download(emulator, bucket, place)) == number
