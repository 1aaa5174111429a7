from dataclasses import replace
from typing import Any

import pytest

from service.errors import NameTaken, PermissionMissing, ServiceError, StorageRefused, StorageUnavailable
from service.events import ObjectFinalized
from service.outcome import Result, StoredThumbnail
from service.storage.addresses import ObjectLocation
from service.storage.base import StoredObject
from service.storage.classes import StorageClass
from tests.support.assembly import HOUR, make_thumbnailer
from tests.support.heic import heic
from tests.support.memory_store import MemoryStore
from tests.support.pictures import encoded, jpeg, opened, quadrants


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore("photos", "thumbs")


def event(found: StoredObject) -> ObjectFinalized:
    return ObjectFinalized(found.location, found.generation, found)


def test_one_image_costs_one_read_and_one_write(store: MemoryStore) -> None:
    found = store.put("gs://photos/in/a/x.jpg", jpeg())
    outcome = make_thumbnailer(store, cache_control="max-age=60").process(found, HOUR)
    assert outcome.result is Result.CREATED
    assert [thumbnail.location for thumbnail in outcome.thumbnails] == [ObjectLocation("photos", "20251203T15Z/x.jpg")]
    assert store.calls == {"read": 1, "write": 1}
    held = store.held("gs://photos/20251203T15Z/x.jpg")
    assert held.described.content_type == "image/jpeg"
    metadata = dict(held.described.metadata)
    assert len(metadata.pop("thumbnail-write")) > 16
    assert metadata == {
        "thumbnail-source": "gs://photos/in/a/x.jpg",
        "thumbnail-source-generation": str(found.generation),
        "thumbnail-spec": "100x100 original q80",
        "thumbnail-size": "100x75",
    }
    assert held.cache_control == "max-age=60"
    assert opened(held.data).size == (100, 75)
    assert (outcome.bytes_read, outcome.bytes_written) == (found.size, len(held.data))


def test_the_metadata_says_that_a_thumbnail_was_made_from_a_preview(store: MemoryStore) -> None:
    found = store.put("gs://photos/in/x.heic", heic(quadrants(600, 400), thumbnails=[300]), "image/heic")
    (thumbnail,) = make_thumbnailer(store).process(found, HOUR).thumbnails
    assert thumbnail.from_preview
    assert store.held(str(thumbnail)).described.metadata["thumbnail-from-preview"] == "true"


def test_several_sizes_are_made_of_one_read(store: MemoryStore) -> None:
    found = store.put("gs://photos/in/a/x.jpg", jpeg())
    outcome = make_thumbnailer(store, thumbnail_sizes="100x100,40x20").process(found, HOUR)
    assert [thumbnail.location.name for thumbnail in outcome.thumbnails] == [
        "20251203T15Z/100x100/x.jpg",
        "20251203T15Z/40x20/x.jpg",
    ]
    assert store.calls == {"read": 1, "write": 2}
    assert opened(store.held("gs://photos/20251203T15Z/40x20/x.jpg").data).size == (27, 20)


def test_an_event_goes_to_the_hour_in_which_the_object_was_created(store: MemoryStore) -> None:
    found = store.put("gs://photos/in/x.jpg", jpeg())
    outcome = make_thumbnailer(store).process_event(event(found))
    assert outcome.result is Result.CREATED
    assert str(outcome.thumbnails[0]) == "gs://photos/20251203T15Z/x.jpg"
    assert store.calls == {"read": 1, "write": 1}


def test_a_second_delivery_makes_nothing_new(store: MemoryStore) -> None:
    found = store.put("gs://photos/in/x.jpg", jpeg())
    service = make_thumbnailer(store)
    service.process_event(event(found))
    first = store.held("gs://photos/20251203T15Z/x.jpg")
    assert service.process_event(event(found)).result is Result.SKIPPED
    assert store.held("gs://photos/20251203T15Z/x.jpg") is first


