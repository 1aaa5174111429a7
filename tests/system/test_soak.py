"""The real service within 512 MiB, with more large pictures at once than would ever fit."""

import json
import secrets
import shlex
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from service.demo.network import local_client
from service.demo.processes import ServiceProcess, log_end, service_process
from service.demo.storage import list_objects
from service.memory import count_processors, count_workers, decoding_budget, memory_limit
from tests.conftest import Put
from tests.support.eventarc import deliver
from tests.support.pictures import encoded
from tests.system.test_hostile_pictures import HOSTILE, PPM, hostile_picture

MEBIBYTE = 1024 * 1024
LIMIT = 512 * MEBIBYTE
"""The smallest that Cloud Run gives by default."""

LARGE = (7300, 5480)
"""40 megapixels."""

MOUNT = Path("/sys/fs/cgroup")
VERSION_1 = MOUNT / "memory"


@dataclass(frozen=True)
class Group:
    """A control group with a memory limit; processes that enter it are killed when they exceed it."""

    folder: Path
    version: int

    def command(self, *program: str) -> tuple[str, ...]:
        """What starts a program inside, before it has taken any memory."""
        enter = f"echo $$ > {shlex.quote(str(self.folder / 'cgroup.procs'))} && exec {shlex.join(program)}"
        return "sh", "-c", enter

    @property
    def peak(self) -> int:
        """Bytes at the most so far, with what the kernel keeps of files."""
        return int(self._read("memory.max_usage_in_bytes", "memory.peak"))

    @property
    def kills(self) -> int:
        """How many processes were killed for it."""
        lines = self._read("memory.oom_control", "memory.events").splitlines()
        return int(dict(line.split() for line in lines).get("oom_kill", 0))

    @property
    def squeezes(self) -> int:
        """How often the limit was met, so that the kernel had to look for memory to take back."""
        if self.version == 1:
            return int((self.folder / "memory.failcnt").read_text())
        return int(dict(line.split() for line in (self.folder / "memory.events").read_text().splitlines())["max"])

    def _read(self, version_1: str, version_2: str) -> str:
        return (self.folder / (version_1 if self.version == 1 else version_2)).read_text()


@contextmanager
def memory_group(limit: int) -> Iterator[Group]:
    """A new control group at the top of the hierarchy; the test is skipped where it cannot be made."""
    version = 1 if (VERSION_1 / "memory.limit_in_bytes").exists() else 2
    group = Group((VERSION_1 if version == 1 else MOUNT) / f"soak-{secrets.token_hex(4)}", version)
    try:
        group.folder.mkdir()
    except OSError as error:
        pytest.skip(f"no memory control group can be made here: {error}")
    try:
        try:
            _limit(group, limit)
        except OSError as error:
            pytest.skip(f"no memory limit can be set here: {error}")
        yield group
    finally:
        # The processes are gone, and the kernel may need a moment to see it.
        deadline = time.monotonic() + 10
        while True:
            try:
                group.folder.rmdir()
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)
            else:
                break


def _limit(group: Group, limit: int) -> None:
    if group.version == 1:
        (group.folder / "memory.limit_in_bytes").write_text(str(limit))
        # With swap: a service that swaps has not kept within its memory.
        with_swap = group.folder / "memory.memsw.limit_in_bytes"
        if with_swap.exists():
            with_swap.write_text(str(limit))
    else:
        (group.folder / "memory.max").write_text(str(limit))
        if (group.folder / "memory.swap.max").exists():
            (group.folder / "memory.swap.max").write_text("0")


