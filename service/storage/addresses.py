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
_NO_BUCKET = "is not a bucket name: 3 to 222 of a-z, 0-9, '-', '_', '.', with a letter or digit at both ends"


def check_bucket_name(bucket: str, field: str) -> str:
    """Return the name of a bucket, or raise InvalidValue (rules: cloud.google.com/storage/docs/buckets#naming)."""
    if not _BUCKET.fullmatch(bucket):
        raise InvalidValue(field, bucket, _NO_BUCKET)
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
    """A folder: all objects whose name starts with `prefix`, which is empty or ends in a slash."""

    bucket: str
    prefix: str = ""

    def __post_init__(self) -> None:
        if self.prefix and not self.prefix.endswith("/"):
            raise InvalidValue("prefix", self.prefix, "does not end in '/'")

    @classmethod
    def parse(cls, text: str, field: str) -> Self:
        """Parse `gs://bucket` or `gs://bucket/prefix`, with or without a slash at the end, or raise InvalidValue."""
        if not text.startswith("gs://"):
            raise InvalidValue(field, text, "is not a folder in Cloud Storage, such as gs://my-bucket/photos")
        bucket, _, prefix = text.removeprefix("gs://").partition("/")
        if not _BUCKET.fullmatch(bucket):
            raise InvalidValue(field, text, f"has the bucket {bucket!r}, which {_NO_BUCKET}")
        if prefix and not prefix.endswith("/"):
            prefix += "/"
        try:
            size = len(prefix.encode())
        except UnicodeEncodeError:
            raise InvalidValue(field, text, "is not text in UTF-8") from None
        if size > MAX_NAME_BYTES:
            raise InvalidValue(field, text, f"is longer than the {MAX_NAME_BYTES} bytes that a name may have")
        return cls(bucket, prefix)

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
