"""A step of the table, and the kinds of steps that are in it several times."""

from dataclasses import dataclass

from service.deploy.states import LABEL, MARK, Read, granted, labelled

RUN_SA, BUILD_SA, CALL_SA = (
    f"{name}@$PROJECT.iam.gserviceaccount.com" for name in ("thumbnails", "thumbnails-build", "thumbnails-call")
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One thing to make, or one right to grant."""

    what: str
    why: str
    look: str
    """Command that describes the thing."""
    read: Read
    """Reads the description."""
    make: tuple[str, ...]
    remove: tuple[str, ...] = ()
    """Empty if it goes with another thing."""
    wanted: bool = True
    grants: bool = False
    replaced: bool = False
    """If outdated, it is removed and made; otherwise making it brings it up to date."""
    mark: str = ""
    """Where its description has the mark, as a projection of `--format`. Empty: it bears none."""
    proof: tuple[str, str] | None = None
    """Command that describes an account, and what its description begins with if removing this is up to us."""
    test: str | None = None
    """Shell command that succeeds if there is nothing to do; None: `look` does. Empty: `make` can be repeated."""


def on_bucket(variable: str, bucket: str, role: str, why: str, *, wanted: bool = True) -> Step:
    """Return the step that grants the service's account a role on a bucket."""
    binding = f"gs://${variable} --member=serviceAccount:$RUN_SA --role={role}"
    return Step(
        what=f"{role} on {bucket} to thumbnails",
        why=why,
        grants=True,
        look=f"gcloud storage buckets get-iam-policy gs://${variable}",
        read=granted(role, "$RUN_SA"),
        make=(f"gcloud storage buckets add-iam-policy-binding {binding}",),
        remove=(f"gcloud storage buckets remove-iam-policy-binding {binding}",),
        proof=(f"gcloud iam service-accounts describe {RUN_SA}", MARK),
        wanted=wanted,
        test="",
    )


def on_project(variable: str, email: str, role: str, why: str, *, wanted: bool = True) -> Step:
    """Return the step that grants an account a role on the project."""
    binding = f"$PROJECT --member=serviceAccount:${variable} --role={role} --condition=None"
    return Step(
        what=f"{role} on the project to {email.partition('@')[0]}",
        why=why,
        grants=True,
        look="gcloud projects get-iam-policy $PROJECT",
        read=granted(role, f"${variable}"),
        make=(f"gcloud projects add-iam-policy-binding {binding}",),
        remove=(f"gcloud projects remove-iam-policy-binding {binding}",),
        proof=(f"gcloud iam service-accounts describe {email}", MARK),
        wanted=wanted,
        test="",
    )


def topic(name: str, why: str, *, wanted: bool) -> Step:
    """Return the step that makes a topic."""
    return Step(
        what=f"topic {name}",
        why=why,
        look=f"gcloud pubsub topics describe {name}",
        read=labelled(),
        mark=f"labels.{LABEL}",
        make=(f"gcloud pubsub topics create {name} --labels={MARK}",),
        remove=(f"gcloud pubsub topics delete {name}",),
        wanted=wanted,
    )


def on_topic(topic: str, variable: str, whose: str, why: str, *, wanted: bool) -> Step:
    """Return the step that lets an account publish to a topic."""
    return Step(
        what=f"roles/pubsub.publisher on topic {topic} to {whose}'s own account",
        why=why,
        grants=True,
        look=f"gcloud pubsub topics get-iam-policy {topic}",
        read=granted("roles/pubsub.publisher", f"${variable}"),
        make=(
            (
                f"gcloud pubsub topics add-iam-policy-binding {topic} --member=serviceAccount:${variable} "
                "--role=roles/pubsub.publisher"
            ),
        ),
        wanted=wanted,
        test="",
    )


def on_subscription(subscription: str, *, wanted: bool) -> Step:
    """Return the step that lets Pub/Sub take refused events out of a subscription."""
    what = "the trigger's subscription" if subscription.startswith("$") else f"subscription {subscription}"
    return Step(
        what=f"roles/pubsub.subscriber on {what} to Pub/Sub's own account",
        why="takes events away that were refused too often",
        grants=True,
        look=f"gcloud pubsub subscriptions get-iam-policy {subscription}",
        read=granted("roles/pubsub.subscriber", "$PUBSUB_SA"),
        make=(
            (
                f"gcloud pubsub subscriptions add-iam-policy-binding {subscription} --member=serviceAccount:$PUBSUB_SA "
                "--role=roles/pubsub.subscriber"
            ),
        ),
        wanted=wanted,
        test="",
    )


def says(command: str, projection: str, text: str) -> str:
    """Return a shell command that succeeds if a command of gcloud prints this text."""
    return f'[ "$({command} --format="value({projection})" 2>/dev/null)" = "{text}" ]'
