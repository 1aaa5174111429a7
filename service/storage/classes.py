"""The storage classes of Cloud Storage, by which reading and writing have their prices."""

from enum import StrEnum


class StorageClass(StrEnum):
    """The class of an object."""

    STANDARD = "STANDARD"
    NEARLINE = "NEARLINE"
    COLDLINE = "COLDLINE"
    ARCHIVE = "ARCHIVE"


_NEARLINE_TOO = "DURABLE_REDUCED_AVAILABILITY"
"""Its operations cost what those of Nearline do (cloud.google.com/storage/pricing)."""

_BY_NAME = {**StorageClass.__members__, _NEARLINE_TOO: StorageClass.NEARLINE}


def class_named(name: str) -> StorageClass:
    """Return the class that a resource names. Old names, such as REGIONAL, are other words for STANDARD."""
    return _BY_NAME.get(name, StorageClass.STANDARD)
