"""`uv run deploy` in the test's own process, over the stand-in for gcloud."""

from collections.abc import Sequence

from service.deploy.main import Terminal, deploy
from service.deploy.options import parse_options
from tests.support.cloud_project import CloudProject, State

WAYS = {
    "recommended": [],
    "notification": ["--trigger=notification"],
    "no trigger": ["--trigger=none"],
    "no job": ["--no-job"],
    "two buckets": ["--output-bucket=my-thumbnails", "--folder=a b/c"],
    "new bucket": ["--bucket=my-new-images", "--region=europe-west1", "--tasks=50", "--schedule=30 4 * * 0"],
    "whole bucket": ["--trigger=notification", "--folder=", "--output-bucket=my-thumbnails"],
}
"""Options that lead to different things."""


class Watched:
    """A terminal that agrees, notes what is said, and does not wait."""

    def __init__(self, answer: str = "y") -> None:
        self.answer = answer
        self.said: list[str] = []
        self.asked: list[str] = []
        self.waited: list[float] = []

    def ask(self, question: str) -> str:
        self.asked.append(question)
        return self.answer

    @property
    def text(self) -> str:
        return "\n".join(self.said)

    @property
    def terminal(self) -> Terminal:
        return Terminal(self.said.append, self.ask, self.waited.append)


def call(cloud: CloudProject, *words: str, answer: str = "y") -> Watched:
    """Call the command for the bucket `my-images`, with more options."""
    watched = Watched(answer)
    options = parse_options(["--bucket=my-images", "--project=my-project", *words])
    deploy(options, cloud, watched.terminal)
    return watched


def deployed(words: Sequence[str]) -> State:
    """The state of a project after the command, from nothing."""
    cloud = CloudProject()
    call(cloud, *words)
    return cloud.state
