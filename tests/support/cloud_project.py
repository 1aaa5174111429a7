"""A stand-in for gcloud and the project behind it: it keeps a project's state, and refuses what it does not know.

Things need what they need at Google: APIs that are enabled, accounts and roles, parents that exist. A picture that is
uploaded gets its thumbnail only if the service, its trigger and all grants between them are there.
"""

import base64
import copy
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from service.deploy.gcloud import Answer, Json

ROOT = Path(__file__).resolve().parents[2]
PROJECT, NUMBER = "my-project", "123456789012"
STORAGE_AGENT = f"service-{NUMBER}@gs-project-accounts.iam.gserviceaccount.com"
PUBSUB_AGENT = f"service-{NUMBER}@gcp-sa-pubsub.iam.gserviceaccount.com"
AGENTS = {STORAGE_AGENT, PUBSUB_AGENT}
CREATED, HOUR = "2026-11-24T15:04:05.678Z", "20261124T15Z"
MOST_NOTIFICATIONS = 10
BUILD = yaml.safe_load((ROOT / "cloudbuild.yaml").read_text())

State = dict[str, Any]


def new_project(**buckets: Mapping[str, Any]) -> State:
    """A project with billing, an owner who is logged in, and a bucket with images."""
    bucket = {"location": "US-CENTRAL1", "projectNumber": NUMBER, "policy": [], "notifications": {}, "objects": {}}
    images = {"my-images": bucket | {"objects": {"photos/cat.jpg": "2020-01-01T00:00:00Z"}}}
    others = {name.replace("_", "-"): copy.deepcopy(bucket | dict(values)) for name, values in buckets.items()}
    kinds = ("accounts", "repositories", "services", "jobs", "triggers", "topics", "subscriptions", "schedulers")
    return {
        "account": "me@example.com",
        "configured": PROJECT,
        "billing": True,
        "apis": ["storage.googleapis.com"],
        "policy": [["roles/owner", "user:me@example.com"]],
        "buckets": copy.deepcopy(images) | others,
    } | {kind: {} for kind in kinds}


class Refused(Exception):
    """What gcloud says on stderr."""


