"""Each file in `data/events` is a delivery and what it means; a strange one is a new file."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import NotAnEvent, UnusableEvent
from service.events import IgnoredEvent, ObjectFinalized, decode, split_batch

CASES = sorted((Path(__file__).parent / "data" / "events").glob("*.json"))


def _load(path: Path) -> tuple[dict[str, str], bytes, dict[str, Any]]:
    case = json.loads(path.read_text())
    body = case["body_text"] if "body_text" in case else json.dumps(case["body"])
    return case["headers"], body.encode(), case["expect"]


def _meaning(headers: Mapping[str, str], body: bytes) -> tuple[str, Any]:
    """What a delivery means: the key that its file expects it under, and the value."""
    try:
        batch = split_batch(headers, body)
        if batch is not None:
            return "batch", [_meaning(*each) for each in batch]
        event = decode(headers, body)
    except UnusableEvent as error:
        return "unusable", str(error)
    except NotAnEvent as error:
        return "not_an_event", str(error)
    if isinstance(event, IgnoredEvent):
        return "ignored", event.reason
    return "location", (str(event.location), event.generation, event.resource is not None)


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_a_delivery_means_what_its_file_says(path: Path) -> None:
    headers, body, expected = _load(path)
    _is_expected(_meaning(headers, body), expected)


def _is_expected(meaning: tuple[str, Any], expected: dict[str, Any]) -> None:
    kind, value = meaning
    assert kind in expected
    if kind == "location":
        assert value == (expected["location"], expected["generation"], expected["resource"])
    elif kind == "batch":
        for one, of_one in zip(value, expected["batch"], strict=True):
            _is_expected(one, of_one)
    else:
        assert expected[kind] in value


def test_there_are_deliveries_of_every_kind() -> None:
    assert {kind for path in CASES for kind in _load(path)[2]} >= {
        "location",
        "ignored",
        "unusable",
        "not_an_event",
        "batch",
    }


def test_a_full_event_says_all_that_is_needed() -> None:
    headers, body, _ = _load(Path(__file__).parent / "data" / "events" / "binary.json")
    event = decode(headers, body)
    assert isinstance(event, ObjectFinalized)
    assert event.resource
    assert event.resource.size == 352041
    assert event.resource.content_type == "image/jpeg"
    assert event.resource.metadata == {"album": "summer"}
    assert event.resource.created.isoformat() == "2026-01-05T10:59:59.503000+00:00"


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(
        ["message", "attributes", "data", "eventType", "bucketId", "objectId", "name", "bucket", "protoPayload",
         "methodName", "resourceName", "kind", "specversion", "type", "source", "id", "time", "data_base64"]
    ), inner, max_size=6),
    max_leaves=12,
)  # fmt: skip


@given(
    headers=st.dictionaries(
        st.sampled_from(["Content-Type", "ce-type", "ce-id", "ce-source", "ce-specversion", "ce-time", "eventType"]),
        st.sampled_from(
            ["1.0", "0.3", "application/json", "application/cloudevents+json", "x", "", "OBJECT_FINALIZE",
             "application/cloudevents-batch+json", "application/protobuf",
             "google.cloud.storage.object.v1.finalized", "google.cloud.pubsub.topic.v1.messagePublished",
             "google.cloud.audit.log.v1.written"]
        ),
    ),
    body=_JSON.map(lambda value: json.dumps(value).encode()) | st.binary(max_size=50),
)  # fmt: skip
def test_whatever_is_delivered_ends_in_an_event_or_in_our_own_errors(headers: dict[str, str], body: bytes) -> None:
    kind, value = _meaning(headers, body)
    assert kind in {"location", "ignored", "unusable", "not_an_event", "batch"}
    assert value or kind == "batch"
