"""Hours that have thumbnails, the thumbnails of an hour, and one thumbnail.

Only hour folders are read, and only objects that the service made are shown. The number of requests to storage for a
page is bounded, however many objects the bucket holds.
"""

import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice

from service.errors import InvalidValue, ObjectNotFound, StorageRefused
from service.images.formats import OUTPUT_MEDIA_TYPES
from service.naming import SOURCE_KEY, Hour
from service.storage.addresses import MAX_NAME_BYTES, FolderLocation, NameRange, ObjectLocation
from service.storage.base import ObjectStore, StoredObject

PAGE_SIZE = 200
"""Thumbnails on one page."""
MAX_IMAGE_BYTES = 32 * 1024 * 1024
"""Size limit of a thumbnail that is served. Those of the default size have a few thousand bytes."""

_MAX_SCANNED = 1_000
"""Names to look at for one page. More than a page are needed only if the hour holds objects that are no thumbnails."""
_MAX_SEARCHED = 10_000
"""Names to look at for one page of a search, which then shows what it has found and offers to go on."""
_MAX_SEARCH_CHARACTERS = 200
_FOLDER_REQUESTS = 3
_MONTHS_BACK = (1, 4, 16, 64, 256)
"""Months that each listing of hours reaches back: short for a full bucket, long for a nearly empty one."""
_FIRST_NAME = "0"
_BEHIND_HOURS = ":"
"""The character after 9. No hour begins with it."""


@dataclass(frozen=True, slots=True)
class HourPage:
    """Hours that have thumbnails, newest first."""

    hours: tuple[Hour, ...]
    has_more: bool
    """True if there are older ones."""
    is_complete: bool
    """False if the bucket's root holds so many other objects that some hours may be missing."""


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """One thumbnail on a contact sheet."""

    name: str
    """Below the hour folder."""
    source: str
    size: int
    """Bytes."""
    generation: int
    is_addressable: bool
    """False if its name cannot be part of an address."""

    @property
    def folder(self) -> str:
        """The name up to its last part, with a slash at the end."""
        return self.name[: self.name.rfind("/") + 1]


@dataclass(frozen=True, slots=True)
class ContactSheet:
    """One page of the thumbnails of an hour, in the order of their names."""

    thumbnails: tuple[Thumbnail, ...]
    scanned: int
    """Objects that were looked at."""
    resume_after: str | None
    """The name after which the next page begins. None on the last page."""


def newest_hours(store: ObjectStore, bucket: str, count: int, before: Hour | None = None) -> HourPage:
    """Return the newest hours that have thumbnails.

    Args:
        store: holds the thumbnails.
        bucket: its name.
        count: at most so many.
        before: only older ones.

    Raises:
        RetryLater: storage did not answer.
    """
    now = datetime.now(UTC)
    newest = str(before) if before else f"{now.year:04}{now.month:02}"
    months = int(newest[:4]) * 12 + int(newest[4:6]) - 1
    end = str(before) if before else _BEHIND_HOURS
    hours: list[Hour] = []
    is_complete = True
    for back in (*_MONTHS_BACK, None):
        start = _FIRST_NAME if back is None or back > months else _month(months - back + 1)
        if start >= end:
            continue
        folders = store.list_folders(FolderLocation(bucket), NameRange(start, end), requests=_FOLDER_REQUESTS)
        is_complete = is_complete and folders.complete
        hours += sorted(_hours(folders.names), key=str, reverse=True)
        end = start
        if len(hours) > count:
            break
    return HourPage(tuple(hours[:count]), has_more=len(hours) > count, is_complete=is_complete)


def _month(number: int) -> str:
    return f"{number // 12:04}{number % 12 + 1:02}"


def _hours(names: tuple[str, ...]) -> Iterator[Hour]:
    for name in names:
        try:
            yield Hour.parse(name.removesuffix("/"), "hour")
        except InvalidValue:
            continue