def test_an_envelope_that_says_little_costs_one_look(store: MemoryStore) -> None:
    found = store.put("gs://photos/in/x.jpg", jpeg())
    outcome = make_thumbnailer(store).process_event(ObjectFinalized(found.location, None, None))
    assert outcome.result is Result.CREATED
    assert store.calls == {"stat": 1, "read": 1, "write": 1}


def test_an_object_outside_the_fence_is_not_even_looked_at(store: MemoryStore) -> None:
    store.put("gs://photos/other/x.jpg", jpeg())
    outcome = make_thumbnailer(store).process_event(
        ObjectFinalized(ObjectLocation("photos", "other/x.jpg"), None, None)
    )
    assert outcome.result is Result.IGNORED
    assert not store.calls


def test_the_event_of_an_object_that_is_gone_is_ignored(store: MemoryStore) -> None:
    found = store.put("gs://photos/in/x.jpg", jpeg())
    store.delete("gs://photos/in/x.jpg")
    for late in (event(found), ObjectFinalized(found.location, found.generation, None)):
        outcome = make_thumbnailer(store).process_event(late)
        assert outcome.result is Result.IGNORED
        assert "gone" in outcome.reason
    assert store.calls["write"] == 0


def test_the_event_of_an_older_generation_is_ignored_and_the_newer_one_replaces_its_thumbnail(
    store: MemoryStore,
) -> None:
    service = make_thumbnailer(store)
    old = store.put("gs://photos/in/x.jpg", jpeg(400, 300))
    service.process_event(event(old))
    new = store.put("gs://photos/in/x.jpg", jpeg(300, 400))
    assert service.process_event(event(old)).result is Result.IGNORED
    assert service.process_event(event(new)).result is Result.CREATED
    assert opened(store.held("gs://photos/20251203T15Z/x.jpg").data).size == (75, 100)


def test_an_older_generation_never_replaces_a_newer_thumbnail(store: MemoryStore) -> None:
    found = store.put("gs://photos/in/x.jpg", jpeg())
    newer = {"thumbnail-source": "gs://photos/in/x.jpg", "thumbnail-source-generation": "999"}
    store.put("gs://photos/20251203T15Z/x.jpg", b"newer", metadata=newer)
    assert make_thumbnailer(store).process(found, HOUR, overwrite=True).result is Result.SKIPPED
    assert store.held("gs://photos/20251203T15Z/x.jpg").data == b"newer"


def test_other_settings_make_the_thumbnail_again(store: MemoryStore) -> None:
    found = store.put("gs://photos/in/x.jpg", jpeg())
    make_thumbnailer(store).process(found, HOUR)
    smaller = make_thumbnailer(store, thumbnail_sizes="50x50")
    assert smaller.process(found, HOUR).result is Result.CREATED
    assert opened(store.held("gs://photos/20251203T15Z/x.jpg").data).size == (50, 38)


def test_overwrite_makes_again_what_is_there(store: MemoryStore) -> None:
    found = store.put("gs://photos/in/x.jpg", jpeg())
    service = make_thumbnailer(store)
    service.process(found, HOUR)
    first = store.held("gs://photos/20251203T15Z/x.jpg")
    assert service.process(found, HOUR).result is Result.SKIPPED
    assert service.process(found, HOUR, overwrite=True).result is Result.CREATED
    assert store.held("gs://photos/20251203T15Z/x.jpg") is not first


def test_a_second_source_of_one_name_gets_a_name_of_its_own_and_keeps_it(store: MemoryStore) -> None:
    one = store.put("gs://photos/in/a/x.jpg", jpeg(400, 300))
    two = store.put("gs://photos/in/b/x.jpg", jpeg(300, 400))
    service = make_thumbnailer(store)
    assert not service.process(one, HOUR).renamed
    outcome = service.process(two, HOUR)
    assert outcome.renamed
    assert outcome.result is Result.CREATED
    store.calls.clear()
    assert service.process(two, HOUR).result is Result.SKIPPED
    # It looks at its own name before it would write there: one refused write, not two.
    assert (store.calls["write"], store.calls["stat"]) == (1, 2)
    assert service.process(one, HOUR).result is Result.SKIPPED
    names = store.names("photos", "20251203T15Z/")
    assert len(names) == 2
    assert opened(store.held("gs://photos/20251203T15Z/x.jpg").data).size == (100, 75)
    assert opened(store.held(str(outcome.thumbnails[0])).data).size == (75, 100)


