from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import InvalidValue, NoFreeName
from service.naming import Hour, Layout, OutputFolder, is_output
from service.storage.addresses import FolderLocation, ObjectLocation

FENCE = FolderLocation("photos", "some/prefix/")
HOUR = Hour("20251203T15Z")


def name_of(
    path: str, *, layout: Layout = Layout.FLAT, size_folder: str = "", extension: str = "", distinct: bool = False
) -> str:
    folder = OutputFolder("photos", FENCE, layout, size_folder)
    return folder.thumbnail(ObjectLocation("photos", path), HOUR, extension, distinct=distinct).name


@pytest.mark.parametrize(
    ("text", "bucket", "prefix"),
    [
        ("gs://photos", "photos", ""),
        ("gs://photos/", "photos", ""),
        ("gs://photos/some/prefix", "photos", "some/prefix/"),
        ("gs://photos/some/prefix/", "photos", "some/prefix/"),
        ("gs://photos/sp ace/ünï#?%20/猫", "photos", "sp ace/ünï#?%20/猫/"),
        ("gs://photos//odd", "photos", "/odd/"),
    ],
)
def test_a_folder_is_read_with_or_without_its_slash(text: str, bucket: str, prefix: str) -> None:
    assert FolderLocation.parse(text, "INPUT_FOLDER") == FolderLocation(bucket, prefix)


@pytest.mark.parametrize(
    "text", ["", "photos", "/photos", "s3://photos", "gs:/photos", "gs://", "gs:///x", "gs://ab", "gs://Photos", "xgs://photos",
             "gs://photos/" + "x" * 1024, "gs://photos/\udcff"]
)  # fmt: skip
def test_what_is_no_folder_is_refused_with_the_field_and_the_value(text: str) -> None:
    with pytest.raises(InvalidValue) as caught:
        FolderLocation.parse(text, "INPUT_FOLDER")
    assert "INPUT_FOLDER" in str(caught.value)
    assert repr(text) in str(caught.value)


def test_a_folder_does_not_hold_what_only_begins_like_it() -> None:
    folder = FolderLocation.parse("gs://photos/pre", "INPUT_FOLDER")
    assert ObjectLocation("photos", "pre/x.jpg") in folder
    assert FolderLocation("photos", "pre/deep/") in folder
    assert ObjectLocation("photos", "prefix2/x.jpg") not in folder
    assert FolderLocation("photos") not in folder
    assert ObjectLocation("other", "pre/x.jpg") not in folder


def test_a_folder_prefix_without_its_slash_cannot_be_made() -> None:
    with pytest.raises(InvalidValue):
        FolderLocation("photos", "pre")


@pytest.mark.parametrize("text", ["20251203T15Z", "20240229T00Z", "20251231T23Z"])
def test_an_hour_reads_what_it_writes(text: str) -> None:
    assert str(Hour.parse(text, "timestamp")) == text


@pytest.mark.parametrize(
    "text", ["", "2025", "20251203T15", "20251203T24Z", "20251303T15Z", "20250229T15Z", "20251203t15z", " 20251203T15Z",
             "20251203T15Z\n", "\uff12\uff10\uff12\uff151203T15Z"]
)  # fmt: skip
def test_what_is_no_hour_is_refused(text: str) -> None:
    with pytest.raises(InvalidValue, match="timestamp"):
        Hour.parse(text, "timestamp")


def test_the_hour_of_a_moment_is_in_utc() -> None:
    west = timezone(timedelta(hours=-7))
    assert Hour.of(datetime(2025, 12, 3, 18, 59, 59, tzinfo=west)) == Hour("20251204T01Z")


@given(st.datetimes(timezones=st.just(UTC)))
def test_every_hour_folder_is_known_as_one(moment: datetime) -> None:
    assert is_output(f"{Hour.of(moment)}/x.jpg")
    assert Hour.parse(str(Hour.of(moment)), "timestamp") == Hour.of(moment)


@pytest.mark.parametrize(
    "name", ["photo.jpg", "20251203T15Z",
     "20251203T99Z/x.jpg", "in/20251203T15Z/x.jpg", "20251203T15Zx/x.jpg", "thumbnail-runs"]
)  # fmt: skip
def test_other_names_are_not_taken_for_output(name: str) -> None:
    assert not is_output(name)


def test_the_bookkeeping_folder_is_output() -> None:
    assert is_output("thumbnail-runs/x/plan.json")


def test_a_thumbnail_keeps_the_whole_file_name() -> None:
    assert name_of("some/prefix/a/photo.jpg") == "20251203T15Z/photo.jpg"
    assert name_of("some/prefix/scan.tiff", extension=".jpg") == "20251203T15Z/scan.tiff.jpg"
    assert name_of("some/prefix/noextension") == "20251203T15Z/noextension"
    assert name_of("some/prefix/a//ü #?%20 猫.jpg") == "20251203T15Z/ü #?%20 猫.jpg"


def test_tree_keeps_the_path_below_the_input_folder() -> None:
    assert name_of("some/prefix/a/b/photo.jpg", layout=Layout.TREE) == "20251203T15Z/a/b/photo.jpg"
    assert name_of("some/prefix/photo.jpg", layout=Layout.TREE) == "20251203T15Z/photo.jpg"
    assert name_of("some/prefix//photo.jpg", layout=Layout.TREE) == "20251203T15Z//photo.jpg"


def test_each_of_several_sizes_has_a_folder() -> None:
    assert name_of("some/prefix/a/photo.jpg", size_folder="20x20/") == "20251203T15Z/20x20/photo.jpg"


@pytest.mark.parametrize(
    ("path", "extension", "start", "end"),
    [
        ("some/prefix/a/photo.jpg", "", "photo~", ".jpg"),
        ("some/prefix/a/scan.tiff", ".jpg", "scan.tiff~", ".jpg"),
        ("some/prefix/a/plain", "", "plain~", ""),
        ("some/prefix/a/.hidden", "", ".hidden~", ""),
    ],
)
def test_the_suffix_of_a_taken_name_stands_before_the_extension(
    path: str, extension: str, start: str, end: str
) -> None:
    name = name_of(path, extension=extension, distinct=True).removeprefix("20251203T15Z/")
    assert name.startswith(start)
    assert name.endswith(end)
    assert len(name) == len(start) + 16 + len(end)


def test_the_suffix_is_a_function_of_the_full_path() -> None:
    assert name_of("some/prefix/a/x.jpg", distinct=True) == name_of("some/prefix/a/x.jpg", distinct=True)
    assert name_of("some/prefix/a/x.jpg", distinct=True) != name_of("some/prefix/b/x.jpg", distinct=True)


def test_paths_whose_32_bit_suffixes_collide_have_names_of_their_own() -> None:
    assert name_of("some/prefix/499/p.jpg", distinct=True) != name_of("some/prefix/34844/p.jpg", distinct=True)
    source = [ObjectLocation("photos", f"in/{number}/p.jpg") for number in (499, 34844)]
    folder = OutputFolder("photos", FolderLocation("photos", "in/"), Layout.FLAT)
    names = {folder.thumbnail(each, Hour("20251203T15Z"), "", distinct=True).name for each in source}
    assert len(names) == 2


def test_a_name_that_storage_could_not_hold_is_refused_and_never_shortened() -> None:
    assert len(name_of("some/prefix/" + "x" * 1011).encode()) == 1024
    with pytest.raises(NoFreeName, match="1025 bytes"):
        name_of("some/prefix/" + "x" * 1012)
    with pytest.raises(NoFreeName):
        name_of("some/prefix/" + "猫" * 340)
