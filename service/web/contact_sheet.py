"""Hours that have thumbnails, the thumbnails of an hour, and one thumbnail.

Only hour folders are read, and only objects that the service made are shown. The number of requests to storage for a
page is bounded, however many objects the bucket holds.
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Self

from service.errors import InvalidValue, ObjectNotFound, StorageRefused
from service.images.formats import OUTPUT_MEDIA_TYPES, media_type_of
from service.naming import SOURCE_KEY, Hour
from service.storage.addresses import MAX_NAME_BYTES, FolderLocation, NameRange, ObjectLocation
from service.storage.base import ObjectStore, StoredObject

PAGE_SIZE = 200
"""Thumbnails on one page."""
MAX_IMAGE_BYTES = 32 * 1024 * 1024
"""Size limit of a thumbnail that is served. Those of the default size have a few thousand bytes."""

_MAX_LISTED = 1_000
"""Objects to list for one page. More than a page are needed only if the hour holds objects that are no thumbnails."""
_MAX_SEARCHED = 10_000
"""Objects to list for one page of a search, which then shows what it has found and offers to go on."""
_MAX_SEARCH_CHARACTERS = 200
_FOLDER_REQUESTS = 3
_DAYS_BACK = (30, 120, 480, 1920, 7680)
"""Days that each listing of hours reaches back: short for a full bucket, long for a nearly empty one."""
_FIRST_NAME = "0"
_BEHIND_HOURS = ":"
"""The character after 9. No hour begins with it."""
_GENERATION = re.compile(r"[0-9]{1,18}")
"""Microseconds since 1970, which have 16 digits; any 18 fit in the 64 bits that Cloud Storage takes."""


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
    """One thumbnail on a page."""

    hour: str
    name: str
    """Below the hour folder."""
    stored: StoredObject

    @classmethod
    def of(cls, stored: StoredObject) -> Self:
        """Take the hour and the name from an object in an hour folder."""
        hour, _, name = stored.location.name.partition("/")
        return cls(hour, name, stored)

    @property
    def source(self) -> str:
        """Address of the image that it was made of."""
        return self.stored.metadata[SOURCE_KEY]

    @property
    def folder(self) -> str:
        """The name up to its last part, with a slash at the end."""
        return self.name[: self.name.rfind("/") + 1]

    @property
    def is_addressable(self) -> bool:
        """False if its name cannot be part of an address."""
        return _is_addressable(self.name)


@dataclass(frozen=True, slots=True)
class ContactSheet:
    """One page of the thumbnails of an hour, in the order of their names."""

    thumbnails: tuple[Thumbnail, ...]
    listed: int
    """Objects that were looked at."""
    resume_after: str | None
    """The name after which the next page begins. None on the last page."""


def newest_hours(store: ObjectStore, bucket: str, count: int, before: Hour | None = None) -> HourPage:
    """Return the newest hours that have thumbnails, `count` at most, and only those before an hour if one is given.

    Storage lists names from the first one on, so this lists one span of time after the other, each older and longer.

    Raises:
        RetryLater: storage did not answer.
    """
    newest = before.moment if before else datetime.now(UTC)
    starts = [str(Hour.of(newest - timedelta(days))) for days in _DAYS_BACK if days < newest.toordinal()]
    end = str(before) if before else _BEHIND_HOURS
    hours: list[Hour] = []
    is_complete = True
    for start in (*starts, _FIRST_NAME):
        folders = store.list_folders(FolderLocation(bucket), NameRange(start, end), requests=_FOLDER_REQUESTS)
        is_complete = is_complete and folders.complete
        hours += _hours(reversed(folders.names))
        if len(hours) > count:
            break
        end = start
    return HourPage(tuple(hours[:count]), has_more=len(hours) > count, is_complete=is_complete)


def _hours(names: Iterable[str]) -> Iterator[Hour]:
    for name in names:
        with suppress(InvalidValue):
            yield Hour.parse(name.removesuffix("/"), "hour")


def contact_sheet(
    store: ObjectStore, bucket: str, hour: Hour, *, folder: str = "", after: str = "", search: str = ""
) -> ContactSheet:
    """Return one page of the thumbnails of an hour whose name below the hour folder matches.

    Args:
        store: holds the thumbnails.
        bucket: its name.
        hour: the hour folder.
        folder: what the name starts with; empty, or with a slash at the end.
        after: what the name follows.
        search: what the name contains, in any case.

    Raises:
        InvalidValue: no name can be like `folder` or `after`, or `search` is too long.
        RetryLater: storage did not answer.
    """
    within = FolderLocation(bucket, f"{hour}/")
    _check_name(within, "folder", folder)
    _check_name(within, "after", after)
    if folder and not folder.endswith("/"):
        raise InvalidValue("folder", folder, "does not end in '/'")
    if len(search) > _MAX_SEARCH_CHARACTERS:
        raise InvalidValue("search", search, f"is longer than {_MAX_SEARCH_CHARACTERS} characters")
    most = _MAX_SEARCHED if search else _MAX_LISTED
    names = NameRange(within.prefix + max(after, folder))
    thumbnails: list[Thumbnail] = []
    listed, name = 0, ""
    objects = store.list_objects(FolderLocation(bucket, within.prefix + folder), names)
    for listed, stored in enumerate(islice(objects, most), 1):
        name = stored.location.name.removeprefix(within.prefix)
        if name == after or _thumbnail_type(stored) is None or _search_key(search) not in _search_key(name):
            continue
        if len(thumbnails) == PAGE_SIZE:
            return ContactSheet(tuple(thumbnails), listed, thumbnails[-1].name)
        thumbnails.append(Thumbnail.of(stored))
    return ContactSheet(tuple(thumbnails), listed, name if listed == most else None)


def find_thumbnail(
    store: ObjectStore, bucket: str, hour: str, name: str, generation: str | None = None
) -> tuple[StoredObject, str]:
    """Find a thumbnail that the service made, and its content type, one of `OUTPUT_MEDIA_TYPES`.

    Hour, name below the hour folder and generation are as the caller wrote them; no generation means the live one.

    Raises:
        ObjectNotFound: there is none, or the object is not for callers to see. The message is the same.
        RetryLater: storage did not answer.
    """
    missing = ObjectNotFound("there is no such thumbnail")
    if not _is_addressable(name) or not (generation is None or _GENERATION.fullmatch(generation)):
        raise missing
    try:
        within = FolderLocation(bucket, f"{Hour.parse(hour, 'hour')}/")
        _check_name(within, "name", name)
        location = ObjectLocation(bucket, within.prefix + name)
        stored = store.stat(location, None if generation is None else int(generation))
    except (InvalidValue, ObjectNotFound, StorageRefused):
        raise missing from None
    content_type = _thumbnail_type(stored)
    if content_type is None or stored.size > MAX_IMAGE_BYTES:
        raise missing
    return stored, content_type


def _check_name(within: FolderLocation, field: str, name: str) -> None:
    """Refuse a name that no object in a folder can have, before storage is asked."""
    if any(character in name for character in "\0\r\n"):
        raise InvalidValue(field, name, "has a character that no name has")
    if len(f"{within.prefix}{name}".encode(errors="replace")) > MAX_NAME_BYTES:
        raise InvalidValue(field, name, f"is longer than the {MAX_NAME_BYTES} bytes that a name may have")


def _is_addressable(name: str) -> bool:
    """Return false if a browser would change the name in an address: it resolves `.` and `..` itself."""
    return bool(name) and not {".", ".."} & set(name.replace("\\", "/").split("/"))


def _thumbnail_type(stored: StoredObject) -> str | None:
    """Return the content type of a thumbnail that the service made, and None for any other object."""
    content_type = media_type_of(stored.content_type)
    # The service never compresses what it stores, and of a compressed object the size is not that of what is sent.
    is_ours = SOURCE_KEY in stored.metadata and not stored.content_encoding
    return content_type if is_ours and content_type in OUTPUT_MEDIA_TYPES else None


def _search_key(text: str) -> str:
    """Fold case, and the ways to write a letter with an accent."""
    return unicodedata.normalize("NFC", text).casefold()
