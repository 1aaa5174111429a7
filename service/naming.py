"""Names of thumbnails and of the service's own folders, and the keys of a thumbnail's custom metadata.

Pure. `is_output` is one of the two guards against a loop, which `selection` applies.
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
"""Custom metadata of a thumbnail: the `gs://` address of its source. An object that has it is never a source."""
GENERATION_KEY = "thumbnail-source-generation"
SPEC_KEY = "thumbnail-spec"
SIZE_KEY = "thumbnail-size"
"""Its pixels, such as `100x75`."""
PREVIEW_KEY = "thumbnail-from-preview"
"""There if it was made from the preview inside of its source."""
DAMAGED_KEY, DAMAGED = "thumbnail-damaged", "true"
"""Of a thumbnail whose source ends too early, and that shows what there is of it."""
WRITE_KEY = "thumbnail-write"
"""A number of its own for each write: the writer knows its thumbnail by it if the answer was lost."""

BOOKKEEPING_FOLDER = "thumbnail-runs/"
"""Folder of the output bucket for the plans and reports of runs."""

_HOUR = re.compile(r"[0-9]{4}(?:0[1-9]|1[0-2])(?:0[1-9]|[12][0-9]|3[01])T(?:[01][0-9]|2[0-3])Z")


CREATED, RUN = "created", "run"
"""Timestamps that name no hour: of each image the hour in which it was created; for all the hour of the run."""
TIMESTAMP_PATTERN = f"^(?:{_HOUR.pattern}|{RUN}|{CREATED})$"
"""Regular expression for what `parse_timestamp` accepts; of days it also allows the 30th of February."""


@dataclass(frozen=True, slots=True)
class Hour:
    """An hour in UTC, written `YYYYMMDDTHHZ`: the name of a folder of thumbnails at the root of the output bucket."""

    text: str

    @classmethod
    def parse(cls, text: str, field: str) -> Self:
        """Parse text such as `20251203T15Z`, or raise InvalidValue."""
        try:
            if not _HOUR.fullmatch(text):
                raise ValueError
            hour = cls(text)
            # Refuses the 30th of February.
            _ = hour.moment
        except ValueError:
            raise InvalidValue(field, text, "is not an hour in UTC such as 20251203T15Z") from None
        return hour

    @classmethod
    def of(cls, moment: datetime) -> Self:
        """Return the hour of a moment that has a time zone.

        Raises:
            OverflowError: the moment is outside the years 1 to 9999 in UTC.
        """
        utc = moment.astimezone(UTC)
        # On some systems strftime writes years before 1000 with fewer digits.
        return cls(f"{utc.year:04}{utc.month:02}{utc.day:02}T{utc.hour:02}Z")

    def __str__(self) -> str:
        return self.text

    @property
    def moment(self) -> datetime:
        """The beginning of the hour."""
        return datetime.strptime(self.text, "%Y%m%dT%H%z")


def number_in(text: str) -> int | None:
    """Return the number that a value of custom metadata is; None if it is none. Anybody may have written it."""
    return int(text) if re.fullmatch(r"[0-9]{1,19}", text) else None


def parse_timestamp(text: str, field: str) -> str | Hour:
    """Parse an hour, or return `run` or `created` as it is.

    Raises:
        InvalidValue: it is none of these.
    """
    if text in {CREATED, RUN}:
        return text
    try:
        return Hour.parse(text, field)
    except InvalidValue as error:
        raise InvalidValue(field, text, f"{error.problem}, nor '{RUN}' or '{CREATED}'") from None


class Layout(StrEnum):
    """Part of the source's path that the thumbnail's name keeps."""

    FLAT = "flat"
    """The file name."""
    TREE = "tree"
    """The path below the input folder."""


def is_output(name: str) -> bool:
    """Return True if a name in the output bucket is in an hour folder or in the bookkeeping folder."""
    first, slash, _ = name.partition("/")
    return name.startswith(BOOKKEEPING_FOLDER) or bool(slash and _HOUR.fullmatch(first))


@dataclass(frozen=True, slots=True)
class OutputFolder:
    """Names the thumbnails of one size."""

    bucket: str
    fence: FolderLocation
    layout: Layout
    size_folder: str = ""
    """The folder for this size within the hour folder, such as `200x200/`; empty if there is only one size."""

    def folder_for(self, source: ObjectLocation, hour: Hour) -> str:
        """Return the folder of a source's thumbnail, ending in a slash."""
        path = ""
        if self.layout is Layout.TREE:
            below = source.name.removeprefix(self.fence.prefix)
            path = below[: below.rfind("/") + 1]
        return f"{hour}/{self.size_folder}{path}"

    def thumbnail(self, source: ObjectLocation, hour: Hour, new_extension: str, *, distinct: bool) -> ObjectLocation:
        """Return the address of the thumbnail of a source inside the fence.

        `new_extension`, such as `.jpg`, is added to the name; it is empty if the thumbnail keeps the source's format.
        `distinct` adds a hash of the source's full path, because the plain name is taken.

        Raises:
            NoFreeName: Cloud Storage allows no name so long. It is not shortened: two names could become one.
        """
        name = source.name.rpartition("/")[2] + new_extension
        if distinct:
            digest = hashlib.sha256(str(source).encode()).hexdigest()[:16]
            stem, dot, extension = name.rpartition(".")
            name = f"{stem}~{digest}.{extension}" if dot and stem else f"{name}~{digest}"
        name = self.folder_for(source, hour) + name
        if (size := len(name.encode())) > MAX_NAME_BYTES:
            raise NoFreeName(
                f"the thumbnail's name would have {size} bytes and Cloud Storage allows {MAX_NAME_BYTES}; "
                f"give the source a shorter name ({name[:60]}…)"
            )
        return ObjectLocation(self.bucket, name)
