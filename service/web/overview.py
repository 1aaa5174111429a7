"""Content of the overview page: the settings, and a command for each way to call the service."""

import json
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

from pydantic import BaseModel, ByteSize

from service.settings import Settings


@dataclass(frozen=True, slots=True)
class SettingRow:
    """One row of the table of settings."""

    name: str
    value: str
    """Empty if there is none."""
    is_set: bool
    """True if the environment sets it, false if it is the default."""


@dataclass(frozen=True, slots=True)
class Example:
    """A command to copy, and what it is for."""

    purpose: str
    command: str


def setting_rows(settings: Settings) -> Iterator[SettingRow]:
    """Yield all settings, without those that Cloud Run sets for the tasks of a job."""
    for field in Settings.model_fields:
        is_set = field in settings.model_fields_set
        if is_set or not field.startswith("cloud_run_"):
            yield SettingRow(field.upper(), _text(getattr(settings, field)), is_set)


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
    return _without_password(str(value))


def _without_password(text: str) -> str:
    if "://" not in text or "@" not in text:
        return text
    parts = urlsplit(text)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def command_examples(settings: Settings, base_url: str) -> list[Example]:
    """Return a command for each way to call the service, safe to paste into a shell.

    Args:
        settings: of this service.
        base_url: the address that the reader came by, with a slash at the end. It is the caller's own text.
    """
    # Cloud Run refuses calls without a token; a service on the reader's own machine needs none.
    token = ' -H "Authorization: Bearer $(gcloud auth print-identity-token)"' if base_url.startswith("https:") else ""
    run, events, runs = (f"{shlex.quote(base_url + path)}{token}" for path in ("run", "events", "runs"))
    folder = settings.input_folder
    event = {"bucket": folder.bucket, "name": f"{folder.prefix}cat.jpg"}
    attributes = {
        "ce-specversion": "1.0",
        "ce-id": "1",
        "ce-type": "google.cloud.storage.object.v1.finalized",
        "ce-source": f"//storage.googleapis.com/projects/_/buckets/{folder.bucket}",
        "Content-Type": "application/json",
    }
    headers = "".join(f" -H {shlex.quote(f'{name}: {value}')}" for name, value in attributes.items())
    body = shlex.quote(json.dumps(event, ensure_ascii=False))
    return [
        Example("Make thumbnails of the whole folder, with a line of progress every second",
                f"curl -N -X POST {run} -H 'Accept: application/x-ndjson'"),
        Example("Count the images and estimate the cost, without making thumbnails",
                f"""curl -X POST {run} -d '{{"dry_run": true}}'"""),
        Example("Make the thumbnail of one object, as an event of Eventarc does", f"curl {events}{headers} -d {body}"),
        Example("List the latest runs", f"curl {runs}"),
        Example("Run the first of four tasks, as a Cloud Run job does",
                f"INPUT_FOLDER={shlex.quote(str(folder))} CLOUD_RUN_TASK_INDEX=0 CLOUD_RUN_TASK_COUNT=4 "
                "python -m service.job"),
    ]  # fmt: skip
