"""Other programs that are installed on this machine, beside the project: it depends on none of them."""

import json
import shutil
import subprocess
from collections.abc import Sequence
from functools import cache
from pathlib import Path

SHARP, NODE_STORAGE = "sharp", "@google-cloud/storage"
IMG2DATASET = "img2dataset"
REMEDIES = {
    SHARP: f"`npm install {SHARP}` in a folder whose `node_modules` is NODE_PATH",
    NODE_STORAGE: f"`npm install {NODE_STORAGE}` there",
    IMG2DATASET: f"`uv tool install {IMG2DATASET}`",
}
"""How to install each."""


@cache
def version_of(program: str) -> str | None:
    """Its version; None if it is not installed."""
    if program == IMG2DATASET:
        python = img2dataset_python()
        return _output([python, "-c", f"from importlib.metadata import version; print(version('{program}'))"])
    folder = f"require('path').join(path, {json.dumps(program)}, 'package.json')"
    paths = "(process.env.NODE_PATH ?? '').split(':').filter(Boolean)"
    script = f"for (const path of {paths}) console.log(JSON.parse(require('fs').readFileSync({folder})).version)"
    return _output([shutil.which("node"), "-e", script])


def img2dataset_python() -> str | None:
    """The interpreter that has it: its program on the PATH is beside it."""
    program = shutil.which(IMG2DATASET)
    return str(Path(program).resolve().with_name("python")) if program else None


def missing() -> list[str]:
    """What is not installed, with how to install it."""
    return [f"{program} ({remedy})" for program, remedy in REMEDIES.items() if not version_of(program)]


def _output(command: Sequence[str | None]) -> str | None:
    words = [word for word in command if word is not None]
    if len(words) < len(command):
        return None
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    return done.stdout.split("\n")[0].strip() or None
