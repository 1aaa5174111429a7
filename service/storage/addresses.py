"""Addresses in Cloud Storage: buckets, objects, folders, ranges of names.

Pure: never asks storage if an address exists.
"""

import re
from dataclasses import dataclass
from typing import Self

from service.errors import InvalidValue

MAX_NAME_BYTES = 1024
"""Longest object name in UTF-8 bytes (cloud.google.com/storage/docs/objects#naming)."""

_BUCKET = re.compile(r"[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]")
OBJECT_PATTERN = rf"^gs://{_BUCKET.pattern}/[^\x00\r\n]{{1,{MAX_NAME_BYTES}}}$"
"""What `ObjectLocation.parse` accepts, as far as a regular expression of JSON Schema can say it: it counts no bytes."""
FOLDER_PATTERN = rf"^gs://{_BUCKET.pattern}(?:/[\s\S]{{0,{MAX_NAME_BYTES - 1}}})?$"
"""The same for `FolderLocation.parse`."""
_NO_BUCKET = "is not a bucket name: 3 to 222 of a-z, 0-9, '-', '_', '.', with a letter or digit at both ends"


def check_bucket_name(bucket: str, field: str) -> str:
    """Return the name of a bucket, or raise InvalidValue (rules: cloud.google.com/storage/docs/buckets#naming)."""
    if not _BUCKET.fullmatch(bucket):
        raise InvalidValue(field, bucket, _NO_BUCKET)
    return bucket


def _split(text: str, field: str, expected: str, end: str = "") -> tuple[str, str]:
    """Return the bucket and the name of an address, to which an end is added that it lacks, unless it is empty."""
    if not text.startswith("gs://"):
        raise InvalidValue(field, text, f"is not {expected}")
    bucket, _, name = text.removeprefix("gs://").partition("/")
    if not _BUCKET.fullmatch(bucket):
        raise InvalidValue(field, text, f"has the bucket {bucket!r}, which {_NO_BUCKET}")
    if name and not name.endswith(end):
        name += end
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        raise InvalidValue(field, text, "is not text in UTF-8") from None
    if size > MAX_NAME_BYTES:
        raise InvalidValue(field, text, f"is longer than the {MAX_NAME_BYTES} bytes that a name may have")
    return bucket, name


@dataclass(frozen=True, slots=True)
class ObjectLocation:
    """The address of one object: `gs://bucket/name`."""

    bucket: str
    name: str

    @classmethod
    def parse(cls, text: str, field: str) -> Self:
        """Parse `gs://bucket/name`, or raise InvalidValue."""
        bucket, name = _split(text, field, "an object in Cloud Storage, such as gs://my-bucket/photos/cat.jpg")
        if not name:
            raise InvalidValue(field, text, "names a bucket and no object in it")
        if any(character in name for character in "\0\r\n"):
            raise InvalidValue(field, text, "has a character that no name has")
        return cls(bucket, name)

    def __str__(self) -> str:
        return f"gs://{self.bucket}/{self.name}"


@dataclass(frozen=True, slots=True)
class FolderLocation:
    """A folder: all objects whose name starts with `prefix`, which is empty or ends in a slash."""

    bucket: str
    prefix: str = ""

    def __post_init__(self) -> None:
        if self.prefix and not self.prefix.endswith("/"):
            raise InvalidValue("prefix", self.prefix, "does not end in '/'")

    @classmethod
    def parse(cls, text: str, field: str) -> Self:
        """Parse `gs://bucket` or `gs://bucket/prefix`, with or without a slash at the end, or raise InvalidValue."""
        return cls(*_split(text, field, "a folder in Cloud Storage, such as gs://my-bucket/photos", end="/"))

    def __truediv__(self, name: str) -> ObjectLocation:
        return ObjectLocation(self.bucket, self.prefix + name)

    def __contains__(self, other: "ObjectLocation | FolderLocation") -> bool:
        """Return True if the object or the other folder is inside this folder."""
        name = other.name if isinstance(other, ObjectLocation) else other.prefix
        return other.bucket == self.bucket and name.startswith(self.prefix)

    def __str__(self) -> str:
        return f"gs://{self.bucket}/{self.prefix}"


@dataclass(frozen=True, slots=True)
class NameRange:
    """Object names from `start` on and before `end`, in the order of listings, which is that of their UTF-8 bytes."""

    start: str = ""
    """Empty means from the first name."""
    end: str | None = None
    """None means to the last name."""

    @property
    def is_empty(self) -> bool:
        """True if no name can be in the range."""
        return self.end is not None and self.end <= self.start

    def __contains__(self, name: str) -> bool:
        # Python compares code points, whose order is also that of their UTF-8 bytes.
        return self.start <= name and (self.end is None or name < self.end)


ALL_NAMES = NameRange()
