"""The steps that tell the service of new images, by Eventarc or by a notification, and that keep refused events."""

from collections.abc import Iterator

from service.deploy.options import Options, Trigger
from service.deploy.states import (
    LABEL,
    MARK,
    PATIENCE,
    granted,
    is_push,
    is_trigger,
    labelled,
    notification_is,
    patient,
)
from service.deploy.step import CALL_SA, SERVICE, Step, on_project, on_subscription, on_topic, topic

GRANTED = f"{MARK}; granted roles/pubsub.publisher to Cloud Storage"
"""The description of an account, if a grant to an account that is not ours was made, too."""
FIND_NOTIFICATION = (
    "gcloud storage buckets notifications list gs://$BUCKET "
    "--filter=\"'Notification Configuration'.topic=//pubsub.googleapis.com/projects/$PROJECT/topics/thumbnails\" "
    "--format=\"value('Notification Configuration'.id)\""
)
"""Command that prints the number of the notification."""


def event_steps(options: Options) -> Iterator[Step]:
    """Yield the steps, in order; those that these options do not want, too."""
    yield from _dead_letter_steps(options)
    yield from _eventarc_steps(options)
    yield from _notification_steps(options)


def _dead_letter_steps(options: Options) -> Iterator[Step]:
    wanted = options.trigger != Trigger.NONE
    yield topic("thumbnails-dead", "keeps the events that were refused a hundred times", wanted=wanted)
    yield Step(
        what="subscription thumbnails-dead",
        why="to see them",
        look="gcloud pubsub subscriptions describe thumbnails-dead",
        read=labelled(),
        mark=f"labels.{LABEL}",
        make=(
            (
                "gcloud pubsub subscriptions create thumbnails-dead --topic=thumbnails-dead "
                f"--expiration-period=never --labels={MARK}"
            ),
        ),
        remove=("gcloud pubsub subscriptions delete thumbnails-dead",),
        wanted=wanted,
    )
    yield on_topic("thumbnails-dead", "PUBSUB_SA", "Pub/Sub", "moves events there", wanted=wanted)


def _eventarc_steps(options: Options) -> Iterator[Step]:
    wanted = options.trigger == Trigger.EVENTARC
    binding = "--member=serviceAccount:$STORAGE_SA --role=roles/pubsub.publisher --condition=None"
    yield Step(
        what="roles/pubsub.publisher on the project to Cloud Storage's own account",
        why="publishes the events",
        grants=True,
        look="gcloud projects get-iam-policy $PROJECT",
        read=granted("roles/pubsub.publisher", "$STORAGE_SA"),
        make=(
            f'gcloud iam service-accounts update {CALL_SA} --description="{GRANTED}"',
            f"gcloud projects add-iam-policy-binding $PROJECT {binding}",
        ),
        remove=(
            f"gcloud projects remove-iam-policy-binding $PROJECT {binding}",
            f"gcloud iam service-accounts update {CALL_SA} --description={MARK}",
        ),
        proof=(f"gcloud iam service-accounts describe {CALL_SA}", GRANTED),
        wanted=wanted,
        test='gcloud projects get-iam-policy $PROJECT --flatten="bindings[].members" --filter="bindings.role='
        'roles/pubsub.publisher AND bindings.members=serviceAccount:$STORAGE_SA" --format="value(bindings.role)" '
        "| grep -q .",
    )
    yield on_project("CALL_SA", CALL_SA, "roles/eventarc.eventReceiver", "receives events", wanted=wanted)
    yield Step(
        what="Eventarc trigger thumbnails",
        why="tells the service of each new image",
        look="gcloud eventarc triggers describe thumbnails --location=$BUCKET_LOCATION",
        read=labelled(fits=is_trigger),
        mark=f"labels.{LABEL}",
        make=(
            (
                "gcloud eventarc triggers create thumbnails --location=$BUCKET_LOCATION --destination-run-service="
                f"{SERVICE} --destination-run-region=$REGION --destination-run-path=/events "
                "--event-filters=type=google.cloud.storage.object.v1.finalized --event-filters=bucket=$BUCKET "
                f"--service-account=$CALL_SA --labels={MARK}"
            ),
        ),
        remove=("gcloud eventarc triggers delete thumbnails --location=$BUCKET_LOCATION --quiet",),
        replaced=True,
        wanted=wanted,
    )
    yield on_subscription("$SUBSCRIPTION", wanted=wanted)
    yield Step(
        what="the trigger's subscription",
        why="gives an event the time that a large image takes, and gives it up after a hundred attempts",
        look="gcloud pubsub subscriptions describe $SUBSCRIPTION",
        read=patient,
        make=(f"gcloud pubsub subscriptions update $SUBSCRIPTION {PATIENCE}",),
        wanted=wanted,
        test="",
    )


def _notification_steps(options: Options) -> Iterator[Step]:
    wanted = options.trigger == Trigger.NOTIFICATION
    yield topic("thumbnails", "carries the events", wanted=wanted)
    yield on_topic("thumbnails", "STORAGE_SA", "Cloud Storage", "publishes the events", wanted=wanted)
    yield Step(
        what="subscription thumbnails",
        why="calls the service for each event, for seven days",
        look="gcloud pubsub subscriptions describe thumbnails",
        read=labelled(fits=is_push),
        mark=f"labels.{LABEL}",
        make=(
            (
                "gcloud pubsub subscriptions create thumbnails --topic=thumbnails --push-endpoint="
                "https://$SERVICE_HOST/events --push-auth-service-account=$CALL_SA "
                "--push-auth-token-audience=https://$SERVICE_HOST --message-retention-duration=7d "
                f"--expiration-period=never {PATIENCE} --labels={MARK}"
            ),
        ),
        remove=("gcloud pubsub subscriptions delete thumbnails",),
        replaced=True,
        wanted=wanted,
    )
    yield on_subscription("thumbnails", wanted=wanted)
    prefix = ' --object-prefix="$PREFIX"' if options.prefix else ""
    yield Step(
        what=f"notification of new objects in {options.input_folder}",
        why="publishes an event for each image, and none for thumbnails",
        look="gcloud storage buckets notifications list gs://$BUCKET",
        read=notification_is(options.prefix),
        make=(
            (
                f"gcloud storage buckets notifications create gs://$BUCKET --topic=thumbnails "
                f"--event-types=OBJECT_FINALIZE{prefix} --payload-format=json"
            ),
        ),
        remove=(
            (
                "gcloud storage buckets notifications delete "
                "projects/_/buckets/$BUCKET/notificationConfigs/$NOTIFICATION --quiet"
            ),
        ),
        replaced=True,
        wanted=wanted,
        test=f'[ -n "$({FIND_NOTIFICATION})" ]',
    )