def test_an_object_that_is_no_thumbnail_is_never_overwritten(store: MemoryStore) -> None:
    found = store.put("gs://photos/in/x.jpg", jpeg())
    store.put("gs://photos/20251203T15Z/x.jpg", b"somebody's own")
    assert make_thumbnailer(store).process(found, HOUR, overwrite=True).renamed
    assert store.held("gs://photos/20251203T15Z/x.jpg").data == b"somebody's own"


def test_where_the_variant_is_taken_too_the_image_is_rejected(store: MemoryStore) -> None:
    found = store.put("gs://photos/in/x.jpg", jpeg())
    store.put("gs://photos/20251203T15Z/x.jpg", b"somebody's own")
    (output,) = make_thumbnailer(store).outputs
    variant = output.folder.thumbnail(found.location, HOUR, "", distinct=True)
    store.put(str(variant), b"this as well")
    outcome = make_thumbnailer(store).process(found, HOUR)
    assert (outcome.result, outcome.code) == (Result.REJECTED, "no_free_name")
    assert store.held(str(variant)).data == b"this as well"


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "empty_object"),
        (b"x" * 1_000_001, "source_too_large"),
        (b"just text", "unsupported_format"),
        (jpeg()[:-200], "corrupt_image"),
        (jpeg(4000, 4000), "picture_too_large"),
    ],
)
def test_what_will_never_work_is_rejected_with_a_code_and_a_reason(store: MemoryStore, data: bytes, code: str) -> None:
    found = store.put("gs://photos/in/x.jpg", data)
    outcome = make_thumbnailer(store).process(found, HOUR)
    assert (outcome.result, outcome.code) == (Result.REJECTED, code)
    assert outcome.reason
    assert store.calls["write"] == 0


class TestDamaged:
    """A JPEG that ends too early."""

    NAME = "gs://photos/20251203T15Z/x.jpg"

    def test_it_is_shown_if_that_is_set_and_says_so(self, store: MemoryStore) -> None:
        found = store.put("gs://photos/in/x.jpg", jpeg()[:-200])
        outcome = make_thumbnailer(store, damaged="show").process(found, HOUR)
        assert (outcome.result, outcome.is_damaged) == (Result.CREATED, True)
        metadata = store.held(self.NAME).described.metadata
        assert metadata["thumbnail-damaged"] == "true"
        assert metadata["thumbnail-spec"] == "100x100 original q80 damaged"

    def test_a_whole_one_does_not_depend_on_the_setting(self, store: MemoryStore) -> None:
        found = store.put("gs://photos/in/x.jpg", jpeg())
        outcome = make_thumbnailer(store, damaged="show").process(found, HOUR)
        assert (outcome.result, outcome.is_damaged) == (Result.CREATED, False)
        assert "thumbnail-damaged" not in store.held(self.NAME).described.metadata
        for setting in ("show", "reject"):
            again = make_thumbnailer(store, damaged=setting).process(found, HOUR, looks_first=True)
            assert (again.result, again.is_damaged, again.bytes_read) == (Result.SKIPPED, False, 0)

    def test_one_that_is_shown_is_up_to_date_as_long_as_that_is_set(self, store: MemoryStore) -> None:
        found = store.put("gs://photos/in/x.jpg", jpeg()[:-200])
        shows = make_thumbnailer(store, damaged="show")
        shows.process(found, HOUR)
        again = shows.process(found, HOUR, looks_first=True)
        assert (again.result, again.is_damaged, again.bytes_read) == (Result.SKIPPED, True, 0)
        redelivered = shows.process_event(event(found))
        assert (redelivered.result, redelivered.is_damaged) == (Result.SKIPPED, True)
        rejected = make_thumbnailer(store).process(found, HOUR, looks_first=True)
        assert (rejected.result, rejected.code) == (Result.REJECTED, "corrupt_image")

    def test_the_whole_one_takes_its_place(self, store: MemoryStore) -> None:
        shows = make_thumbnailer(store, damaged="show")
        shows.process(store.put("gs://photos/in/x.jpg", jpeg()[:-200]), HOUR)
        outcome = shows.process(store.put("gs://photos/in/x.jpg", jpeg()), HOUR)
        assert (outcome.result, outcome.is_damaged) == (Result.CREATED, False)
        assert "thumbnail-damaged" not in store.held(self.NAME).described.metadata


