"""The list of the latest runs, by the names and metadata of their plans and reports."""

from contextlib import suppress
from datetime import datetime
from pathlib import PurePosixPath

from pydantic import BaseModel, Field, ValidationError

from service.naming import BOOKKEEPING_FOLDER, number_in
from service.runs.partition import Chunk
from service.runs.plan import PLAN_NAME
from service.runs.reporter import StoredReport, keep_newest
from service.storage.addresses import FolderLocation
from service.storage.base import ObjectStore

RUNS_LIMIT = 100
"""Longest list of runs."""


class RunSummary(BaseModel):
    """One run in a list."""

    run_id: str
    planned: datetime
    total: int | None = Field(
        None, description="Images that were found when it was planned; for one task, once it has listed them."
    )
    task_count: int


class RunList(BaseModel):
    """The latest runs."""

    runs: list[RunSummary] = Field(description=f"Newest first, {RUNS_LIMIT} at most.")
    count: int = Field(description="Of all there are.")


def list_runs(store: ObjectStore, bucket: str) -> RunList:
    """Return the latest runs.

    Raises:
        RetryLater: storage did not say.
    """
    folder = FolderLocation(bucket, BOOKKEEPING_FOLDER)
    plans = list(store.list_objects(folder, glob=f"{BOOKKEEPING_FOLDER}*/{PLAN_NAME}"))
    plans.sort(key=lambda plan: (plan.created, plan.location.name), reverse=True)
    latest = plans[:RUNS_LIMIT]
    # A run of one task is planned without listing: its report knows the total.
    of_one_task = _totals_of_single_tasks(store, folder) if any("total" not in plan.metadata for plan in latest) else {}
    return RunList(
        runs=[
            RunSummary(
                run_id=(run_id := PurePosixPath(plan.location.name).parent.name),
                planned=plan.created,
                total=number_in(plan.metadata["total"]) if "total" in plan.metadata else of_one_task.get(run_id),
                task_count=number_in(plan.metadata.get("tasks", "")) or 0,
            )
            for plan in latest
        ],
        count=len(plans),
    )


def _totals_of_single_tasks(store: ObjectStore, folder: FolderLocation) -> dict[str, int]:
    """Return the images of each run of one task that has listed them all, by run id."""
    newest: dict[str, StoredReport] = {}
    for stored in store.list_objects(folder, glob=f"{BOOKKEEPING_FOLDER}*/{Chunk().stem}*.json"):
        with suppress(ValidationError):
            keep_newest(newest, PurePosixPath(stored.location.name).parent.name, stored)
    return {run_id: summary.discovered for run_id, (_, summary) in newest.items() if summary.listed_all}
