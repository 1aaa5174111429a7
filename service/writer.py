"""Writes thumbnails: under which name, and which of several writers' thumbnails stays.

Never looks first: asks what is at a name only if a write finds it taken.
"""

import secrets
from dataclasses import dataclass
from enum import Enum, auto
from itertools import count

import structlog

from service.errors import NameTaken, NoFreeName, ObjectNotFound, PermissionMissing, StorageUnavailable
from service.images.spec import Thumbnail
from service.naming import (
    DAMAGED,
    DAMAGED_KEY,
    GENERATION_KEY,
    PREVIEW_KEY,
    SIZE_KEY,
    SOURCE_KEY,
    SPEC_KEY,
    WRITE_KEY,
    Hour,
    OutputFolder,
    is_output,
    number_in,
)
from service.outcome import StoredThumbnail
from service.storage.addresses import ObjectLocation
from service.storage.base import ObjectStore, StoredObject, refused
from service.telemetry.metrics import Metrics, Origin, Write

_ATTEMPTS = 4
"""Writes of one name, which fail if others replace what it holds between two requests."""

log = structlog.get_logger()


class _Write(Enum):
    """The result of writing one thumbnail under one name."""

    WRITTEN = auto()
    UP_TO_DATE = auto()
    """The name holds a thumbnail of this generation of the source, or of a newer one."""
    NAME_TAKEN = auto()
    """The name holds an object of another source."""


@dataclass(frozen=True, slots=True)
class Placed:
    """A thumbnail that is in storage now."""

    thumbnail: StoredThumbnail
    bytes_written: int
    """0 if one as good or newer was there."""


class ThumbnailWriter:
    """Writes the thumbnails of one image at a time; threads may share it."""

    def __init__(self, store: ObjectStore, cache_control: str | None, metrics: Metrics) -> None:
        self._store = store
        self._cache_control = cache_control
        self._metrics = metrics
        # One random number is enough: to ask the system for one costs each write a switch of threads.
        self._id = secrets.token_hex(8)
        self._numbers = count()

    def place(
        self, source: StoredObject, hour: Hour, folder: OutputFolder, picture: Thumbnail, *, overwrite: bool
    ) -> Placed:
        """Write under the plain name, or under the source's own variant of it if another source holds that.

        If the name holds a thumbnail as good, it stays unless `overwrite`; one of a newer source always stays.

        Raises:
            NoFreeName: objects of other sources hold both names.
            RetryLater: it may work later.
        """
        for distinct in (False, True):
            target = folder.thumbnail(source.location, hour, picture.new_extension, distinct=distinct)
            # An earlier delivery may have renamed it already: a look costs a twelfth of a write.
            if distinct and not overwrite and self._is_held(source, target, picture):
                write = _Write.UP_TO_DATE
            else:
                write = self._write(source, target, picture, overwrite=overwrite)
            if write is not _Write.NAME_TAKEN:
                stored = StoredThumbnail(
                    target,
                    len(picture.data),
                    picture.width,
                    picture.height,
                    renamed=distinct,
                    from_preview=picture.from_preview,
                    is_damaged=picture.is_damaged,
                )
                return Placed(stored, stored.size if write is _Write.WRITTEN else 0)
        raise NoFreeName(f"{target} and the plain name are both held by objects of other sources; move them away")

    def _is_held(self, source: StoredObject, target: ObjectLocation, picture: Thumbnail) -> bool:
        try:
            return _compare(self._store.stat(target), source, picture) is _Write.UP_TO_DATE
        except ObjectNotFound:
            return False

    def _write(self, source: StoredObject, target: ObjectLocation, picture: Thumbnail, *, overwrite: bool) -> _Write:
        """Write a thumbnail, unless the name holds one as good or newer, or another source's."""
        write_id = f"{self._id}-{next(self._numbers)}"
        if_generation, was_empty = 0, False
        for _ in range(_ATTEMPTS):
            try:
                self._put(source, target, picture, write_id, if_generation)
            except (NameTaken, PermissionMissing) as error:
                if if_generation and isinstance(error, PermissionMissing):
                    raise
                holder = self._holder(target, error)
                if holder is None:
                    if was_empty:
                        raise refused(error) from error
                    if_generation, was_empty = 0, True
                    continue
                # It is this very write's if an answer was lost or a proxy sent the request twice.
                if holder.metadata.get(WRITE_KEY) != write_id:
                    held = _compare(holder, source, picture)
                    is_newer = _source_generation(holder) > source.generation
                    # What replaced the first holder was made just now.
                    if held is _Write.NAME_TAKEN or (held and (is_newer or not overwrite or if_generation)):
                        return held
                    if_generation = holder.generation
                    continue
            self._count_write(source, target, picture, Write.REPLACED if if_generation else Write.CREATED)
            return _Write.WRITTEN
        raise StorageUnavailable(f"cannot write {target}: others keep replacing it")

    def _holder(self, target: ObjectLocation, error: NameTaken | PermissionMissing) -> StoredObject | None:
        """Return what holds a name that a write found taken; None if nothing does.

        Without the right to replace, storage may say "forbidden" of a name that is taken. If nothing holds it, or may
        not be seen, the error is raised.
        """
        try:
            return self._store.stat(target)
        except (ObjectNotFound, PermissionMissing) as unseen:
            if isinstance(error, PermissionMissing):
                raise error from None
            if isinstance(unseen, PermissionMissing):
                raise
            return None

    def _put(
        self, source: StoredObject, target: ObjectLocation, picture: Thumbnail, write_id: str, if_generation: int
    ) -> None:
        self._store.write(
            target,
            picture.data,
            content_type=picture.format.media_type,
            cache_control=self._cache_control,
            metadata={
                SOURCE_KEY: str(source.location),
                GENERATION_KEY: str(source.generation),
                SPEC_KEY: picture.spec_text,
                SIZE_KEY: f"{picture.width}x{picture.height}",
                WRITE_KEY: write_id,
                **({PREVIEW_KEY: "true"} if picture.from_preview else {}),
                **({DAMAGED_KEY: DAMAGED} if picture.is_damaged else {}),
            },
            if_generation=if_generation,
        )

    def _count_write(self, source: StoredObject, target: ObjectLocation, picture: Thumbnail, write: Write) -> None:
        """Count a write, and say if it is what a loop would write; both guards against a loop came before."""
        origin = Origin.SMALL if picture.is_whole else Origin.PICTURE
        location = source.location
        if SOURCE_KEY in source.metadata or (location.bucket == target.bucket and is_output(location.name)):
            origin = Origin.OWN
            log.critical(
                "a thumbnail was made of the service's own output", source=str(location), thumbnail=str(target)
            )
        self._metrics.wrote(len(picture.data), write, origin)


def _compare(holder: StoredObject, source: StoredObject, picture: Thumbnail) -> _Write | None:
    """Return what the holder of a name means to a thumbnail; None if the thumbnail is to replace it."""
    if holder.metadata.get(SOURCE_KEY) != str(source.location):
        return _Write.NAME_TAKEN
    made_from = _source_generation(holder)
    same = made_from == source.generation and picture.spec.covers(holder.metadata.get(SPEC_KEY, ""))
    return _Write.UP_TO_DATE if same or made_from > source.generation else None


def _source_generation(thumbnail: StoredObject) -> int:
    """Return the source generation that a thumbnail was made from; 0, older than any, if it does not say."""
    return number_in(thumbnail.metadata.get(GENERATION_KEY, "")) or 0
