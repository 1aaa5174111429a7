"""What there is to look at: the hours that have thumbnails, the thumbnails of an hour, one of them.

Nothing outside the hour folders is ever asked for, and nothing in them is shown but what the service made. However much
a bucket holds, each question is answered after a bounded number of requests to storage.
"""

import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from service.errors import InvalidValue, ObjectNotFound, StorageRefused
from service.images.formats import OUTPUT_MEDIA_TYPES
from service.naming import SOURCE_KEY, Hour
from service.storage.addresses import MAX_NAME_BYTES, FolderLocation, NameRange, ObjectLocation
from service.storage.base import ObjectStore, StoredObject

PAGE_SIZE = 200
"""Thumbnails on one page."""
MAX_IMAGE_BYTES = 32 * 1024 * 1024
"""Of a thumbnail that is passed on; those of the usual size have a few thousand."""

_LOOKS = 5
"""Requests for one page where every name is wanted; more than one where an hour folder holds what is no thumbnail."""
_SEARCH_SIZE = 1000
_SEARCH_LOOKS = 10
"""Requests, of a thousand names each, after which a search shows what it has and offers to go on."""
_LONGEST_SEARCH = 200
_FOLDER_REQUESTS = 3
_MONTHS_BACK = (1, 4, 16, 64, 256)
"""How far back each look for hours goes: a bucket is young and full, or old and nearly empty."""
_FIRST_NAME = "0"
_BEHIND_HOURS = ":"
"""The character after 9: no hour begins with it."""


@dataclass(frozen=True, slots=True)
class Hours:
    """Hours that have thumbnails, newest first."""

    hours: tuple[Hour, ...]
    more: bool
    """Whether there are older ones."""
    complete: bool
    """False where the bucket's root holds so many objects beside them that not all were looked at."""


@dataclass(frozen=True, slots=True)
class Tile:
    """One thumbnail of a contact sheet."""

    name: str
    """Below the hour folder."""
    source: str
    size: int
    generation: int
    addressable: bool
    """Whether its name can be part of an address as it is."""

    @property
    def folder(self) -> str:
        """What its name has before the last part, with a slash at the end."""
        return self.name[: self.name.rfind("/") + 1]


@dataclass(frozen=True, slots=True)
class Sheet:
    """One page of the thumbnails of an hour, in the order of their names."""

    tiles: tuple[Tile, ...]
    looked_at: int
    """Names."""
    resume_after: str | None
    """The name after which the next page begins; None where this is the last one."""


def newest_hours(store: ObjectStore, bucket: str, count: int, before: Hour | None = None) -> Hours:
    """Return the newest hours that have thumbnails.

    Args:
        store: where thumbnails are.
        bucket: the one.
        count: how many at most.
        before: only older ones.

    Raises:
        RetryLater: storage did not say.
    """
    now = datetime.now(UTC)
    newest = str(before) if before else f"{now.year:04}{now.month:02}"
    months = int(newest[:4]) * 12 + int(newest[4:6]) - 1
    end = str(before) if before else _BEHIND_HOURS
    hours: list[Hour] = []
    complete = True
    for back in (*_MONTHS_BACK, None):
        start = _FIRST_NAME if back is None or back > months else _month(months - back + 1)
        if start >= end:
            continue
        found = store.list_folders(FolderLocation(bucket), NameRange(start, end), requests=_FOLDER_REQUESTS)
        complete = complete and found.whole
        hours += sorted(_hours(found.names), key=str, reverse=True)
        end = start
        if len(hours) > count:
            break
    return Hours(tuple(hours[:count]), more=len(hours) > count, complete=complete)


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
) -> Sheet:
    """Return a page of the thumbnails of an hour.

    Args:
        store: where thumbnails are.
        bucket: the one.
        hour: which hour folder.
        folder: only those in this folder of it; empty, or with a slash at the end.
        after: only those after this name, which is one below the hour folder.
        search: only those whose name contains this, in upper or lower case.

    Raises:
        InvalidValue: one of them cannot be.
        RetryLater: storage did not say.
    """
    _check(hour, "folder", folder)
    _check(hour, "after", after)
    if folder and not folder.endswith("/"):
        raise InvalidValue("folder", folder, "does not end in '/'")
    if len(search) > _LONGEST_SEARCH:
        raise InvalidValue("search", search, f"is longer than {_LONGEST_SEARCH} characters")
    within = FolderLocation(bucket, f"{hour}/{folder}")
    # Two more than a page: the name to begin after, and one that tells whether there is another page.
    size, looks = (_SEARCH_SIZE, _SEARCH_LOOKS) if search else (PAGE_SIZE + 2, _LOOKS)
    needle = _folded(search)
    last = f"{hour}/{after}" if after else ""
    tiles: list[Tile] = []
    looked_at = 0
    for _ in range(looks):
        listed = store.list_first(within, NameRange(max(last, within.prefix)), size)
        for found in listed:
            name = found.location.name
            if name == last:
                continue
            tile = _tile(hour, found)
            if tile and needle in _folded(tile.name):
                if len(tiles) == PAGE_SIZE:
                    return Sheet(tuple(tiles), looked_at, last.removeprefix(f"{hour}/"))
                tiles.append(tile)
            looked_at += 1
            last = name
        if len(listed) < size:
            return Sheet(tuple(tiles), looked_at, None)
    return Sheet(tuple(tiles), looked_at, last.removeprefix(f"{hour}/"))


