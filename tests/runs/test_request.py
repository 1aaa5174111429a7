import pytest

from service.errors import InvalidValue, OutsideFence
from service.naming import Hour
from service.runs.partition import Chunk
from service.runs.request import RunParameters, RunRequest
from service.settings import Settings
from service.storage.addresses import FolderLocation

HOUR = Hour("20251203T15Z")
FENCE = FolderLocation("photos", "in/")


def order(request: RunRequest, *, execution: str | None = None, chunk: Chunk | None = None) -> RunParameters:
    chunk = chunk or Chunk()
    settings = Settings.model_validate(
        {
            "input_folder": str(FENCE),
            "cloud_run_execution": execution,
            "cloud_run_task_index": chunk.index,
            "cloud_run_task_count": chunk.count,
        }
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


@pytest.mark.parametrize(
    ("request_fields", "field"),
    [
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
