"""Addresses in Cloud Storage as values: objects, folders, the hour folders of the output, a thumbnail's name.

Pure: nothing here asks storage whether an address exists.
"""

import hashlib
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Self

from service.errors import InvalidValue, NoFreeName

MAX_NAME_BYTES = 1024
"""Longest object name in UTF-8 bytes (cloud.google.com/storage/docs/objects#naming)."""

BOOKKEEPING_FOLDER = "thumbnail-runs/"
"""Where the service keeps what belongs to no image, in the output bucket: plans and reports of runs."""

_BUCKET = re.compile(r"[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]")
_HOUR = re.compile(r"\d{4}(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])T(?:[01]\d|2[0-3])Z", re.ASCII)


def check_bucket_name(bucket: str, field: str) -> str:
    """Return the name as given.

    Raises:
        InvalidValue: it breaks the naming rules of buckets (cloud.google.com/storage/docs/buckets#naming).
    """
    if not _BUCKET.fullmatch(bucket):
        raise InvalidValue(
            field,
            bucket,
            "is not a bucket name: 3 to 222 of a-z, 0-9, '-', '_', '.', with a letter or digit at both ends",
        )
    return bucket


@dataclass(frozen=True, slots=True)
class ObjectLocation:
    """The address of one object: `gs://bucket/name`."""

    bucket: str
    name: str

    def __str__(self) -> str:
        return f"gs://{self.bucket}/{self.name}"


@dataclass(frozen=True, slots=True)
class FolderLocation:
    """A folder: everything whose name starts with `prefix`, which is empty or ends in a slash."""

    bucket: str
    prefix: str = ""

    def __post_init__(self) -> None:
        if self.prefix and not self.prefix.endswith("/"):
            raise InvalidValue("prefix", self.prefix, "does not end in '/'")

    @classmethod
    def parse(cls, text: str, field: str) -> Self:
        """Read `gs://bucket` or `gs://bucket/some/prefix`, with or without a slash at the end.

        Raises:
            InvalidValue: it is neither, and names `field`.
        """
        scheme, separator, rest = text.partition("gs://")
        if scheme or not separator:
            raise InvalidValue(field, text, "is not a folder in Cloud Storage, such as gs://my-bucket/photos")
        bucket, _, prefix = rest.partition("/")
        try:
            check_bucket_name(bucket, field)
        except InvalidValue as error:
            raise InvalidValue(field, text, f"has the bucket {bucket!r}, which {error.problem}") from None
        if prefix and not prefix.endswith("/"):
            prefix += "/"
        if len(prefix.encode()) > MAX_NAME_BYTES:
            raise InvalidValue(field, text, f"is longer than the {MAX_NAME_BYTES} bytes that a name may have")
        return cls(bucket, prefix)

    def __contains__(self, other: "ObjectLocation | FolderLocation") -> bool:
        """Whether the object, or the whole of the other folder, lies in this one."""
        name = other.name if isinstance(other, ObjectLocation) else other.prefix
        return other.bucket == self.bucket and name.startswith(self.prefix)

    def __str__(self) -> str:
        return f"gs://{self.bucket}/{self.prefix}"


@dataclass(frozen=True, slots=True)
class NameRange:
    """Object names from `start` on and before `end`, in the order of a listing, which is that of their UTF-8 bytes."""

    start: str = ""
    """Empty: from the first."""
    end: str | None = None
    """None: to the last."""

    @property
    def is_empty(self) -> bool:
        """Whether no name can be in it."""
        return self.end is not None and self.end <= self.start

    def __contains__(self, name: str) -> bool:
        # Python compares by code point, which is the order of the UTF-8 bytes, too.
        return self.start <= name and (self.end is None or name < self.end)


ALL_NAMES = NameRange()


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


def starts_like_output(name: str) -> bool:
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
