"""The list of the latest runs, by the names and metadata of their plans and reports."""

from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import PurePosixPath

from pydantic import BaseModel, Field, ValidationError

from service.naming import BOOKKEEPING_FOLDER, number_in
from service.runs.partition import Chunk
from service.runs.plan import PLAN_NAME
from service.runs.reporter import StoredReport, keep_newest
from service.storage.addresses import FolderLocation, NameRange
from service.storage.base import ObjectStore, StoredObject

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
    of_one_task = _totals_of_single_tasks(
        store, folder, [_run_id(plan) for plan in latest if "total" not in plan.metadata]
    )
    return RunList(
        runs=[
            RunSummary(
                run_id=_run_id(plan),
                planned=plan.created,
                total=number_in(plan.metadata["total"]) if "total" in plan.metadata else of_one_task.get(_run_id(plan)),
                task_count=number_in(plan.metadata.get("tasks", "")) or 0,
            )
            for plan in latest
        ],
        count=len(plans),
    )


def _run_id(bookkeeping: StoredObject) -> str:
    return PurePosixPath(bookkeeping.location.name).parent.name


def _totals_of_single_tasks(store: ObjectStore, folder: FolderLocation, run_ids: Sequence[str]) -> dict[str, int]:
    """Return the images of each of these runs that has one task and has listed them all, by run id."""
    if not run_ids:
        return {}
    # The ids of most runs begin with their hour: those of years ago are not listed again.
    names = NameRange(f"{BOOKKEEPING_FOLDER}{min(run_ids)}/", f"{BOOKKEEPING_FOLDER}{max(run_ids)}0")
    newest: dict[str, StoredReport] = {}
    for stored in store.list_objects(folder, names, glob=f"{BOOKKEEPING_FOLDER}*/{Chunk().stem}*.json"):
        with suppress(ValidationError):
            keep_newest(newest, _run_id(stored), stored)
    return {run_id: summary.discovered for run_id, (_, summary) in newest.items() if summary.listed_all}
