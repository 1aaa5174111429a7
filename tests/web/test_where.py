"""The rule of `.readme/where.md` says where thumbnails are: its code, as it stands there, is run."""

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from google.cloud import storage

from tests.conftest import Put, Serve
from tests.support.eventarc import deliver
from tests.support.pictures import encoded, jpeg, quadrants

PAGE = (Path(__file__).resolve().parents[2] / ".readme" / "where.md").read_text()
NAMES = ["photos/cat.jpg", "photos/a/b/cat.jpg", "photos/photos/ünï 猫 #1.jpg", "photos/no extension"]
SMALL = jpeg(16, 12)


def code(language: str) -> str:
    (block,) = re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    return str(block)


def by_python(resource: dict[str, Any]) -> str:
    names: dict[str, Any] = {}
    exec(code("python"), names)  # noqa: S102 - the code of our own page
    blob = storage.Client(project="any").bucket(resource["bucket"]).get_blob(resource["name"])
    return str(names["thumbnail"](blob))


def by_javascript(resource: dict[str, Any]) -> str:
    node = shutil.which("node")
    if node is None:
        pytest.skip("needs Node.js, which runs the page's JavaScript")
    program = f"{code('js')}\nconsole.log(thumbnail(JSON.parse(process.argv[1])));"
    done = subprocess.run([node, "-e", program, json.dumps(resource)], capture_output=True, check=True, timeout=30)
    return done.stdout.decode().removesuffix("\n")


@pytest.mark.parametrize("rule", [by_python, by_javascript])
def test_the_rule_says_where_events_and_runs_put_thumbnails(
    serve: Serve, put: Put, bucket: str, rule: Callable[[dict[str, Any]], str]
) -> None:
    resources = [put(name, SMALL) for name in NAMES]
    client, _ = serve(input_folder=f"gs://{bucket}/photos", output_layout="tree", timestamp="created")
    made = [deliver(client, resource).json()["thumbnail"] for resource in resources]
    assert [rule(resource) for resource in resources] == made
    report = client.post("/run").json()
    assert (report["created"], report["skipped"]) == (0, len(NAMES))


def test_a_format_that_browsers_do_not_show_adds_an_extension_to_the_rule(serve: Serve, put: Put, bucket: str) -> None:
    resource = put("photos/scan.tiff", encoded(quadrants(16, 12), "TIFF"), "image/tiff")
    client, _ = serve(input_folder=f"gs://{bucket}/photos", output_layout="tree")
    assert deliver(client, resource).json()["thumbnail"] == f"{by_python(resource)}.jpg"
