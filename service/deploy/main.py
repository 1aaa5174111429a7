"""Command line of `uv run deploy`."""

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from service.deploy.converge import Changes, changes, make, remove
from service.deploy.first_picture import make_thumbnail, thumbnail
from service.deploy.gcloud import Gcloud, Runner, installed_gcloud
from service.deploy.options import Options, parse_options
from service.deploy.preflight import ROOT, check_sources, prepare
from service.deploy.problem import WRONG, DeployProblem
from service.deploy.script import script
from service.deploy.step import JOB, SERVICE
from service.deploy.steps import steps

_COSTS = """
At rest (list prices of November 2026, which Google's pages may have changed):
  Cloud Run, Eventarc, Pub/Sub    nothing without images
  Cloud Scheduler                 0.10 dollars a month; three jobs of a billing account are free
  Artifact Registry               0.10 dollars a GB and month; half a GB is free. Each build leaves an image there
  Cloud Build                     nothing at rest; 2,500 minutes a month are free, and a build takes about ten
  the nightly repair              0.05 dollars for listing ten million objects, and a minute or so of processor time
An image costs one read and one write when it comes; .readme/operating.md#cost has the figures."""


@dataclass(frozen=True, slots=True)
class Terminal:
    """What the command needs of the outside."""

    say: Callable[[str], None]
    ask: Callable[[str], str] | None
    """None if nobody is there to answer."""
    sleep: Callable[[float], None]


def main(argv: Sequence[str] | None = None) -> int:
    """Deploy and return the exit status.

    Args:
        argv: instead of the process's own arguments.
    """
    options = parse_options(argv)
    terminal = Terminal(_say, input if sys.stdin.isatty() else None, time.sleep)
    try:
        if options.dry_run:
            check_sources(ROOT)
            sys.stdout.write(script(options, ROOT))
            return 0
        deploy(options, installed_gcloud(ROOT), terminal)
    except DeployProblem as problem:
        sys.stderr.write(f"deploy: {problem}\n")
        return problem.status
    except KeyboardInterrupt:
        sys.stderr.write("\ndeploy: interrupted; the same command goes on from here\n")
        return 130
    return 0


def deploy(options: Options, run: Runner, terminal: Terminal) -> None:
    """Look, ask, and make or take away.

    Raises:
        DeployProblem: it cannot go on, or nobody agrees.
    """
    say = terminal.say
    gcloud = Gcloud(run, terminal.sleep, say)
    say("Looking at what is there ...")
    options = prepare(options, gcloud)
    table = steps(options)
    found = changes(table, gcloud, undo=options.undo)
    picture = not options.undo and thumbnail(gcloud) is None
    if found or picture:
        for line in _intention(options, found, gcloud):
            say(line)
        _agree(options, terminal)
        if not options.undo:
            make(table, gcloud)
        remove(found.remove, gcloud)
    else:
        say("Nothing is to be done.")
    ending = _left(options, gcloud) if options.undo else _addresses(make_thumbnail(options, gcloud), options, gcloud)
    for line in ending:
        say(line)


def _intention(options: Options, found: Changes, gcloud: Gcloud) -> Iterator[str]:
    """Yield what will be done, and what it costs."""
    where = gcloud.fill("project $PROJECT, region $REGION, as ") + gcloud.account
    yield f"\n{'Undoing' if options.undo else 'Deploying'} in {where}"
    making = [step for step in found.make if not step.grants]
    granting = [step for step in found.make if step.grants]
    for title, chosen in (
        ("Makes", making),
        ("Grants", granting),
        ("Changes", found.update),
        ("Takes away", found.remove),
    ):
        if chosen:
            yield f"\n{title}:"
            yield from (f"  {step.what}" if step in found.remove else f"  {step.what}: {step.why}" for step in chosen)
    if not options.undo:
        yield _COSTS


def _agree(options: Options, terminal: Terminal) -> None:
    if options.yes:
        return
    if terminal.ask is None:
        raise DeployProblem("nobody is there to be asked, so nothing was changed: add --yes", WRONG)
    if terminal.ask("\nGo on? [y/N] ").strip().lower() not in {"y", "yes"}:
        raise DeployProblem("nothing was changed")


def _addresses(first: str, options: Options, gcloud: Gcloud) -> Iterator[str]:
    fill = gcloud.fill
    yield f"\nThe first thumbnail  {first}"
    yield fill("The service          https://$SERVICE_HOST")
    yield fill("Thumbnails           gs://$OUTPUT_BUCKET/<HOUR>/")
    yield "The start page       http://localhost:8080, after"
    yield fill(f"  gcloud run services proxy {SERVICE} --project=$PROJECT --region=$REGION")
    if options.job:
        execute = fill(f"  gcloud run jobs execute {JOB} --project=$PROJECT --region=$REGION --wait")
        yield f"What the images that are there already would cost, and their thumbnails:\n{execute} \\"
        yield f"    --args=-m,service.job,--dry-run\n{execute}"


def _left(options: Options, gcloud: Gcloud) -> Iterator[str]:
    buckets = dict.fromkeys([options.bucket, options.thumbnails_bucket])
    yield f"\nImages, thumbnails and {', '.join(f'gs://{name}' for name in buckets)} stay."
    yield gcloud.fill(
        "So do the APIs, and gs://${PROJECT}_cloudbuild, where Cloud Build keeps what is uploaded to it: other things "
        "may use them."
    )


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
