"""gcloud: runs its commands, remembers what it was asked, waits for what takes time, and explains its errors."""

import json
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Protocol

from service.deploy.problem import FAILED, WRONG, DeployProblem

PAUSES = (5, 10, 20, 30, 60, 60, 60, 60)
"""Seconds between two attempts of a command that is too early. New permissions take up to seven minutes
(cloud.google.com/iam/docs/access-change-propagation)."""

TOO_EARLY = (
    r"Service account [^ ]+ does not exist"
    r"|Unknown service account"
    r"|SERVICE_DISABLED|has not been used in project|it is disabled"
    r"|Permission denied while using the Eventarc Service Agent"
    r"|unable to publish to Cloud Pub/Sub topics"
    r"|[Pp]ermission [^ ]*iam\.service[aA]ccounts\.actAs"
    r"|concurrent policy changes"
)
"""Matches gcloud's errors about new accounts, permissions and APIs that are not known everywhere yet.
`grep -E` reads it, too."""

_DISABLED = re.compile(r"SERVICE_DISABLED|has not been used in project|it is disabled")
_MISSING = re.compile(
    r"NOT_FOUND|[Nn]ot found|[Cc]annot find|[Uu]nknown service account|matched no objects"
    r"|iam\.serviceAccounts\.get\S* denied on resource \(or it may not exist\)"
)
NO_BILLING = (
    "project {project} has no billing account, which Cloud Run needs: link one at "
    "https://console.cloud.google.com/billing/linkedaccount?project={project}"
)
_EXPLANATIONS = (
    (
        r"active account|gcloud auth login|[Rr]eauthentication|invalid_grant",
        WRONG,
        "gcloud is not logged in, or no longer: run 'gcloud auth login'",
    ),
    (r"BILLING|[Bb]illing (?:account|must|to be)", WRONG, NO_BILLING),
    (
        r"[Tt]oo many .*notification|more than 10 notification|maximum .*notification",
        FAILED,
        (
            "the bucket has all the notification configurations that it may have, ten for new objects ({words}): "
            "delete one that 'gcloud storage buckets notifications list' shows"
        ),
    ),
    (
        r"actAs|PERMISSION_DENIED|does not have .*(?:permission|access)|[Pp]ermission .*denied|HTTPError 403",
        FAILED,
        (
            "{account} may not do this in project {project} ({words}): have it done by an owner of the project, or ask "
            "one for the role roles/owner"
        ),
    ),
    (
        r"ALREADY_EXISTS|already exists|HTTPError 409|not available",
        FAILED,
        "a name is taken by something that this command did not make ({words}): delete that",
    ),
    (
        r"completed with status",
        FAILED,
        "{words}: 'gcloud builds list --project={project} --region={region}' shows where its log is",
    ),
)
"""Pattern of gcloud's error, exit status, and the sentence for people."""
_VARIABLE = re.compile(r"\$(?:(\w+)|\{(\w+)\})")


Json = Any
"""Output of gcloud with `--format=json`."""


@dataclass(frozen=True, slots=True)
class Answer:
    """How a command of gcloud ended."""

    status: int
    stdout: str
    stderr: str


class Runner(Protocol):
    """Runs gcloud with these words, without the first, in one project."""

    def __call__(self, words: Sequence[str], project: str | None) -> Answer:
        """Run it and wait for its end."""
        ...


