"""Find the thumbnails of a source by the names that they may have, and the source of a thumbnail.

In one hour each name takes a metadata get. In all hours it takes a listing for each size and variant of the name.
"""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

from service.errors import NoFreeName, ObjectNotFound, StorageRefused
from service.images.formats import FORMATS, format_of
from service.images.spec import OutputFormat, ThumbnailSpec
from service.naming import GENERATION_KEY, SOURCE_KEY, SPEC_KEY, Hour, OutputFolder, is_output
from service.storage.addresses import NameRange, ObjectLocation
from service.storage.base import FoundObjects, ObjectStore, StoredObject

_ANY_HOUR = Hour("????????T??Z")
_ALL_HOURS = NameRange("0", ":")
"""The names that begin with a digit; the colon is the character after 9."""
_WILDCARDS = str.maketrans(dict.fromkeys("*?[]{}!^,\\", "?"))
"""Characters that may mean something in a glob, each replaced by any character: there is no sure way to quote them."""
_REQUESTS_PER_GLOB = 10


@dataclass(frozen=True, slots=True)
class Output:
    """One thumbnail to be made of each source: its look and its folder."""

    spec: ThumbnailSpec
    folder: OutputFolder


def is_up_to_date(
    thumbnail: StoredObject, source: StoredObject, output: Output, hour: Hour, made_since: datetime | None = None
) -> bool:
    """Return True if an object is the thumbnail of this generation of a source, with these settings, in this hour."""
    return (
        thumbnail.metadata.get(SOURCE_KEY) == str(source.location)
        and thumbnail.metadata.get(GENERATION_KEY) == str(source.generation)
        and output.spec.covers(thumbnail.metadata.get(SPEC_KEY, ""))
        and (made_since is None or thumbnail.created >= made_since)
        and thumbnail.location.name.startswith(output.folder.folder_for(source.location, hour))
    )


def find_existing(
    store: ObjectStore,
    outputs: Sequence[Output],
    source: StoredObject,
    hour: Hour,
    made_since: datetime | None = None,
) -> list[StoredObject] | None:
    """Return the thumbnails of a source if all of them are up to date and none is older than `made_since`.

    If they are, it takes one request each.
    """
    thumbnails = []
    for output in outputs:
        thumbnail = next(
            (
                stored
                for stored in _candidates(store, output, source, hour)
                if is_up_to_date(stored, source, output, hour, made_since)
            ),
            None,
        )
        if thumbnail is None:
            return None
        thumbnails.append(thumbnail)
    return thumbnails


def _candidates(store: ObjectStore, output: Output, source: StoredObject, hour: Hour) -> Iterator[StoredObject]:
    """Yield the objects under the names that a source's thumbnail may have, the likeliest first."""
    for new_extension in _new_extensions(source, output.spec):
        for distinct in (False, True):
            try:
                stored = store.stat(output.folder.thumbnail(source.location, hour, new_extension, distinct=distinct))
            except (ObjectNotFound, NoFreeName):
                break
            yield stored
            if stored.metadata.get(SOURCE_KEY) == str(source.location):
                return  # Of another generation, or with other settings: it is to be replaced.


def _new_extensions(source: StoredObject, spec: ThumbnailSpec) -> list[str]:
    """Return the extensions that a thumbnail's name may add to its source's, the likeliest first."""
    declared = format_of(source.content_type, source.location.name)
    if spec.format is not OutputFormat.ORIGINAL:
        target = FORMATS[spec.format.upper()]
        likely = [target.output_extension, ""]
        return likely[::-1] if declared is target else likely
    jpeg_or_png = [FORMATS["JPEG"].output_extension, FORMATS["PNG"].output_extension]
    if declared and not declared.output_extension:
        return [*jpeg_or_png, ""]
    return ["", *jpeg_or_png]


def find_in_all_hours(store: ObjectStore, outputs: Sequence[Output], source: ObjectLocation) -> FoundObjects:
    """Return the thumbnails of a source in all hours, newest hour first. Their metadata decides, not their names.

    Sizes are those of the outputs. Makes at most ten requests for each size and variant of the name.
    """
    if source.name.endswith("/"):
        return FoundObjects((), complete=True)  # The name of a folder, whose globs would match all names.
    found: dict[str, StoredObject] = {}
    complete = True
    for output in outputs:
        for glob in _globs(output, source):
            search = store.find_objects(output.folder.bucket, _ALL_HOURS, glob=glob, requests=_REQUESTS_PER_GLOB)
            complete = complete and search.complete
            found |= {stored.location.name: stored for stored in search.objects}
    thumbnails = [
        stored for name, stored in found.items() if is_output(name) and stored.metadata.get(SOURCE_KEY) == str(source)
    ]
    thumbnails.sort(key=lambda stored: stored.location.name.partition("/")[0], reverse=True)
    return FoundObjects(tuple(thumbnails), complete)


def _globs(output: Output, source: ObjectLocation) -> Iterator[str]:
    """Yield globs that match at least the names that a source's thumbnail may have in any hour."""
    for distinct in (False, True):
        with suppress(NoFreeName):
            name = output.folder.thumbnail(source, _ANY_HOUR, "", distinct=distinct).name
            # A new extension may follow the plain name, and stands before the hash of the distinct one.
            below = name.removeprefix(str(_ANY_HOUR)).translate(_WILDCARDS)
            yield f"{_ANY_HOUR}{below}" if distinct else f"{_ANY_HOUR}{below}*"


def describe_thumbnail(store: ObjectStore, bucket: str, location: ObjectLocation) -> StoredObject:
    """Return a thumbnail in the output bucket, whose metadata says what it was made of.

    Raises:
        ObjectNotFound: there is none, or the object is no thumbnail of the service.
    """
    missing = ObjectNotFound(f"there is no thumbnail {location}")
    if location.bucket != bucket or not is_output(location.name):
        raise missing
    try:
        stored = store.stat(location)
    except (ObjectNotFound, StorageRefused):
        raise missing from None
    if SOURCE_KEY not in stored.metadata:
        raise missing
    return stored
