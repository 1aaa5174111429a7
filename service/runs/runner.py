"""A whole folder, or one task's chunk of it: how a run goes.

Images are taken from the listing as they are worked on, and no memory grows with the folder.
"""

import logging
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from itertools import chain, islice

import structlog
from structlog.contextvars import bound_contextvars

from service.errors import (
    BucketNotFound,
    CorruptImage,
    InternalError,
    InvalidValue,
    PictureTooLarge,
    RetryLater,
    ServiceError,
    ShuttingDown,
    StorageRefused,
    UnsupportedFormat,
)
from service.naming import Hour
from service.runs.costs import Prices
from service.runs.existing import BATCH, Standing
from service.runs.flight import Flight
from service.runs.plan import Plan, Planner, folder_of_run
from service.runs.report import Lists, Problem, RunReport, Tally
from service.runs.reporter import Journal, State, TaskReport
from service.runs.request import RunParameters
from service.storage.addresses import ALL_NAMES, FolderLocation, NameRange
from service.storage.base import StoredObject
from service.telemetry.metrics import Door
from service.thumbnailer import Outcome, Result, Thumbnailer

_FINAL_CODES = frozenset({CorruptImage.code, UnsupportedFormat.code, PictureTooLarge.code})
"""Rejections that reading the same bytes again under the same limits cannot change."""

log = structlog.get_logger()


