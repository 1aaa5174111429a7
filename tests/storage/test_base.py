from datetime import UTC, datetime
from typing import Any

import pytest

from service.storage.addresses import ObjectLocation
from service.storage.base import StoredObject
from service.storage.classes import StorageClass

RESOURCE = {
    "name": "in/café.jpg",
    "generation": "1767610799503551",
    "size": "352041",
    "timeCreated": "2026-01-05T10:59:59.503Z",
    "contentType": "image/jpeg",
    "contentEncoding": "gzip",
    "storageClass": "COLDLINE",
    "metadata": {"album": "summer"},
}


def test_an_object_is_read_from_its_resource() -> None:
    assert StoredObject.from_resource("photos", RESOURCE) == StoredObject(
        ObjectLocation("photos", "in/café.jpg"),
        1767610799503551,
        352041,
        datetime(2026, 1, 5, 10, 59, 59, 503000, tzinfo=UTC),
        "image/jpeg",
        "gzip",
        {"album": "summer"},
        StorageClass.COLDLINE,
    )


def test_a_resource_needs_no_more_than_a_name_a_generation_and_a_time() -> None:
    least = {name: RESOURCE[name] for name in ("name", "generation", "timeCreated")}
    stored = StoredObject.from_resource("photos", least)
    assert (stored.size, stored.content_type, stored.content_encoding, stored.metadata) == (0, "", "", {})
    assert stored.storage_class is None


@pytest.mark.parametrize(
    ("name", "storage_class"),
    [
        ("REGIONAL", StorageClass.STANDARD),
        ("MULTI_REGIONAL", StorageClass.STANDARD),
        ("DURABLE_REDUCED_AVAILABILITY", StorageClass.NEARLINE),
        ("A_CLASS_TO_COME", StorageClass.STANDARD),
        *((each.value, each) for each in StorageClass),
    ],
)
def test_old_and_new_names_of_classes_mean_one_of_four(name: str, storage_class: StorageClass) -> None:
    assert StoredObject.from_resource("photos", RESOURCE | {"storageClass": name}).storage_class is storage_class


@pytest.mark.parametrize("missing", ["name", "generation", "timeCreated"])
def test_a_resource_without_a_needed_field_is_refused(missing: str) -> None:
    with pytest.raises(KeyError, match=missing):
        StoredObject.from_resource("photos", {name: value for name, value in RESOURCE.items() if name != missing})


@pytest.mark.parametrize(
    "odd",
    [
        {"generation": "new"}, {"generation": None}, {"size": "large"}, {"timeCreated": "yesterday"},
        {"timeCreated": "2026-01-05T10:59:59"}, {"contentType": None}, {"contentEncoding": []}, {"metadata": []},
        {"storageClass": 1},
    ],
    ids=str,
)  # fmt: skip
def test_a_resource_with_a_malformed_field_is_refused(odd: dict[str, Any]) -> None:
    with pytest.raises((TypeError, ValueError)):
        StoredObject.from_resource("photos", RESOURCE | odd)
