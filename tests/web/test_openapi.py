"""What the service says of its API is true."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.demo.network import local_client
from tests.support.browser import looking
from tests.support.eventarc import deliver
from tests.support.memory_store import MemoryStore
from tests.support.pictures import jpeg

HOOKS = Path(__file__).parents[1] / "support" / "schemathesis_hooks.py"
ERROR = "#/components/schemas/ErrorAnswer"


@pytest.fixture
def client() -> Iterator[httpx.Client]:
    """A caller of the service over a store in memory, whose folder is that of the examples in the description."""
    store = MemoryStore("my-bucket")
    store.put("gs://my-bucket/photos/cat.jpg", jpeg())
    with looking(store, input_folder="gs://my-bucket/photos") as looked, local_client() as client:
        client.base_url = httpx.URL(looked.url)
        yield client


@pytest.fixture
def paths(client: httpx.Client) -> dict[str, dict[str, Any]]:
    described: dict[str, dict[str, Any]] = client.get("/openapi.json").json()["paths"]
    return described


@pytest.mark.slow
def test_schemathesis_finds_nothing(client: httpx.Client, tmp_path: Path) -> None:
    assert client.post("/run", json={"run_id": "mine", "timestamp": "20251203T15Z"}).json()["created"] == 1
    address = str(client.base_url.join("/openapi.json"))
    arguments = "--checks=all --continue-on-failure --max-examples=50 --seed=1 --no-color --warnings=off"
    done = subprocess.run(
        [sys.executable, "-m", "schemathesis.cli", "run", address, *arguments.split()],
        cwd=tmp_path,
        env=os.environ | {"SCHEMATHESIS_HOOKS": str(HOOKS)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "6 selected / 6 total" in done.stdout
    for phase in ("Examples", "Coverage", "Fuzzing", "Stateful"):
        assert f"✅ {phase}" in done.stdout


def test_statuses_and_the_form_of_an_error_are_described_wherever_they_occur(
    paths: dict[str, dict[str, Any]],
) -> None:
    errors = {
        ("/run", "post"): {"403", "404", "413", "422", "503"},
        ("/events", "post"): {"400", "403", "413", "503"},
        ("/runs", "get"): {"503"},
        ("/runs/{run_id}", "get"): {"404", "422", "503"},
        ("/thumbnails", "get"): {"403", "404", "422", "503"},
        ("/health", "get"): set(),
    }
    described = {
        (path, method): route["responses"] for path, routes in paths.items() for method, route in routes.items()
    }
    assert {route: set(responses) - {"200"} for route, responses in described.items()} == errors
    for responses in described.values():
        for status, response in responses.items():
            if status != "200":
                schema = response["content"]["application/json"]["schema"]
                assert {"$ref": ERROR} in [schema, *schema.get("anyOf", [])]


@pytest.mark.parametrize("path", ["/run", "/events"])
@pytest.mark.parametrize(
    ("headers", "body", "status"),
    [({"Origin": "https://evil.example"}, b"{}", 403), ({}, b"x" * 2_000_000, 413)],
)
def test_errors_that_no_generated_request_causes_are_as_described(
    client: httpx.Client, paths: dict[str, dict[str, Any]], path: str, headers: dict[str, str], body: bytes, status: int
) -> None:
    answer = client.post(path, headers=headers, content=body)
    assert answer.status_code == status
    assert answer.headers["Content-Type"] == "application/json"
    assert set(answer.json()) == {"code", "reason"}
    schema = paths[path]["post"]["responses"][str(status)]["content"]["application/json"]["schema"]
    assert schema == {"$ref": ERROR}


def test_the_fields_of_a_request_have_their_bounds(paths: dict[str, dict[str, Any]]) -> None:
    body = paths["/run"]["post"]["requestBody"]["content"]["application/json"]["schema"]["properties"]
    (run_id,) = paths["/runs/{run_id}"]["get"]["parameters"]
    fields = [run_id["schema"]]
    fields += [parameter["schema"] for parameter in paths["/thumbnails"]["get"]["parameters"]]
    fields += [body[name] for name in ("input_folder", "timestamp", "since", "run_id", "task_index", "task_count")]
    for field in fields:
        schema = field["anyOf"][0] if field.get("type") is None else field
        bounds = {"pattern", "minimum"} & set(schema) or [part for part in schema["anyOf"] if "pattern" in part]
        assert bounds, field


def test_examples_work(client: httpx.Client, paths: dict[str, dict[str, Any]]) -> None:
    def example(path: str) -> dict[str, Any]:
        given: dict[str, Any] = paths[path]["post"]["requestBody"]["content"]["application/json"]["example"]
        return given

    assert client.post("/run", json=example("/run")).json()["dry_run"] is True
    assert client.post("/events", json=example("/events")).json()["outcome"] == "created"
    assert deliver(client, example("/events")).json()["outcome"] == "skipped"
