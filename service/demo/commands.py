"""Commands to paste into a shell: one for each door of the running service."""

import json
import shlex
import sys
from collections.abc import Mapping

from service.demo.doors import finalized_event
from service.demo.storage import address_of, list_objects
from service.demo.terminal import heading, line, printable
from service.demo.world import BUCKET, FOLDER, World, settings_for


def print_commands(world: World) -> None:
    """Print the addresses of the running parts, and a command for each door."""
    source = list_objects(world.storage, BUCKET, f"{FOLDER}/")[0]
    url = world.service.url
    heading("Everything keeps running until Ctrl-C")
    line(f"  pages    {url}/")
    line(f"  API      {url}/docs")
    line(f"  bucket   {world.storage}/storage/v1/b/{BUCKET}/o")
    line(f"  log      {world.service.log}")
    as_json = {"Content-Type": "application/json"}
    again = json.dumps({"overwrite": True}).encode()
    commands = [
        ("Is it there?", f"curl -sS {url}/health"),
        ("A whole folder", _post(f"{url}/run", as_json, again)),
        ("The same, with progress", _post(f"{url}/run", as_json | {"Accept": "application/x-ndjson"}, again)),
        (f"One object, {address_of(source)}", _post(f"{url}/events", *finalized_event(source))),
        ("The first of two tasks of a job", _job(world.storage)),
    ]
    for what, command in commands:
        line(f"\n  # {printable(what)}\n  {command}")
    line()


def _post(url: str, headers: Mapping[str, str], body: bytes) -> str:
    words = ["curl", "-sS", url]
    for name, value in headers.items():
        words += ["-H", f"{name}: {value}"]
    return shlex.join([*words, "--data-binary", body.decode()])


def _job(storage: str) -> str:
    env = settings_for(storage) | {"CLOUD_RUN_TASK_INDEX": "0", "CLOUD_RUN_TASK_COUNT": "2"}
    return shlex.join(
        ["env", *(f"{name}={value}" for name, value in env.items() if value), sys.executable, "-m", "service.job"]
    )
