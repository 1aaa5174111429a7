"""Checks before anything is made: the login, the project, its billing, the buckets, the sources."""

import hashlib
from dataclasses import replace
from pathlib import Path

from service.deploy.gcloud import NO_BILLING, Gcloud, Json
from service.deploy.options import Options, Trigger
from service.deploy.problem import WRONG, DeployProblem
from service.deploy.states import environment, is_ours, tasks_of
from service.deploy.step import JOB, SERVICE
from service.deploy.steps import COMMANDS, variables

ROOT = Path(__file__).resolve().parents[2]
_SOURCES = ("Dockerfile", ".dockerignore", "cloudbuild.yaml", "pyproject.toml", "uv.lock")
_NOT_SHIPPED = frozenset({"demo", "deploy", "__pycache__"})
DEFAULT_REGION = "us-central1"


def prepare(options: Options, gcloud: Gcloud, root: Path = ROOT) -> Options:
    """Check all that, give gcloud its variables, and return the options with what they left open.

    Raises:
        DeployProblem: something has to be put right first.
    """
    if not options.undo:
        check_sources(root)
    gcloud.account = _account(gcloud)
    gcloud.variables["PROJECT"] = options.project or _configured_project(gcloud)
    number = _project_number(gcloud)
    if not options.undo:
        _check_billing(gcloud)
    location, owner = _bucket(options, gcloud)
    region = region_of(options, location)
    if owner not in {None, number} and options.trigger == Trigger.EVENTARC and not options.undo:
        raise DeployProblem(
            f"gs://{options.bucket} is in project {owner}, and an Eventarc trigger has to be in the bucket's project: "
            "deploy to that project, or use --trigger=notification",
            WRONG,
        )
    known = {
        "PROJECT_NUMBER": number,
        "BUCKET": options.bucket,
        "BUCKET_LOCATION": location or region,
        "BUCKET_PROJECT": owner if owner and owner != number else gcloud.variables["PROJECT"],
        "REGION": region,
    }
    gcloud.variables |= known
    gcloud.commands = COMMANDS
    options = _with_what_is_deployed(options, gcloud)
    for name, text in variables(options, "" if options.undo else fingerprint(root)).items():
        gcloud.variables[name] = gcloud.fill(text)
    return options


def check_sources(root: Path) -> None:
    """Make sure that this is a clone, which is what is built.

    Raises:
        DeployProblem: it is not.
    """
    lacking = [name for name in _SOURCES if not (root / name).is_file()]
    if lacking:
        raise DeployProblem(
            f"{root} has no {lacking[0]}: run 'uv run deploy' in a clone of the repository, which is what is built",
            WRONG,
        )


def fingerprint(root: Path) -> str:
    """Return a digest of all that an image is built of: another one is a reason to build."""
    digest = hashlib.sha256()
    files = [root / name for name in _SOURCES]
    files += (
        path for path in (root / "service").rglob("*") if not _NOT_SHIPPED.intersection(path.relative_to(root).parts)
    )
    for path in sorted(path for path in files if path.is_file()):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(root).as_posix()} {len(content)}\n".encode() + content)
    return digest.hexdigest()[:16]


def region_of(options: Options, location: str | None) -> str:
    """Return the region of the service for a bucket in this location; None if there is no bucket.

    Raises:
        DeployProblem: the options do not say it, or contradict the bucket.
    """
    if location is None:
        if options.undo and not options.region:
            raise DeployProblem(
                f"gs://{options.bucket} is not there, so its region is unknown: say with --region where the service "
                "runs",
                WRONG,
            )
        return options.region or DEFAULT_REGION
    if "-" not in location:
        if options.region:
            return options.region
        raise DeployProblem(
            f"gs://{options.bucket} is in {location.upper()}, which is more than one region: say with --region in "
            f"which one of them the service is to run, such as --region={DEFAULT_REGION}",
            WRONG,
        )
    if options.region not in {None, location}:
        raise DeployProblem(
            f"gs://{options.bucket} is in {location}, and traffic from there to {options.region} costs money for each "
            f"image: leave --region out, or say --region={location}",
            WRONG,
        )
    return location