def installed_gcloud(folder: Path) -> Runner:
    """Return a runner of the gcloud that is installed.

    Args:
        folder: the folder to run it in.

    Raises:
        DeployProblem: there is none.
    """
    program = shutil.which("gcloud")
    if program is None:
        raise DeployProblem(
            "gcloud is not installed: see https://cloud.google.com/sdk/docs/install, or use Cloud Shell", WRONG
        )

    def run(words: Sequence[str], project: str | None) -> Answer:
        environment = os.environ | {"CLOUDSDK_CORE_DISABLE_PROMPTS": "1"}
        if project:
            environment["CLOUDSDK_CORE_PROJECT"] = project
        done = subprocess.run(  # noqa: S603 - the program is the gcloud in PATH; a value is one word of it
            [program, *words],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        return Answer(done.returncode, done.stdout, done.stderr)

    return run


class NotThere(Exception):
    """What a command asks about does not exist."""


@dataclass(slots=True)
class Gcloud:
    """gcloud for one deployment. Commands are shell text with `$VARIABLES`, as pages and scripts show them."""

    run: Runner
    sleep: Callable[[float], None]
    say: Callable[[str], None]
    variables: dict[str, str] = field(default_factory=dict)
    commands: Mapping[str, str] = field(default_factory=dict)
    """Variables that gcloud has to be asked for: their names, and the commands that print them."""
    account: str = "this account"
    _known: dict[tuple[str, ...], Answer] = field(default_factory=dict)

    def fill(self, text: str) -> str:
        """Replace the variables in a text.

        Raises:
            NotThere: a variable is the name of something that does not exist yet.
        """
        return _VARIABLE.sub(lambda match: self._value(match[1] or match[2]), text)

    def _value(self, name: str) -> str:
        if name in self.variables:
            return self.variables[name]
        answer = self._ask(self._words(self.commands[name]))
        value = answer.stdout.strip()
        if not value:
            raise NotThere(name)
        return value

    def _words(self, command: str) -> tuple[str, ...]:
        first, *words = _split(command)
        if first != "gcloud":
            raise ValueError(f"not a command of gcloud: {command}")
        return tuple(self.fill(word) for word in words)

    def look(self, command: str) -> Json:
        """Return the JSON that a command prints which changes nothing, or None if what it asks about is not there.

        Raises:
            DeployProblem: gcloud fails for another reason.
        """
        return json.loads(self.text(command) or "null")

    def text(self, command: str) -> str:
        """Return what a command prints which changes nothing; an empty text if what it asks about is not there.

        Raises:
            DeployProblem: gcloud fails for another reason.
        """
        try:
            return self._ask(self._words(command)).stdout
        except NotThere:
            return ""

    def _ask(self, words: tuple[str, ...]) -> Answer:
        if words not in self._known:
            self._known[words] = self.run(words, self.variables.get("PROJECT"))
        answer = self._known[words]
        if answer.status:
            if _DISABLED.search(answer.stderr) or _MISSING.search(answer.stderr):
                raise NotThere(shlex.join(words))
            raise self._problem(answer)
        return answer

    def do(self, command: str) -> None:
        """Run a command that changes something, again while it is too early for it.

        Raises:
            DeployProblem: it fails.
        """
        for pause in (*PAUSES, None):
            self._known.clear()
            try:
                words = self._words(command)
            except NotThere as error:
                raise DeployProblem(f"{error} is not there, although it was made: call this again") from None
            answer = self.run(words, self.variables.get("PROJECT"))
            self._known.clear()
            if not answer.status:
                return
            if pause is None or not re.search(TOO_EARLY, answer.stderr):
                raise self._problem(answer)
            self.say(f"    not known everywhere yet; again in {pause} s")
            self.sleep(pause)

    def forget(self) -> None:
        """Ask anew from now on."""
        self._known.clear()

    def _problem(self, answer: Answer) -> DeployProblem:
        return _explain(answer, self.account, self.variables)


@cache
def _split(command: str) -> tuple[str, ...]:
    return tuple(shlex.split(command))


def _explain(answer: Answer, account: str, variables: Mapping[str, str]) -> DeployProblem:
    """Return one sentence about a command that failed: what is wrong, and what to do."""
    words = _gist(answer.stderr) or f"it ended with status {answer.status}"
    for pattern, status, sentence in _EXPLANATIONS:
        if re.search(pattern, answer.stderr):
            project, region = variables.get("PROJECT", ""), variables.get("REGION", "")
            return DeployProblem(sentence.format(account=account, project=project, region=region, words=words), status)
    return DeployProblem(f"gcloud says: {words}")


def _gist(stderr: str) -> str:
    """Return what gcloud says in its error, as one line."""
    lines = [line.strip() for line in stderr.splitlines()]
    start = next((number for number, line in enumerate(lines) if line.startswith("ERROR:")), None)
    if start is None:
        return " ".join(line for line in lines[-1:] if line)
    text = lines[start].removeprefix("ERROR: ")
    # The message may begin on the line after that of the command.
    if re.fullmatch(r"\([\w.-]+\)", text):
        text = " ".join([text, *lines[start + 1 : start + 2]])
    return re.sub(r"^\([\w.-]+\) ", "", text).rstrip(".:")
