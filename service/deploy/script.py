"""The table of steps as a shell script: what `--dry-run` prints. Nothing is looked up for it."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

from service.deploy.first_picture import DESCRIBE, EXECUTE, LIST, UPLOAD, WHAT
from service.deploy.gcloud import TOO_EARLY
from service.deploy.options import Options, Trigger
from service.deploy.preflight import DEFAULT_REGION, fingerprint
from service.deploy.states import LABEL_VALUE
from service.deploy.step import Step
from service.deploy.steps import COMMANDS, steps, variables

_VARIABLE = re.compile(r"\$\{?(\w+)")
_DEPLOYING = """\
# Deploy the thumbnail service. If this stops, call it again.
# It asks nothing. Unlike `uv run deploy`, it does not check who made what is there: it would overwrite a Cloud Run
# service `thumbnails` or a job `thumbnails-job` of yours, and the setting OUTPUT_LAYOUT. It does not remove an older
# trigger of another kind."""
_UNDOING = """\
# Take the thumbnail service away: what has its mark. It can be called again, and asks nothing."""
_HEAD = """\
#!/usr/bin/env bash
{what}
set -euo pipefail
cd {folder}
export CLOUDSDK_CORE_DISABLE_PROMPTS=1
"""
_WAITING = f"""
# New accounts, permissions and APIs take a while until they are known everywhere.
said=$(mktemp)
trap 'rm -f "$said"' EXIT
function gcloud {{
  local pause
  case " $* " in *" describe "*) command gcloud "$@"; return ;; esac
  for pause in 5 10 20 30 60 60 60 60 0; do
    if command gcloud "$@" 2>"$said"; then return; fi
    if [ "$pause" = 0 ] || ! grep -qE '{TOO_EARLY}' "$said"; then
      cat "$said" >&2
      return 1
    fi
    sleep "$pause"
  done
}}
"""


def script(options: Options, root: Path) -> str:
    """Return the script that does, or undoes, what these options say."""
    what = _UNDOING if options.undo else _DEPLOYING
    head = _HEAD.format(what=what, folder=shlex.quote(str(root)))
    beginning = list(_beginning(options, fingerprint(root)))
    body = _body(options, "\n".join(beginning))
    if options.undo:
        beginning = _used(beginning, "\n".join(body))
    return "\n".join([head, *beginning, *body]) + "\n"


def _used(beginning: list[str], body: str) -> list[str]:
    """Leave out the variables that nothing after them uses."""
    kept: list[str] = []
    for part in reversed(beginning):
        definition = re.fullmatch(r"(\w+)=.*", part)
        if not definition or definition[1] in _VARIABLE.findall("\n".join([*kept, body])):
            kept.insert(0, part)
    return kept


def _body(options: Options, beginning: str) -> list[str]:
    """Return the commands of all steps."""
    parts: list[str] = []
    table = steps(options)
    defined = set(re.findall(r"^ *(\w+)=", beginning, re.MULTILINE))
    for step in reversed(table) if options.undo else table:
        commands = list(_chosen(step, options))
        if commands:
            text = "\n".join(commands)
            title = f"Take away: {step.what}" if options.undo else f"{step.what}: {step.why}"
            parts += [f"\n# {title}", *_definitions(text, defined, undo=options.undo), text]
    if not options.undo:
        parts.append(_first_picture(options))
    return parts


def _beginning(options: Options, source: str) -> Iterator[str]:
    """Yield the variables, with the checks that give them their values."""
    project = shlex.quote(options.project) if options.project else "$(gcloud config get project)"
    yield f"PROJECT={project}\nexport CLOUDSDK_CORE_PROJECT=$PROJECT\nBUCKET={options.bucket}"
    location = 'gcloud storage buckets describe gs://$BUCKET --format="value(location.lower())"'
    if options.undo:
        # A region that is guessed would be the wrong one, and nothing would be found there.
        fallback = f" || echo {options.region}" if options.region else ""
    else:
        fallback = f" 2>/dev/null || echo {options.region or DEFAULT_REGION}"
    yield f"BUCKET_LOCATION=$({location}{fallback})"
    yield f"REGION={options.region or '$BUCKET_LOCATION'}"
    if not options.region:
        yield (
            "case $REGION in *-*) ;; *)\n"
            '  echo "gs://$BUCKET is in more than one region: say with --region in which the service is to run" >&2\n'
            "  exit 2\nesac"
        )
    yield (
        'BUCKET_PROJECT=$(gcloud storage buckets describe gs://$BUCKET --raw --format="value(projectNumber)" '
        "2>/dev/null || echo $PROJECT)"
    )
    yield 'PROJECT_NUMBER=$(gcloud projects describe $PROJECT --format="value(projectNumber)")'
    for name, value in variables(options, source).items():
        yield f"{name}={value if '$' in value else shlex.quote(value)}"
    if not options.undo:
        yield _WAITING


def _definitions(text: str, defined: set[str], *, undo: bool) -> Iterator[str]:
    """Yield the variables that only gcloud knows, before they are first used."""
    for name in dict.fromkeys(_VARIABLE.findall(text)):
        if name in COMMANDS and name not in defined:
            defined.add(name)
            yield f"{name}=$({COMMANDS[name]}{' || true' if undo else ''})"


def _chosen(step: Step, options: Options) -> Iterator[str]:
    """Yield the commands of a step; to undo, also if other options made it."""
    if options.undo:
        yield from _removal(step)
    elif step.wanted:
        yield from _making(step)


def _making(step: Step) -> Iterator[str]:
    test = f"{step.look} >/dev/null 2>&1" if step.test is None else step.test
    if not test:
        yield from step.make
    elif len(step.make) == 1:
        yield f"{test} ||\n  {step.make[0]}"
    else:
        yield "\n".join([f"{test} || {{", *(f"  {command}" for command in step.make), "}"])


def _removal(step: Step) -> Iterator[str]:
    if not step.remove:
        return
    if step.proof:
        command, beginning = step.proof
        question, sign = f'{command} --format="value(description)"', beginning
    elif step.mark:
        question, sign = f'{step.look} --format="value({step.mark})"', LABEL_VALUE
    else:
        yield f"{step.test} &&\n  {step.remove[0]} || true"
        return
    # A grant may be gone already.
    unless = " || true" if step.grants else ""
    commands = (f"  {command}{unless}" for command in step.remove)
    yield "\n".join([f'case "$({question} 2>/dev/null)" in *"{sign}"*)', *commands, "esac"])


def _first_picture(options: Options) -> str:
    hour = "value(timeCreated.date(format='%Y%m%dT%HZ', tz=UTC))"
    lines = [
        f"\n# {WHAT}: uploads a picture and waits. A new trigger may miss the first upload.",
        "function thumbnail {",
        f'  HOUR=$({DESCRIBE} --format="{hour}" 2>/dev/null) || return',
        f"  {LIST} 2>/dev/null",
        "}",
        "thumbnail && exit",
        "for pauses in '5 10 20 30 60 60' '60 60'; do",
        f"  {UPLOAD}",
        *([f"  {EXECUTE}"] if options.trigger == Trigger.NONE else []),
        "  for pause in $pauses; do",
        "    thumbnail && exit",
        '    sleep "$pause"',
        "  done",
        "done",
        "echo 'There is no thumbnail yet: look into the log of the service, then call this again' >&2",
        "exit 1",
    ]
    return "\n".join(lines)