def photo_like(size: tuple[int, int]) -> Image.Image:
    """Slopes and some noise: large pixels, reasonable files, made quickly."""
    slope = Image.linear_gradient("L").resize(size)
    clouds = Image.effect_noise((size[0] // 40, size[1] // 40), 90).resize(size, Image.Resampling.BICUBIC)
    return Image.merge("RGB", [slope, Image.blend(slope, clouds, 0.5), clouds])


def translucent(picture: Image.Image) -> Image.Image:
    picture.putalpha(Image.radial_gradient("L").resize(picture.size))
    return picture


@dataclass(frozen=True)
class Delivered:
    """How a round of events went."""

    outcomes: Sequence[dict[str, Any]]
    seconds: float

    def report(self, what: str, group: Group) -> str:
        return (
            f"{what}: {len(self.outcomes)} in {self.seconds:.1f} s, {len(self.outcomes) / self.seconds:.1f} a second; "
            f"peak {group.peak / MEBIBYTE:.0f} of {LIMIT / MEBIBYTE:.0f} MiB, limit met {group.squeezes} times"
        )


def deliver_all(service: ServiceProcess, resources: Sequence[dict[str, Any]]) -> Delivered:
    """Post an event for each object, all at once."""

    def post(resource: dict[str, Any]) -> dict[str, Any]:
        try:
            with local_client(timeout=300) as client:
                client.base_url = httpx.URL(service.url)
                answer = deliver(client, resource, **{"ce-id": resource["generation"]})
        except httpx.TransportError as error:
            return {"outcome": "none", "reason": repr(error)}
        return dict(answer.json()) if answer.is_success else {"outcome": f"{answer.status_code} {answer.text}"}

    began = time.monotonic()
    with ThreadPoolExecutor(len(resources)) as threads:
        outcomes = list(threads.map(post, resources))
    return Delivered(outcomes, time.monotonic() - began)


def assert_all_created(delivered: Delivered, service: ServiceProcess, group: Group, *, but: int) -> None:
    """See that all pictures have thumbnails but the last ones, whose decoders take what they can get."""
    wrong = [outcome for outcome in delivered.outcomes[:-but] if outcome.get("outcome") != "created"]
    wrong += [outcome for outcome in delivered.outcomes[-but:] if outcome.get("code") != "picture_too_large"]
    assert not wrong, f"killed: {group.kills}; {json.dumps(wrong[:3])}\n{log_end(service.log)}"
    assert group.kills == 0
    # The very process that was started: it is in the group, and answers.
    assert str(service.pid) in (group.folder / "cgroup.procs").read_text().split()
    with local_client() as client:
        assert client.get(f"{service.url}/health").is_success


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_512_mib_survive_fifty_pictures_of_40_megapixels_at_once(
    emulator: str, bucket: str, put: Put, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = photo_like(LARGE)
    png = encoded(picture, "PNG", compress_level=1)
    jpeg = encoded(picture, "JPEG", progressive=True, quality=80)
    assert max(len(png), len(jpeg)) < 64 * MEBIBYTE
    large = [
        put(f"in/{number}.{suffix}", data, content_type)
        for number in range(25)
        for suffix, data, content_type in (("png", png, "image/png"), ("jpg", jpeg, "image/jpeg"))
    ]
    small = photo_like((4000, 3000))
    kinds = (
        ("webp", encoded(small, "WEBP", method=0, quality=70), "image/webp"),
        ("translucent.png", encoded(translucent(small.copy()), "PNG", compress_level=1), "image/png"),
        ("progressive.jpg", encoded(small, "JPEG", progressive=True, subsampling=0), "image/jpeg"),
        ("small.jpg", encoded(photo_like((800, 600)), "JPEG"), "image/jpeg"),
        ("small.gif", encoded(photo_like((800, 600)).quantize(64), "GIF"), "image/gif"),
    )
    mixed = [put(f"in/mixed/{n}-{name}", data, kind) for n in range(20) for name, data, kind in kinds]
    liars = [put(f"in/liars/{n}.ppm", hostile_picture("eat"), PPM) for n in range(10)]
    settings = {
        "INPUT_FOLDER": f"gs://{bucket}/in",
        "STORAGE_EMULATOR_HOST": emulator,
        "MEMORY_BUDGET": "",
        "PYTHONPATH": HOSTILE,
    }
    with (
        memory_group(LIMIT) as group,
        service_process(settings, command=group.command(sys.executable, "-m", "service")) as service,
    ):
        assert memory_limit(own=Path(f"/proc/{service.pid}/cgroup")) == LIMIT
        workers = count_workers(LIMIT, count_processors())
        with capsys.disabled():
            sys.stdout.write(
                f"\n{workers} workers, budget {decoding_budget(LIMIT, workers) / MEBIBYTE:.0f} MiB, "
                f"peak before the first picture {group.peak / MEBIBYTE:.0f} MiB\n"
            )
            for what, resources in (("large", large), ("mixed", mixed)):
                delivered = deliver_all(service, resources + liars)
                sys.stdout.write(delivered.report(what, group) + "\n")
                assert_all_created(delivered, service, group, but=len(liars))
    made = [found for found in list_objects(emulator, bucket) if not found["name"].startswith("in/")]
    assert len(made) == len(large) + len(mixed)
