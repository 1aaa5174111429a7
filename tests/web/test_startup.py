"""Answers while the application is being imported."""

import asyncio
import os
import subprocess
import sys
import threading
from typing import Any

import httpx

from service.errors import CredentialsMissing
from service.web.startup import DeferredApp, Message, Receive, Send


async def _application(scope: Message, receive: Receive, send: Send) -> None:
    del scope, receive
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body", "body": b""})


def _client(app: DeferredApp) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test")


def test_health_is_answered_before_anything_is_loaded_and_the_rest_waits_for_it() -> None:
    go_on = threading.Event()

    def load() -> Any:  # noqa: ANN401 - an application
        go_on.wait(20)
        return _application

    async def ask() -> None:
        app = DeferredApp(load)
        app.start_loading()
        async with _client(app) as client:
            answer = await client.get("/health")
            assert (answer.status_code, answer.json()) == (200, {"status": "ok"})
            assert (await client.head("/health")).status_code == 200
            waiting = asyncio.create_task(client.post("/run"))
            other = asyncio.create_task(client.get("/health"))
            assert (await other).status_code == 200
            assert not waiting.done()
            go_on.set()
            assert (await waiting).status_code == 204
            # From now on all of it is the application's.
            assert (await client.get("/health")).status_code == 204

    asyncio.run(ask())


def test_who_waits_for_what_cannot_be_loaded_is_told_to_come_again() -> None:
    def load() -> Any:  # noqa: ANN401 - an application
        raise CredentialsMissing("no Google credentials found")

    async def ask() -> None:
        app = DeferredApp(load)
        app.start_loading()
        async with _client(app) as client:
            answer = await client.post("/run")
        assert answer.status_code == 503
        assert isinstance(app.failure, CredentialsMissing)

    asyncio.run(ask())


def test_the_event_loop_of_a_run_is_loaded_behind_the_open_port() -> None:
    program = """
import sys
from service.process import Stop
from service.settings import load_settings
from service.web.app import load

service, _ = load(load_settings(), Stop())
service.close()
sys.exit("anyio._backends._asyncio" not in sys.modules)
"""
    settings = {"INPUT_FOLDER": "gs://photos/in", "STORAGE_EMULATOR_HOST": "http://127.0.0.1:9"}
    assert subprocess.run([sys.executable, "-c", program], check=False, env=os.environ | settings).returncode == 0
