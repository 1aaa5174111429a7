"""Reads gcloud's descriptions: whether a thing is there, was made by this command, and is as it should be."""

import base64
import binascii
from collections.abc import Callable, Collection
from enum import Enum

from service.deploy.gcloud import Json, NotThere

MARK = "deployed-by=thumbnail-service"
"""Tells what this command made: a label if the thing may have some, else its description."""
LABEL, LABEL_VALUE = MARK.split("=")

PATIENCE = (
    "--ack-deadline=600 --min-retry-delay=10s --max-retry-delay=600s --dead-letter-topic=thumbnails-dead "
    "--max-delivery-attempts=100"
)
"""Of a subscription. `is_patient` reads it."""
_DEADLINE_SECONDS, _ATTEMPTS = 600, 100


class State(Enum):
    """What there is of a step."""

    MISSING = "missing"
    READY = "ready"
    OUTDATED = "outdated"
    """Ours, and not as it should be."""
    FOREIGN = "foreign"
    """Of that name, and not ours."""


Fill = Callable[[str], str]
"""Replaces the variables in a text."""
Fits = Callable[[Json, Fill], bool]
Read = Callable[[Json, Fill], State]


def there(_: Json, __: Fill) -> State:
    """Read the description of something that bears no mark: it is there."""
    return State.READY


def _always(_: Json, __: Fill) -> bool:
    return True


def is_ours(found: Json) -> bool:
    """Return True if the labels have the mark."""
    return bool(_get(found, "labels", LABEL) == LABEL_VALUE)


def labelled(*path: str, fits: Fits = _always) -> Read:
    """Read something that has its labels at this path."""

    def read(found: Json, fill: Fill) -> State:
        return _fitting(fits, found, fill) if is_ours(_get(found, *path)) else State.FOREIGN

    return read


def described(fits: Fits = _always) -> Read:
    """Read something that has a description in place of labels."""

    def read(found: Json, fill: Fill) -> State:
        return _fitting(fits, found, fill) if bears_mark(found) else State.FOREIGN

    return read


def bears_mark(found: Json, mark: str = MARK) -> bool:
    """Return True if the description begins with the mark."""
    return str(_get(found, "description") or "").startswith(mark)


def _fitting(fits: Fits, found: Json, fill: Fill) -> State:
    try:
        return State.READY if fits(found, fill) else State.OUTDATED
    except NotThere:
        return State.OUTDATED


def granted(role: str, member: str) -> Read:
    """Read a policy."""

    def read(found: Json, fill: Fill) -> State:
        who = f"serviceAccount:{fill(member)}"
        for binding in _get(found, "bindings") or []:
            if binding["role"] == role and who in binding["members"] and "condition" not in binding:
                return State.READY
        return State.MISSING

    return read


def enabled(apis: Collection[str]) -> Read:
    """Read the list of APIs."""

    def read(found: Json, _: Fill) -> State:
        names = {_get(api, "config", "name") for api in found}
        return State.READY if names.issuperset(apis) else State.MISSING

    return read


def is_current(found: Json, fill: Fill) -> bool:
    """Return True if a service or a job of these sources is deployed, and works."""
    conditions = {each["type"]: each["status"] for each in _get(found, "status", "conditions") or []}
    return _get(found, "metadata", "labels", "source") == fill("$SOURCE") and conditions.get("Ready") == "True"


def environment(found: Json) -> dict[str, str]:
    """Return the settings in the description of a Cloud Run service or job."""
    template = _get(found, "spec", "template", "spec") or {}
    template = _get(template, "template", "spec") or template
    container = (template.get("containers") or [{}])[0]
    return {variable["name"]: variable.get("value", "") for variable in container.get("env") or []}


def tasks_of(found: Json) -> int | None:
    """Return the number of tasks in the description of a job."""
    count = _get(found, "spec", "template", "spec", "taskCount")
    return count if isinstance(count, int) else None


def settings_are(wanted: dict[str, str], tasks: int | None) -> Read:
    """Read the settings of a service or a job, and the job's number of tasks."""

    def read(found: Json, fill: Fill) -> State:
        settings = environment(found)
        # The layout is a matter of taste: somebody may have chosen another one.
        right = all(settings.get(name) == fill(value) for name, value in wanted.items() if name != "OUTPUT_LAYOUT")
        right = right and "OUTPUT_LAYOUT" in settings
        return State.READY if right and (tasks is None or tasks_of(found) == tasks) else State.OUTDATED

    return read


def is_trigger(found: Json, fill: Fill) -> bool:
    """Return True if a trigger is between this bucket and the service of this region."""
    filters = {(each["attribute"], each["value"]) for each in _get(found, "eventFilters") or []}
    run = _get(found, "destination", "cloudRun") or {}
    return ("bucket", fill("$BUCKET")) in filters and run.get("region") == fill("$REGION")


def is_patient(found: Json, _: Fill) -> bool:
    """Return True if a subscription gives events the time that they take."""
    return (
        _get(found, "ackDeadlineSeconds") == _DEADLINE_SECONDS
        and str(_get(found, "deadLetterPolicy", "deadLetterTopic")).endswith("/thumbnails-dead")
        and _get(found, "deadLetterPolicy", "maxDeliveryAttempts") == _ATTEMPTS
    )


def patient(found: Json, fill: Fill) -> State:
    """Read a subscription that something else made."""
    return State.READY if is_patient(found, fill) else State.OUTDATED


def is_push(found: Json, fill: Fill) -> bool:
    """Return True if a subscription calls the service."""
    endpoint = _get(found, "pushConfig", "pushEndpoint")
    return endpoint == fill("https://$SERVICE_HOST/events") and is_patient(found, fill)


def notification_is(prefix: str) -> Read:
    """Read the notification configurations of a bucket."""

    def read(found: Json, fill: Fill) -> State:
        topic = fill("//pubsub.googleapis.com/projects/$PROJECT/topics/thumbnails")
        configurations = [each["Notification Configuration"] for each in found or []]
        ours = [each for each in configurations if each["topic"] == topic]
        if not ours:
            return State.MISSING
        return State.READY if all(each.get("object_name_prefix", "") == prefix for each in ours) else State.OUTDATED

    return read


def is_repair(uri: str) -> Fits:
    """Compare a job of Cloud Scheduler."""

    def fits(found: Json, fill: Fill) -> bool:
        target = _get(found, "httpTarget") or {}
        try:
            body = base64.b64decode(target.get("body", ""), validate=True).decode()
        except (binascii.Error, UnicodeDecodeError):
            body = target["body"]
        return (found["schedule"], target["uri"], body) == (fill("$SCHEDULE"), fill(uri), fill("$REPAIR"))

    return fits


def _get(found: Json, *path: str) -> Json:
    """Return what a description has at this path, or None."""
    for key in path:
        found = found.get(key) if isinstance(found, dict) else None
    return found
