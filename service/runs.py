"""A whole folder, or one task's chunk of it: how a run goes.

Images are taken from the listing as they are worked on. What grows with the folder is 80 bytes for each thumbnail that
is there already.
"""

import hashlib
import math
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from functools import partial
from itertools import chain, islice
from threading import Condition
from typing import TypeVar

import structlog

from service.errors import BucketNotFound, InternalError, RetryLater, ShuttingDown
from service.locations import FolderLocation, ObjectLocation
from service.orders import RunOrder
from service.pipeline import GENERATION_KEY, SPEC_KEY, Outcome, Result, Thumbnailer
from service.reports import Lists, RunReport, Tally
from service.selection import SOURCE_KEY, StoredObject

GRACE_SECONDS = 5
"""What images in flight get once a run is to stop; Cloud Run gives the process ten seconds."""

_POLL_SECONDS = 0.2

_Item = TypeVar("_Item")

log = structlog.get_logger()


class Run:
    """One run over one chunk: `open`, then `work`; `report` at any time, from any thread."""

    def __init__(self, order: RunOrder, thumbnailer: Thumbnailer, executor: Executor, window: int) -> None:
        """Assemble; nothing is asked of the store.

        Args:
            order: what to do.
            thumbnailer: does one image.
            executor: runs images side by side; shared by the whole process.
            window: how many images this run may have in flight at once.
        """
        self.order = order
        self._thumbnailer = thumbnailer
        self._executor = executor
        self._window = window
        self._in_flight: set[ObjectLocation] = set()
        self._changed = Condition()
        self._tally = Tally()
        self._started = time.monotonic()
        self._hour_folder = FolderLocation(thumbnailer.outputs[0].folder.bucket, f"{order.hour}/")
        self._images: Iterator[StoredObject] | None = None
        """What was found to work on; None where there is nothing, or the listing failed."""
        self._up_to_date: frozenset[bytes] | set[bytes] = frozenset()

    def report(self) -> RunReport:
        """How far it is, or how it went."""
        order = self.order
        return RunReport(
            run_id=order.run_id,
            input_folder=str(order.folder),
            output_folder=str(self._hour_folder),
            timestamp=str(order.hour),
            task_index=order.chunk.index,
            task_count=order.chunk.count,
            dry_run=order.dry_run,
            elapsed_seconds=round(time.monotonic() - self._started, 3),
            estimate=self._tally.estimate(len(self._thumbnailer.outputs)) if order.dry_run else None,
            **dict(self._tally.progress()),
        )

    def open(self) -> None:
        """Get the first page of the folder's listing, to find out whether there is anything to work on.

        A storage failure other than the one below is noted in the report and leaves nothing to work on.

        Raises:
            BucketNotFound: of the input.
        """
        images = self._discovered()
        try:
            first = next(images, None)
        except BucketNotFound:
            raise
        except RetryLater as error:
            self._end(error)
        else:
            self._images = None if first is None else chain([first], images)

    def work(self, should_stop: Callable[[], bool]) -> None:
        """Thumbnail all images of the chunk; returns when none is in flight any more.

        Args:
            should_stop: asked all the time. Once it says yes, no further image is taken, and what is in flight gets
                `GRACE_SECONDS`; the report says what was left.
        """
        try:
            for found in self._chunk(self._images, should_stop) if self._images else ():
                if not self._take(found, should_stop):
                    self._fail(found.location, ShuttingDown("the run was stopped before this image and those after it"))
                    break
        except RetryLater as error:
            self._end(error)
        self._drain(should_stop)
        report = self.report()
        log.info("run ended", **report.model_dump(exclude={*Lists.model_fields, "estimate"}))

    def abandon(self) -> None:
        """Note that the process ends while the run hangs in a call to storage."""
        self._end(ShuttingDown("the process had to end while storage did not answer"))

    def _chunk(self, images: Iterator[StoredObject], should_stop: Callable[[], bool]) -> Iterator[StoredObject]:
        """Those of the folder's images that are this task's, in the order of the listing.

        Raises:
            ShuttingDown: it is to stop before they are known.
        """
        if self.order.chunk.count > 1:
            span = self.order.chunk.of(sum(1 for _ in _while_wanted(images, should_stop)))
            listed = (found for found, no_image in self._listed() if not no_image)
            images = islice(_while_wanted(listed, should_stop), span.start, span.stop)
        if not self.order.overwrite:
            self._up_to_date = set(_while_wanted(self._existing(), should_stop))
        return images

    def _take(self, found: StoredObject, should_stop: Callable[[], bool]) -> bool:
        """Wait for a place in flight and hand the image over; False if the run is to stop."""
        with self._changed:
            while len(self._in_flight) >= self._window and not should_stop():
                self._changed.wait(_POLL_SECONDS)
            if should_stop():
                return False
            self._in_flight.add(found.location)
        try:
            future = self._executor.submit(self._outcome, found)
        except RuntimeError:  # The executor was shut down: the process is about to end.
            with self._changed:
                self._in_flight.discard(found.location)
            return False
        future.add_done_callback(partial(self._landed, found.location))
        return True

    def _landed(self, source: ObjectLocation, future: Future[Outcome]) -> None:
        """The outermost edge of a worker thread: whatever became of an image is counted."""
        with self._changed:
            if source not in self._in_flight:
                return  # It was given up, and is counted as failed.
            self._in_flight.discard(source)
            if future.cancelled():
                self._fail(source, ShuttingDown("the process ended before this image's turn"))
            elif (error := future.exception()) is None:
                self._count(future.result())
            elif isinstance(error, RetryLater):
                self._fail(source, error)
            else:
                log.error("defect while thumbnailing", source=str(source), exc_info=error)
                self._tally.fail(source, InternalError("a defect of the service; its log has the traceback"))
            self._changed.notify_all()

    def _count(self, outcome: Outcome) -> None:
        if outcome.result is Result.IGNORED:
            self._tally.pass_over_after_all(outcome)
        else:
            self._tally.add(outcome)

    def _drain(self, should_stop: Callable[[], bool]) -> None:
        """Wait for what is in flight; once the run is to stop, only so long."""
        deadline = math.inf
        with self._changed:
            while self._in_flight and time.monotonic() < deadline:
                self._changed.wait(_POLL_SECONDS)
                if should_stop():
                    deadline = min(deadline, time.monotonic() + GRACE_SECONDS)
            for source in self._in_flight:
                self._fail(source, ShuttingDown(f"it was not done {GRACE_SECONDS} s after the run was stopped"))
            self._in_flight.clear()

    def _listed(self) -> Iterator[tuple[StoredObject, str | None]]:
        """What is in the folder and not the service's own; with the reason for what is no image."""
        selection = self._thumbnailer.selection
        for found in self._thumbnailer.store.list_objects(self.order.folder):
            if selection.objection(found) is None:
                yield found, selection.why_no_image(found)

    def _discovered(self) -> Iterator[StoredObject]:
        """The images of the folder; they, and what is none, are counted as they are listed."""
        for found, reason in self._listed():
            if reason:
                self._tally.pass_over(found.location, reason)
            else:
                self._tally.discover()
                yield found

    def _existing(self) -> Iterator[bytes]:
        """The thumbnails of this folder's sources that are in the hour folder, as keys."""
        source_prefix = str(self.order.folder)
        for found in self._thumbnailer.store.list_objects(self._hour_folder):
            source = found.metadata.get(SOURCE_KEY, "")
            if source.startswith(source_prefix):
                folder, slash, _ = found.location.name.rpartition("/")
                yield _key(
                    folder + slash,
                    source,
                    found.metadata.get(GENERATION_KEY, ""),
                    found.metadata.get(SPEC_KEY, ""),
                )

    def _is_up_to_date(self, found: StoredObject) -> bool:
        return bool(self._up_to_date) and all(
            _key(
                output.folder.folder_for(found.location, self.order.hour),
                str(found.location),
                str(found.generation),
                str(output.spec),
            )
            in self._up_to_date
            for output in self._thumbnailer.outputs
        )

    def _outcome(self, found: StoredObject) -> Outcome:
        if self._is_up_to_date(found):
            return Outcome(Result.SKIPPED, found.location)
        if not self.order.dry_run:
            return self._thumbnailer.make(found, self.order.hour, overwrite=self.order.overwrite)
        if outcome := self._thumbnailer.outcome_unread(found, self.order.hour):
            return outcome
        self._tally.plan(found.size)
        return Outcome(Result.CREATED, found.location)

    def _fail(self, source: ObjectLocation, error: RetryLater) -> None:
        log.warning("image failed", source=str(source), code=error.code, reason=str(error))
        self._tally.fail(source, error)

    def _end(self, error: RetryLater) -> None:
        log.error("run cannot go on", run_id=self.order.run_id, code=error.code, reason=str(error))
        self._tally.end(self.order.folder, error)


def _while_wanted(items: Iterator[_Item], should_stop: Callable[[], bool]) -> Iterator[_Item]:
    for item in items:
        if should_stop():
            raise ShuttingDown("the run was stopped before its first image")
        yield item


def _key(folder: str, source: str, generation: str, spec: str) -> bytes:
    """What makes a thumbnail the one that is wanted: the folder it is in, what of and how it was made.

    The rest of its name is left out, since the extension is known only once the source is read.
    """
    return hashlib.blake2b(f"{folder}\0{source}\0{generation}\0{spec}".encode(), digest_size=16).digest()