@pytest.mark.parametrize("data", [b"", b"x" * 1_000_001])
def test_what_the_size_alone_decides_is_rejected_unread(store: MemoryStore, data: bytes) -> None:
    make_thumbnailer(store).process(store.put("gs://photos/in/x.jpg", data), HOUR)
    assert store.calls["read"] == 0


def test_a_name_too_long_for_its_thumbnail_is_rejected_unread(store: MemoryStore) -> None:
    found = store.put("gs://photos/in/" + "x" * 1020 + ".jpg", jpeg())
    outcome = make_thumbnailer(store).process(found, HOUR)
    assert (outcome.result, outcome.code) == (Result.REJECTED, "no_free_name")
    assert store.calls["read"] == 0


def test_what_was_replaced_after_it_was_listed_is_made_of_the_newer_generation(store: MemoryStore) -> None:
    listed = store.put("gs://photos/in/x.jpg", jpeg(400, 300))
    newer = store.put("gs://photos/in/x.jpg", jpeg(300, 400))
    assert make_thumbnailer(store).process(listed, HOUR).result is Result.CREATED
    held = store.held("gs://photos/20251203T15Z/x.jpg")
    assert held.described.metadata["thumbnail-source-generation"] == str(newer.generation)


def test_what_was_deleted_after_it_was_listed_is_rejected_as_gone(store: MemoryStore) -> None:
    listed = store.put("gs://photos/in/x.jpg", jpeg())
    store.delete("gs://photos/in/x.jpg")
    outcome = make_thumbnailer(store).process(listed, HOUR)
    assert (outcome.result, outcome.code) == (Result.REJECTED, "source_gone")


@pytest.mark.parametrize("kind", ["read", "write"])
def test_a_storage_failure_is_for_the_caller_to_retry(store: MemoryStore, kind: str) -> None:
    found = store.put("gs://photos/in/x.jpg", jpeg())
    store.fault = lambda called, _: StorageUnavailable("down") if called == kind else None
    with pytest.raises(StorageUnavailable):
        make_thumbnailer(store).process(found, HOUR)


def test_forbidden_to_write_is_for_the_caller_to_retry_unless_the_thumbnail_is_there(store: MemoryStore) -> None:
    found = store.put("gs://photos/in/x.jpg", jpeg())
    service = make_thumbnailer(store)
    store.fault = lambda called, _: PermissionMissing("no") if called == "write" else None
    with pytest.raises(PermissionMissing):
        service.process(found, HOUR)
    store.fault = lambda *_: None
    service.process(found, HOUR)
    store.fault = lambda called, _: PermissionMissing("no") if called == "write" else None
    assert service.process(found, HOUR).result is Result.SKIPPED
    with pytest.raises(PermissionMissing):
        service.process(found, HOUR, overwrite=True)


def test_forbidden_to_write_and_to_look_is_said_of_the_write(store: MemoryStore) -> None:
    found = store.put("gs://photos/in/x.jpg", jpeg())
    store.fault = lambda called, _: PermissionMissing(f"may not {called}") if called in {"write", "stat"} else None
    with pytest.raises(PermissionMissing, match="may not write"):
        make_thumbnailer(store).process(found, HOUR)
    store.put("gs://photos/20251203T15Z/x.jpg", b"somebody's")
    store.fault = lambda called, _: PermissionMissing(f"may not {called}") if called == "stat" else None
    with pytest.raises(PermissionMissing, match="may not stat"):
        make_thumbnailer(store).process(found, HOUR)


