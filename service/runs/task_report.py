"""The report of a task as it is stored: what this attempt and those before it have done."""

from datetime import UTC, datetime
from typing import Self

from pydantic import AwareDatetime, BaseModel, Field

from service.runs.costs import Cost
from service.runs.record import Count, Record
from service.runs.report import Counts, RunReport, State
from service.runs.request import RunParameters


class Attempt(BaseModel):
    """One attempt at a task, and the attempts before it."""

    attempt: Count = Field(description="0 for the first.")
    started: AwareDatetime
    made_before: Counts = Field(Counts(), description="By earlier attempts at the same chunk.")
    cost_before: Cost = Field(Cost(), description="Of earlier attempts at the same chunk.")
    spent_before: float = Field(
        0.0, ge=0, allow_inf_nan=False, description="Dollars of the earlier attempts since one that was whole."
    )
    done_before: Count = Field(0, description="Images that earlier attempts were done with, if this one goes on.")
    overwrite_before: AwareDatetime | None = Field(
        None, description="With `overwrite`: older thumbnails are made again."
    )

    @classmethod
    def after(cls, previous: "TaskReport | None", params: RunParameters) -> Self:
        """Begin the attempt that follows a previous one, if there was one.

        An overwrite that was not finished goes on: the thumbnails that it has made are not made again.
        """
        now = datetime.now(UTC)
        if previous is None:
            return cls(attempt=params.attempt, started=now, overwrite_before=now if params.overwrite else None)
        goes_on = previous.state is not State.WHOLE and previous.overwrite_before
        return cls(
            attempt=max(params.attempt, previous.attempt + 1),
            started=now,
            made_before=previous.made_before + previous,
            cost_before=previous.cost_before + previous.cost,
            spent_before=0.0 if previous.state is State.WHOLE else previous.spent_before + previous.cost.dollars,
            done_before=0 if params.overwrite and not goes_on else previous.done,
            overwrite_before=(goes_on or now) if params.overwrite else None,
        )

    @property
    def starts_over(self) -> bool:
        """Every thumbnail is made again, whatever is there."""
        return self.overwrite_before == self.started


class Summary(Counts, Attempt, Record):
    """The figures of a task's report."""

    state: State
    updated: AwareDatetime
    quiet_after: AwareDatetime = Field(description="A task that is at work has written again by then.")
    images_per_second: float = Field(ge=0, allow_inf_nan=False, description="Since the report before.")
    listed_all: bool = Field(default=False, description="`discovered` grows no more.")
    has_error: bool = False
    cost: Cost = Cost()

    @property
    def done(self) -> int:
        """Images that the task is done with: made, found up to date, or rejected."""
        now = self.created + self.skipped + self.rejected
        # Until it is whole, an attempt may not have come to the images that earlier ones were done with.
        return now if self.state is State.WHOLE else max(now, self.done_before)


class TaskReport(RunReport, Summary):
    """A task's report as it is stored."""
