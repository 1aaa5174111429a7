"""The outcome of one image, as values that every door reports."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Self

from service.errors import ServiceError
from service.naming import DAMAGED, DAMAGED_KEY, PREVIEW_KEY, SIZE_KEY, number_in
from service.storage.addresses import ObjectLocation
from service.storage.base import StoredObject


class Result(StrEnum):
    """How one image ended."""

    CREATED = "created"
    SKIPPED = "skipped"
    IGNORED = "ignored"
    REJECTED = "rejected"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class StoredThumbnail:
    """A thumbnail in storage."""

    location: ObjectLocation
    size: int
    width: int
    height: int
    renamed: bool = False
    """Made under a name with a suffix, because another source holds the plain one."""
    from_preview: bool = False
    """Made from the preview inside of its source."""
    is_damaged: bool = False
    """Its source ends too early, and it shows what there is of it."""

    def __str__(self) -> str:
        return str(self.location)

    @classmethod
    def of(cls, stored: StoredObject) -> Self:
        """Read what a thumbnail's metadata says; its width and height are 0 if they say nothing."""
        width, _, height = stored.metadata.get(SIZE_KEY, "").partition("x")
        return cls(
            stored.location,
            stored.size,
            number_in(width) or 0,
            number_in(height) or 0,
            from_preview=PREVIEW_KEY in stored.metadata,
            is_damaged=stored.metadata.get(DAMAGED_KEY) == DAMAGED,
        )


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one image ended, and its thumbnails."""

    result: Result
    source: ObjectLocation
    generation: int = 0
    """Of the source; 0 if it is not known."""
    source_bytes: int = 0
    thumbnails: tuple[StoredThumbnail, ...] = ()
    code: str = ""
    reason: str = ""
    bytes_read: int = 0
    bytes_written: int = 0

    @property
    def renamed(self) -> tuple[StoredThumbnail, ...]:
        """The thumbnails that were made under a name with a suffix."""
        return tuple(thumbnail for thumbnail in self.thumbnails if thumbnail.renamed)

    @property
    def is_damaged(self) -> bool:
        """True if a thumbnail shows what there is of a damaged source."""
        return any(thumbnail.is_damaged for thumbnail in self.thumbnails)

    @classmethod
    def ignored(cls, source: ObjectLocation, reason: str) -> Self:
        """The outcome of an object that is not ours to do."""
        return cls(Result.IGNORED, source, reason=reason)

    @classmethod
    def skipped(cls, source: StoredObject, thumbnails: Iterable[StoredObject]) -> Self:
        """The outcome of an image whose thumbnails are up to date."""
        stored = tuple(map(StoredThumbnail.of, thumbnails))
        return cls(Result.SKIPPED, source.location, source.generation, source.size, stored)

    @classmethod
    def failed(cls, source: ObjectLocation, error: ServiceError) -> Self:
        """The outcome of an image that may work later."""
        return cls(Result.FAILED, source, code=error.code, reason=str(error))
