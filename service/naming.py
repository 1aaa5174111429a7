"""The names of thumbnails and of the service's own folders, and the metadata that a thumbnail carries.

Pure. `is_output` is one of the two guards against a loop; `selection` asks it.
"""

import hashlib
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Self

from service.errors import InvalidValue, NoFreeName
from service.storage.addresses import MAX_NAME_BYTES, FolderLocation, ObjectLocation

SOURCE_KEY = "thumbnail-source"
"""Custom metadata of a thumbnail: the `gs://` address it was made from. What carries it is never a source."""
GENERATION_KEY = "thumbnail-source-generation"
SPEC_KEY = "thumbnail-spec"

BOOKKEEPING_FOLDER = "thumbnail-runs/"
"""Folder of the output bucket for plans and reports of runs."""

_HOUR = re.compile(r"\d{4}(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])T(?:[01]\d|2[0-3])Z", re.ASCII)


@dataclass(frozen=True, slots=True)
class Hour:
    """An hour in UTC, written `YYYYMMDDTHHZ`; the folder at the output bucket's root that thumbnails go to."""

    text: str

    @classmethod
    def parse(cls, text: str, field: str) -> Self:
        """Read `20251203T15Z`.

        Raises:
            InvalidValue: it is not written so, or there is no such hour, and names `field`.
        """
        try:
            if not _HOUR.fullmatch(text):
                raise ValueError
            datetime.strptime(text, "%Y%m%dT%H%z")
        except ValueError:
            raise InvalidValue(field, text, "is not an hour in UTC such as 20251203T15Z") from None
        return cls(text)

    @classmethod
    def of(cls, moment: datetime) -> Self:
        """The hour that an aware moment lies in.

        Raises:
            OverflowError: it lies outside the years 1 to 9999 in UTC.
        """
        utc = moment.astimezone(UTC)
        # Not strftime, which writes years before 1000 with fewer digits on some systems.
        return cls(f"{utc.year:04}{utc.month:02}{utc.day:02}T{utc.hour:02}Z")

    def __str__(self) -> str:
        return self.text


class Layout(StrEnum):
    """What of the source's path stays in the thumbnail's name."""

    FLAT = "flat"
    TREE = "tree"


def is_output(name: str) -> bool:
    """Whether a name in the output bucket is in an hour folder or in the service's bookkeeping folder."""
    first, slash, _ = name.partition("/")
    return name.startswith(BOOKKEEPING_FOLDER) or bool(slash and _HOUR.fullmatch(first))


@dataclass(frozen=True, slots=True)
class OutputFolder:
    """Where the thumbnails of one size go within an hour folder, and what they are called there."""

    bucket: str
    fence: FolderLocation
    layout: Layout
    size_folder: str = ""
    """Empty, or a folder for this size such as `200x200/`."""

    def folder_for(self, source: ObjectLocation, hour: Hour) -> str:
        """Return what a source's thumbnail has before the last part of its name, with a slash at the end."""
        below = source.name.removeprefix(self.fence.prefix).rpartition("/")
        kept = below[0] + below[1] if self.layout is Layout.TREE else ""
        return f"{hour}/{self.size_folder}{kept}"

    def thumbnail(self, source: ObjectLocation, hour: Hour, new_extension: str, *, distinct: bool) -> ObjectLocation:
        """Return the address of a source's thumbnail.

        Args:
            source: an object inside the fence.
            hour: the hour folder.
            new_extension: put after the name, such as `.jpg`; empty where the source's format is kept.
            distinct: add a stable function of the source's full path, for a source whose plain name is taken.

        Raises:
            NoFreeName: the name is longer than Cloud Storage allows. It is never shortened: two long names
                could become one.
        """
        name = source.name.rpartition("/")[2] + new_extension
        if distinct:
            digest = hashlib.sha256(str(source).encode()).hexdigest()[:8]
            stem, dot, extension = name.rpartition(".")
            name = f"{stem}~{digest}.{extension}" if dot and stem else f"{name}~{digest}"
        name = self.folder_for(source, hour) + name
        if (size := len(name.encode())) > MAX_NAME_BYTES:
            raise NoFreeName(
                f"the thumbnail's name would have {size} bytes and Cloud Storage allows {MAX_NAME_BYTES}; "
                f"give the source a shorter name ({name[:60]}…)"
            )
        return ObjectLocation(self.bucket, name)