@dataclass
class CloudProject:
    """gcloud, as the command calls it."""

    state: State = field(default_factory=new_project)
    fail_at: int | None = None
    """Which of the commands that change something is to fail."""
    fail_late: bool = False
    """It fails after it has done its work: the answer is lost."""
    error: str = "ERROR: (gcloud.some.command) INTERNAL: something broke"
    too_early: int = 0
    """How often a new account is unknown to those who grant it something."""
    errors: dict[str, str] = field(default_factory=dict)
    """What a command whose words begin so says."""
    commands: list[list[str]] = field(default_factory=list)
    changes: list[list[str]] = field(default_factory=list)

    def __call__(self, words: Sequence[str], project: str | None) -> Answer:
        """Run a command, as the real one would."""
        self.commands.append(list(words))
        try:
            return Answer(0, self._run(list(words), project), "")
        except Refused as refused:
            return Answer(1, "", f"{refused}\n")

    def _run(self, words: list[str], project: str | None) -> str:
        for beginning, error in self.errors.items():
            if " ".join(words).startswith(beginning):
                raise Refused(error)
        if not self.state["account"] and words[:2] != ["auth", "list"]:
            raise Refused("ERROR: (gcloud) You do not currently have an active account selected.")
        handler, positionals, flags = _parsed(words)
        self.flags, self.name = (
            flags,
            " ".join(words[: len(words) - len(positionals)]).split(" --")[0].replace(" ", "."),
        )
        if project not in {None, PROJECT}:
            raise Refused(
                f"ERROR: (gcloud.{self.name}) [me@example.com] does not have permission to access projects "
                f"instance [{project}] (or it may not exist): The caller does not have permission"
            )
        if words[0] not in {"auth", "config"} and (api := _API_OF.get(words[0])):
            self._need_api(f"{api}.googleapis.com")
        changes = bool(_CHANGING.search(" ".join(words)))
        fails = changes and len(self.changes) == self.fail_at
        if changes:
            self.changes.append(words)
        if fails and not self.fail_late:
            raise Refused(self.error)
        found = handler(self, *positionals)
        if fails:
            raise Refused(self.error)
        return _printed(found, flags.get("format", ["yaml"])[-1])

    # Errors

    def _need_api(self, api: str) -> None:
        if api not in self.state["apis"] and api != "serviceusage.googleapis.com":
            raise Refused(
                f"ERROR: (gcloud.{self.name}) PERMISSION_DENIED: {api} has not been used in project {PROJECT} before "
                "or it is disabled. reason: SERVICE_DISABLED"
            )

    def _missing(self, what: str) -> Refused:
        return Refused(f"ERROR: (gcloud.{self.name}) NOT_FOUND: Resource not found (resource={what}).")

    def _one(self, kind: str, name: str) -> Json:
        if name not in self.state[kind]:
            raise self._missing(name)
        return self.state[kind][name]

    def _new(self, kind: str, name: str, thing: State) -> None:
        if name in self.state[kind]:
            raise Refused(f"ERROR: (gcloud.{self.name}) ALREADY_EXISTS: {name} already exists")
        self.state[kind][name] = thing

    def _flag(self, name: str) -> str:
        return str(self.flags[name][-1])

    def _labels(self, flag: str = "labels") -> dict[str, str]:
        return dict(pair.split("=") for pair in self.flags.get(flag, [""])[-1].split(",") if pair)

    # Grants

    def _policy(self, policy: list[list[str]]) -> State:
        roles: dict[str, list[str]] = {}
        for role, member in policy:
            roles.setdefault(role, []).append(member)
        found = {"bindings": [{"role": role, "members": members} for role, members in roles.items()]}
        if "flatten" not in self.flags:
            return found
        wanted = re.fullmatch(r"bindings.role=(\S+) AND bindings.members=(\S+)", self._flag("filter"))
        assert wanted
        return {"bindings": {"role": wanted[1] if list(wanted.groups()) in policy else ""}}

    def _grant(self, policy: list[list[str]]) -> None:
        email = self._flag("member").removeprefix("serviceAccount:")
        account = self.state["accounts"].get(email)
        if account is None and email not in AGENTS:
            raise Refused(f"ERROR: (gcloud.{self.name}) INVALID_ARGUMENT: Service account {email} does not exist.")
        if account and account["uses"] < self.too_early:
            account["uses"] += 1
            raise Refused(f"ERROR: (gcloud.{self.name}) INVALID_ARGUMENT: Service account {email} does not exist.")
        binding = [self._flag("role"), self._flag("member")]
        if binding not in policy:
            policy.append(binding)

    def _take(self, policy: list[list[str]]) -> None:
        binding = [self._flag("role"), self._flag("member")]
        if binding not in policy:
            raise Refused(f"ERROR: (gcloud.{self.name}) Policy binding with the specified principal not found!")
        policy.remove(binding)

    def _has(self, policy: list[list[str]], role: str, account: str) -> bool:
        return [role, f"serviceAccount:{account}"] in policy

    # Projects

    def auth_list(self) -> Json:
        return [{"account": self.state["account"], "status": "ACTIVE"}] if self.state["account"] else []

    def config_list(self, *_: str) -> Json:
        return {"core": {"project": self.state["configured"]}} if self.state["configured"] else {}

    def config_get(self, *_: str) -> Json:
        return self.state["configured"]

    def project(self, name: str) -> Json:
        if name != PROJECT:
            raise Refused(
                f"ERROR: (gcloud.projects.describe) [me@example.com] does not have permission to access projects "
                f"instance [{name}] (or it may not exist): The caller does not have permission."
            )
        return {"projectId": PROJECT, "projectNumber": NUMBER, "lifecycleState": "ACTIVE"}

    def billing(self, _: str) -> Json:
        return {"billingEnabled": self.state["billing"]}

    def project_policy(self, _: str) -> Json:
        return self._policy(self.state["policy"])

    def project_grant(self, _: str) -> None:
        assert self._flag("condition") == "None"
        self._grant(self.state["policy"])

    def project_take(self, _: str) -> None:
        self._take(self.state["policy"])

    def apis(self) -> Json:
        return [{"config": {"name": name}} for name in self.state["apis"]]

    def enable(self, *names: str) -> None:
        if not self.state["billing"]:
            raise Refused(
                "ERROR: (gcloud.services.enable) FAILED_PRECONDITION: Billing account for project '123456789012' is "
                "not found. Billing must be enabled for activation of service(s) 'run.googleapis.com'"
            )
        self.state["apis"] = sorted({*self.state["apis"], *names})

    # Storage

    def _bucket(self, address: str) -> Json:
        name = address.removeprefix("gs://").partition("/")[0]
        if name not in self.state["buckets"]:
            raise Refused(f"ERROR: (gcloud.{self.name}) gs://{name} not found: 404.")
        if self.state["buckets"][name].get("foreign"):
            raise Refused(
                f"ERROR: (gcloud.{self.name}) HTTPError 403: me@example.com does not have storage.buckets.get access "
                "to the Google Cloud Storage bucket. Permission 'storage.buckets.get' denied on resource (or it "
                "may not exist)."
            )
        return self.state["buckets"][name]

    def bucket(self, address: str) -> Json:
        return {key: self._bucket(address)[key] for key in ("location", "projectNumber")}

    def bucket_create(self, address: str) -> None:
        name = address.removeprefix("gs://")
        if name in self.state["buckets"]:
            raise Refused(f"ERROR: (gcloud.{self.name}) HTTPError 409: The requested bucket name is not available.")
        self.state["buckets"][name] = {
            "location": self._flag("location").upper(),
            "projectNumber": NUMBER,
            "policy": [],
            "notifications": {},
            "objects": {},
        }

    def bucket_policy(self, address: str) -> Json:
        return self._policy(self._bucket(address)["policy"])

    def bucket_grant(self, address: str) -> None:
        self._grant(self._bucket(address)["policy"])

    def bucket_take(self, address: str) -> None:
        self._take(self._bucket(address)["policy"])

    def agent(self) -> Json:
        assert self._flag("project") in {PROJECT, NUMBER, "999"}
        return STORAGE_AGENT

    def object(self, address: str) -> Json:
        name = address.removeprefix("gs://").partition("/")[2]
        if name not in self._bucket(address)["objects"]:
            raise Refused(f"ERROR: (gcloud.{self.name}) {address} not found: 404.")
        return {"name": name, "timeCreated": self._bucket(address)["objects"][name]}

    def list_objects(self, address: str) -> Json:
        pattern = address.removeprefix("gs://").partition("/")[2].removesuffix("**")
        found = [name for name in self._bucket(address)["objects"] if name.startswith(pattern)]
        if not found:
            raise Refused(f"ERROR: (gcloud.{self.name}) One or more URLs matched no objects.")
        return "\n".join(f"gs://{address.split('/')[2]}/{name}" for name in found)

    def copy(self, file: str, address: str) -> None:
        assert (ROOT / file).is_file()
        bucket, _, name = address.removeprefix("gs://").partition("/")
        self._bucket(address)["objects"][name] = CREATED
        self._deliver(bucket, name)

    # Notifications

    def notifications(self, address: str) -> Json:
        found = [
            {"Bucket URL": address, "Notification Configuration": {"id": number} | each}
            for number, each in self._bucket(address)["notifications"].items()
        ]
        if "filter" in self.flags:
            topic = self._flag("filter").partition("=")[2]
            found = [each for each in found if each["Notification Configuration"]["topic"] == topic]
            return "\n".join(each["Notification Configuration"]["id"] for each in found)
        return found

    def notification_create(self, address: str) -> None:
        configurations = self._bucket(address)["notifications"]
        if len(configurations) >= MOST_NOTIFICATIONS:
            raise Refused(f"ERROR: (gcloud.{self.name}) HTTPError 400: Too many overlapping notifications.")
        topic = self._flag("topic")
        if not self._has(self._one("topics", topic)["policy"], "roles/pubsub.publisher", STORAGE_AGENT):
            raise Refused(f"ERROR: (gcloud.{self.name}) HTTPError 403: {STORAGE_AGENT} may not publish")
        configurations[str(len(configurations) + 1)] = {
            "topic": f"//pubsub.googleapis.com/projects/{PROJECT}/topics/{topic}",
            "event_types": [self._flag("event-types")],
        } | ({"object_name_prefix": self._flag("object-prefix")} if "object-prefix" in self.flags else {})

    def notification_delete(self, address: str) -> None:
        found = re.fullmatch(r"projects/_/buckets/([^/]+)/notificationConfigs/(\d+)", address)
        assert found, address
        del self.state["buckets"][found[1]]["notifications"][found[2]]

    # Accounts and repositories

    def account(self, email: str) -> Json:
        if email not in self.state["accounts"]:
            raise Refused(f"ERROR: (gcloud.{self.name}) NOT_FOUND: Unknown service account")
        return self.state["accounts"][email]

    def account_create(self, name: str) -> None:
        email = f"{name}@{PROJECT}.iam.gserviceaccount.com"
        self._new("accounts", email, {"description": self._flag("description"), "policy": [], "uses": 0})

    def account_update(self, email: str) -> None:
        self.account(email)["description"] = self._flag("description")

    def account_delete(self, email: str) -> None:
        self.account(email)
        del self.state["accounts"][email]
        for policy in self._policies():
            for binding in policy:
                if binding[1] == f"serviceAccount:{email}":
                    binding[1] = f"deleted:{binding[1]}"

    def _policies(self) -> list[list[list[str]]]:
        return [self.state["policy"], *(bucket["policy"] for bucket in self.state["buckets"].values())]

    def account_policy(self, email: str) -> Json:
        return self._policy(self.account(email)["policy"])

    def account_grant(self, email: str) -> None:
        self._grant(self.account(email)["policy"])

    def repository(self, name: str) -> Json:
        return self._one("repositories", name)

    def repository_create(self, name: str) -> None:
        self._new("repositories", name, {"labels": self._labels(), "location": self._flag("location")})

    def repository_delete(self, name: str) -> None:
        self._one("repositories", name)
        del self.state["repositories"][name]

    # Builds and Cloud Run

    def build(self) -> None:
        account = self._flag("service-account").rpartition("/")[2]
        self.account(account)
        for role in ("roles/cloudbuild.builds.builder", "roles/run.developer"):
            if not self._has(self.state["policy"], role, account):
                raise Refused(f'ERROR: (gcloud.{self.name}) build 1 completed with status "FAILURE"')
        self._one("repositories", "thumbnails")
        delimiter, given = re.fullmatch(r"\^(.)\^(.*)", self._flag("substitutions")).groups()  # type: ignore[union-attr]
        values = {"PROJECT_ID": PROJECT, "BUILD_ID": "0", "COMMIT_SHA": ""}
        values |= dict(pair.split("=", 1) for pair in given.split(delimiter))
        for name, default in BUILD["substitutions"].items():
            values.setdefault(name, _filled(str(default), values))
        staging = {"location": "US", "projectNumber": NUMBER, "policy": [], "notifications": {}, "objects": {}}
        self.state["buckets"].setdefault(f"{PROJECT}_cloudbuild", staging)
        inner = CloudProject(self.state)
        for command in build_commands(values):
            service_account = next(word for word in command if word.startswith("--service-account=")).partition("=")[2]
            actors = self.account(service_account)["policy"]
            if not self._has(actors, "roles/iam.serviceAccountUser", account):
                raise Refused(f'ERROR: (gcloud.{self.name}) build 1 completed with status "FAILURE"')
            inner._run(command, PROJECT)

    def deploy_service(self, name: str) -> None:
        self._deployed("services", name)

    def deploy_job(self, name: str) -> None:
        self._deployed("jobs", name)

    def _deployed(self, kind: str, name: str) -> None:
        assert self._flag("region")
        thing = self.state[kind].setdefault(name, {"env": {}, "labels": {}, "policy": []})
        thing |= {"image": self._flag("image"), "account": self._flag("service-account")}
        thing["labels"] |= self._labels("labels") | self._labels("update-labels")
        self._configure(thing)

    def _configure(self, thing: State) -> None:
        if "update-env-vars" in self.flags:
            delimiter, given = re.fullmatch(r"\^(.)\^(.*)", self._flag("update-env-vars")).groups()  # type: ignore[union-attr]
            thing["env"] |= dict(pair.split("=", 1) for pair in given.split(delimiter))
        if "tasks" in self.flags:
            thing["tasks"] = int(self._flag("tasks"))

    def service(self, name: str) -> Json:
        found = self._run_thing("services", name)
        return {
            "metadata": {"labels": found["labels"]},
            "spec": {"template": {"spec": _container(found)}},
            "status": {
                "url": "https://thumbnails-abc-uc.a.run.app",
                "conditions": [{"type": "Ready", "status": "True"}],
            },
        }

    def job(self, name: str) -> Json:
        found = self._run_thing("jobs", name)
        task = {"taskCount": found["tasks"], "template": {"spec": _container(found)}}
        return {
            "metadata": {"labels": found["labels"]},
            "spec": {"template": {"spec": task}},
            "status": {"conditions": [{"type": "Ready", "status": "True"}]},
        }

    def _run_thing(self, kind: str, name: str) -> Json:
        if name not in self.state[kind]:
            raise Refused(f"ERROR: (gcloud.{self.name}) Cannot find {kind[:-1]} [{name}].")
        return self.state[kind][name]

    def service_update(self, name: str) -> None:
        self._configure(self._run_thing("services", name))

    def job_update(self, name: str) -> None:
        self._configure(self._run_thing("jobs", name))

    def service_policy(self, name: str) -> Json:
        return self._policy(self._run_thing("services", name)["policy"])

    def job_policy(self, name: str) -> Json:
        return self._policy(self._run_thing("jobs", name)["policy"])

    def service_grant(self, name: str) -> None:
        self._grant(self._run_thing("services", name)["policy"])

    def job_grant(self, name: str) -> None:
        self._grant(self._run_thing("jobs", name)["policy"])

    def service_delete(self, name: str) -> None:
        self._run_thing("services", name)
        del self.state["services"][name]

    def job_delete(self, name: str) -> None:
        self._run_thing("jobs", name)
        del self.state["jobs"][name]

    def job_execute(self, name: str) -> None:
        folder = re.search(r"--input-folder=gs://([^/]+)/([^;]*)", self._flag("args"))
        assert folder
        for source in list(self.state["buckets"][folder[1]]["objects"]):
            if source.startswith(f"{folder[2]}/"):
                self._make_thumbnail(self._run_thing("jobs", name), folder[1], source)

    # Events

    def _deliver(self, bucket: str, name: str) -> None:
        """Make the thumbnail if the event reaches the service."""
        for trigger in self.state["triggers"].values():
            caller = trigger["serviceAccount"]
            if {"attribute": "bucket", "value": bucket} in trigger["eventFilters"] and self._has(
                self.state["policy"], "roles/eventarc.eventReceiver", caller
            ):
                self._call_service(caller, bucket, name)
        for notification in self.state["buckets"][bucket]["notifications"].values():
            topic = notification["topic"].rpartition("/")[2]
            if name.startswith(notification.get("object_name_prefix", "")):
                for subscription in self.state["subscriptions"].values():
                    if subscription["topic"] == topic:
                        self._call_service(subscription["pushConfig"]["oidcToken"]["serviceAccountEmail"], bucket, name)

    def _call_service(self, caller: str, bucket: str, name: str) -> None:
        for service in self.state["services"].values():
            if self._has(service["policy"], "roles/run.invoker", caller):
                self._make_thumbnail(service, bucket, name)

    def _make_thumbnail(self, thing: State, bucket: str, name: str) -> None:
        assert thing["env"]["TIMESTAMP"] == "created"
        folder = thing["env"]["INPUT_FOLDER"].removeprefix("gs://") + "/"
        output = thing["env"].get("OUTPUT_BUCKET", bucket)
        reads = {role for role, who in self.state["buckets"][bucket]["policy"] if who.endswith(thing["account"])}
        writes = {role for role, who in self.state["buckets"][output]["policy"] if who.endswith(thing["account"])}
        if f"{bucket}/{name}".startswith(folder) and reads and "roles/storage.objectUser" in writes:
            thumbnail = f"{HOUR}/{f'{bucket}/{name}'.removeprefix(folder)}"
            self.state["buckets"][output]["objects"][thumbnail] = CREATED

    # Eventarc, Pub/Sub, Scheduler

    def trigger(self, name: str) -> Json:
        return self._one("triggers", f"{self._flag('location')}/{name}")

    def trigger_create(self, name: str) -> None:
        location = self._flag("location")
        filters = [
            dict(zip(("attribute", "value"), each.split("=", 1), strict=True)) for each in self.flags["event-filters"]
        ]
        bucket = self.state["buckets"][next(each["value"] for each in filters if each["attribute"] == "bucket")]
        self._run_thing("services", self._flag("destination-run-service"))
        self.account(self._flag("service-account"))
        if not self._has(self.state["policy"], "roles/pubsub.publisher", STORAGE_AGENT):
            raise Refused(
                f"ERROR: (gcloud.{self.name}) FAILED_PRECONDITION: The Cloud Storage service account for your bucket "
                "is unable to publish to Cloud Pub/Sub topics in the specified project."
            )
        if bucket["location"].lower() != location or bucket["projectNumber"] != NUMBER:
            raise Refused(f"ERROR: (gcloud.{self.name}) INVALID_ARGUMENT: bucket and trigger are apart")
        if len(bucket["notifications"]) >= MOST_NOTIFICATIONS:
            raise Refused(f"ERROR: (gcloud.{self.name}) FAILED_PRECONDITION: Too many overlapping notifications.")
        subscription = f"eventarc-{location}-{name}-sub-000"
        self._new(
            "triggers",
            f"{location}/{name}",
            {
                "destination": {
                    "cloudRun": {
                        "service": self._flag("destination-run-service"),
                        "region": self._flag("destination-run-region"),
                        "path": self._flag("destination-run-path"),
                    }
                },
                "eventFilters": filters,
                "labels": self._labels(),
                "serviceAccount": self._flag("service-account"),
                "transport": {"pubsub": {"subscription": f"projects/{PROJECT}/subscriptions/{subscription}"}},
            },
        )
        self.state["subscriptions"][subscription] = {
            "topic": f"eventarc-{name}",
            "policy": [],
            "ackDeadlineSeconds": 10,
        }

    def trigger_delete(self, name: str) -> None:
        subscription = self.trigger(name)["transport"]["pubsub"]["subscription"].rpartition("/")[2]
        del self.state["triggers"][f"{self._flag('location')}/{name}"]
        del self.state["subscriptions"][subscription]

    def topic(self, name: str) -> Json:
        return {"labels": self._one("topics", name)["labels"]}

    def topic_create(self, name: str) -> None:
        self._new("topics", name, {"labels": self._labels(), "policy": []})

    def topic_delete(self, name: str) -> None:
        self._one("topics", name)
        del self.state["topics"][name]

    def topic_policy(self, name: str) -> Json:
        return self._policy(self._one("topics", name)["policy"])

    def topic_grant(self, name: str) -> None:
        self._grant(self._one("topics", name)["policy"])

    def _subscription(self, name: str) -> Json:
        return self._one("subscriptions", name.rpartition("/")[2])

    def subscription(self, name: str) -> Json:
        return self._subscription(name)

    def subscription_create(self, name: str) -> None:
        self._one("topics", self._flag("topic"))
        thing: State = {"topic": self._flag("topic"), "labels": self._labels(), "policy": []}
        if "push-endpoint" in self.flags:
            self.account(self._flag("push-auth-service-account"))
            thing["pushConfig"] = {
                "pushEndpoint": self._flag("push-endpoint"),
                "oidcToken": {"serviceAccountEmail": self._flag("push-auth-service-account")},
            }
        self._new("subscriptions", name, thing)
        self._be_patient(thing)

    def subscription_update(self, name: str) -> None:
        self._be_patient(self._subscription(name))

    def _be_patient(self, thing: State) -> None:
        if "dead-letter-topic" in self.flags:
            self._one("topics", self._flag("dead-letter-topic"))
            thing["ackDeadlineSeconds"] = int(self._flag("ack-deadline"))
            thing["deadLetterPolicy"] = {
                "deadLetterTopic": f"projects/{PROJECT}/topics/{self._flag('dead-letter-topic')}",
                "maxDeliveryAttempts": int(self._flag("max-delivery-attempts")),
            }

    def subscription_delete(self, name: str) -> None:
        self._subscription(name)
        del self.state["subscriptions"][name]

    def subscription_policy(self, name: str) -> Json:
        return self._policy(self._subscription(name)["policy"])

    def subscription_grant(self, name: str) -> None:
        self._grant(self._subscription(name)["policy"])

    def scheduler(self, name: str) -> Json:
        return self._one("schedulers", name)

    def scheduler_create(self, name: str) -> None:
        caller = self._flag(
            "oauth-service-account-email"
            if "oauth-service-account-email" in self.flags
            else "oidc-service-account-email"
        )
        self.account(caller)
        self._new(
            "schedulers",
            name,
            {
                "description": self._flag("description"),
                "schedule": self._flag("schedule"),
                "httpTarget": {
                    "uri": self._flag("uri"),
                    "body": base64.b64encode(self._flag("message-body").encode()).decode(),
                },
            },
        )

    def scheduler_delete(self, name: str) -> None:
        self._one("schedulers", name)
        del self.state["schedulers"][name]


