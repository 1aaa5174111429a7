"""The options of the command, checked before anything is looked at."""

import re
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NoReturn

from service.deploy.problem import WRONG
from service.deploy.schedule import check_schedule
from service.errors import InvalidValue
from service.settings import MAX_TASKS
from service.storage.addresses import FolderLocation, check_bucket_name

_ODD = re.compile(r"[;$*?\[\]#\"'`\\]|[^ -~\u00a1-\uffff]")
"""Characters that gcloud, Cloud Build or a shell would take for something else."""
_FIELD = "name"
_REGION = re.compile(r"[a-z]+-[a-z]+\d+")
_PROJECT = re.compile(r"[a-z][a-z0-9-]{4,28}[a-z0-9]")

_HELP = """\
Deploy the thumbnail service to a Google Cloud project, with gcloud. It looks at what is there, says what it will make,
grant and cost, asks once, and makes what is missing. After a failure or an upgrade, call it again with the same
options."""


class Trigger(StrEnum):
    """How the service gets to know of new images."""

    EVENTARC = "eventarc"
    NOTIFICATION = "notification"
    NONE = "none"


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the user wants."""

    bucket: str
    project: str | None = None
    """None: gcloud's own."""
    region: str | None = None
    """None: the bucket's."""
    folder: str = "photos"
    """Without slashes at its ends; empty for the whole bucket."""
    output_bucket: str | None = None
    tasks: int | None = None
    """None: that of the job, or the build's own for a new one."""
    layout: str = "tree"
    """The setting OUTPUT_LAYOUT, which is the service's if it has one."""
    schedule: str = "0 3 * * *"
    trigger: Trigger = Trigger.EVENTARC
    job: bool = True
    dry_run: bool = False
    undo: bool = False
    yes: bool = False

    @property
    def input_folder(self) -> str:
        """The setting INPUT_FOLDER."""
        return f"gs://{self.bucket}/{self.folder}".removesuffix("/")

    @property
    def prefix(self) -> str:
        """What the names of the images begin with."""
        return f"{self.folder}/" if self.folder else ""

    @property
    def thumbnails_bucket(self) -> str:
        """The bucket of the thumbnails."""
        return self.output_bucket or self.bucket


class _Parser(ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """End with one line, without the usage."""
        self.exit(WRONG, f"deploy: {message} (--help lists the options)\n")


def parse_options(arguments: Sequence[str] | None = None) -> Options:
    """Read the options.

    Raises:
        SystemExit: an option is wrong, or help was asked for.
    """
    parser = _Parser(prog="deploy", description=_HELP, allow_abbrev=False)
    add = parser.add_argument
    add("--bucket", required=True, type=_bucket, help="the bucket of the images; made if it is not there")
    add("--project", type=_matching(_PROJECT, "a project's id"), help="its id (default: gcloud's project)")
    add(
        "--region",
        type=_matching(_REGION, "a region, such as us-central1"),
        help="of the service and the job (default: the bucket's; for a new bucket us-central1)",
    )
    add("--folder", type=_folder, default=Options.folder, help="of the images, '' for all (default: %(default)s)")
    add("--output-bucket", type=_bucket, help="of the thumbnails (default: the service's, else the same)")
    add("--tasks", type=_tasks, help="of the job (default: 4 for a new one)")
    add("--schedule", type=_schedule, default=Options.schedule, help="of the repair, in UTC (default: '%(default)s')")
    add(
        "--trigger",
        type=_trigger,
        choices=list(Trigger),
        default=Options.trigger,
        help="how the service hears of new images (default: %(default)s)",
    )
    add("--no-job", dest="job", action="store_false", help="no Cloud Run job: the service itself repairs at night")
    add("--dry-run", action="store_true", help="print the commands as a shell script, and call nothing")
    add("--undo", action="store_true", help="take away what this command made; images and buckets stay")
    add("--yes", action="store_true", help="do not ask")
    options = Options(**vars(parser.parse_args(arguments)))
    if options.undo:
        return options
    if options.trigger == Trigger.NONE and not options.job:
        parser.error("--trigger=none and --no-job: leave out one of them, or no image gets its thumbnail before night")
    if options.trigger == Trigger.NOTIFICATION and not options.folder and not options.output_bucket:
        parser.error("--trigger=notification for a whole bucket needs an --output-bucket, or thumbnails raise events")
    return options


def _matching(pattern: re.Pattern[str], what: str) -> Callable[[str], str]:
    def check(text: str) -> str:
        if not pattern.fullmatch(text):
            raise ArgumentTypeError(f"{text!r} is not {what}")
        return text

    return check


def _bucket(text: str) -> str:
    try:
        return check_bucket_name(text.removeprefix("gs://").removesuffix("/"), _FIELD)
    except InvalidValue as error:
        # The parser names the option itself.
        raise ArgumentTypeError(str(error).removeprefix(f"{_FIELD}: ")) from None


def _folder(text: str) -> str:
    folder = text.strip("/")
    try:
        FolderLocation.parse(f"gs://bucket/{folder}", "the folder")
    except InvalidValue as error:
        raise ArgumentTypeError(str(error)) from None
    if odd := _ODD.search(folder):
        raise ArgumentTypeError(f"{text!r} has {odd[0]!r}, which gcloud would misread: deploy by hand for this folder")
    return folder


def _tasks(text: str) -> int:
    if not (text.isdecimal() and 1 <= int(text) <= MAX_TASKS):
        raise ArgumentTypeError(f"{text!r} is not a number of tasks from 1 to {MAX_TASKS:,}")
    return int(text)


def _schedule(text: str) -> str:
    try:
        check_schedule(text)
    except ValueError as error:
        raise ArgumentTypeError(str(error)) from None
    return text


def _trigger(text: str) -> Trigger:
    try:
        return Trigger(text)
    except ValueError:
        raise ArgumentTypeError(f"{text!r} is none of {', '.join(Trigger)}") from None
