"""A step of the table, and the kinds of steps that are in it several times."""

from dataclasses import dataclass

from service.deploy.states import LABEL, MARK, Read, granted, labelled

RUN_SA, BUILD_SA, CALL_SA = (
    f"{name}@$PROJECT.iam.gserviceaccount.com" for name in ("thumbnails", "thumbnails-build", "thumbnails-call")
)
SERVICE, JOB = "thumbnails", "thumbnails-job"


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


def grant(
    role: str,
    on: tuple[str, str, str],
    to: tuple[str, str],
    why: str,
    *,
    own: str = "",
    flags: str = "",
    wanted: bool = True,
) -> Step:
    """Return the step that grants a role to an account.

    Args:
        role: its full name.
        on: what the role is for: gcloud's word for its kind, its name as gcloud has it, and its name for people.
        to: the variable that has the account's address, and the account's name for people.
        why: what the account needs it for.
        own: address of the account if it is one of ours and outlives what the role is for: then undoing takes it away.
        flags: what else gcloud has to be told to change the grants.
        wanted: False if the options do without it.
    """
    (kind, name, on_whom), (variable, whom) = on, to
    binding = f"{name} --member=serviceAccount:${variable} --role={role}{flags}"
    return Step(
        what=f"{role} on {on_whom} to {whom}",
        why=why,
        grants=True,
        look=f"gcloud {kind} get-iam-policy {name}",
        read=granted(role, f"${variable}"),
        make=(f"gcloud {kind} add-iam-policy-binding {binding}",),
        remove=(f"gcloud {kind} remove-iam-policy-binding {binding}",) if own else (),
        proof=(f"gcloud iam service-accounts describe {own}", MARK) if own else None,
        wanted=wanted,
        test="",
    )


def on_bucket(variable: str, bucket: str, role: str, why: str, *, wanted: bool = True) -> Step:
    """Return the step that grants the service's account a role on a bucket."""
    return grant(
        role, ("storage buckets", f"gs://${variable}", bucket), ("RUN_SA", "thumbnails"), why, own=RUN_SA, wanted=wanted
    )


def on_project(variable: str, email: str, role: str, why: str, *, wanted: bool = True) -> Step:
    """Return the step that grants an account a role on the project."""
    project = "projects", "$PROJECT", "the project"
    account = variable, email.partition("@")[0]
    return grant(role, project, account, why, own=email, flags=" --condition=None", wanted=wanted)


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


def on_topic(name: str, variable: str, whose: str, why: str, *, wanted: bool) -> Step:
    """Return the step that lets an account of a Google service publish to a topic."""
    resource, account = ("pubsub topics", name, f"topic {name}"), (variable, f"{whose}'s own account")
    return grant("roles/pubsub.publisher", resource, account, why, wanted=wanted)


def on_subscription(name: str, *, wanted: bool) -> Step:
    """Return the step that lets Pub/Sub take refused events out of a subscription."""
    what = "the trigger's subscription" if name.startswith("$") else f"subscription {name}"
    account = "PUBSUB_SA", "Pub/Sub's own account"
    why = "takes events away that were refused too often"
    return grant("roles/pubsub.subscriber", ("pubsub subscriptions", name, what), account, why, wanted=wanted)


def says(command: str, projection: str, text: str) -> str:
    """Return a shell command that succeeds if a command of gcloud prints this text."""
    return f'[ "$({command} --format="value({projection})" 2>/dev/null)" = "{text}" ]'