def _container(thing: State) -> State:
    env = [{"name": name, "value": value} for name, value in thing["env"].items()]
    return {"serviceAccountName": thing["account"], "containers": [{"image": thing["image"], "env": env}]}


def build_commands(values: Mapping[str, str]) -> list[list[str]]:
    """Return gcloud's commands in the build, as words without the first, with these substitutions."""
    commands = []
    for step in BUILD["steps"]:
        words = [_filled(str(word), values) for word in step["args"]]
        if step.get("entrypoint") == "gcloud":
            commands.append(words)
        elif "exec gcloud" in words[1] and values["_JOB"]:
            commands.append(words[3:])
    return commands


def _filled(text: str, values: Mapping[str, str]) -> str:
    return re.sub(r"\$\{(\w+)\}", lambda match: values[match[1]], text)


_API_OF = {
    "artifacts": "artifactregistry",
    "builds": "cloudbuild",
    "eventarc": "eventarc",
    "iam": "iam",
    "pubsub": "pubsub",
    "run": "run",
    "scheduler": "cloudscheduler",
    "storage": "storage",
}
_CHANGING = re.compile(
    r"^[a-z -]*\b(create|delete|update|enable|submit|deploy|execute|cp|(add|remove)-iam-policy-binding)\b"
)

_GRANT = "member role condition"
_TABLE: dict[str, tuple[Callable[..., Json], str]] = {
    "auth list": (CloudProject.auth_list, "filter"),
    "config list": (CloudProject.config_list, ""),
    "config get": (CloudProject.config_get, ""),
    "projects describe": (CloudProject.project, ""),
    "projects get-iam-policy": (CloudProject.project_policy, "flatten filter"),
    "projects add-iam-policy-binding": (CloudProject.project_grant, _GRANT),
    "projects remove-iam-policy-binding": (CloudProject.project_take, _GRANT),
    "billing projects describe": (CloudProject.billing, ""),
    "services list": (CloudProject.apis, "enabled"),
    "services enable": (CloudProject.enable, ""),
    "storage buckets describe": (CloudProject.bucket, "raw"),
    "storage buckets create": (CloudProject.bucket_create, "location uniform-bucket-level-access"),
    "storage buckets get-iam-policy": (CloudProject.bucket_policy, ""),
    "storage buckets add-iam-policy-binding": (CloudProject.bucket_grant, _GRANT),
    "storage buckets remove-iam-policy-binding": (CloudProject.bucket_take, _GRANT),
    "storage buckets notifications list": (CloudProject.notifications, "filter"),
    "storage buckets notifications create": (
        CloudProject.notification_create,
        "topic event-types object-prefix payload-format",
    ),
    "storage buckets notifications delete": (CloudProject.notification_delete, ""),
    "storage service-agent": (CloudProject.agent, "project"),
    "storage objects describe": (CloudProject.object, "raw"),
    "storage ls": (CloudProject.list_objects, ""),
    "storage cp": (CloudProject.copy, ""),
    "iam service-accounts describe": (CloudProject.account, ""),
    "iam service-accounts create": (CloudProject.account_create, "description"),
    "iam service-accounts update": (CloudProject.account_update, "description"),
    "iam service-accounts delete": (CloudProject.account_delete, ""),
    "iam service-accounts get-iam-policy": (CloudProject.account_policy, ""),
    "iam service-accounts add-iam-policy-binding": (CloudProject.account_grant, _GRANT),
    "artifacts repositories describe": (CloudProject.repository, "location"),
    "artifacts repositories create": (CloudProject.repository_create, "location repository-format labels"),
    "artifacts repositories delete": (CloudProject.repository_delete, "location"),
    "builds submit": (CloudProject.build, "region service-account substitutions"),
    "run deploy": (
        CloudProject.deploy_service,
        (
            "image project region service-account no-allow-unauthenticated memory cpu cpu-boost concurrency "
            "max-instances timeout startup-probe update-env-vars update-labels"
        ),
    ),
    "run jobs deploy": (
        CloudProject.deploy_job,
        (
            "image project region service-account command args memory cpu tasks max-retries task-timeout "
            "update-env-vars labels"
        ),
    ),
    "run services describe": (CloudProject.service, "region"),
    "run services update": (CloudProject.service_update, "region update-env-vars"),
    "run services delete": (CloudProject.service_delete, "region"),
    "run services get-iam-policy": (CloudProject.service_policy, "region"),
    "run services add-iam-policy-binding": (CloudProject.service_grant, f"region {_GRANT}"),
    "run jobs describe": (CloudProject.job, "region"),
    "run jobs update": (CloudProject.job_update, "region update-env-vars tasks"),
    "run jobs delete": (CloudProject.job_delete, "region"),
    "run jobs execute": (CloudProject.job_execute, "region args wait"),
    "run jobs get-iam-policy": (CloudProject.job_policy, "region"),
    "run jobs add-iam-policy-binding": (CloudProject.job_grant, f"region {_GRANT}"),
    "eventarc triggers describe": (CloudProject.trigger, "location"),
    "eventarc triggers create": (
        CloudProject.trigger_create,
        (
            "location destination-run-service destination-run-region destination-run-path event-filters "
            "service-account labels"
        ),
    ),
    "eventarc triggers delete": (CloudProject.trigger_delete, "location"),
    "pubsub topics describe": (CloudProject.topic, ""),
    "pubsub topics create": (CloudProject.topic_create, "labels"),
    "pubsub topics delete": (CloudProject.topic_delete, ""),
    "pubsub topics get-iam-policy": (CloudProject.topic_policy, ""),
    "pubsub topics add-iam-policy-binding": (CloudProject.topic_grant, _GRANT),
    "pubsub subscriptions describe": (CloudProject.subscription, ""),
    "pubsub subscriptions create": (
        CloudProject.subscription_create,
        (
            "topic labels push-endpoint push-auth-service-account push-auth-token-audience ack-deadline "
            "min-retry-delay max-retry-delay dead-letter-topic max-delivery-attempts message-retention-duration "
            "expiration-period"
        ),
    ),
    "pubsub subscriptions update": (
        CloudProject.subscription_update,
        "ack-deadline min-retry-delay max-retry-delay dead-letter-topic max-delivery-attempts",
    ),
    "pubsub subscriptions delete": (CloudProject.subscription_delete, ""),
    "pubsub subscriptions get-iam-policy": (CloudProject.subscription_policy, ""),
    "pubsub subscriptions add-iam-policy-binding": (CloudProject.subscription_grant, _GRANT),
    "scheduler jobs describe": (CloudProject.scheduler, "location"),
    "scheduler jobs create http": (
        CloudProject.scheduler_create,
        (
            "location schedule uri http-method headers message-body oauth-service-account-email "
            "oidc-service-account-email oidc-token-audience attempt-deadline max-retry-attempts description"
        ),
    ),
    "scheduler jobs delete": (CloudProject.scheduler_delete, "location"),
}
"""Commands, what they do, and the flags that they have beside `--format` and `--quiet`."""


