"""The table of steps: what is made, why, how to see that it is there, how to make it and how to take it away.

All commands are shell text with `$VARIABLES`. The same text is run, printed by `--dry-run`, and stands on the page.
"""

import json
from collections.abc import Iterator

from service.deploy.event_steps import FIND_NOTIFICATION, event_steps
from service.deploy.options import Options, Trigger
from service.deploy.states import (
    LABEL,
    MARK,
    described,
    enabled,
    is_current,
    is_repair,
    labelled,
    settings_are,
    there,
)
from service.deploy.step import (
    BUILD_SA,
    CALL_SA,
    JOB,
    RUN_SA,
    SERVICE,
    Step,
    grant,
    on_bucket,
    on_project,
    says,
)

APIS = (
    "iam.googleapis.com",
    "cloudresourcemanager.googleapis.com",
    "run.googleapis.com",
    "eventarc.googleapis.com",
    "pubsub.googleapis.com",
    "cloudscheduler.googleapis.com",
    "artifactregistry.googleapis.com",
    "cloudbuild.googleapis.com",
    "containeranalysis.googleapis.com",
    "storage.googleapis.com",
)

_REPAIRED_DAYS = {Trigger.EVENTARC: "2d", Trigger.NOTIFICATION: "8d"}
"""Age of the images that the nightly repair looks at: a day more than Pub/Sub goes on to deliver their events."""


def steps(options: Options) -> list[Step]:
    """Return all steps, in order; those that these options do not want, too."""
    return [
        *_project_steps(options),
        *_account_steps(options),
        *_run_steps(options),
        *event_steps(options),
        *_repair_steps(options),
    ]


def variables(options: Options, source: str) -> dict[str, str]:
    """Return the variables whose values follow from the options; they may refer to those before."""
    repair = _repair_body(options)
    return {
        "RUN_SA": RUN_SA,
        "BUILD_SA": BUILD_SA,
        "CALL_SA": CALL_SA,
        "INPUT_FOLDER": options.input_folder,
        "PREFIX": options.prefix,
        "OUTPUT_BUCKET": options.thumbnails_bucket,
        "TASKS": str(options.tasks or ""),
        "SCHEDULE": options.schedule,
        "REPAIR": repair,
        "SOURCE": source,
        "LABELS": f"{MARK},source=$SOURCE",
        "PUBSUB_SA": "service-$PROJECT_NUMBER@gcp-sa-pubsub.iam.gserviceaccount.com",
    }


COMMANDS = {
    "PROJECT_NUMBER": "gcloud projects describe $PROJECT --format='value(projectNumber)'",
    "STORAGE_SA": "gcloud storage service-agent --project=$BUCKET_PROJECT",
    "SERVICE_HOST": f"gcloud run services describe {SERVICE} --region=$REGION --format='value(status.url.basename())'",
    "SUBSCRIPTION": "gcloud eventarc triggers describe thumbnails --location=$BUCKET_LOCATION "
    "--format='value(transport.pubsub.subscription)'",
    "NOTIFICATION": FIND_NOTIFICATION,
}
"""Variables that only gcloud knows, and the commands that print them."""


# The rows


def _project_steps(options: Options) -> Iterator[Step]:
    yield Step(
        what="the APIs of Cloud Run, Eventarc, Pub/Sub, Scheduler, Build and Artifact Registry",
        why="what the steps below use",
        look="gcloud services list --enabled",
        read=enabled(APIS),
        make=(f"gcloud services enable {' '.join(APIS)}",),
        test="",
    )
    for name, region, what in (
        ("BUCKET", "BUCKET_LOCATION", "for the images"),
        ("OUTPUT_BUCKET", "REGION", "for the thumbnails"),
    ):
        yield Step(
            what=f"bucket gs://{options.bucket if name == 'BUCKET' else options.thumbnails_bucket}",
            why=what,
            look=f"gcloud storage buckets describe gs://${name}",
            read=there,
            make=(f"gcloud storage buckets create gs://${name} --location=${region} --uniform-bucket-level-access",),
            wanted=name == "BUCKET" or bool(options.output_bucket),
        )
    yield Step(
        what="Artifact Registry repository thumbnails",
        why="keeps the container's images",
        look="gcloud artifacts repositories describe thumbnails --location=$REGION",
        read=labelled(),
        mark=f"labels.{LABEL}",
        make=(
            (
                "gcloud artifacts repositories create thumbnails --repository-format=docker --location=$REGION "
                f"--labels={MARK}"
            ),
        ),
        remove=("gcloud artifacts repositories delete thumbnails --location=$REGION --quiet",),
    )


def _account_steps(options: Options) -> Iterator[Step]:
    for email, why in (
        (RUN_SA, "the service and the job act as it"),
        (BUILD_SA, "builds and deploys"),
        (CALL_SA, "calls the service and the job"),
    ):
        name = email.partition("@")[0]
        yield Step(
            what=f"service account {name}",
            why=why,
            look=f"gcloud iam service-accounts describe {email}",
            read=described(),
            mark="description",
            make=(f"gcloud iam service-accounts create {name} --description={MARK}",),
            remove=(f"gcloud iam service-accounts delete {email} --quiet",),
        )
    split = bool(options.output_bucket)
    bucket, output = f"gs://{options.bucket}", f"gs://{options.thumbnails_bucket}"
    whole = "reads images, writes thumbnails"
    yield on_bucket("BUCKET", bucket, "roles/storage.objectUser", whole, wanted=not split)
    yield on_bucket("BUCKET", bucket, "roles/storage.objectViewer", "reads images", wanted=split)
    if split:
        yield on_bucket("OUTPUT_BUCKET", output, "roles/storage.objectUser", "writes thumbnails")
    yield on_project("BUILD_SA", BUILD_SA, "roles/cloudbuild.builds.builder", "builds the image")
    yield on_project("BUILD_SA", BUILD_SA, "roles/run.developer", "deploys the service and the job")
    yield grant(
        "roles/iam.serviceAccountUser",
        ("iam service-accounts", RUN_SA, "thumbnails"),
        ("BUILD_SA", "thumbnails-build"),
        "deploys what acts as that account",
    )