class Run:
    """One run over one chunk: `open`, then `work`; `report` at any time, from any thread."""

    def __init__(
        self,
        order: RunParameters,
        thumbnailer: Thumbnailer,
        executor: Executor,
        window: int,
        prices: Prices,
        door: Door = Door.RUN,
    ) -> None:
        """Assemble; nothing is asked of the store.

        Args:
            order: what to do.
            thumbnailer: does one image.
            executor: runs images side by side; shared by the whole process.
            window: how many images this run may have in flight at once.
            prices: for the estimate of a dry run.
            door: what it came through.
        """
        self._door = door
        self.order = order
        self._thumbnailer = thumbnailer
        self._store = thumbnailer.store
        self._prices = prices
        self._bucket = thumbnailer.outputs[0].folder.bucket
        self._flight = Flight(executor, window, self._outcome, self._landed)
        self._planner = Planner(order, self._store, self._bucket, self._images_in, executor)
        self._journal = Journal(self._store, folder_of_run(self._bucket, order.run_id), order.chunk)
        self._tally = Tally()
        self._started = time.monotonic()
        self._plan: Plan | None = None
        self._items: Iterator[StoredObject | None] = iter(())
        """What was begun to be listed: the chunk's images where there is a plan, else those of the whole folder; and
        None for each object that is none, so that whoever goes through it can stop there."""
        self._whole_folder: list[tuple[StoredObject, str | None]] | None = None
        """Where planning has listed no more than a page."""
        self._planning_is_ours = True
        self._earlier: TaskReport | None = None
        self._making_since = datetime.now(UTC) if order.overwrite else None
        """Thumbnails that are older are made again; None: none is."""
        self._should_stop: Callable[[], bool] = lambda: False
        self._position: str | None = None
        self._listed_all = False
        self._ended = False

    @property
    def _needs_no_plan(self) -> bool:
        """Whether nobody else has to know what this run does, and nothing has to be split."""
        return self.order.dry_run and self.order.chunk.count == 1

    @property
    def _hour(self) -> Hour:
        return self._plan.hour if self._plan else self.order.hour

    @property
    def _hour_folder(self) -> FolderLocation:
        return FolderLocation(self._bucket, f"{self._hour}/")

    @property
    def total(self) -> int | None:
        """How many images the task has, by the plan; None where there is none yet."""
        return self._plan.sizes[self.order.chunk.index] or None if self._plan else None

    def report(self) -> RunReport:
        """How far it is, or how it went."""
        order, progress = self.order, self._tally.progress()
        if self._plan:
            found = self._plan.total - self._plan.sizes[order.chunk.index] + progress.discovered
            progress.discovered = found if self._listed_all else max(found, self._plan.total)
        return RunReport(
            run_id=order.run_id,
            input_folder=str(order.folder),
            output_folder=str(self._hour_folder),
            timestamp=str(self._hour),
            task_index=order.chunk.index,
            task_count=order.chunk.count,
            dry_run=order.dry_run,
            elapsed_seconds=round(time.monotonic() - self._started, 3),
            estimate=self._tally.estimate(len(self._thumbnailer.outputs), self._prices) if order.dry_run else None,
            **dict(progress),
        )

    def open(self) -> None:
        """Look for the run's plan, or be the one who makes it, and get the first page of the listing.

        A storage failure other than the one below is noted in the report and leaves nothing to work on.

        Raises:
            BucketNotFound: of the input.
            InvalidValue: the run was planned with something else than is asked for now.
        """
        with self._named_in_log():
            self._open()

    def _open(self) -> None:
        try:
            self._plan = self._planner.planned()
            if self._plan is None and self.order.chunk.count > 1 and not self.order.dry_run:
                self._planning_is_ours = self._planner.claim()
        except BucketNotFound as error:
            if self._bucket == self.order.folder.bucket:
                raise
            self._end(error)
            return
        except (RetryLater, StorageRefused) as error:
            self._end(error)
            return
        if self._plan or self._planning_is_ours:
            if self._plan:
                items = self._discovered(self._plan.names_of(self.order.chunk))
            else:
                items = self._discovered(ALL_NAMES) if self._needs_no_plan else self._to_split()
            try:
                first = list(islice(items, 1))
            except BucketNotFound:
                raise
            except RetryLater as error:
                self._end(error)
                return
            self._items = chain(first, items)

    def work(self, should_stop: Callable[[], bool]) -> None:
        """Thumbnail all images of the chunk; returns when none is in flight any more.

        Args:
            should_stop: asked all the time. Once it says yes, no further image is taken, what is in flight gets
                `flight.GRACE_SECONDS`, and the report says what was left.
        """
        self._should_stop = should_stop
        with self._named_in_log():
            try:
                if self._tally.progress().error is None:
                    if self._plan:
                        self._earlier = self._journal.earlier()
                    if not self.order.dry_run:
                        self._journal.begin(self._task_report)
                    self._work()
            except (RetryLater, StorageRefused, InvalidValue) as error:
                self._end(error)
            except BaseException:
                self._end(InternalError("a defect of the service; its log has the traceback"))
                raise
            finally:
                self._flight.drain(should_stop)
                self._ended = True
                self._journal.end()
            self._log_summary()

    def abandon(self) -> None:
        """Note that the process ends while the run hangs in a call to storage."""
        with self._named_in_log():
            self._end(ShuttingDown("the process had to end while storage did not answer"))
            self._log_summary()

    def _named_in_log(self) -> AbstractContextManager[None]:
        """Have every line of the log that this run causes say so, also those from its worker threads."""
        return bound_contextvars(run_id=self.order.run_id, task_index=self.order.chunk.index)

    def _log_summary(self) -> None:
        """One line with all counts, once the run is over."""
        report = self.report()
        log.log(
            logging.INFO if report.whole else logging.WARNING,
            "run ended",
            outcome=State.WHOLE if report.whole else State.UNFINISHED,
            attempt=self.order.attempt,
            **report.model_dump(exclude={*Lists.model_fields, "estimate"}, exclude_none=True),
        )

    def _work(self) -> None:
        """Take what is left of the chunk, image by image.

        Raises:
            RetryLater: it cannot go on.
            InvalidValue: the plan that was waited for is of another run.
        """
        if self._plan:
            # Somebody has begun. A task of many may still be the first at its own chunk.
            first_here = self._plan.hour_was_empty and self.order.chunk.count > 1
        else:
            self._plan = self._agreed()
            first_here = self._plan.hour_was_empty
            if not self._needs_no_plan:
                self._items = self._discovered(self._plan.names_of(self.order.chunk))
        first_here = first_here and self._earlier is None and self.order.attempt == 0
        for found in self._left(self._items, first_here=first_here):
            asks_nothing = self.order.dry_run and not self._thumbnailer.selection.needs_sniffing(found)
            if asks_nothing and not self._should_stop():
                self._landed(found, self._outcome(found))
            elif not self._flight.take(found, self._should_stop):
                error = ShuttingDown("the run was stopped before this image and those after it")
                return self._landed(found, error)
            self._position = found.location.name
        return None

    def _agreed(self) -> Plan:
        """Make the plan, or wait for the one of whoever makes it.

        Raises:
            RetryLater: it is to stop, or storage does not do its part.
            InvalidValue: the plan is of another run.
        """
        if not self._planning_is_ours:
            if plan := self._planner.wait(self._should_stop):
                return plan
            self._items = self._to_split()
        hour_was_empty = next(self._store.list_objects(self._hour_folder), None) is None
        if not self.order.dry_run:
            return self._planner.make(self._items, hour_was_empty=hour_was_empty, should_stop=self._should_stop)
        if self._needs_no_plan:
            return Plan.of(self.order, 0, [], hour_was_empty=hour_was_empty)
        return self._planner.split(self._items, hour_was_empty=hour_was_empty, should_stop=self._should_stop)

    def _left(self, items: Iterator[StoredObject | None], *, first_here: bool) -> Iterator[StoredObject]:
        """Yield what is to be made; count what needs no work.

        Raises:
            RetryLater: storage did not say what is there.
        """
        if self.order.overwrite:
            begun = self._earlier is not None and self._earlier.state is not State.WHOLE
            if begun and self._earlier and self._earlier.making_since:
                self._making_since = self._earlier.making_since
            first_here = not begun
        standing = Standing(
            self._store,
            self._thumbnailer.outputs,
            self._hour,
            made_since=self._making_since,
            should_stop=self._should_stop,
        )
        known = self._known_rejections()
        images = self._wanted(items)
        while batch := list(islice(images, 1 if first_here else BATCH)):
            there = set() if first_here else standing.up_to_date(batch)
            for found in batch:
                if found.location in there:
                    self._tally.skip()
                    self._measure(Result.SKIPPED)
                elif problem := known.get((str(found.location), found.generation)):
                    self._tally.reject(problem)
                    self._measure(Result.REJECTED)
                else:
                    yield found

    def _known_rejections(self) -> dict[tuple[str, int], Problem]:
        """What an earlier attempt has found out for good, of the images that its report names."""
        earlier = self._earlier
        if earlier is None or self.order.overwrite or earlier.limits != self._thumbnailer.judgement:
            return {}
        return {
            (problem.source, generation): problem.model_copy(update={"generation": generation})
            for problem in earlier.rejections
            if problem.code in _FINAL_CODES and (generation := earlier.rejected_generations.get(problem.source))
        }

    def _wanted(self, items: Iterator[StoredObject | None]) -> Iterator[StoredObject]:
        """The images among them.

        Raises:
            ShuttingDown: it is to stop, and what comes next is none.
        """
        for item in items:
            if item is not None:
                yield item
            elif self._should_stop():
                raise ShuttingDown("the run was stopped before its last image")

    def _to_split(self) -> Iterator[StoredObject | None]:
        """The images of the whole folder, for the plan; of one that fits into a page, all is kept to be worked on."""
        page: list[tuple[StoredObject, str | None]] = []
        for found, reason in self._candidates(ALL_NAMES):
            if found is None:
                yield None
                continue
            if len(page) <= BATCH:
                page.append((found, reason))
            yield None if reason else found
        if len(page) <= BATCH:
            self._whole_folder = page

    def _images_in(self, names: NameRange) -> Iterator[StoredObject]:
        """The images of the folder within a range of names."""
        return (found for found, no_image in self._candidates(names) if found and not no_image)

    def _candidates(self, names: NameRange) -> Iterator[tuple[StoredObject | None, str | None]]:
        """What is in the folder, None for what is the service's own; with the reason for what is no image."""
        if names.is_empty:
            return
        selection = self._thumbnailer.selection
        for found in self._store.list_objects(self.order.folder, names):
            yield (
                (found, selection.non_image_reason(found))
                if selection.exclusion_reason(found) is None
                else (None, None)
            )

    def _discovered(self, names: NameRange) -> Iterator[StoredObject | None]:
        """The images of this task's chunk; they, and what is none, are counted as they are listed."""
        listed = self._candidates(names)
        if self._whole_folder is not None:
            listed = (item for item in self._whole_folder if item[0].location.name in names)
        for found, reason in listed:
            if found is None:
                yield None
            elif reason:
                self._tally.pass_over(found.location, reason)
                yield None
            else:
                self._tally.discover()
                yield found
        self._listed_all = True

    def _outcome(self, found: StoredObject) -> Outcome:
        hour = self._hour
        if not self.order.dry_run:
            return self._thumbnailer.make(found, hour, overwrite=self.order.overwrite)
        if outcome := self._thumbnailer.outcome_unread(found, hour):
            return outcome
        self._tally.plan(found.content_type, found.size)
        return Outcome(Result.CREATED, found.location)

    def _landed(self, found: StoredObject, outcome: Outcome | BaseException) -> None:
        """Count whatever became of an image."""
        source = found.location
        self._measure(outcome.result if isinstance(outcome, Outcome) else "failed")
        if isinstance(outcome, Outcome):
            if outcome.result is Result.IGNORED:
                self._tally.pass_over_after_all(outcome)
            else:
                self._tally.add(outcome, found.generation)
        elif isinstance(outcome, RetryLater):
            log.warning("image failed", source=str(source), outcome="failed", code=outcome.code, reason=str(outcome))
            self._tally.fail(source, outcome)
        else:
            log.error("image failed by a defect", source=str(source), outcome="failed", exc_info=outcome)
            self._tally.fail(source, InternalError("a defect of the service; its log has the traceback"))

    def _measure(self, outcome: str) -> None:
        if not self.order.dry_run:
            self._thumbnailer.metrics.image(self._door, outcome)

    def _task_report(self) -> TaskReport:
        report = self.report()
        if self._ended:
            state = State.WHOLE if report.whole else State.UNFINISHED
        else:
            state = State.WORKING if self._plan else State.PLANNING
        earlier = self._earlier
        return self._journal.stamped(
            report,
            state,
            attempt=max(self.order.attempt, earlier.attempt + 1 if earlier else 0),
            position=self._position,
            making_since=self._making_since,
            limits=self._thumbnailer.judgement,
            rejected_generations={
                problem.source: problem.generation for problem in report.rejections if problem.generation
            },
            earlier=earlier.history() if earlier else [],
        )

    def _end(self, error: ServiceError) -> None:
        log.error("run cannot go on", code=error.code, reason=str(error))
        self._tally.end(self.order.folder, error)
