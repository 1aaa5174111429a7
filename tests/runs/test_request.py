from datetime import UTC, datetime, timedelta

import pytest
from pydantic import ValidationError

from service.errors import InvalidValue, OutsideFence
from service.naming import CREATED, Hour
from service.runs.partition import Chunk
from service.runs.request import RunParameters, RunRequest
from service.settings import Settings
from service.storage.addresses import FolderLocation

HOUR = Hour("20251203T15Z")
FENCE = FolderLocation("photos", "in/")


def order(
    request: RunRequest, *, execution: str | None = None, chunk: Chunk | None = None, **more: str
) -> RunParameters:
    chunk = chunk or Chunk()
    settings = Settings.model_validate(
        {
            "input_folder": str(FENCE),
            "cloud_run_execution": execution,
            "cloud_run_task_index": chunk.index,
            "cloud_run_task_count": chunk.count,
        }
        | more
    )
    return RunParameters.of(request, settings, HOUR)


def test_a_request_that_says_nothing_gets_the_defaults() -> None:
    got = order(RunRequest(), chunk=Chunk(2, 5))
    assert (got.folder, got.chunk, got.hour, got.overwrite, got.dry_run) == (FENCE, Chunk(2, 5), HOUR, False, False)


def test_what_a_request_says_beats_the_defaults() -> None:
    request = RunRequest(
        input_folder="gs://photos/in/deep", task_index=1, task_count=3, timestamp="20260101T00Z", run_id="mine"
    )
    got = order(request, execution="execution-1", chunk=Chunk(2, 5))
    assert got.folder == FolderLocation("photos", "in/deep/")
    assert (got.chunk, str(got.hour), got.run_id) == (Chunk(1, 3), "20260101T00Z", "mine")


def test_the_run_id_is_the_executions_or_derived_from_folder_hour_and_count() -> None:
    assert order(RunRequest(), execution="thumbs-abcde").run_id == "thumbs-abcde"
    derived = order(RunRequest(task_index=0, task_count=4)).run_id
    assert derived == order(RunRequest(task_index=3, task_count=4)).run_id
    assert "20251203T15Z" in derived
    assert derived != order(RunRequest(task_index=0, task_count=5)).run_id
    assert derived != order(RunRequest(task_index=0, task_count=4, input_folder="gs://photos/in/x")).run_id


def test_the_derived_run_id_is_the_same_in_every_version() -> None:
    assert order(RunRequest()).run_id == "20251203T15Z-11819b6c-1"
    others = [
        order(RunRequest(timestamp="created")),
        order(RunRequest(since="36h")),
        order(RunRequest(since="37h")),
        order(RunRequest(), include="*.jpg"),
        order(RunRequest(), exclude="*.jpg"),
    ]
    assert len({params.run_id for params in [order(RunRequest()), *others]}) == 6


@pytest.mark.parametrize(
    ("setting", "asked", "hour", "is_given"),
    [
        ("run", None, HOUR, False),
        ("run", "run", HOUR, False),
        ("created", "run", HOUR, False),
        ("created", None, None, True),
        ("run", "created", None, True),
        ("20260101T00Z", None, Hour("20260101T00Z"), True),
        ("20260101T00Z", "created", None, True),
        ("created", "20260101T00Z", Hour("20260101T00Z"), True),
    ],
)
def test_the_timestamp_of_a_request_beats_that_of_the_settings(
    setting: str, asked: str | None, hour: Hour | None, *, is_given: bool
) -> None:
    got = order(RunRequest(timestamp=asked), timestamp=setting)
    assert (got.hour, got.hour_is_given) == (hour, is_given)


@pytest.mark.parametrize(
    ("since", "ago"),
    [("90m", timedelta(minutes=90)), ("36h", timedelta(hours=36)), ("7d", timedelta(days=7)), ("0m", timedelta())],
)
def test_an_age_counts_from_now(since: str, ago: timedelta) -> None:
    before = datetime.now(UTC)
    got = order(RunRequest(timestamp=CREATED, since=since)).since
    assert got is not None
    assert before <= got + ago <= datetime.now(UTC)


@pytest.mark.parametrize("since", ["2025-12-03T15:00:00Z", "2025-12-03T15:00:00.0+00:00", "2025-12-03T10:00:00-05:00"])
def test_a_time_is_taken_with_its_offset(since: str) -> None:
    assert order(RunRequest(since=since)).since == datetime(2025, 12, 3, 15, tzinfo=UTC)


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("input_folder", [5, True, ["gs://photos/in"]]),
        ("task_index", ["0", 0.5, 1.0, True, []]),
        ("task_count", ["4", 4.0, False]),
        ("timestamp", [2025, 2025.5, False, {}]),
        ("since", [5, 36.0, True, ["36h"]]),
        ("run_id", [7, True]),
        ("overwrite", [1, 0, "true", "yes"]),
        ("dry_run", [1, "true", None]),
        ("max_age", ["36h"]),
    ],
)
def test_a_field_of_another_type_is_refused_by_name(field: str, values: list[object]) -> None:
    for value in values:
        with pytest.raises(ValidationError) as caught:
            RunRequest.model_validate({field: value})
        assert [error["loc"] for error in caught.value.errors()] == [(field,)]


@pytest.mark.parametrize(
    ("request_fields", "field"),
    [
        ({"since": ""}, "since"),
        ({"since": "36"}, "since"),
        ({"since": "36H"}, "since"),
        ({"since": "-1h"}, "since"),
        ({"since": "٣h"}, "since"),
        ({"since": "2025-12-03T15:00:00"}, "since"),
        ({"since": "2999-01-01T00:00:00Z"}, "since"),
        ({"timestamp": "Created"}, "timestamp"),
        ({"timestamp": "20251303T15Z"}, "timestamp"),
        ({"task_index": 1}, "task_index"),
        ({"task_index": -1}, "task_index"),
        ({"task_count": 0}, "task_count"),
        ({"timestamp": "now"}, "timestamp"),
        ({"timestamp": ""}, "timestamp"),
        ({"input_folder": "in"}, "input_folder"),
        ({"run_id": "../x"}, "run_id"),
        ({"run_id": "x" * 129}, "run_id"),
    ],
)
def test_a_wrong_field_is_refused_by_name(request_fields: dict[str, str | int], field: str) -> None:
    with pytest.raises(InvalidValue) as caught:
        order(RunRequest.model_validate(request_fields))
    assert caught.value.field == field


@pytest.mark.parametrize("folder", ["gs://photos", "gs://photos/index", "gs://other/in"])
def test_a_folder_outside_the_fence_is_refused(folder: str) -> None:
    with pytest.raises(OutsideFence, match="gs://photos/in/"):
        order(RunRequest(input_folder=folder))
