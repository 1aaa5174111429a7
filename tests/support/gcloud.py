"""Find the gcloud commands in Markdown pages and cloudbuild.yaml, and check them with gcloud's own parser.

The parser is the installed gcloud's, in a process of its own. It only parses; it never runs a command.
"""

import json
import re
import shlex
import shutil
import subprocess
from collections.abc import Generator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

_PARSE = """
import io, json, os, sys
root = sys.argv[1]
sys.path[:0] = [os.path.join(root, "lib"), os.path.join(root, "lib", "third_party")]
# gcloud's log keeps the stream that it finds when it is imported.
said = sys.stderr = io.StringIO()
from googlecloudsdk import gcloud_main
parser = gcloud_main.CreateCLI([])._CLI__parser
answers = []
for words in json.load(sys.stdin):
    said.seek(0)
    said.truncate()
    try:
        parser.parse_args(words)
        answers.append("")
    except SystemExit:
        answers.append(said.getvalue() or "refused")
    except Exception as error:
        answers.append(f"{type(error).__name__}: {error}")
json.dump(answers, sys.stdout)
"""

_VARIABLE = re.compile(r"\$\{(\w+)\}|\$(\w+)")
_ASSIGNMENT = re.compile(r"^([A-Za-z_]\w*)=(\S*)$", re.MULTILINE)
_ENDS = frozenset({"|", "||", "&", "&&", ";", ">", ">>", "<", "2>"})
_ELSE = "stand-in"
"""The value of a variable or a substitution that only the cloud knows."""


def commands_of_page(text: str) -> list[list[str]]:
    """Return each gcloud command of the shell blocks of a Markdown page, as words without the first.

    Commands inside other commands count, too.
    """
    blocks = "\n".join(re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL))
    values: dict[str, str] = {}
    for name, value in _ASSIGNMENT.findall(blocks):
        values[name] = _filled(value.strip("'\""), values)
    return [words for line in _lines(blocks) for words in _commands(line, values)]


def commands_of_build(text: str) -> list[list[str]]:
    """Return the gcloud commands of the steps of a Cloud Build file, as words without the first."""
    build: dict[str, Any] = yaml.safe_load(text)
    known = {"PROJECT_ID": "my-project", "BUILD_ID": "00000000-0000-0000-0000-000000000000"}
    # Twice: the defaults refer to the project.
    values = known | {name: _filled(str(value), known) for name, value in build["substitutions"].items()}
    filled = [
        (step.get("entrypoint"), [_filled(word.replace("$$", "$"), values) for word in step["args"]])
        for step in build["steps"]
    ]
    return [
        # Before the words of the command: bash's option, its program, and the program's name.
        words if entrypoint == "gcloud" else words[3:]
        for entrypoint, words in filled
        if entrypoint == "gcloud" or "exec gcloud" in words[1]
    ]


def _lines(script: str) -> list[str]:
    """Return the logical lines of a script; a quoted text may span several physical ones."""
    lines: list[str] = []
    open_line = ""
    for line in script.replace("\\\n", " ").splitlines():
        open_line = f"{open_line}\n{line}" if open_line else line
        try:
            shlex.split(open_line, comments=True)
        except ValueError:
            continue
        lines.append(open_line)
        open_line = ""
    assert not open_line, f"a quote is never closed: {open_line}"
    return lines


def _commands(line: str, values: Mapping[str, str]) -> Iterator[list[str]]:
    line = yield from _without_substitutions(line, values)
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    words = [_filled(word, values) for word in lexer]
    while words:
        end = next((index for index, word in enumerate(words) if word in _ENDS), len(words))
        if words[0] == "gcloud":
            # The number of a stream that is redirected is a word of its own.
            redirected = end < len(words) and words[end].startswith(">") and words[end - 1].isdigit()
            yield words[1 : end - 1 if redirected else end]
        words = words[end + 1 :]


def _without_substitutions(line: str, values: Mapping[str, str]) -> Generator[list[str], None, str]:
    """Yield the commands within `$(…)`, inner ones first; return the line without them."""
    while inner := re.search(r"\$\(([^()]|\([^()]*\))*\)", line):
        yield from _commands(inner[0][2:-1], values)
        line = line[: inner.start()] + _ELSE + line[inner.end() :]
    return line


def _filled(text: str, values: Mapping[str, str]) -> str:
    return _VARIABLE.sub(lambda match: values.get(match[1] or match[2], _ELSE), text)


def refusals(commands: Sequence[Sequence[str]]) -> list[str] | None:
    """Return why gcloud's parser refuses each command; an empty text if it accepts it.

    Returns:
        None if gcloud is not installed.
    """
    gcloud = shutil.which("gcloud")
    if gcloud is None:
        return None
    told = subprocess.run([gcloud, "info", "--format=json"], capture_output=True, text=True, check=True, timeout=60)
    info = json.loads(told.stdout)
    root, python = info["installation"]["sdk_root"], info["basic"]["python_location"]
    if not (root and python and Path(root, "lib", "googlecloudsdk").is_dir()):
        return None
    done = subprocess.run(
        [python, "-c", _PARSE, root],
        input=json.dumps(commands),
        capture_output=True,
        text=True,
        check=True,
        timeout=100,
    )
    return list(json.loads(done.stdout))