def find_thumbnail(
    store: ObjectStore, bucket: str, hour: str, name: str, generation: int | None = None
) -> tuple[StoredObject, str]:
    """Find one of the service's own thumbnails.

    Args:
        store: where thumbnails are.
        bucket: the one.
        hour: the hour folder, as it was asked for.
        name: below that, as it was asked for.
        generation: this one of it, or the live one.

    Returns:
        It, and what it is: one of a few content types, whatever storage says beside that.

    Raises:
        ObjectNotFound: there is none, which is also said of everything that is not to be seen.
        RetryLater: storage did not say.
    """
    missing = ObjectNotFound("there is no such thumbnail")
    try:
        checked = Hour.parse(hour, "hour")
        _check(checked, "name", name)
    except InvalidValue:
        raise missing from None
    if not _is_addressable(name):
        raise missing
    try:
        found = store.stat(ObjectLocation(bucket, f"{checked}/{name}"), generation)
    except (ObjectNotFound, StorageRefused):
        raise missing from None
    content_type = _shown_type(found)
    if content_type is None or SOURCE_KEY not in found.metadata or found.size > MAX_IMAGE_BYTES:
        raise missing
    return found, content_type


def _check(hour: Hour, field: str, name: str) -> None:
    """Refuse what no object's name in an hour folder can be, before storage is asked."""
    if any(character in name for character in "\0\r\n"):
        raise InvalidValue(field, name, "has a character that no name has")
    if len(f"{hour}/{name}".encode(errors="replace")) > MAX_NAME_BYTES:
        raise InvalidValue(field, name, f"is longer than the {MAX_NAME_BYTES} bytes that a name may have")


def _is_addressable(name: str) -> bool:
    """Whether browsers ask for the name as it is: what looks like a step in a path they take before they ask."""
    return bool(name) and not {".", ".."} & set(name.replace("\\", "/").split("/"))


def _shown_type(found: StoredObject) -> str | None:
    content_type = found.content_type.partition(";")[0].strip().lower()
    # The service stores nothing packed; of such an object neither the size nor the checksum is that of what is sent.
    return content_type if content_type in OUTPUT_MEDIA_TYPES and not found.content_encoding else None


def _tile(hour: Hour, found: StoredObject) -> Tile | None:
    source = found.metadata.get(SOURCE_KEY)
    if source is None or _shown_type(found) is None:
        return None
    name = found.location.name.removeprefix(f"{hour}/")
    return Tile(name, source, found.size, found.generation, _is_addressable(name))


def _folded(text: str) -> str:
    """Compare without regard to case, and to how a letter with an accent is written."""
    return unicodedata.normalize("NFC", text).casefold()
