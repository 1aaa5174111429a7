"""The parameters of a run: from the request, the environment and the defaults, valid or refused by field."""

import hashlib
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema

from service.errors import InvalidValue, OutsideFence
from service.naming import BOOKKEEPING_FOLDER, CREATED, RUN, TIMESTAMP_PATTERN, Hour, parse_timestamp
from service.runs.partition import Chunk
from service.settings import MAX_TASKS, Settings, check_dollars
from service.storage.addresses import FOLDER_PATTERN, FolderLocation
from service.telemetry.metrics import Door

_AGE = re.compile(r"[0-9]{1,6}[mh]|[0-9]{1,5}d")
_UNITS = {"m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1)}
_RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")

# What JSON Schema says of values here is for the description of the API. `RunParameters.of` checks them, and says more.
RunId = Annotated[str, WithJsonSchema({"type": "string", "pattern": f"^{_RUN_ID.pattern}$"})]
_FolderAddress = Annotated[str, WithJsonSchema({"type": "string", "pattern": FOLDER_PATTERN})]
_TaskIndex = Annotated[int, WithJsonSchema({"type": "integer", "minimum": 0, "maximum": MAX_TASKS - 1})]
_TaskCount = Annotated[int, WithJsonSchema({"type": "integer", "minimum": 1, "maximum": MAX_TASKS})]
_Timestamp = Annotated[str, WithJsonSchema({"type": "string", "pattern": TIMESTAMP_PATTERN})]
_Dollars = Annotated[float, WithJsonSchema({"type": "number", "minimum": 0})]
_Since = Annotated[
    str,
    WithJsonSchema({"type": "string", "anyOf": [{"pattern": f"^(?:{_AGE.pattern})$"}, {"format": "date-time"}]}),
]


def check_run_id(run_id: str, field: str = "run_id") -> str:
    """Return the id as given.

    Raises:
        InvalidValue: it cannot be part of an object's name and of a URL as it is.
    """
    if not _RUN_ID.fullmatch(run_id):
        raise InvalidValue(field, run_id, "is not 1 to 128 letters, digits, '.', '_' and '-'")
    return run_id


def _parse_since(text: str, now: datetime) -> datetime:
    """Parse a time or an age.

    Raises:
        InvalidValue: it is neither, or lies in the future.
    """
    try:
        if _AGE.fullmatch(text):
            since = now - int(text[:-1]) * _UNITS[text[-1]]
        else:
            since = datetime.fromisoformat(text)
            if since.tzinfo is None:
                raise ValueError
    except (ValueError, OverflowError):
        problem = "is neither a time with an offset (RFC 3339) nor an age such as 90m, 36h or 7d"
        raise InvalidValue("since", text, problem) from None
    if since > now:
        raise InvalidValue("since", text, f"is in the future; it is {now:%Y-%m-%dT%H:%M:%SZ} now")
    return since


def folder_of_run(bucket: str, run_id: str) -> FolderLocation:
    """Return the folder of a run's plan and reports."""
    return FolderLocation(bucket, f"{BOOKKEEPING_FOLDER}{run_id}/")


class RunRequest(BaseModel):
    """The body of `POST /run`; all of it is optional."""

    model_config = ConfigDict(extra="forbid", strict=True)

    input_folder: _FolderAddress | None = Field(
        None, description="A folder inside INPUT_FOLDER, `gs://bucket/some/prefix`. Default: INPUT_FOLDER itself."
    )
    task_index: _TaskIndex | None = Field(None, description="Which chunk, from 0. Default: CLOUD_RUN_TASK_INDEX.")
    task_count: _TaskCount | None = Field(None, description="Of how many chunks. Default: CLOUD_RUN_TASK_COUNT.")
    timestamp: _Timestamp | None = Field(
        None,
        description="The hour folder: `YYYYMMDDTHHZ`; `run`, the schedule time of Cloud Scheduler, else now; or "
        "`created`, of each image the hour in which it was created. Default: TIMESTAMP.",
    )
    since: _Since | None = Field(
        None, description="Only images created since then: a time (RFC 3339), or an age such as `36h` or `7d`."
    )
    run_id: RunId | None = Field(
        None, description="A name for the run, the same for all of its tasks. Default: CLOUD_RUN_EXECUTION."
    )
    overwrite: bool = Field(default=False, description="Make again what is there already. Default: false.")
    dry_run: bool = Field(
        default=False, description="List, count and estimate; read no image and write nothing. Default: false."
    )
    max_dollars: _Dollars | None = Field(
        None, description="The most that the run may cost, in US dollars. Default: MAX_RUN_DOLLARS."
    )


@dataclass(frozen=True, slots=True)
class Limit:
    """The most that a run may cost."""

    field: str
    """The field or the setting that says so."""
    dollars: float


@dataclass(frozen=True, slots=True)
class RunParameters:
    """The parameters of a run, complete and valid."""

    run_id: str
    run_folder: FolderLocation
    """Holds the plan and the reports."""
    folder: FolderLocation
    chunk: Chunk
    hour: Hour | None
    """Of a new run; a run that was planned already has its plan's. None: of each image the hour it was created in."""
    hour_is_given: bool
    """The caller wants that very hour, or `created`."""
    run_hour_is_given: bool
    """The request itself wants `run`: one hour, whichever."""
    since: datetime | None
    """Only images created since then."""
    since_as_given: str | None
    """The text of `since`, a time or an age."""
    overwrite: bool
    dry_run: bool
    limit: Limit | None
    """None for a dry run, which costs little and tells the price."""
    attempt: int
    """Number of earlier attempts at this task, as Cloud Run counts them."""
    output_fingerprint: str
    """See `Settings.output_fingerprint`."""
    door: Door

    @classmethod
    def of(
        cls, request: RunRequest, settings: Settings, default_hour: Hour | None = None, door: Door = Door.RUN
    ) -> Self:
        """Complete a request: a field beats the settings, the settings beat the defaults.

        A request without `timestamp` gets the default hour, else the present one.

        Raises:
            InvalidValue: a field has a value that cannot be.
            OutsideFence: the folder is not in INPUT_FOLDER.
        """
        if request.max_dollars is not None:
            check_dollars(request.max_dollars, "max_dollars")
        folder = fence = settings.input_folder
        if request.input_folder is not None:
            folder = FolderLocation.parse(request.input_folder, "input_folder")
            if folder not in fence:
                raise OutsideFence("input_folder", str(folder), f"is not inside INPUT_FOLDER, which is {fence}")
        chunk = Chunk(
            settings.cloud_run_task_index if request.task_index is None else request.task_index,
            settings.cloud_run_task_count if request.task_count is None else request.task_count,
        )
        now = datetime.now(UTC)
        asked = settings.timestamp if request.timestamp is None else parse_timestamp(request.timestamp, "timestamp")
        run_hour = asked if isinstance(asked, Hour) else default_hour or Hour.of(now)
        hour = None if asked == CREATED else run_hour
        since = None if request.since is None else _parse_since(request.since, now)
        run_id = settings.cloud_run_execution if request.run_id is None else request.run_id
        if run_id is None:
            # With other settings it would be another run.
            facts = [str(folder), settings.output_fingerprint]
            facts += [CREATED] if hour is None else []
            facts += [request.since] if request.since else []
            digest = hashlib.sha256("\n".join(facts).encode()).hexdigest()[:8]
            run_id = f"{run_hour}-{digest}-{chunk.count}"
        else:
            check_run_id(run_id, "CLOUD_RUN_EXECUTION" if request.run_id is None else "run_id")
        return cls(
            run_id,
            folder_of_run(settings.destination_bucket, run_id),
            folder,
            chunk,
            hour,
            hour_is_given=asked != RUN,
            run_hour_is_given=request.timestamp == RUN,
            since=since,
            since_as_given=request.since,
            overwrite=request.overwrite,
            dry_run=request.dry_run,
            limit=None if request.dry_run else _limit(request, settings),
            attempt=settings.cloud_run_task_attempt,
            output_fingerprint=settings.output_fingerprint,
            door=door,
        )


def _limit(request: RunRequest, settings: Settings) -> Limit | None:
    if request.max_dollars is not None:
        return Limit("max_dollars", request.max_dollars)
    return None if settings.max_run_dollars is None else Limit("MAX_RUN_DOLLARS", settings.max_run_dollars)
