"""The documented table of permissions: each door uses what the table names, and fails without it."""

import asyncio
import re
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from service.bootstrap import Service, build
from service.demo.network import local_client
from service.demo.storage import upload
from service.job import run as run_job
from service.runs.request import RunParameters, RunRequest
from service.settings import Settings
from tests.conftest import Serve
from tests.support.assembly import decoders
from tests.support.eventarc import deliver
from tests.support.pictures import jpeg
from tests.support.proxy import Fault, Proxy

PAGE = (Path(__file__).resolve().parents[2] / ".readme" / "operating.md").read_text()
HOUR = "20251203T15Z"
YES, NO = "✓", "\N{EN DASH}"
PERMISSIONS = ("input list", "input get", "output list", "output get", "output create", "output delete")
SMALL = jpeg(16, 12)


def documented() -> dict[str, set[str]]:
    """Read the table: the permissions that each action takes."""
    head = "| what is done | " + " | ".join(PERMISSIONS) + " |"
    assert head in PAGE, "the table of permissions begins otherwise"
    rows = {}
    for line in PAGE.partition(head)[2].splitlines()[2:]:
        if not line.startswith("|"):
            break
        what, *cells = (cell.strip() for cell in line.strip("|").split("|"))
        assert set(cells) <= {YES, NO}
        rows[what] = {name for name, cell in zip(PERMISSIONS, cells, strict=True) if cell == YES}
    return rows


TABLE = documented()


class Iam:
    """Storage with permissions: counts the ones that are used, and refuses one."""

    def __init__(self, emulator: str, bucket: str, proxy: Proxy) -> None:
        self.used: Counter[str] = Counter()
        self.denied = ""
        self._objects = f"{emulator}/storage/v1/b/{bucket}/o"
        self._client = local_client()
        proxy.fault = self._fault

    def close(self) -> None:
        self._client.close()

    def _fault(self, kind: str, name: str) -> Fault:
        needed = self._needed(kind, name)
        self.used.update(needed)
        return 403 if self.denied in needed else None

    def _needed(self, kind: str, name: str) -> set[str]:
        side = "input" if name.startswith("in/") else "output"
        operation = kind.removeprefix("bookkeeping ")
        if operation != "write":
            return {f"{side} {'list' if operation == 'list' else 'get'}"}
        if self._client.get(f"{self._objects}/{quote(name, safe='')}").status_code == 200:
            return {"output create", "output delete"}
        return {"output create"}


@pytest.fixture
def iam(emulator: str, bucket: str, proxy: Proxy) -> Iterator[Iam]:
    made = Iam(emulator, bucket, proxy)
    yield made
    made.close()


class World:
    """The service and its images; `number` gives each round of a test a folder of its own."""

    def __init__(self, client: httpx.Client, service: Service, emulator: str, bucket: str) -> None:
        self.client = client
        self.service = service
        self.bucket = bucket
        self.number = 0
        self._emulator = emulator

    @property
    def folder(self) -> str:
        return f"in/{self.number}"

    def put(self) -> dict[str, Any]:
        return upload(self._emulator, self.bucket, f"{self.folder}/{self.number}.jpg", SMALL, "image/jpeg")

    def event(self, resource: dict[str, Any]) -> bool:
        return deliver(self.client, resource).status_code == 200

    def run(self, **body: object) -> bool:
        body = {"input_folder": f"gs://{self.bucket}/{self.folder}", "run_id": f"run-{self.number}"} | body
        return self.client.post("/run", json=body).status_code == 200

    def job(self) -> bool:
        folder = f"gs://{self.bucket}/{self.folder}"
        service = build(
            Settings.model_validate({"input_folder": folder, "cloud_run_execution": f"job-{self.number}"}),
            decoders=decoders(),
        )
        try:
            return asyncio.run(run_job(RunParameters.of(RunRequest(), service.settings), service)) == 0
        finally:
            service.close()


Act = Callable[[], bool]
"""Does something and returns True if it worked."""


def new_event(world: World) -> Act:
    resource = world.put()
    return lambda: world.event(resource)


def event_again(world: World) -> Act:
    resource = world.put()
    assert world.event(resource)
    return lambda: world.event(resource)