def contact_sheet(
    store: ObjectStore, bucket: str, hour: Hour, *, folder: str = "", after: str = "", search: str = ""
) -> ContactSheet:
    """Return one page of the thumbnails of an hour.

    Args:
        store: holds the thumbnails.
        bucket: its name.
        hour: the hour folder.
        folder: only thumbnails in this folder below the hour; empty, or with a slash at the end.
        after: only thumbnails after this name below the hour.
        search: only thumbnails whose name contains this, in any case.

    Raises:
        InvalidValue: no name can be like `folder` or `after`, or `search` is too long.
        RetryLater: storage did not answer.
    """
    _check(hour, "folder", folder)
    _check(hour, "after", after)
    if folder and not folder.endswith("/"):
        raise InvalidValue("folder", folder, "does not end in '/'")
    if len(search) > _MAX_SEARCH_CHARACTERS:
        raise InvalidValue("search", search, f"is longer than {_MAX_SEARCH_CHARACTERS} characters")
    within = FolderLocation(bucket, f"{hour}/{folder}")
    most = _MAX_SEARCHED if search else _MAX_SCANNED
    search_key = _search_key(search)
    last = f"{hour}/{after}" if after else ""
    thumbnails: list[Thumbnail] = []
    listed = scanned = 0
    for stored in islice(store.list_objects(within, NameRange(max(last, within.prefix))), most):
        listed += 1
        name = stored.location.name
        if name == last:
            continue
        thumbnail = _thumbnail(hour, stored)
        if thumbnail and search_key in _search_key(thumbnail.name):
            if len(thumbnails) == PAGE_SIZE:
                return ContactSheet(tuple(thumbnails), scanned, last.removeprefix(f"{hour}/"))
            thumbnails.append(thumbnail)
        scanned += 1
        last = name
    return ContactSheet(tuple(thumbnails), scanned, last.removeprefix(f"{hour}/") if listed == most else None)


def find_thumbnail(
    store: ObjectStore, bucket: str, hour: str, name: str, generation: int | None = None
) -> tuple[StoredObject, str]:
    """Find a thumbnail that the service made.

    Args:
        store: holds the thumbnails.
        bucket: its name.
        hour: the hour folder, as the caller wrote it.
        name: the name below it, as the caller wrote it.
        generation: of the thumbnail; the live one if None.

    Returns:
        The object, and its content type, one of `OUTPUT_MEDIA_TYPES`.

    Raises:
        ObjectNotFound: there is none, or the object is not for callers to see. The message is the same.
        RetryLater: storage did not answer.
    """
    missing = ObjectNotFound("there is no such thumbnail")
    try:
        parsed = Hour.parse(hour, "hour")
        _check(parsed, "name", name)
    except InvalidValue:
        raise missing from None
    if not _is_addressable(name):
        raise missing
    try:
        stored = store.stat(ObjectLocation(bucket, f"{parsed}/{name}"), generation)
    except (ObjectNotFound, StorageRefused):
        raise missing from None
    content_type = _image_type(stored)
    if content_type is None or SOURCE_KEY not in stored.metadata or stored.size > MAX_IMAGE_BYTES:
        raise missing
    return stored, content_type


def _check(hour: Hour, field: str, name: str) -> None:
    """Refuse a name that no object in an hour folder can have, before storage is asked."""
    if any(character in name for character in "\0\r\n"):
        raise InvalidValue(field, name, "has a character that no name has")
    if len(f"{hour}/{name}".encode(errors="replace")) > MAX_NAME_BYTES:
        raise InvalidValue(field, name, f"is longer than the {MAX_NAME_BYTES} bytes that a name may have")


def _is_addressable(name: str) -> bool:
    """Return false if a browser would change the name in an address: it resolves `.` and `..` itself."""
    return bool(name) and not {".", ".."} & set(name.replace("\\", "/").split("/"))


def _image_type(stored: StoredObject) -> str | None:
    content_type = stored.content_type.partition(";")[0].strip().lower()
    # The service never compresses what it stores, and of a compressed object the size is not that of what is sent.
    return content_type if content_type in OUTPUT_MEDIA_TYPES and not stored.content_encoding else None


def _thumbnail(hour: Hour, stored: StoredObject) -> Thumbnail | None:
    source = stored.metadata.get(SOURCE_KEY)
    if source is None or _image_type(stored) is None:
        return None
    name = stored.location.name.removeprefix(f"{hour}/")
    return Thumbnail(name, source, stored.size, stored.generation, _is_addressable(name))


def _search_key(text: str) -> str:
    """Fold case, and the ways to write a letter with an accent."""
    return unicodedata.normalize("NFC", text).casefold()
