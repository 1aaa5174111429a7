"""The manifest of a task: a line of JSON for each thumbnail, and for each image without one.

It is sent as the run goes, in pieces, so that no memory grows with the folder. It is there only once the task is whole.
"""

import gzip
import json
import zlib
from collections.abc import Iterator
from hashlib import blake2b
from io import BytesIO

import structlog

from service.errors import PermissionMissing, RetryLater, ServiceError, StorageUnavailable
from service.outcome import Outcome, Result
from service.runs.partition import Chunk
from service.runs.request import RunParameters
from service.storage.base import UPLOAD_UNIT, ObjectStore, Upload

CONTENT_TYPE = "application/gzip"
PIECE_BYTES = 2 * UPLOAD_UNIT
"""Of a manifest, to send at once: 10,000 lines and more. A smaller manifest takes one request."""
_GZIP_WINDOW = 16 + zlib.MAX_WBITS
_MAX_BYTES = 1 << 30
"""Of a manifest that is there already: more than 20 million lines."""
_DIGEST_BYTES = 16

log = structlog.get_logger()


def manifest_name(chunk: Chunk) -> str:
    """Return the name of a task's manifest in the folder of its run."""
    return f"manifest/{chunk.stem}.jsonl.gz"


class Manifest:
    """Keeps the manifest of one task. Not to be shared between threads."""

    def __init__(self, params: RunParameters, store: ObjectStore) -> None:
        """Assemble; ask nothing of the store."""
        self._store = store
        self._location = params.run_folder / manifest_name(params.chunk)
        self._compressor = zlib.compressobj(wbits=_GZIP_WINDOW)
        self._data = bytearray()
        self._upload: Upload | None = None
        self._digest = _Digest()
        self._whole = True
        self._error: ServiceError | None = None

    def add(self, outcome: Outcome) -> None:
        """Write the lines of an image. After a failed image none is written, since the task is not whole then."""
        self._whole = self._whole and outcome.result is not Result.FAILED
        if not self._whole or outcome.result is Result.IGNORED:
            return
        for line in _lines(outcome):
            self._digest.add(line)
            if not self._error:
                self._data += self._compressor.compress(line)
        if len(self._data) >= PIECE_BYTES:
            self._send_piece()

    def finish(self) -> None:
        """Put the manifest there, in place of one that is there, if no image has failed.

        Raises:
            RetryLater: it could not be written.
        """
        if not self._whole:
            return
        try:
            self._send_rest()
        except ServiceError as error:
            if isinstance(error, PermissionMissing) and self._is_there():
                log.info("manifest not replaced: it has the same lines", manifest=str(self._location))
                return
            kind = type(error) if isinstance(error, RetryLater) else StorageUnavailable
            raise kind(f"the manifest of the run could not be written: {error}") from error

    def _send_piece(self) -> None:
        piece = bytes(self._data[:PIECE_BYTES])
        del self._data[:PIECE_BYTES]
        try:
            self._upload = self._upload or self._store.open_upload(self._location, CONTENT_TYPE)
            self._upload.send(piece)
        except ServiceError as error:
            # The images come first; `finish` raises it.
            self._error = error
            self._data.clear()

    def _send_rest(self) -> None:
        if self._error:
            raise self._error
        data = bytes(self._data) + self._compressor.flush()
        if self._upload:
            self._upload.finish(data)
        else:
            self._store.write(
                self._location,
                data,
                content_type=CONTENT_TYPE,
                cache_control=None,
                metadata={},
                if_generation=None,
            )

    def _is_there(self) -> bool:
        """Return True if an earlier attempt wrote the same lines, which this one may be forbidden to replace."""
        there = _Digest()
        try:
            data = self._store.read(self._store.stat(self._location), _MAX_BYTES)
            with gzip.open(BytesIO(data)) as lines:
                for line in lines:
                    there.add(line)
        except (ServiceError, OSError, EOFError, zlib.error):
            return False
        return there.value == self._digest.value


class _Digest:
    """Of lines in any order, whether a thumbnail was made or found."""

    def __init__(self) -> None:
        self.value = 0

    def add(self, line: bytes) -> None:
        # Inside of a text, quotes are escaped.
        same = line.replace(b'"outcome": "created"', b'"outcome": "skipped"')
        number = int.from_bytes(blake2b(same, digest_size=_DIGEST_BYTES).digest())
        self.value = (self.value + number) % (1 << 8 * _DIGEST_BYTES)


def _lines(outcome: Outcome) -> Iterator[bytes]:
    """Yield a line for each thumbnail, or one if there is none. All have all fields, for programs that infer them."""
    for thumbnail in outcome.thumbnails or (None,):
        fields = {
            "source": str(outcome.source),
            "generation": outcome.generation,
            "bytes": outcome.source_bytes,
            "outcome": outcome.result,
            "thumbnail": thumbnail and str(thumbnail),
            "width": thumbnail and (thumbnail.width or None),
            "height": thumbnail and (thumbnail.height or None),
            "thumbnail_bytes": thumbnail and thumbnail.size,
            "from_preview": thumbnail and thumbnail.from_preview,
            "damaged": thumbnail and thumbnail.is_damaged,
            "code": outcome.code or None,
            "reason": outcome.reason or None,
        }
        yield json.dumps(fields).encode() + b"\n"
