"""Fixtures that several test modules share.

For tests in memory: a store, threads, the application over the store. For tests over real HTTP: the storage emulator, a
new bucket, a proxy, the served application.
"""

import itertools
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any, Protocol

import httpx
import pytest
from google.cloud.storage.retry import DEFAULT_RETRY

from service.bootstrap import Service, build
from service.demo.network import local_client
from service.demo.storage import make_bucket, storage_emulator, upload
from service.memory import count_processors
from service.process import Shutdown
from service.settings import Settings
from service.web.app import create_app
from tests.support.assembly import decoders
from tests.support.browser import Looked, looking, serving
from tests.support.memory_store import MemoryStore
from tests.support.proxy import Proxy, proxied

_numbers = itertools.count()


def pytest_xdist_auto_num_workers() -> int:
    """Return how many processes run tests: one more than processors, as many tests wait for something."""
    return count_processors() + 1


@pytest.fixture(scope="module")
def executor() -> Iterator[ThreadPoolExecutor]:
    """Threads for the images of a run."""
    with ThreadPoolExecutor(4) as pool:
        yield pool


@pytest.fixture
def store() -> MemoryStore:
    """A store in memory with the bucket `photos`; a module that needs another one overrides it."""
    return MemoryStore("photos")


@pytest.fixture
def looked(store: MemoryStore) -> Iterator[Looked]:
    """The application over the store in memory."""
    with looking(store) as looked:
        yield looked


@pytest.fixture(scope="session")
def emulator() -> Iterator[str]:
    """The URL of a storage emulator."""
    with storage_emulator() as url:
        yield url


@pytest.fixture
def bucket(emulator: str) -> str:
    """The name of a new bucket."""
    name = f"bucket-{next(_numbers)}"
    make_bucket(emulator, name)
    return name


@pytest.fixture
def proxy(emulator: str) -> Iterator[Proxy]:
    """A proxy before the emulator."""
    with proxied(emulator) as running:
        yield running


class Put(Protocol):
    """Writes an object into the test's bucket, and returns its resource."""

    def __call__(self, name: str, data: bytes, content_type: str = "image/jpeg") -> dict[str, Any]: ...


@pytest.fixture
def put(emulator: str, bucket: str) -> Put:
    def put(name: str, data: bytes, content_type: str = "image/jpeg") -> dict[str, Any]:
        return upload(emulator, bucket, name, data, content_type)

    return put


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Storage calls give up within a second instead of a minute."""
    monkeypatch.setattr("service.storage.cloud._RETRY", DEFAULT_RETRY.with_timeout(0.5).with_delay(initial=0.05))
    monkeypatch.setattr("service.storage.cloud._TIMEOUT", (0.5, 0.5))


class Serve(Protocol):
    """Serves the application over real HTTP, storage behind the proxy, and returns a client and the service."""

    def __call__(
        self,
        shutdown: Shutdown | None = None,
        **settings: Any,  # noqa: ANN401 - whatever a setting is
    ) -> tuple[httpx.Client, Service]: ...


@pytest.fixture
def serve(proxy: Proxy, bucket: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Serve]:
    with ExitStack() as stack:

        def serve(
            shutdown: Shutdown | None = None,
            **settings: Any,  # noqa: ANN401 - whatever a setting is
        ) -> tuple[httpx.Client, Service]:
            monkeypatch.setenv("STORAGE_EMULATOR_HOST", proxy.url)
            service = build(
                Settings(**({"input_folder": f"gs://{bucket}/in"} | settings)), shutdown=shutdown, decoders=decoders()
            )
            stack.callback(service.close)
            url = stack.enter_context(serving(create_app(service)))
            client = stack.enter_context(local_client())
            client.base_url = httpx.URL(url)
            return client, service

        yield serve