def _parsed(words: list[str]) -> tuple[Callable[..., Json], list[str], dict[str, list[str]]]:
    for length in range(4, 1, -1):
        if (command := " ".join(words[:length])) in _TABLE:
            break
    else:
        raise Refused(f"ERROR: (gcloud) Invalid choice: {words}")
    handler, known = _TABLE[command]
    positionals: list[str] = []
    flags: dict[str, list[str]] = {}
    for word in words[length:]:
        if not word.startswith("--"):
            positionals.append(word)
            continue
        name, _, value = word.removeprefix("--").partition("=")
        if name not in {*known.split(), "format", "quiet"}:
            raise Refused(f"ERROR: (gcloud.{command}) unrecognized arguments: {word}")
        flags.setdefault(name, []).append(value)
    return handler, positionals, flags


def _printed(found: Json, form: str) -> str:
    if found is None:
        return ""
    if form == "json":
        return json.dumps(found)
    if isinstance(found, str):
        return f"{found}\n"
    projection = re.fullmatch(r"value\((?P<path>[\w.-]+?)(?P<transform>\.(lower|basename|date)\(.*\))?\)", form)
    assert projection or form == "yaml", form
    if not projection:
        return json.dumps(found)
    for key in projection["path"].split("."):
        found = found.get(key, "") if isinstance(found, dict) else ""
    match (projection["transform"] or ".").split("(")[0]:
        case ".lower":
            found = found.lower()
        case ".basename":
            found = found.rpartition("/")[2]
        case ".date":
            found = HOUR
    return f"{found}\n"