def _account(gcloud: Gcloud) -> str:
    accounts = gcloud.look("gcloud auth list --filter=status:ACTIVE --format=json")
    if not accounts:
        raise DeployProblem("gcloud is not logged in: run 'gcloud auth login'", WRONG)
    return str(accounts[0]["account"])


def _configured_project(gcloud: Gcloud) -> str:
    configured = gcloud.look("gcloud config list core/project --format=json") or {}
    project = configured.get("core", {}).get("project")
    if not project:
        raise DeployProblem("no project is named: add --project=PROJECT_ID ('gcloud projects list' shows yours)", WRONG)
    return str(project)


def _project_number(gcloud: Gcloud) -> str:
    project = gcloud.variables["PROJECT"]
    try:
        found = gcloud.look("gcloud projects describe $PROJECT --format=json")
    except DeployProblem as problem:
        # Google says the same of a project that is not there and of one that belongs to others.
        if problem.status == WRONG:
            raise
        found = None
    if not found or found.get("lifecycleState", "ACTIVE") != "ACTIVE":
        raise DeployProblem(
            f"{gcloud.account} sees no project {project}: look for a typing error, or create it with 'gcloud projects "
            f"create {project}'",
            WRONG,
        )
    return str(found["projectNumber"])


def _check_billing(gcloud: Gcloud) -> None:
    try:
        found = gcloud.look("gcloud billing projects describe $PROJECT --format=json")
    except DeployProblem as problem:
        if problem.status == WRONG:
            raise
        # Not everybody may ask that. Then enabling the APIs tells.
        return
    if found and not found.get("billingEnabled", True):
        raise DeployProblem(NO_BILLING.format(project=gcloud.variables["PROJECT"]), WRONG)


def _bucket(options: Options, gcloud: Gcloud) -> tuple[str | None, str | None]:
    """Return the bucket's location in lower case, and the number of its project; None if it is yet to be made."""
    found = _described(options.bucket, gcloud)
    if options.output_bucket:
        _described(options.output_bucket, gcloud)
    if found is None:
        return None, None
    return str(found["location"]).lower(), str(found.get("projectNumber") or "") or None


def _described(bucket: str, gcloud: Gcloud) -> Json:
    try:
        return gcloud.look(f"gcloud storage buckets describe gs://{bucket} --raw --format=json")
    except DeployProblem as problem:
        if problem.status == WRONG:
            raise
        raise DeployProblem(
            f"gs://{bucket} belongs to others, or {gcloud.account} may not see it ({problem}): take another name, or "
            "ask for the role roles/storage.admin on it",
            WRONG,
        ) from None


def _with_what_is_deployed(options: Options, gcloud: Gcloud) -> Options:
    """Refuse to turn our service for another bucket into one for this bucket; keep what it has.

    Raises:
        DeployProblem: the service is there for another bucket.
    """
    found = gcloud.look(f"gcloud run services describe {SERVICE} --region=$REGION --format=json")
    if found is None or not is_ours(found.get("metadata", {})):
        return options
    settings = environment(found)
    folder = settings.get("INPUT_FOLDER", options.input_folder)
    other = folder.removeprefix("gs://").partition("/")[0]
    if other != options.bucket:
        raise DeployProblem(
            f"the service {SERVICE} of project {gcloud.variables['PROJECT']} makes thumbnails of {folder}: take "
            f"another project for gs://{options.bucket}, or first undo that with 'uv run deploy --undo "
            f"--bucket={other}'",
            WRONG,
        )
    job = gcloud.look(f"gcloud run jobs describe {JOB} --region=$REGION --format=json")
    return replace(
        options,
        output_bucket=options.output_bucket or settings.get("OUTPUT_BUCKET") or None,
        tasks=options.tasks or (tasks_of(job) if job else None),
        layout=settings.get("OUTPUT_LAYOUT") or options.layout,
    )
