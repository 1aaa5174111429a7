from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.naming import SOURCE_KEY
from service.selection import Selection
from service.storage.addresses import FolderLocation, ObjectLocation
from service.storage.base import Page, StoredObject
from service.storage.classes import StorageClass
from service.storage.globs import Globs
from tests.support.memory_store import EPOCH, resource_of

SELECTION = Selection(FolderLocation("photos", "in/"), "thumbs")
AT_THE_ROOT = Selection(FolderLocation("photos"), "photos")


def stored(name: str, content_type: str = "image/jpeg", bucket: str = "photos", **metadata: str) -> StoredObject:
    return StoredObject(ObjectLocation(bucket, name), 1, 10, EPOCH, content_type=content_type, metadata=metadata)


@pytest.mark.parametrize(
    ("name", "content_type"),
    [
        ("in/x.jpg", "image/jpeg"),
        ("in/x", "image/jpg"),
        ("in/x", "IMAGE/PNG; q=1"),
        ("in/x.JPG", ""),
        ("in/x.heic", "application/octet-stream"),
        ("in/x.webp", "binary/octet-stream"),
        ("in/a.b/x.tif", "application/x-www-form-urlencoded"),
        ("in/20251203T15Z/x.jpg", "image/jpeg"),
    ],
)
def test_an_image_inside_the_fence_is_a_source(name: str, content_type: str) -> None:
    assert SELECTION.exclusion_reason(stored(name, content_type)) is None
    assert SELECTION.non_image_reason(stored(name, content_type)) is None


@pytest.mark.parametrize(
    ("name", "content_type", "reason"),
    [
        ("other/x.jpg", "image/jpeg", "outside gs://photos/in/"),
        ("index/x.jpg", "image/jpeg", "outside"),
        ("in/", "image/jpeg", "placeholder"),
        ("in/a/", "", "placeholder"),
        ("in/x.txt", "text/plain", "not an image"),
        ("in/x.jpg", "text/plain", "not an image"),
        ("in/x", "", "not an image"),
        ("in/jpg", "", "not an image"),
        ("in/.jpg/x", "", "not an image"),
        ("in/movie.mp4", "video/mp4", "not an image"),
    ],
)
def test_anything_else_is_not_and_the_reason_says_why(name: str, content_type: str, reason: str) -> None:
    given = stored(name, content_type)
    assert reason in (SELECTION.exclusion_reason(given) or SELECTION.non_image_reason(given) or "")


@pytest.mark.parametrize(
    ("name", "content_type", "undecided"),
    [
        ("in/x", "", True),
        ("in/x.bin", "application/octet-stream", True),
        ("in/x.jpg", "text/plain", True),
        ("in/x.jpg", "", False),
        ("in/x", "image/png", False),
        ("in/x.txt", "text/plain", False),
        ("in/movie.mp4", "video/mp4", False),
    ],
)
def test_by_content_the_first_bytes_decide_what_type_and_name_do_not(
    name: str, content_type: str, *, undecided: bool
) -> None:
    by_content = Selection(SELECTION.fence, SELECTION.output_bucket, by_content=True)
    given = stored(name, content_type)
    assert by_content.needs_sniffing(given) == undecided
    if undecided:
        assert by_content.non_image_reason(given) is None
    else:
        assert by_content.non_image_reason(given) == SELECTION.non_image_reason(given)
    assert not SELECTION.needs_sniffing(given)


TYPES = ["image/jpeg", "IMAGE/PNG; q=1", "image/", "text/plain", "application/octet-stream", ""]
HOUR = datetime(2025, 12, 3, 15, tzinfo=UTC)


