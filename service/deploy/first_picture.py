"""The last step: a picture that this command uploads, and its thumbnail, which proves that all parts work together."""

from datetime import datetime

from service.deploy.gcloud import PAUSES, Gcloud
from service.deploy.options import Options, Trigger
from service.deploy.problem import DeployProblem
from service.deploy.step import JOB
from service.naming import Hour

NAME = "thumbnail-service-first-picture"
FILE = "service/deploy/first-picture.jpg"
WHAT = "first thumbnail"

UPLOAD = f'gcloud storage cp {FILE} "gs://$BUCKET/${{PREFIX}}{NAME}/{NAME}.jpg"'
"""In a folder of its own, so that a run over that folder reads nothing else."""
EXECUTE = (
    f"gcloud run jobs execute {JOB} --region=$REGION --wait "
    f'--args="^;^-m;service.job;--timestamp=created;--input-folder=gs://$BUCKET/${{PREFIX}}{NAME}"'
)
"""Without a trigger, nothing else would read it before night."""

DESCRIBE = f'gcloud storage objects describe "gs://$BUCKET/${{PREFIX}}{NAME}/{NAME}.jpg" --raw'
LIST = f'gcloud storage ls "gs://$OUTPUT_BUCKET/$HOUR/{NAME}**"'
_SECOND_UPLOAD = 6
"""At which of the pauses to upload it again: a new trigger may take two minutes until it passes events on."""


def thumbnail(gcloud: Gcloud) -> str | None:
    """Return the address of the thumbnail, or None if it is not there."""
    source = gcloud.look(f"{DESCRIBE} --format=json")
    if source is None:
        return None
    gcloud.variables["HOUR"] = str(Hour.of(datetime.fromisoformat(source["timeCreated"])))
    found = gcloud.text(LIST)
    return found.splitlines()[0] if found else None


def make_thumbnail(options: Options, gcloud: Gcloud) -> str:
    """Upload the picture if it is not there, wait for its thumbnail, and return the thumbnail's address.

    Raises:
        DeployProblem: there is none after some minutes.
    """
    if address := thumbnail(gcloud):
        return address
    gcloud.say(f"  + {WHAT}: uploads a picture to {options.input_folder}/{NAME} and waits")
    gcloud.do(UPLOAD)
    if options.trigger == Trigger.NONE:
        gcloud.do(EXECUTE)
    for number, pause in enumerate(PAUSES):
        gcloud.forget()
        if address := thumbnail(gcloud):
            return address
        if number == _SECOND_UPLOAD and options.trigger != Trigger.NONE:
            gcloud.do(UPLOAD)
        gcloud.sleep(pause)
    raise DeployProblem(
        f"all is deployed, but the picture {gcloud.fill(f'gs://$BUCKET/${{PREFIX}}{NAME}')} has no thumbnail after "
        f"{sum(PAUSES) // 60} minutes: look into the log with \"gcloud logging read 'resource.type=cloud_run_revision' "
        f'--project={gcloud.variables["PROJECT"]} --freshness=1h", then call this again'
    )