@pytest.mark.parametrize("number", ["9" * 5000, "²", "-1", "1e3", ""])
def test_metadata_that_is_no_number_counts_as_older_than_any_source(store: MemoryStore, number: str) -> None:
    found = store.put("gs://photos/in/x.jpg", jpeg())
    metadata = {
        "thumbnail-source": "gs://photos/in/x.jpg",
        "thumbnail-source-generation": number,
        "thumbnail-size": f"{number}x{number}",
    }
    odd = store.put("gs://photos/20251203T15Z/x.jpg", b"odd", metadata=metadata)
    stored = StoredThumbnail.of(odd)
    assert (stored.width, stored.height) == (0, 0)
    assert make_thumbnailer(store).process(found, HOUR).result is Result.CREATED


def test_a_name_that_others_keep_replacing_is_given_up_for_now(store: MemoryStore) -> None:
    found = store.put("gs://photos/in/x.jpg", jpeg())
    older = {"thumbnail-source": "gs://photos/in/x.jpg", "thumbnail-source-generation": "0"}

    def replace(called: str, _: object) -> ServiceError | None:
        if called == "write":
            store.put("gs://photos/20251203T15Z/x.jpg", b"older", metadata=older)
            return NameTaken("busy")
        return None

    store.fault = replace
    with pytest.raises(StorageUnavailable, match="keep replacing"):
        make_thumbnailer(store).process(found, HOUR)


def test_a_name_that_is_said_to_be_taken_and_holds_nothing_is_given_up_in_storages_words(store: MemoryStore) -> None:
    found = store.put("gs://photos/in/x.jpg", jpeg())
    store.fault = lambda called, _: NameTaken("the policy says no") if called == "write" else None
    with pytest.raises(StorageUnavailable, match=r"the policy says no\. But the name holds nothing"):
        make_thumbnailer(store).process(found, HOUR)
    assert store.calls == {"read": 1, "write": 2, "stat": 2}


def test_a_name_whose_holder_was_deleted_meanwhile_is_written_to(store: MemoryStore) -> None:
    found = store.put("gs://photos/in/x.jpg", jpeg())
    taken = iter([NameTaken("it was there a moment ago")])
    store.fault = lambda called, _: next(taken, None) if called == "write" else None
    assert make_thumbnailer(store).process(found, HOUR).result is Result.CREATED