@given(
    st.lists(
        st.builds(
            StoredObject,
            st.builds(
                ObjectLocation,
                st.just("photos"),
                st.sampled_from(["in/", "20251203T15Z/in/", "thumbnail-runs/"]).flatmap(
                    lambda folder: st.sampled_from(["a.jpg", "b", "c.txt", "d/", "e/20251203T15Z/f.png"]).map(
                        lambda name: f"{folder}{name}"
                    )
                ),
            ),
            st.just(1),
            st.integers(0, 2),
            st.sampled_from([HOUR, HOUR - timedelta(hours=1)]),
            st.sampled_from(TYPES),
            metadata=st.sampled_from([{}, {"mtime": "1"}, {SOURCE_KEY: "gs://photos/in/a.jpg"}]),
        ),
        unique_by=lambda found: found.location.name,
    ),
    st.sampled_from([None, HOUR]),
    st.builds(
        Selection,
        st.sampled_from([FolderLocation("photos"), FolderLocation("photos", "in/")]),
        st.sampled_from(["photos", "thumbs"]),
        st.booleans(),
        st.sampled_from([None, Globs.parse("**.jpg", "INCLUDE")]),
        st.sampled_from([None, Globs.parse("b", "EXCLUDE")]),
    ),
)
def test_the_sources_of_a_page_are_found_by_their_resources(
    objects: list[StoredObject], since: datetime | None, selection: Selection
) -> None:
    listed = sorted(
        (found for found in objects if found.location in selection.fence), key=lambda found: found.location.name
    )
    page = Page(selection.fence, [resource_of(found) for found in listed])
    expected = [found.location.name for found in listed if selection.is_source(found, since)]
    assert [resource["name"] for resource in selection.sources_of(page, since)] == expected


def test_an_output_is_known_by_its_metadata_alone() -> None:
    assert "gs://photos/in/x.jpg" in (
        SELECTION.exclusion_reason(stored("in/copy-of-a-thumbnail.jpg", **{SOURCE_KEY: "gs://photos/in/x.jpg"})) or ""
    )


@pytest.mark.parametrize("name", ["20251203T15Z/x.jpg", "20251203T15Z/20x20/x.jpg", "thumbnail-runs/r/plan.json"])
def test_an_output_is_known_by_its_name_alone_in_the_output_bucket(name: str) -> None:
    assert "writes to" in (AT_THE_ROOT.exclusion_reason(stored(name)) or "")


def test_a_folder_that_looks_like_an_hour_is_a_source_where_output_goes_to_another_bucket() -> None:
    elsewhere = Selection(FolderLocation("photos"), "thumbs")
    assert elsewhere.exclusion_reason(stored("20251203T15Z/x.jpg")) is None


@pytest.mark.parametrize(
    ("include", "exclude", "name", "reason"),
    [
        (None, "**/@eaDir/**,**/.thumbnails/**,**/*_200x200.*", "in/a/x.jpg", None),
        (None, "**/@eaDir/**,**/.thumbnails/**,**/*_200x200.*", "in/a/@eaDir/x.jpg", "EXCLUDE"),
        (None, "**/@eaDir/**,**/.thumbnails/**,**/*_200x200.*", "in/.thumbnails/x.jpg", "EXCLUDE"),
        (None, "**/@eaDir/**,**/.thumbnails/**,**/*_200x200.*", "in/x_200x200.jpg", "EXCLUDE"),
        ("public/**", None, "in/public/x.jpg", None),
        ("public/**", None, "in/private/x.jpg", "INCLUDE"),
        ("in/**", None, "in/x.jpg", "INCLUDE"),
        ("public/**", "**/old/**", "in/public/old/x.jpg", "EXCLUDE"),
        ("*.{jpg,png}", None, "in/a b %.png", None),
    ],
)
def test_include_and_exclude_are_about_the_name_below_the_folder(
    include: str | None, exclude: str | None, name: str, reason: str | None
) -> None:
    selection = Selection(
        SELECTION.fence,
        SELECTION.output_bucket,
        include=Globs.parse(include, "INCLUDE") if include else None,
        exclude=Globs.parse(exclude, "EXCLUDE") if exclude else None,
    )
    given = stored(name)
    said = selection.filter_reason(given.location)
    assert said is None if reason is None else said and reason in said
    assert selection.leaves_out(given, None) == bool(reason)
    assert selection.leaves_out(given, EPOCH + timedelta(hours=1))
    assert selection.is_source(given) == (reason is None)


def test_an_image_of_another_storage_class_is_left_out_and_the_reason_says_so() -> None:
    warm = replace(AT_THE_ROOT, storage_classes=(StorageClass.STANDARD, StorageClass.NEARLINE))
    archived = replace(stored("x.jpg"), storage_class=StorageClass.ARCHIVE)
    assert AT_THE_ROOT.is_source(archived)
    assert warm.leaves_out(archived, None)
    assert not warm.is_source(archived)
    assert warm.class_reason(archived) == "its storage class is ARCHIVE, and STORAGE_CLASSES is STANDARD,NEARLINE"
    for storage_class in (StorageClass.STANDARD, StorageClass.NEARLINE, None):
        assert warm.is_source(replace(archived, storage_class=storage_class))
