"""Content of the overview page: the settings, and a command for each way to call the service."""

import json
import re
import shlex
from collections.abc import Iterator

from pydantic import BaseModel, ByteSize

from service.events import FINALIZED
from service.runs.status import RunStatus
from service.settings import Settings


def setting_rows(settings: Settings) -> Iterator[tuple[str, str, bool]]:
    """Yield name, value, and whether the environment sets it; without what Cloud Run sets for the tasks of a job."""
    for field in Settings.model_fields:
        is_set = field in settings.model_fields_set
        if is_set or not field.startswith("cloud_run_"):
            yield field.upper(), _text(getattr(settings, field)), is_set


def _text(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, ByteSize):
        return value.human_readable(separator=" ")
    if isinstance(value, BaseModel):
        return value.model_dump_json()
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    # An address may have a user and a password before its host.
    return re.sub(r"://[^/?#]*@", "://", str(value))


def estimate_command(status: RunStatus, base_url: str) -> str:
    """Return a command that estimates what making the rest of a run would cost, safe to paste into a shell."""
    body = {"dry_run": True, "input_folder": status.input_folder, "timestamp": status.timestamp}
    given = json.dumps({name: value for name, value in body.items() if value is not None}, ensure_ascii=False)
    return f"curl -X POST {_address(base_url, 'run')} -d {shlex.quote(given)}"


def _address(base_url: str, path: str) -> str:
    # Cloud Run refuses calls without a token; a service on the reader's own machine needs none.
    token = ' -H "Authorization: Bearer $(gcloud auth print-identity-token)"' if base_url.startswith("https:") else ""
    return f"{shlex.quote(base_url + path)}{token}"


def command_examples(settings: Settings, base_url: str) -> dict[str, str]:
    """Return a command for each purpose, safe to paste into a shell.

    Args:
        settings: of this service.
        base_url: the address that the reader came by, with a slash at the end. It is the caller's own text.
    """
    run, events, runs = (_address(base_url, path) for path in ("run", "events", "runs"))
    folder = settings.input_folder
    event = {"bucket": folder.bucket, "name": f"{folder.prefix}cat.jpg"}
    attributes = {
        "ce-specversion": "1.0",
        "ce-id": "1",
        "ce-type": FINALIZED,
        "ce-source": f"//storage.googleapis.com/projects/_/buckets/{folder.bucket}",
        "Content-Type": "application/json",
    }
    headers = "".join(f" -H {shlex.quote(f'{name}: {value}')}" for name, value in attributes.items())
    body = shlex.quote(json.dumps(event, ensure_ascii=False))
    task = f"INPUT_FOLDER={shlex.quote(str(folder))} CLOUD_RUN_TASK_INDEX=0 CLOUD_RUN_TASK_COUNT=4"
    count = f"""curl -X POST {run} -d '{{"dry_run": true}}'"""
    stream = f"curl -N -X POST {run} -H 'Accept: application/x-ndjson'"
    return {
        "Make thumbnails of the whole folder, with a line of progress every second": stream,
        "Count the images and estimate the cost by storage class, without making thumbnails": count,
        "Make the thumbnail of one object, as an event of Eventarc does": f"curl {events}{headers} -d {body}",
        "List the latest runs": f"curl {runs}",
        "Run the first of four tasks, as a Cloud Run job does": f"{task} python -m service.job",
    }
