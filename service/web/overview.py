"""The service at a glance, as text: the settings in force, and how each door is called. Asks nobody anything."""

import json
import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from pydantic import BaseModel, ByteSize

from service.settings import Settings

_HOST = re.compile(r"(?:[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?|\[[0-9a-f:.]+\])(?::[0-9]{1,5})?", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class SettingShown:
    """One setting, for people."""

    name: str
    value: str
    """Empty where there is none."""
    is_set: bool
    """Whether the environment says so, and not the default."""


@dataclass(frozen=True, slots=True)
class Call:
    """How something is done from a command line."""

    purpose: str
    command: str


def settings_in_force(settings: Settings) -> Iterator[SettingShown]:
    """Yield the settings, but for what Cloud Run says to the tasks of a job."""
    for field in Settings.model_fields:
        is_set = field in settings.model_fields_set
        if is_set or not field.startswith("cloud_run_"):
            yield SettingShown(field.upper(), _shown(getattr(settings, field)), is_set)


def _shown(value: object) -> str:
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


def service_address(headers: Mapping[str, str], scheme: str) -> str:
    """The address that a request came to, for showing it; `$URL` where its Host header is none.

    Nothing rests on it: who calls from elsewhere sees what they sent themselves.
    """
    host = headers.get("host", "")
    if headers.get("x-forwarded-proto", "").lower() == "https":
        scheme = "https"
    return f"{scheme}://{host}" if _HOST.fullmatch(host) else "$URL"


def doors(settings: Settings, address: str) -> list[Call]:
    """How each door is called, ready to copy.

    Args:
        settings: those in force.
        address: the service's, as the reader sees it.
    """
    # Nobody is let in at a Cloud Run address without a token; nobody needs one on the own machine.
    token = ' -H "Authorization: Bearer $(gcloud auth print-identity-token)"' if address.startswith("https:") else ""
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
        Call("Thumbnail the whole folder, with a line of progress every second",
             f"curl -N -X POST {address}/run{token} -H 'Accept: application/x-ndjson'"),
        Call("Only list and count, and say what it would cost",
             f"""curl -X POST {address}/run{token} -d '{{"dry_run": true}}'"""),
        Call("Thumbnail one object, as an event of Eventarc does", f"curl {address}/events{token}{headers} -d {body}"),
        Call("Ask how far the runs are", f"curl {address}/runs{token}"),
        Call("One task of four, as a Cloud Run Job starts it",
             f"INPUT_FOLDER={shlex.quote(str(folder))} CLOUD_RUN_TASK_INDEX=0 CLOUD_RUN_TASK_COUNT=4 "
             "python -m service.job"),
    ]  # fmt: skip