@pytest.mark.parametrize(("error", "overwrite"), [(NameTaken, False), (NameTaken, True), (PermissionMissing, False)])
def test_a_write_whose_answer_was_lost_has_created_the_thumbnail(
    store: MemoryStore, error: type[ServiceError], *, overwrite: bool
) -> None:
    found = store.put("gs://photos/in/x.jpg", jpeg())
    if overwrite:
        make_thumbnailer(store).process(found, HOUR)
    write = store.write

    def lose(*args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - as in MemoryStore
        write(*args, **kwargs)
        raise error("the client's second try")

    store.write = lose  # type: ignore[method-assign]
    outcome = make_thumbnailer(store).process(found, HOUR, overwrite=overwrite)
    assert outcome.result is Result.CREATED
    assert outcome.bytes_written == len(store.held("gs://photos/20251203T15Z/x.jpg").data)


def test_a_thumbnail_that_another_call_made_meanwhile_was_not_created(store: MemoryStore) -> None:
    found = store.put("gs://photos/in/x.jpg", jpeg())
    service = make_thumbnailer(store)
    others = [found]

    def come_between(called: str, _: object) -> None:
        if called == "write" and others:
            service.process(others.pop(), HOUR)

    store.fault = come_between
    assert service.process(found, HOUR).result is Result.SKIPPED


def test_nothing_the_service_wrote_is_ever_read(store: MemoryStore) -> None:
    service = make_thumbnailer(store, input_folder="gs://photos")
    service.process(store.put("gs://photos/x.jpg", jpeg()), HOUR)
    store.calls.clear()
    for name in store.names("photos", "20251203T15Z/"):
        written = store.held(f"gs://photos/{name}").described
        assert service.process_event(event(written)).result is Result.IGNORED
    assert not store.calls


def test_each_guard_of_the_loop_holds_alone(store: MemoryStore) -> None:
    service = make_thumbnailer(store, input_folder="gs://photos")
    stripped = store.put("gs://photos/20251203T15Z/x.jpg", jpeg())
    marked = store.put("gs://photos/moved/x.jpg", jpeg(), metadata={"thumbnail-source": "gs://photos/x.jpg"})
    assert service.process_event(event(stripped)).result is Result.IGNORED
    assert service.process_event(event(marked)).result is Result.IGNORED
    assert service.process_event(ObjectFinalized(marked.location, None, None)).result is Result.IGNORED
    assert store.calls == {"stat": 1}


def test_thumbnails_go_to_the_other_bucket_where_there_is_one(store: MemoryStore) -> None:
    found = store.put("gs://photos/in/a/x.jpg", jpeg())
    outcome = make_thumbnailer(store, output_bucket="thumbs", output_layout="tree").process(found, HOUR)
    assert str(outcome.thumbnails[0]) == "gs://thumbs/20251203T15Z/a/x.jpg"


def test_a_picture_that_could_never_fit_into_memory_is_rejected_with_what_to_do(store: MemoryStore) -> None:
    found = store.put("gs://photos/in/x.png", encoded(quadrants(3000, 3000), "PNG"), "image/png")
    outcome = make_thumbnailer(store, memory_budget=10 * 1024 * 1024).process(found, HOUR)
    assert (outcome.result, outcome.code) == (Result.REJECTED, "picture_too_large")
    assert "MEMORY_BUDGET is 10 MiB; give the service more memory" in outcome.reason
    assert make_thumbnailer(store).process(found, HOUR).result is Result.CREATED


def test_what_storage_calls_wrong_when_looked_at_again_is_rejected(store: MemoryStore) -> None:
    listed = store.put("gs://photos/in/x.jpg", jpeg())
    store.delete("gs://photos/in/x.jpg")
    store.fault = lambda called, _: StorageRefused("no such name") if called == "stat" else None
    outcome = make_thumbnailer(store).process(listed, HOUR)
    assert (outcome.result, outcome.code) == (Result.REJECTED, "storage_refused")


def test_an_undecided_object_that_is_an_image_by_its_first_bytes_is_thumbnailed(store: MemoryStore) -> None:
    service = make_thumbnailer(store, image_detection="content")
    picture = store.put("gs://photos/in/x", jpeg(), "application/octet-stream")
    text = store.put("gs://photos/in/y", b"text", "application/octet-stream")
    assert service.process_event(event(picture)).result is Result.CREATED
    assert service.process_event(event(text)).result is Result.IGNORED
    assert store.calls == {"head": 2, "read": 1, "write": 1}


def test_what_storage_calls_wrong_when_its_first_bytes_are_read_is_rejected() -> None:
    store = MemoryStore("photos")
    found = store.put("gs://photos/in/x", b"what", "")
    store.fault = lambda kind, _: StorageRefused("no such name") if kind == "head" else None
    outcome = make_thumbnailer(store, image_detection="content").process(found, HOUR)
    assert (outcome.result, outcome.code) == (Result.REJECTED, "storage_refused")


def test_an_event_of_an_object_of_another_storage_class_is_ignored_unread(store: MemoryStore) -> None:
    found = store.put("gs://photos/in/x.jpg", jpeg(), storage_class=StorageClass.ARCHIVE)
    warm = make_thumbnailer(store, storage_classes="STANDARD,NEARLINE")
    outcome = warm.process_event(event(found))
    assert (outcome.result, outcome.reason) == (
        Result.IGNORED,
        "its storage class is ARCHIVE, and STORAGE_CLASSES is STANDARD,NEARLINE",
    )
    assert not store.calls
    # If the event does not say, storage is asked.
    assert warm.process_event(event(replace(found, storage_class=None))).result is Result.IGNORED
    assert store.calls == {"stat": 1}
    assert make_thumbnailer(store).process_event(event(replace(found, storage_class=None))).result is Result.CREATED
    assert store.calls == {"stat": 1, "read": 1, "write": 1}
