"""`POST /run` with a limit of dollars."""

import json
from collections.abc import Iterator

import httpx
import pytest

from service.demo.network import local_client
from service.storage.classes import StorageClass
from tests.support.browser import Looked, looking
from tests.support.memory_store import MemoryStore
from tests.support.pictures import jpeg

MANY = {"task_index": 0, "task_count": 2, "run_id": "mine"}


@pytest.fixture
def looked(store: MemoryStore) -> Iterator[Looked]:
    for number in range(10):
        store.put(f"gs://photos/in/{number}.jpg", jpeg(16, 12), storage_class=StorageClass.ARCHIVE)
    with looking(store, prices='{"vcpu_second": 0, "gib_second": 0}') as looked:
        yield looked


@pytest.fixture
def client(looked: Looked) -> Iterator[httpx.Client]:
    with local_client() as client:
        client.base_url = httpx.URL(looked.url)
        yield client


@pytest.mark.parametrize("body", [{}, MANY])
def test_a_run_that_costs_more_is_refused_with_the_estimate(
    client: httpx.Client, store: MemoryStore, body: dict[str, object]
) -> None:
    answer = client.post("/run", json=body | {"max_dollars": 0.00001})
    assert answer.status_code == 422
    refused = answer.json()
    assert set(refused) == {"code", "reason", "field", "estimate"}
    assert (refused["code"], refused["field"]) == ("too_expensive", "max_dollars")
    assert refused["estimate"]["by_class"]["ARCHIVE"]["images"] == 10
    assert refused["estimate"]["dollars"] > 0.0005
    assert store.calls["read"] == store.calls["write"] == 0
    assert client.post("/run", json=body | {"max_dollars": refused["estimate"]["dollars"] * 2}).status_code == 200


def test_a_run_that_is_stopped_is_answered_with_its_report(client: httpx.Client) -> None:
    answer = client.post("/run", json={"max_dollars": 0.0002})
    assert answer.status_code == 422
    report = answer.json()
    assert report["error"]["code"] == "too_expensive"
    assert 1 <= report["created"] < 10
    assert report["cost"]["dollars"] <= 0.0002
    assert report["cost"]["by_class"]["ARCHIVE"]["class_b_requests"] == report["created"]


@pytest.mark.parametrize("body", [{}, MANY])
def test_a_stream_says_it_in_its_report(client: httpx.Client, body: dict[str, object]) -> None:
    answer = client.post("/run", json=body | {"max_dollars": 0.00001}, headers={"Accept": "application/x-ndjson"})
    assert answer.status_code == 200
    report = json.loads(answer.text.splitlines()[-1])
    assert report["created"] == 0
    assert report["error"]["code"] == "too_expensive"
    assert "dollars" in report["error"]["reason"]


@pytest.mark.parametrize("text", ["-1", "NaN", "Infinity", '"much"'])
def test_a_limit_that_is_none_is_refused_and_named(client: httpx.Client, text: str) -> None:
    answer = client.post("/run", content=f'{{"max_dollars": {text}}}')
    assert answer.status_code == 422
    assert answer.json()["code"] == "invalid_value"
    assert answer.json()["reason"].startswith("max_dollars: ")
