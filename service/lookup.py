"""Find the thumbnails of a source in one hour by the names that they may have, each by a metadata get."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from service.errors import NoFreeName, ObjectNotFound
from service.images.formats import FORMATS, format_of
from service.images.spec import OutputFormat, ThumbnailSpec
from service.naming import GENERATION_KEY, SOURCE_KEY, SPEC_KEY, Hour, OutputFolder
from service.storage.base import ObjectStore, StoredObject


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
        and thumbnail.metadata.get(SPEC_KEY) == str(output.spec)
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