def event_about_a_replaced_original(world: World) -> Act:
    while True:
        first, second = world.put(), world.put()
        if first["timeCreated"][:13] == second["timeCreated"][:13]:  # The same hour, and so the same thumbnail.
            break
    # Both are the live generation to an event that does not say which.
    assert world.event({"bucket": world.bucket, "name": first["name"]})
    while (third := world.put())["timeCreated"][:13] != second["timeCreated"][:13]:
        second = third
        assert world.event({"bucket": world.bucket, "name": first["name"]})
    return lambda: world.event(third)


def run(world: World) -> Act:
    world.put()
    return world.run


def job(world: World) -> Act:
    world.put()
    return world.job


def run_over_what_is_there(world: World) -> Act:
    world.put()
    assert world.run(timestamp=HOUR)
    return lambda: world.run(timestamp=HOUR, overwrite=True)


def run_over_a_replaced_original(world: World) -> Act:
    world.put()
    assert world.run()
    world.put()
    return world.run


def job_over_a_replaced_original(world: World) -> Act:
    world.put()
    assert world.job()
    world.put()
    return world.job


def dry_run(world: World) -> Act:
    world.put()
    return lambda: world.run(dry_run=True)


def runs(world: World) -> Act:
    world.put()
    assert world.run()
    return lambda: world.client.get("/runs").status_code == 200


def one_run(world: World) -> Act:
    world.put()
    assert world.run()
    return lambda: world.client.get(f"/runs/run-{world.number}").status_code == 200


def thumbnails_of_a_source(world: World) -> Act:
    source = f"gs://{world.bucket}/{world.put()['name']}"
    return lambda: world.client.get("/thumbnails", params={"source": source}).status_code == 200


def source_of_a_thumbnail(world: World) -> Act:
    thumbnail = f"gs://{world.bucket}/{HOUR}/{world.put()['name'].rpartition('/')[2]}"
    assert world.run(timestamp=HOUR)
    return lambda: world.client.get("/thumbnails", params={"thumbnail": thumbnail}).status_code == 200


ACTS: dict[str, list[Callable[[World], Act]]] = {
    "`/events`: a new image": [new_event],
    "`/events`: one that is delivered again": [event_again],
    "`/events`: an original that was replaced": [event_about_a_replaced_original],
    "`/run`, the job: images that have no thumbnail": [run, job],
    "`/run`, the job: thumbnails to be replaced": [
        run_over_what_is_there,
        run_over_a_replaced_original,
        job_over_a_replaced_original,
    ],
    "`/run` with `dry_run`": [dry_run],
    "`GET /runs`": [runs],
    "`GET /runs/<run_id>`": [one_run],
    "`GET /thumbnails` of a source": [thumbnails_of_a_source],
    "`GET /thumbnails` of a thumbnail": [source_of_a_thumbnail],
}

TRIED = {
    # A name that is taken is found by writing to it.
    "`/events`: one that is delivered again": {"output create", "output delete"},
    # A report replaces the one before it where it may, and has a name of its own where it may not.
    "`/run`, the job: images that have no thumbnail": {"output delete"},
}
"""Permissions that are used if granted, and done without if refused; the table does not name them."""


def test_the_table_names_what_is_proven_here() -> None:
    assert {what for what in TABLE if not re.match("`GET /(`|hours)", what)} == set(ACTS)


@pytest.mark.parametrize(
    ("what", "prepare"),
    [
        pytest.param(what, prepare, marks=[pytest.mark.slow] if number else [])
        for what, ways in ACTS.items()
        for number, prepare in enumerate(ways)
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_a_door_uses_the_permissions_that_the_table_names_and_fails_without_each(
    serve: Serve, iam: Iam, emulator: str, bucket: str, what: str, prepare: Callable[[World], Act]
) -> None:
    client, service = serve()
    world = World(client, service, emulator, bucket)
    act = prepare(world)
    iam.used.clear()
    assert act()
    assert TABLE[what] <= set(iam.used) <= TABLE[what] | TRIED.get(what, set())

    failing = set()
    for world.number, permission in enumerate(PERMISSIONS, 1):
        iam.denied = ""
        act = prepare(world)
        iam.denied = permission
        if not act():
            failing.add(permission)
    assert failing == TABLE[what]
