"""One contract for both stores, so that the fake cannot drift; then what only the real client does."""

import gc
import gzip
import itertools
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from contextvars import copy_context
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from google.auth.exceptions import DefaultCredentialsError, RefreshError

from service.errors import (
    BucketNotFound,
    CorruptImage,
    CredentialsMissing,
    NameTaken,
    ObjectNotFound,
    PermissionMissing,
    ServiceError,
    SourceTooLarge,
    StorageRefused,
    StorageUnavailable,
)
from service.storage.addresses import ALL_NAMES, FolderLocation, NameRange, ObjectLocation
from service.storage.base import UPLOAD_UNIT, ObjectStore, StoredObject
from service.storage.classes import StorageClass
from service.storage.cloud import _RETRY, CloudStore
from service.storage.metering import Meter, Operation, metered
from tests.support.memory_store import MemoryStore
from tests.support.proxy import Fault, Harm, Proxy


@pytest.fixture
def quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten the delays between retries; a test that uses it has to name it before the store."""
    monkeypatch.setattr("service.storage.cloud._RETRY", _RETRY.with_delay(initial=0.01, maximum=0.05))


@pytest.fixture
def cloud(proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> Iterator[CloudStore]:
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", proxy.url)
    with closing(CloudStore(connections=8)) as store:
        yield store


@pytest.fixture(params=["memory", "cloud"])
def store(request: pytest.FixtureRequest, bucket: str) -> ObjectStore:
    if request.param == "memory":
        return MemoryStore(bucket)
    store: CloudStore = request.getfixturevalue("cloud")
    return store


def write(store: ObjectStore, bucket: str, name: str, data: bytes = b"data", *, if_generation: int = 0) -> StoredObject:
    location = ObjectLocation(bucket, name)
    store.write(
        location,
        data,
        content_type="image/png",
        cache_control="max-age=60",
        metadata={"thumbnail-source": "gs://b/ünï 猫.jpg"},
        if_generation=if_generation,
    )
    return store.stat(location)


ODD_NAMES = ["a b.jpg", "a#b?c=%20&d.jpg", "a//b.jpg", "ü/猫.jpg", "x" * 1024, "plus+.jpg", "'\"<>\\.jpg"]


@pytest.mark.parametrize("name", ODD_NAMES)
def test_what_is_written_is_read_whatever_its_name(store: ObjectStore, bucket: str, name: str) -> None:
    found = write(store, bucket, name, b"some bytes")
    assert store.read(found, 100) == b"some bytes"
    (listed,) = store.list_objects(FolderLocation(bucket))
    assert listed == found
    assert found.location == ObjectLocation(bucket, name)
    assert found.size == 10
    assert found.content_type == "image/png"
    assert found.metadata == {"thumbnail-source": "gs://b/ünï 猫.jpg"}
    assert found.created.tzinfo


def test_a_folder_is_listed_in_the_order_of_its_names_bytes(store: ObjectStore, bucket: str) -> None:
    names = ["in/a.jpg", "in/B.jpg", "in/é.jpg", "in/猫.jpg", "in/\U0001f600.jpg", "in/\uff00.jpg", "in/a/b.jpg", "in/"]
    for name in [*names, "index/x.jpg", "other.jpg"]:
        write(store, bucket, name)
    listed = [found.location.name for found in store.list_objects(FolderLocation(bucket, "in/"))]
    assert listed == sorted(names, key=str.encode)


def test_the_first_objects_of_a_range_are_listed_and_no_more(store: ObjectStore, bucket: str) -> None:
    names = [f"in/{letter}.jpg" for letter in "abcdef"]
    for name in [*names, "index/x.jpg"]:
        write(store, bucket, name)

    def first(start: str, count: int) -> list[str]:
        listed = store.list_objects(FolderLocation(bucket, "in/"), NameRange(start))
        return [stored.location.name for stored in itertools.islice(listed, count)]

    assert first("", 2) == names[:2]
    assert first("in/c.jpg", 2) == names[2:4]
    assert first("in/c.jpg", 100) == names[2:]
    assert first("in/z", 2) == []


def test_folders_are_listed_without_what_is_in_them(store: ObjectStore, bucket: str) -> None:
    for name in ("a.jpg", "b/1.jpg", "b/2.jpg", "b/c/3.jpg", "é/4.jpg", "z/5.jpg", "z"):
        write(store, bucket, name)

    def folders(prefix: str = "", names: NameRange = ALL_NAMES) -> tuple[str, ...]:
        found = store.list_folders(FolderLocation(bucket, prefix), names, requests=5)
        assert found.complete
        return found.names

    assert folders() == ("b/", "z/", "é/")
    assert folders("b/") == ("b/c/",)
    assert folders(names=NameRange("a", "c")) == ("b/",)
    assert folders(names=NameRange("b0", "z")) == ()
    assert folders(names=NameRange("", "b")) == ()
    with pytest.raises(BucketNotFound):
        store.list_folders(FolderLocation("no-such-bucket"), ALL_NAMES, requests=1)


def test_a_search_for_folders_ends_after_so_many_requests(
    cloud: CloudStore, proxy: Proxy, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.storage.cloud._PAGE_SIZE", 2)
    for index in range(7):
        write(cloud, bucket, f"{index}.jpg")
    proxy.requests.clear()
    assert not cloud.list_folders(FolderLocation(bucket), ALL_NAMES, requests=3).complete
    assert proxy.requests["list"] == 3
    assert cloud.list_folders(FolderLocation(bucket), ALL_NAMES, requests=4).complete


def test_objects_are_found_by_a_glob(store: ObjectStore, bucket: str) -> None:
    names = ["1/a.jpg", "1/a.jpg.png", "1/b.jpg", "1/x/a.jpg", "2/[a].jpg", "2/{a}.jpg", "3/a.jpg"]
    for name in names:
        write(store, bucket, name)

    def found(glob: str, names: NameRange = ALL_NAMES) -> list[str]:
        search = store.find_objects(bucket, names, glob=glob, requests=5)
        assert search.complete
        return [stored.location.name for stored in search.objects]

    assert found("?/a.jpg*", NameRange("1", "3")) == ["1/a.jpg", "1/a.jpg.png"]
    assert found("?/?a?.jpg") == ["2/[a].jpg", "2/{a}.jpg"]
    assert found("?/c.jpg") == []
    with pytest.raises(BucketNotFound):
        store.find_objects("no-such-bucket", ALL_NAMES, glob="*", requests=1)


def test_a_search_for_objects_ends_after_so_many_requests(
    cloud: CloudStore, proxy: Proxy, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.storage.cloud._PAGE_SIZE", 2)
    for index in range(7):
        write(cloud, bucket, f"{index}.jpg")
    proxy.requests.clear()
    search = cloud.find_objects(bucket, ALL_NAMES, glob="[246].jpg", requests=3)
    assert ([stored.location.name for stored in search.objects], search.complete) == (["2.jpg", "4.jpg"], False)
    assert proxy.requests["list"] == 3
    assert cloud.find_objects(bucket, ALL_NAMES, glob="[246].jpg", requests=4).complete


def test_a_write_that_expects_nothing_does_not_replace(store: ObjectStore, bucket: str) -> None:
    first = write(store, bucket, "x", b"first")
    with pytest.raises(NameTaken):
        write(store, bucket, "x", b"second")
    assert store.read(first, 100) == b"first"


def test_a_write_replaces_only_the_generation_that_it_expects(store: ObjectStore, bucket: str) -> None:
    first = write(store, bucket, "x", b"first")
    second = write(store, bucket, "x", b"second", if_generation=first.generation)
    assert second.generation > first.generation
    with pytest.raises(NameTaken):
        write(store, bucket, "x", b"third", if_generation=first.generation)
    with pytest.raises(NameTaken):
        write(store, bucket, "new", b"third", if_generation=first.generation)
    assert store.read(second, 100) == b"second"


def test_an_older_generation_is_not_there_any_more(store: ObjectStore, bucket: str) -> None:
    first = write(store, bucket, "x", b"first")
    write(store, bucket, "x", b"second", if_generation=first.generation)
    with pytest.raises(ObjectNotFound):
        store.read(first, 100)
    with pytest.raises(ObjectNotFound):
        store.stat(first.location, first.generation)


def test_what_is_not_there_is_not_found(store: ObjectStore, bucket: str) -> None:
    with pytest.raises(ObjectNotFound):
        store.stat(ObjectLocation(bucket, "nothing"))
    with pytest.raises(BucketNotFound, match="no bucket gs://no-such-bucket"):
        list(store.list_objects(FolderLocation("no-such-bucket")))
    with pytest.raises(BucketNotFound):
        write(store, "no-such-bucket", "x")


PIECE = bytes(range(256)) * (UPLOAD_UNIT // 256)


def test_an_upload_is_there_once_it_is_finished_and_not_before(store: ObjectStore, bucket: str) -> None:
    location = ObjectLocation(bucket, "runs/ü 猫.jsonl.gz")
    for last in (b"the end", b"another end"):
        upload = store.open_upload(location, "application/gzip")
        upload.send(PIECE * 2)
        upload.send(PIECE)
        before = list(store.list_objects(FolderLocation(bucket)))
        upload.finish(last)
        (found,) = store.list_objects(FolderLocation(bucket))
        assert found not in before
        assert (found.location, found.content_type, found.content_encoding) == (location, "application/gzip", "")
        assert store.read(found, 1 << 24) == PIECE * 3 + last


def test_an_upload_that_is_not_finished_leaves_nothing(store: ObjectStore, bucket: str) -> None:
    held = write(store, bucket, "held", b"first")
    for name in ("held", "new"):
        upload = store.open_upload(ObjectLocation(bucket, name), "application/gzip")
        upload.send(PIECE)
        del upload
    gc.collect()
    assert list(store.list_objects(FolderLocation(bucket))) == [held]
    assert store.read(held, 100) == b"first"


@pytest.mark.usefixtures("impatient")
def test_an_upload_that_begins_nowhere_does_not_begin(cloud: CloudStore, proxy: Proxy, bucket: str) -> None:
    proxy.fault = lambda *_: 200
    with pytest.raises(StorageUnavailable, match="does not say where"):
        cloud.open_upload(ObjectLocation(bucket, "x"), "application/gzip")
    proxy.fault = lambda *_: 200 if proxy.requests["write"] <= asked + 1 else None
    asked = proxy.requests["write"]
    cloud.open_upload(ObjectLocation(bucket, "x"), "application/gzip").finish(b"the end")
    assert cloud.stat(ObjectLocation(bucket, "x")).size == 7


def test_an_upload_to_a_bucket_that_is_not_there_does_not_begin(store: ObjectStore) -> None:
    with pytest.raises(BucketNotFound, match="no bucket gs://no-such-bucket"):
        store.open_upload(ObjectLocation("no-such-bucket", "x"), "application/gzip")


@pytest.mark.usefixtures("quick_retries")
@pytest.mark.parametrize("request_number", [1, 2, 3])
@pytest.mark.parametrize("fault", [503, 429, Harm.RESET_BEFORE])
def test_each_request_of_an_upload_is_retried(
    cloud: CloudStore, proxy: Proxy, bucket: str, fault: Fault, request_number: int
) -> None:
    proxy.fault = lambda *_: fault if proxy.requests["write"] == request_number else None
    upload = cloud.open_upload(ObjectLocation(bucket, "x"), "application/gzip")
    upload.send(PIECE)
    upload.finish(b"the end")
    assert cloud.read(cloud.stat(ObjectLocation(bucket, "x")), 1 << 24) == PIECE + b"the end"
    assert proxy.requests["write"] == 4


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("request_number", [1, 2, 3])
@pytest.mark.parametrize(
    ("fault", "error"),
    [(503, StorageUnavailable), (403, PermissionMissing), (400, StorageRefused), (Harm.STALL, StorageUnavailable)],
)
def test_no_exception_of_the_client_library_leaves_an_upload(
    cloud: CloudStore, proxy: Proxy, bucket: str, fault: Fault, error: type[ServiceError], request_number: int
) -> None:
    def whole() -> None:
        upload = cloud.open_upload(ObjectLocation(bucket, "x"), "application/gzip")
        upload.send(PIECE)
        upload.finish(b"the end")

    proxy.fault = lambda *_: fault if proxy.requests["write"] >= request_number else None
    with pytest.raises(error, match=f"cannot write gs://{bucket}/x"):
        whole()
    proxy.fault = lambda *_: None
    assert list(cloud.list_objects(FolderLocation(bucket))) == []


CALLS: list[tuple[str, Callable[[ObjectStore, StoredObject], object]]] = [
    ("list", lambda store, found: list(store.list_objects(FolderLocation(found.location.bucket)))),
    ("stat", lambda store, found: store.stat(found.location)),
    ("read", lambda store, found: store.read(found, 100)),
    ("write", lambda store, found: write(store, found.location.bucket, "another")),
]


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(("kind", "call"), CALLS, ids=[kind for kind, _ in CALLS])
@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (503, StorageUnavailable),
        (429, StorageUnavailable),
        (500, StorageUnavailable),
        (408, StorageUnavailable),
        (403, PermissionMissing),
        (Harm.RESET_BEFORE, StorageUnavailable),
        (Harm.STALL, StorageUnavailable),
    ],
)
def test_no_exception_of_the_client_library_leaves_storage(
    cloud: CloudStore,
    proxy: Proxy,
    bucket: str,
    kind: str,
    call: Callable[[ObjectStore, StoredObject], object],
    fault: Fault,
    error: type[ServiceError],
) -> None:
    found = write(cloud, bucket, "x")
    proxy.fault = lambda asked, _: fault if asked == kind else None
    with pytest.raises(error) as caught:
        call(cloud, found)
    assert bucket in str(caught.value)
    if error is PermissionMissing:
        assert "roles/storage.object" in str(caught.value)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(
    ("kind", "error"), [("read", StorageRefused), ("write", StorageRefused), ("list", StorageUnavailable)]
)
def test_a_request_that_storage_calls_wrong_is_the_images_fault_unless_it_is_a_listing(
    cloud: CloudStore, proxy: Proxy, bucket: str, kind: str, error: type[ServiceError]
) -> None:
    found = write(cloud, bucket, "x")
    proxy.fault = lambda asked, _: 400 if asked == kind else None
    with pytest.raises(error, match="HTTP 400"):
        dict(CALLS)[kind](cloud, found)


@pytest.mark.usefixtures("quick_retries")
@pytest.mark.parametrize(("kind", "call"), CALLS, ids=[kind for kind, _ in CALLS])
@pytest.mark.parametrize("fault", [503, 429, Harm.RESET_BEFORE])
def test_a_passing_fault_is_retried(
    cloud: CloudStore,
    proxy: Proxy,
    bucket: str,
    kind: str,
    call: Callable[[ObjectStore, StoredObject], object],
    fault: Fault,
) -> None:
    found = write(cloud, bucket, "x")
    before = proxy.requests[kind]
    proxy.fault = lambda asked, _: fault if asked == kind and proxy.requests[kind] <= before + 2 else None
    call(cloud, found)
    assert proxy.requests[kind] >= before + 3


@pytest.mark.usefixtures("quick_retries")
def test_a_body_cut_half_way_is_read_again(cloud: CloudStore, proxy: Proxy, bucket: str) -> None:
    found = write(cloud, bucket, "x", b"0123456789" * 1000)
    proxy.fault = lambda kind, _: Harm.CUT if kind == "read" and proxy.requests["read"] == 1 else None
    assert cloud.read(found, 100_000) == b"0123456789" * 1000


@pytest.mark.usefixtures("quick_retries")
def test_a_write_whose_answer_is_lost_says_that_the_name_is_taken(cloud: CloudStore, proxy: Proxy, bucket: str) -> None:
    proxy.fault = lambda kind, _: Harm.RESET_AFTER if kind == "write" and proxy.requests["write"] == 1 else None
    with pytest.raises(NameTaken):
        write(cloud, bucket, "x", b"stored")
    assert cloud.read(cloud.stat(ObjectLocation(bucket, "x")), 100) == b"stored"


def test_an_object_stored_gzip_encoded_is_unpacked_within_bounds(cloud: CloudStore, bucket: str) -> None:
    numbers = itertools.count()

    def stored(data: bytes) -> StoredObject:
        found = write(cloud, bucket, f"x{next(numbers)}", data)
        return StoredObject(
            found.location, found.generation, found.size, found.created, found.content_type, content_encoding="gzip"
        )

    packed = gzip.compress(b"picture" * 100)
    assert cloud.read(stored(packed), 700) == b"picture" * 100
    with pytest.raises(SourceTooLarge, match="699"):
        cloud.read(stored(packed), 699)
    with pytest.raises(CorruptImage, match="too early"):
        cloud.read(stored(packed[:-12]), 700)
    with pytest.raises(CorruptImage, match="cannot be unpacked"):
        cloud.read(stored(packed[:10] + b"\xff" * 50), 700)
    assert cloud.read(stored(b"not gzip at all"), 700) == b"not gzip at all"


def test_listings_come_in_pages(cloud: CloudStore, proxy: Proxy, bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.storage.cloud._PAGE_SIZE", 3)
    for index in range(7):
        write(cloud, bucket, f"in/{index}")
    proxy.requests.clear()
    assert len(list(cloud.list_objects(FolderLocation(bucket, "in/")))) == 7
    assert proxy.requests["list"] == 3


def test_a_listing_is_read_page_by_page_with_tokens(
    store: ObjectStore, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.storage.cloud._PAGE_SIZE", 3)
    if isinstance(store, MemoryStore):
        store.page_size = 3
    written = [write(store, bucket, f"in/{index}") for index in range(7)]
    folder, names = FolderLocation(bucket, "in/"), NameRange("in/1", "in/6")
    first = store.list_page(folder, names)
    assert first.next_token
    second = store.list_page(folder, names, first.next_token)
    assert not second.next_token
    described = [page.describe(resource) for page in (first, second) for resource in page.resources]
    assert [found.location for found in described] == [found.location for found in written[1:6]]
    assert described == list(store.list_objects(folder, names))
    with pytest.raises(BucketNotFound):
        store.list_page(FolderLocation("no-such-bucket-here"))


@pytest.mark.usefixtures("quick_retries")
@pytest.mark.parametrize("fault", [None, 503])
def test_as_many_threads_as_connections_share_them_through_thick_and_thin(
    cloud: CloudStore, proxy: Proxy, bucket: str, fault: Fault
) -> None:
    found = write(cloud, bucket, "x")
    asked = itertools.count()
    proxy.fault = lambda kind, _: fault if kind == "read" and next(asked) % 3 == 0 else None
    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(lambda _: cloud.read(found, 100), range(100))) == [b"data"] * 100
    assert proxy.requests["connection"] <= 8


def test_without_credentials_the_message_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: object, **__: object) -> None:
        raise DefaultCredentialsError

    monkeypatch.setattr("service.storage.cloud.storage.Client", missing)
    with pytest.raises(CredentialsMissing, match="gcloud auth application-default login"):
        CloudStore(1)


@pytest.mark.parametrize("kind", ["list", "stat"])
def test_without_a_token_storage_is_unavailable(cloud: CloudStore, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    def refused(*_: object) -> None:
        raise RefreshError("metadata server says no")  # type: ignore[no-untyped-call]

    monkeypatch.setattr(cloud._client._credentials, "before_request", refused)
    stored = StoredObject(ObjectLocation("some-bucket", "x"), 1, 4, datetime.now(UTC))
    with pytest.raises(StorageUnavailable, match="metadata server says no"):
        dict(CALLS)[kind](cloud, stored)


def test_the_first_bytes_alone_can_be_read_packed_or_not(store: ObjectStore, bucket: str) -> None:
    found = write(store, bucket, "plain", b"0123456789" * 100)
    assert store.read_head(found, 16) == b"0123456789012345"
    assert store.read_head(write(store, bucket, "short", b"012"), 16) == b"012"
    assert store.read(found, 10_000) == b"0123456789" * 100


def test_the_first_bytes_of_what_is_stored_packed_are_unpacked(cloud: CloudStore, bucket: str) -> None:
    for name, stored, expected in (
        ("packed", gzip.compress(b"0123456789" * 100), b"0123456789"),
        ("broken", b"\x1f\x8b" + b"\xff" * 50, b""),
        ("unpacked", b"0123456789", b"0123456789"),
    ):
        plain = write(cloud, bucket, name, stored)
        found = StoredObject(
            plain.location, plain.generation, plain.size, plain.created, plain.content_type, content_encoding="gzip"
        )
        assert cloud.read_head(found, 64)[:10] == expected


def test_everything_is_written_in_one_class_which_storage_says_again(
    proxy: Proxy, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", proxy.url)
    for storage_class in StorageClass:
        with closing(CloudStore(1, storage_class)) as store:
            assert write(store, bucket, f"{storage_class}.jpg").storage_class is storage_class
            listed = {found.location.name: found.storage_class for found in store.list_objects(FolderLocation(bucket))}
            assert listed[f"{storage_class}.jpg"] is storage_class
            # The emulator does not keep the class of an upload of several requests.
            begun: list[Mapping[str, Any]] = []
            monkeypatch.setattr(store._media, "begin_upload", lambda _, resource, begun=begun: begun.append(resource))
            store.open_upload(ObjectLocation(bucket, "x.gz"), "application/gzip")
            assert [resource["storageClass"] for resource in begun] == [storage_class]


def test_what_storage_serves_is_counted_and_what_it_refuses_is_not(store: ObjectStore, bucket: str) -> None:
    meter = Meter()
    standard = StorageClass.STANDARD
    with metered(meter):
        found = write(store, bucket, "a", b"x" * 100)
        with pytest.raises(NameTaken):
            write(store, bucket, "a")
        with pytest.raises(ObjectNotFound):
            store.stat(ObjectLocation(bucket, "b"))
        store.read(found, 100)
        store.read_head(found, 10)
        upload = store.open_upload(ObjectLocation(bucket, "c"), "text/plain")
        upload.send(b"x" * UPLOAD_UNIT)
        upload.finish(b"y")
        list(store.list_objects(FolderLocation(bucket)))
        store.list_folders(FolderLocation(bucket), ALL_NAMES, requests=1)
    store.stat(found.location)
    assert meter.usage.operations == {
        (Operation.WRITE, standard): 2,
        (Operation.DESCRIBE, standard): 1,
        (Operation.READ, standard): 2,
        (Operation.LIST, standard): 2,
    }
    assert meter.usage.bytes_read == {standard: 110}


@pytest.mark.usefixtures("quick_retries")
def test_each_page_of_a_listing_and_each_read_that_is_served_counts(
    cloud: CloudStore, proxy: Proxy, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.storage.cloud._PAGE_SIZE", 2)
    archived = [replace(write(cloud, bucket, name), storage_class=StorageClass.ARCHIVE) for name in "abc"]
    meter = Meter()
    proxy.requests.clear()
    proxy.fault = lambda kind, _: 503 if kind == "read" and proxy.requests["read"] == 1 else None
    with metered(meter), ThreadPoolExecutor(1) as pool:
        assert len(list(cloud.list_objects(FolderLocation(bucket)))) == 3
        pool.submit(copy_context().run, cloud.read, archived[0], 10).result()
    assert (proxy.requests["list"], proxy.requests["read"]) == (2, 2)
    assert meter.usage.operations == {
        (Operation.LIST, StorageClass.STANDARD): 2,
        (Operation.READ, StorageClass.ARCHIVE): 1,
    }