def _run_steps(options: Options) -> Iterator[Step]:
    tasks = ";_TASKS=$TASKS" if options.tasks else ""
    job = "" if options.job else ";_JOB="
    build = (
        "gcloud builds submit --region=$REGION --service-account=projects/$PROJECT/serviceAccounts/$BUILD_SA "
        f'--substitutions="^;^_REGION=$REGION;_INPUT_FOLDER=$INPUT_FOLDER{tasks}{job};_LABELS=$LABELS"'
    )
    service = f"gcloud run services describe {SERVICE} --region=$REGION"
    yield Step(
        what=f"Cloud Run service {SERVICE}",
        why="tested, built and deployed by Cloud Build, which takes about ten minutes",
        look=service,
        read=labelled("metadata", fits=is_current),
        mark=f"metadata.labels.{LABEL}",
        make=(build,),
        remove=(f"gcloud run services delete {SERVICE} --region=$REGION --quiet",),
        test=says(service, "metadata.labels.source", "$SOURCE"),
    )
    described_job = f"gcloud run jobs describe {JOB} --region=$REGION"
    yield Step(
        what=f"Cloud Run job {JOB}",
        why="makes the thumbnails of whole folders; the same build deploys it",
        look=described_job,
        read=labelled("metadata", fits=is_current),
        mark=f"metadata.labels.{LABEL}",
        make=(build,),
        remove=(f"gcloud run jobs delete {JOB} --region=$REGION --quiet",),
        wanted=options.job,
        test=says(described_job, "metadata.labels.source", "$SOURCE"),
    )
    wanted = {"INPUT_FOLDER": "$INPUT_FOLDER", "TIMESTAMP": "created", "OUTPUT_LAYOUT": options.layout}
    if options.output_bucket:
        wanted["OUTPUT_BUCKET"] = "$OUTPUT_BUCKET"
    settings = ";".join(f"{name}={value}" for name, value in wanted.items())
    yield Step(
        what="settings of the service",
        why="each thumbnail has one address, whichever way its image comes",
        look=service,
        read=settings_are(wanted, None),
        make=(f'gcloud run services update {SERVICE} --region=$REGION --update-env-vars="^;^{settings}"',),
        test="",
    )
    count = " --tasks=$TASKS" if options.tasks else ""
    yield Step(
        what="settings of the job",
        why="the same",
        look=described_job,
        read=settings_are(wanted, options.tasks),
        make=(f'gcloud run jobs update {JOB} --region=$REGION{count} --update-env-vars="^;^{settings}"',),
        wanted=options.job,
        test="",
    )
    yield grant(
        "roles/run.invoker",
        ("run services", f"{SERVICE} --region=$REGION", f"service {SERVICE}"),
        ("CALL_SA", "thumbnails-call"),
        "calls it for each new image",
        wanted=options.trigger != Trigger.NONE or not options.job,
    )


def _repair_steps(options: Options) -> Iterator[Step]:
    yield grant(
        "roles/run.developer",
        ("run jobs", f"{JOB} --region=$REGION", f"job {JOB}"),
        ("CALL_SA", "thumbnails-call"),
        "executes it with arguments",
        wanted=options.job,
    )
    if options.job:
        uri = f"https://run.googleapis.com/v2/projects/$PROJECT/locations/$REGION/jobs/{JOB}:run"
        caller = "--oauth-service-account-email=$CALL_SA"
    else:
        uri = "https://$SERVICE_HOST/run"
        caller = "--oidc-service-account-email=$CALL_SA --oidc-token-audience=https://$SERVICE_HOST"
        caller += " --attempt-deadline=1800s"
    yield Step(
        what="Cloud Scheduler job thumbnails-nightly",
        why="makes what is still missing of the latest images",
        look="gcloud scheduler jobs describe thumbnails-nightly --location=$REGION",
        read=described(is_repair(uri)),
        mark="description",
        make=(
            (
                "gcloud scheduler jobs create http thumbnails-nightly --location=$REGION "
                f'--schedule="$SCHEDULE" --uri={uri} --http-method=post '
                f'--headers=Content-Type=application/json --message-body="$REPAIR" {caller} '
                f"--max-retry-attempts=2 --description={MARK}"
            ),
        ),
        remove=("gcloud scheduler jobs delete thumbnails-nightly --location=$REGION --quiet",),
        replaced=True,
    )


def _repair_body(options: Options) -> str:
    since = _REPAIRED_DAYS.get(options.trigger)
    if not options.job:
        return json.dumps({"timestamp": "created"} | ({"since": since} if since else {}))
    arguments = ["-m", "service.job", "--timestamp=created", *([f"--since={since}"] if since else [])]
    return json.dumps({"overrides": {"containerOverrides": [{"args": arguments}]}})
