"""What a run answers: its counts, and what became of the images that have no thumbnail.

Counting alone; nothing here knows how an image is made, or where a report goes.
"""

from collections import defaultdict
from threading import Lock

from pydantic import BaseModel, Field

from service.errors import ServiceError
from service.runs.costs import Estimate, OfType, Prices, estimate
from service.storage.addresses import FolderLocation, ObjectLocation
from service.thumbnailer import Outcome, Result

LIST_LIMIT = 100
"""How many rejections, failures and renamed thumbnails a report names; the counts are always whole."""


class Problem(BaseModel):
    """Why an image has no thumbnail, or a run did not come to its end."""

    source: str
    code: str
    reason: str
    generation: int | None = Field(None, exclude=True, description="Of the source, where it was read.")


class Renamed(BaseModel):
    """A thumbnail under another name than its source's, because another source holds that."""

    source: str
    thumbnail: str


class Counts(BaseModel):
    """How far a run is: `assigned = created + skipped + rejected + failed`."""

    discovered: int = Field(0, description="Images in the folder.")
    assigned: int = Field(0, description="Those in this task's chunk.")
    created: int = Field(0, description="In a dry run: those that would be.")
    skipped: int = Field(0, description="An up-to-date thumbnail is there.")
    rejected: int = Field(0, description="Will never work.")
    failed: int = Field(0, description="May work later.")
    renamed: int = Field(0, description="Of those made, the ones with a suffix to the name.")
    passed_over: int = Field(0, description="Objects in the folder that are no images.")
    bytes_read: int = 0
    bytes_written: int = 0


class PassedOver(BaseModel):
    """An object that is no image."""

    source: str
    reason: str


class Lists(BaseModel):
    """What became of the images that have no thumbnail of their own name, and what is no image."""

    rejections: list[Problem] = Field([], description=f"The first {LIST_LIMIT}.")
    failures: list[Problem] = Field([], description=f"The first {LIST_LIMIT}.")
    renames: list[Renamed] = Field([], description=f"The first {LIST_LIMIT}.")
    not_images: list[PassedOver] = Field([], description=f"The first {LIST_LIMIT} that were passed over.")


class Progress(Lists, Counts):
    """How far a run is."""

    error: Problem | None = Field(None, description="Why the run ended before its end, where it did.")


class RunIdentity(BaseModel):
    """Which run it was, of what, to where."""

    run_id: str
    input_folder: str
    output_folder: str
    timestamp: str
    task_index: int
    task_count: int
    dry_run: bool
    elapsed_seconds: float


class RunReport(Progress, RunIdentity):
    """What a run was, and how it went."""

    estimate: Estimate | None = Field(None, description="Of a dry run.")

    @property
    def whole(self) -> bool:
        """Whether nothing is left that a retry could mend."""
        return not self.failed and self.error is None


class Tally:
    """Counts outcomes as they come, from any thread."""

    def __init__(self) -> None:
        """Start at nothing."""
        self._lock = Lock()
        self._so_far = Progress()
        self._to_make: defaultdict[str, OfType] = defaultdict(OfType)

    def discover(self) -> None:
        """Count an image of the folder."""
        with self._lock:
            self._so_far.discovered += 1

    def pass_over(self, source: ObjectLocation, reason: str) -> None:
        """Count an object that is no image."""
        with self._lock:
            self._so_far.passed_over += 1
            if len(self._so_far.not_images) < LIST_LIMIT:
                self._so_far.not_images.append(PassedOver(source=str(source), reason=reason))

    def pass_over_after_all(self, outcome: Outcome) -> None:
        """Take back an object that was counted as an image and is none by its first bytes."""
        with self._lock:
            self._so_far.discovered -= 1
        self.pass_over(outcome.source, outcome.reason)

    def skip(self) -> None:
        """Count an image whose thumbnail is there."""
        with self._lock:
            self._so_far.assigned += 1
            self._so_far.skipped += 1

    def reject(self, problem: Problem) -> None:
        """Count an image that will never work."""
        with self._lock:
            so_far = self._so_far
            so_far.assigned += 1
            so_far.rejected += 1
            if len(so_far.rejections) < LIST_LIMIT:
                so_far.rejections.append(problem)

    def add(self, outcome: Outcome, generation: int) -> None:
        """Count an image that was created, skipped or rejected.

        Args:
            outcome: what became of it.
            generation: of the source that was listed.
        """
        with self._lock:
            so_far = self._so_far
            so_far.bytes_read += outcome.bytes_read
            so_far.bytes_written += outcome.bytes_written
            if outcome.renamed:
                so_far.renamed += 1
                if len(so_far.renames) < LIST_LIMIT:
                    thumbnails = ", ".join(map(str, outcome.thumbnails))
                    so_far.renames.append(Renamed(source=str(outcome.source), thumbnail=thumbnails))
            if outcome.result is Result.CREATED:
                so_far.assigned += 1
                so_far.created += 1
                return
        if outcome.result is Result.SKIPPED:
            self.skip()
        else:
            self.reject(
                Problem(source=str(outcome.source), code=outcome.code, reason=outcome.reason, generation=generation)
            )

    def fail(self, source: ObjectLocation, error: ServiceError) -> None:
        """Count an image that may work later."""
        with self._lock:
            self._so_far.assigned += 1
            self._so_far.failed += 1
            if len(self._so_far.failures) < LIST_LIMIT:
                self._so_far.failures.append(Problem(source=str(source), code=error.code, reason=str(error)))

    def plan(self, content_type: str, size: int) -> None:
        """Count an image that a dry run would make."""
        with self._lock:
            self._to_make[content_type].images += 1
            self._to_make[content_type].bytes += size

    def end(self, folder: FolderLocation, error: ServiceError) -> None:
        """Note why the run over a folder cannot go on."""
        with self._lock:
            self._so_far.error = Problem(source=str(folder), code=error.code, reason=str(error))

    def progress(self) -> Progress:
        """Return a copy of how far it is."""
        with self._lock:
            return self._so_far.model_copy(deep=True)

    def estimate(self, outputs: int, prices: Prices) -> Estimate:
        """Return what the images that a dry run found would cost, at so many thumbnails each."""
        with self._lock:
            listed = self._so_far.assigned + self._so_far.passed_over
            return estimate(self._to_make, listed=listed, outputs=outputs, prices=prices)
