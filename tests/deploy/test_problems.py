"""What is wrong ends with one sentence that says what to do, and nothing half made is in the way of the next call."""

import copy
from pathlib import Path

import pytest

from service.deploy.main import Terminal, deploy, main
from service.deploy.options import parse_options
from service.deploy.preflight import ROOT, check_sources, fingerprint
from service.deploy.problem import DeployProblem
from service.deploy.steps import APIS
from tests.support.cloud_project import STORAGE_AGENT, CloudProject, State, new_project
from tests.support.deploying import call, deployed


def problem(cloud: CloudProject, *words: str) -> DeployProblem:
    with pytest.raises(DeployProblem) as raised:
        call(cloud, *words)
    assert "\n" not in str(raised.value)
    return raised.value


def with_bucket(**fields: object) -> State:
    state = new_project()
    state["buckets"]["my-images"] |= fields
    return state


def changed(**fields: object) -> State:
    return new_project() | fields


@pytest.mark.parametrize(
    ("state", "words", "sentence"),
    [
        (changed(account=None), [], "gcloud is not logged in: run 'gcloud auth login'"),
        (changed(billing=False), [], "has no billing account.*https://console.cloud.google.com/billing/linkedaccount"),
        (
            new_project(),
            ["--project=no-such-project"],
            "me@example.com sees no project no-such-project: .*typing error",
        ),
        (with_bucket(foreign=True), [], "gs://my-images belongs to others.*take another name"),
        (with_bucket(location="EU"), [], "gs://my-images is in EU, which is more than one region: say with --region"),
        (with_bucket(location="NAM4"), [], "in NAM4, which is more than one region"),
        (new_project(), ["--region=europe-west1"], "gs://my-images is in us-central1.*leave --region out"),
        (with_bucket(projectNumber="999"), [], "in project 999.*--trigger=notification"),
        (
            changed(apis=APIS, topics={"thumbnails-dead": {"labels": {}, "policy": []}}),
            [],
            "topic thumbnails-dead is there already.*delete it, or hand it over by the label deployed-by=thumbnail",
        ),
        (
            changed(apis=APIS, schedulers={"thumbnails-nightly": {"description": "mine"}}),
            [],
            "thumbnails-nightly is there already.*hand it over by the description deployed-by=thumbnail-service",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_has_to_be_right_first(state: State, words: list[str], sentence: str) -> None:
    cloud = CloudProject(copy.deepcopy(state))
    found = problem(cloud, *words)
    assert found.status == 2
    assert cloud.changes == []
    with pytest.raises(DeployProblem, match=sentence):
        raise found


def test_undoing_without_the_bucket_guesses_no_region() -> None:
    cloud = CloudProject()
    call(cloud, "--bucket=my-new-images", "--region=europe-west1")
    del cloud.state["buckets"]["my-new-images"]
    cloud.changes.clear()
    assert str(problem(cloud, "--bucket=my-new-images", "--undo")) == (
        "gs://my-new-images is not there, so its region is unknown: say with --region where the service runs"
    )
    assert cloud.changes == []
    call(cloud, "--bucket=my-new-images", "--region=europe-west1", "--undo")
    for kind in ("services", "jobs", "triggers", "schedulers", "repositories"):
        assert cloud.state[kind] == {}


def test_a_service_for_another_bucket_is_left_alone() -> None:
    cloud = CloudProject(deployed([]))
    assert "or first undo that with 'uv run deploy --undo --bucket=my-images'" in str(
        problem(cloud, "--bucket=other-images")
    )
    assert cloud.changes == []


def test_all_names_that_are_taken_are_told_at_once() -> None:
    topics: State = {name: {"labels": {}, "policy": []} for name in ("thumbnails", "thumbnails-dead")}
    cloud = CloudProject(changed(apis=APIS, topics=topics, schedulers={"thumbnails-nightly": {}}))
    assert str(problem(cloud, "--trigger=notification")) == (
        "topic thumbnails-dead, topic thumbnails, Cloud Scheduler job thumbnails-nightly are there already, and not "
        "made by this command: delete them, or hand them over by the description or label deployed-by=thumbnail-service"
    )


def test_a_name_that_is_taken_behind_a_disabled_api() -> None:
    cloud = CloudProject(changed(schedulers={"thumbnails-nightly": {"description": "mine"}}))
    assert "thumbnails-nightly is there already" in str(problem(cloud))


@pytest.mark.parametrize(
    ("command", "error", "sentence"),
    [
        (
            "projects add-iam-policy-binding",
            (
                "ERROR: (gcloud.projects.add-iam-policy-binding) [me@example.com] does not have permission to access "
                "projects instance [my-project:setIamPolicy] (or it may not exist): Policy update access denied."
            ),
            (
                "roles/cloudbuild.builds.builder on the project to thumbnails-build: me@example.com may not do this in "
                r"project my-project \(.*Policy update access denied\): .*roles/owner"
            ),
        ),
        (
            "services enable",
            (
                "ERROR: (gcloud.services.enable) FAILED_PRECONDITION: Billing account for project '123' is not found. "
                "Billing must be enabled"
            ),
            "has no billing account",
        ),
        (
            "artifacts",
            (
                "ERROR: (gcloud.artifacts.repositories.create) Reauthentication failed. cannot prompt during "
                "non-interactive execution."
            ),
            "run 'gcloud auth login'",
        ),
        (
            "builds submit",
            'Creating temporary archive\nERROR: (gcloud.builds.submit) build 1234 completed with status "FAILURE"\n',
            'build 1234 completed with status "FAILURE": .gcloud builds list .*--region=us-central1. shows',
        ),
        (
            "iam service-accounts create",
            (
                "ERROR: (gcloud.iam.service-accounts.create)\nPERMISSION_DENIED: Permission "
                "'iam.serviceAccounts.create' denied"
            ),
            r"service account thumbnails: me@example.com may not do this .*iam.serviceAccounts.create",
        ),
        ("pubsub topics create", "Segmentation fault", "gcloud says: Segmentation fault"),
    ],
)
def test_what_gcloud_refuses_is_explained(command: str, error: str, sentence: str) -> None:
    cloud = CloudProject(errors={command: error})
    found = problem(cloud)
    with pytest.raises(DeployProblem, match=sentence):
        raise found
    cloud.errors.clear()
    call(cloud)
    assert cloud.state == deployed([])


@pytest.mark.parametrize("way", ["eventarc", "notification"])
def test_a_bucket_with_ten_notifications(way: str) -> None:
    other = {"topic": "//pubsub.googleapis.com/projects/other/topics/t"}
    cloud = CloudProject(with_bucket(notifications={str(number): other for number in range(10)}))
    assert "ten for new objects" in str(problem(cloud, f"--trigger={way}"))


def test_a_bucket_that_another_project_took_meanwhile() -> None:
    cloud = CloudProject(
        errors={
            "storage buckets create": "ERROR: (gcloud.storage.buckets.create) HTTPError 409: The requested bucket name "
            "is not available."
        }
    )
    assert "a name is taken" in str(problem(cloud, "--bucket=my-new-images"))


def test_a_bucket_of_another_project_can_notify() -> None:
    cloud = CloudProject(with_bucket(projectNumber="999"))
    call(cloud, "--trigger=notification")
    agent = next(words for words in cloud.commands if words[:2] == ["storage", "service-agent"])
    assert agent == ["storage", "service-agent", "--project=999"]
    assert ["roles/pubsub.publisher", f"serviceAccount:{STORAGE_AGENT}"] in cloud.state["topics"]["thumbnails"][
        "policy"
    ]


def test_a_bucket_in_several_regions() -> None:
    cloud = CloudProject(with_bucket(location="US"))
    call(cloud, "--region=us-east1")
    assert list(cloud.state["triggers"]) == ["us/thumbnails"]
    assert cloud.state["repositories"]["thumbnails"]["location"] == "us-east1"


def test_who_may_not_see_the_billing_may_deploy() -> None:
    cloud = CloudProject(errors={"billing": "ERROR: (gcloud.billing.projects.describe) PERMISSION_DENIED: denied"})
    call(cloud)
    assert cloud.state == deployed([])


def test_without_project() -> None:
    cloud = CloudProject(changed(configured=None))
    with pytest.raises(DeployProblem, match="no project is named: add --project"):
        deploy(parse_options(["--bucket=my-images"]), cloud, Terminal(lambda _: None, None, lambda _: None))


def test_without_gcloud(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("PATH", "")
    assert main(["--bucket=my-images"]) == 2
    assert "deploy: gcloud is not installed: see https://cloud.google.com/sdk" in capsys.readouterr().err


def test_no_thumbnail_comes() -> None:
    cloud = CloudProject()
    call(cloud)
    cloud.state["buckets"]["my-images"]["objects"] = {}
    cloud.state["triggers"]["us-central1/thumbnails"]["serviceAccount"] = "nobody"
    assert "has no thumbnail after 5 minutes: look into the log" in str(problem(cloud))
    uploads = [words for words in cloud.changes if words[:2] == ["storage", "cp"]]
    # A new trigger may have missed the first one.
    assert len(uploads) == 3


def test_outside_a_clone(tmp_path: Path) -> None:
    with pytest.raises(DeployProblem, match=f"{tmp_path} has no Dockerfile: run 'uv run deploy' in a clone"):
        check_sources(tmp_path)
    check_sources(ROOT)


@pytest.mark.parametrize("folder", ["clone", "deploy/demo"])
def test_the_fingerprint_follows_what_is_shipped(tmp_path: Path, folder: str) -> None:
    tmp_path /= folder
    tmp_path.mkdir(parents=True)
    for name in ("Dockerfile", ".dockerignore", "cloudbuild.yaml", "pyproject.toml", "uv.lock"):
        (tmp_path / name).write_text(name)
    for name in ("service/job.py", "service/demo/main.py", "service/deploy/main.py", "service/__pycache__/job.pyc"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    first = fingerprint(tmp_path)
    for name in ("service/demo/main.py", "service/deploy/main.py", "service/__pycache__/job.pyc"):
        (tmp_path / name).write_text("other")
    assert fingerprint(tmp_path) == first
    for name in ("service/job.py", "Dockerfile"):
        (tmp_path / name).write_text("other")
        assert fingerprint(tmp_path) != first
        (tmp_path / name).write_text(name)
    assert fingerprint(tmp_path) == first


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], "--bucket"),
        (["--bucket=Not A Bucket"], "is not a bucket name"),
        (["--bucket=b-b", "--region=US"], "'US' is not a region, such as us-central1"),
        (["--bucket=b-b", "--project=My Project"], "is not a project's id"),
        (["--bucket=b-b", "--folder=a;b"], "has ';', which gcloud would misread"),
        (["--bucket=b-b", "--folder=a$b"], "has '$', which gcloud would misread"),
        (["--bucket=b-b", "--tasks=0"], "is not a number of tasks from 1 to 10,000"),
        (["--bucket=b-b", "--schedule=daily"], "is not a schedule of five fields"),
        (["--bucket=UP"], "argument --bucket: 'UP' is not a bucket name"),
        (["--bucket=b-b", "--schedule=99 99 * * *"], "'99' is not a minute from 0 to 59"),
        (["--bucket=b-b", "--schedule=0 3-24 * * *"], "'24' is not an hour from 0 to 23"),
        (["--bucket=b-b", "--schedule=0 3 0 * *"], "'0' is not a day of the month from 1 to 31"),
        (["--bucket=b-b", "--schedule=0 3 * 1,13 *"], "'13' is not a month from 1 to 12"),
        (["--bucket=b-b", "--schedule=0 3 * * 8"], "'8' is not a day of the week from 0 to 7"),
        (["--bucket=b-b", "--schedule=*/0 3 * * *"], "'0' is not a step"),
        (["--bucket=b-b", "--trigger=pubsub"], "'pubsub' is none of eventarc, notification, none"),
        (["--bucket=b-b", "--trigger=none", "--no-job"], "leave out one of them"),
        (["--bucket=b-b", "--trigger=notification", "--folder="], "needs an --output-bucket"),
        (["--bucket=b-b", "--what"], "unrecognized arguments: --what"),
    ],
)
def test_options_that_are_wrong(words: list[str], sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        parse_options(words)
    assert raised.value.code == 2
    said = capsys.readouterr().err
    assert sentence in said
    assert said.count("\n") == 1


@pytest.mark.parametrize("schedule", ["*/15 0-6/2 1,15 jan-jun MON-fri", "59 23 31 12 7"])
def test_schedules(schedule: str) -> None:
    assert parse_options(["--bucket=b-b", f"--schedule={schedule}"]).schedule == schedule


def test_what_has_neither_trigger_nor_job_can_be_undone() -> None:
    assert parse_options(["--bucket=b-b", "--trigger=none", "--no-job", "--undo"]).undo
    assert parse_options(["--bucket=b-b", "--trigger=notification", "--folder=", "--undo"]).undo


def test_options_as_people_write_them() -> None:
    options = parse_options(["--bucket=gs://my-images/", "--folder=/photos/", "--output-bucket=gs://my-thumbnails"])
    assert (options.bucket, options.prefix, options.output_bucket) == ("my-images", "photos/", "my-thumbnails")
    assert options.input_folder == "gs://my-images/photos"
