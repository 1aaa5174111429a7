"""What a run is asked: by a caller, by the environment, by default; complete and valid, or refused by field."""

import hashlib
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Self

from pydantic import BaseModel, ConfigDict, Field

from service.errors import InvalidValue, OutsideFence
from service.naming import Hour
from service.runs.partition import Chunk
from service.storage.addresses import FolderLocation

_RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


def check_run_id(run_id: str) -> str:
    """Return the id as given.

    Raises:
        InvalidValue: it is not one that can be part of an object's name and of an address as it is.
    """
    if not _RUN_ID.fullmatch(run_id):
        raise InvalidValue("run_id", run_id, "is not 1 to 128 letters, digits, '.', '_' and '-'")
    return run_id


class RunRequest(BaseModel):
    """What a caller may say about a run; all of it is optional."""

    model_config = ConfigDict(extra="forbid", strict=True)

    input_folder: str | None = Field(None, description="INPUT_FOLDER or a folder inside it, `gs://bucket/some/prefix`.")
    task_index: int | None = Field(None, description="Which chunk, from 0. Default: CLOUD_RUN_TASK_INDEX.")
    task_count: int | None = Field(None, description="Of how many chunks. Default: CLOUD_RUN_TASK_COUNT.")
    timestamp: str | None = Field(
        None,
        description="The hour folder, `YYYYMMDDTHHZ`. Default: the schedule time of Cloud Scheduler, else now.",
    )
    run_id: str | None = Field(None, description="A name for the run, the same for all of its tasks.")
    overwrite: bool = Field(default=False, description="Make again what is there already.")
    dry_run: bool = Field(default=False, description="List and count; read no image and write nothing.")


@dataclass(frozen=True, slots=True)
class RunDefaults:
    """What a run is where the caller does not say."""

    fence: FolderLocation
    chunk: Chunk
    execution: str | None
    """The name of the Cloud Run execution that this process is a task of."""
    attempt: int = 0
    """How often this task was tried before, as Cloud Run counts it."""
    shape: str = ""
    """The settings that shape the output, as text."""


@dataclass(frozen=True, slots=True)
class RunParameters:
    """A run's parameters, complete and valid."""

    run_id: str
    folder: FolderLocation
    chunk: Chunk
    hour: Hour
    """Of a new run; one that was planned already has the plan's."""
    hour_is_given: bool
    """Whether the caller wants that very hour."""
    overwrite: bool
    dry_run: bool
    attempt: int
    shape: str

    @classmethod
    def of(cls, request: RunRequest, defaults: RunDefaults, default_hour: Hour | None) -> Self:
        """Fill in what the request leaves open; the hour is the present one where there is no other default.

        Raises:
            InvalidValue: a field has a value that cannot be.
            OutsideFence: the folder is not in INPUT_FOLDER.
        """
        folder = defaults.fence
        if request.input_folder is not None:
            folder = FolderLocation.parse(request.input_folder, "input_folder")
            if folder not in defaults.fence:
                raise OutsideFence(f"input_folder: {folder} is not inside INPUT_FOLDER, which is {defaults.fence}")
        chunk = Chunk(
            defaults.chunk.index if request.task_index is None else request.task_index,
            defaults.chunk.count if request.task_count is None else request.task_count,
        )
        if request.timestamp is not None:
            hour = Hour.parse(request.timestamp, "timestamp")
        else:
            hour = default_hour or Hour.of(datetime.now(UTC))
        run_id = defaults.execution if request.run_id is None else request.run_id
        if run_id is None:
            # With other settings it would be another run.
            digest = hashlib.sha256(f"{folder}\n{defaults.shape}".encode()).hexdigest()[:8]
            run_id = f"{hour}-{digest}-{chunk.count}"
        else:
            check_run_id(run_id)
        return cls(
            run_id,
            folder,
            chunk,
            hour,
            request.timestamp is not None,
            request.overwrite,
            request.dry_run,
            defaults.attempt,
            defaults.shape,
        )
