"""From nothing, again, broken at every step, and undone: over a stand-in for gcloud."""

import copy
from typing import Any

import pytest

from service.deploy.event_steps import GRANTED
from service.deploy.main import Terminal, deploy
from service.deploy.options import parse_options
from service.deploy.problem import DeployProblem
from service.deploy.states import MARK
from tests.support.cloud_project import HOUR, PROJECT, STORAGE_AGENT, CloudProject, State, new_project
from tests.support.deploying import WAYS, Watched, call, deployed

PICTURE = "thumbnail-service-first-picture"


@pytest.fixture(autouse=True)
def _same_sources(monkeypatch: pytest.MonkeyPatch) -> None:
    # Reading all of them each time takes longer than the rest.
    monkeypatch.setattr("service.deploy.preflight.fingerprint", lambda _: "abcdef0123456789")


def without_leftovers(state: State) -> State:
    """The state without what undoing leaves on purpose: new buckets, the objects in all of them, and the APIs."""
    state = copy.deepcopy(state)
    del state["apis"]
    state["buckets"] = {
        name: {key: value for key, value in bucket.items() if key != "objects"}
        for name, bucket in state["buckets"].items()
        if name == "my-images"
    }
    return state


def objects(state: State) -> dict[str, Any]:
    return {name: bucket["objects"] for name, bucket in state["buckets"].items()}


@pytest.mark.parametrize("words", WAYS.values(), ids=WAYS)
def test_from_nothing_to_the_first_thumbnail(words: list[str]) -> None:
    cloud = CloudProject()
    watched = call(cloud, *words)
    thumbnails = [name for bucket in objects(cloud.state).values() for name in bucket if name.startswith(HOUR)]
    assert thumbnails == [f"{HOUR}/{PICTURE}/{PICTURE}.jpg"]
    assert thumbnails[0] in watched.text
    assert "https://thumbnails-abc-uc.a.run.app" in watched.text
    assert len(watched.asked) == 1


@pytest.mark.parametrize("words", WAYS.values(), ids=WAYS)
def test_again_changes_nothing_and_asks_nothing(words: list[str]) -> None:
    cloud = CloudProject(deployed(words))
    before = copy.deepcopy(cloud.state)
    watched = call(cloud, *words)
    assert cloud.changes == []
    assert cloud.state == before
    assert watched.asked == []
    assert "https://thumbnails-abc-uc.a.run.app" in watched.text


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("words", WAYS.values(), ids=WAYS)
def test_broken_at_every_step_and_called_again_it_ends_in_the_same_state(words: list[str], moment: str) -> None:
    cloud = CloudProject()
    call(cloud, *words)
    whole, count = cloud.state, len(cloud.changes)
    assert count > 15
    for number in range(count):
        broken = CloudProject(fail_at=number, fail_late=moment == "after")
        with pytest.raises(DeployProblem, match="something broke"):
            call(broken, *words)
        assert len(broken.changes) == number + 1
        broken.fail_at = None
        call(broken, *words)
        assert broken.state == whole, cloud.changes[number]


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("words", WAYS.values(), ids=WAYS)
def test_undone_from_every_partial_state_nothing_is_left(words: list[str], moment: str) -> None:
    cloud = CloudProject()
    call(cloud, *words)
    for number in range(len(cloud.changes) + 1):
        broken = CloudProject(fail_at=number, fail_late=moment == "after")
        if number < len(cloud.changes):
            with pytest.raises(DeployProblem):
                call(broken, *words)
        else:
            call(broken, *words)
        broken.fail_at = None
        there = objects(broken.state)
        call(broken, *words, "--undo")
        assert without_leftovers(broken.state) == without_leftovers(new_project())
        assert objects(broken.state) == there
        assert not any(bucket["policy"] or bucket["notifications"] for bucket in broken.state["buckets"].values())


@pytest.mark.parametrize("moment", ["before", "after"])
def test_undoing_that_breaks_goes_on_when_it_is_called_again(moment: str) -> None:
    whole = deployed([])
    cloud = CloudProject(copy.deepcopy(whole))
    call(cloud, "--undo")
    for number in range(len(cloud.changes)):
        broken = CloudProject(copy.deepcopy(whole), fail_at=number, fail_late=moment == "after")
        with pytest.raises(DeployProblem):
            call(broken, "--undo")
        broken.fail_at = None
        call(broken, "--undo")
        assert broken.state == cloud.state


def test_undone_twice_there_is_nothing_to_do() -> None:
    cloud = CloudProject(deployed([]))
    call(cloud, "--undo")
    cloud.changes.clear()
    watched = call(cloud, "--undo")
    assert cloud.changes == []
    assert watched.asked == []


def test_undoing_finds_the_bucket_of_the_thumbnails() -> None:
    cloud = CloudProject(deployed(["--output-bucket=my-thumbnails"]))
    call(cloud, "--undo")
    assert cloud.state["buckets"]["my-thumbnails"]["policy"] == []


def test_again_without_the_bucket_of_the_thumbnails_it_is_kept() -> None:
    cloud = CloudProject(deployed(["--output-bucket=my-thumbnails"]))
    watched = call(cloud)
    assert cloud.changes == []
    assert "gs://my-thumbnails/<HOUR>/" in watched.text


@pytest.mark.parametrize("way", [way for way in WAYS if way != "new bucket"])
def test_with_other_options_what_is_no_longer_wanted_goes(way: str) -> None:
    end = WAYS[way]
    cloud = CloudProject(deployed([]))
    call(cloud, *end)
    fresh = deployed(end)
    for kind in ("triggers", "schedulers", "jobs", "topics", "subscriptions", "buckets"):
        assert cloud.state[kind].keys() == fresh[kind].keys()
    assert cloud.state["schedulers"] == fresh["schedulers"]
    assert sorted(cloud.state["policy"]) == sorted(fresh["policy"])
    call(cloud, *end, "--undo")
    assert without_leftovers(cloud.state) == without_leftovers(new_project())


def test_a_new_version_is_built_and_nothing_else_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    cloud = CloudProject(deployed([]))
    monkeypatch.setattr("service.deploy.preflight.fingerprint", lambda _: "0123456789abcdef")
    watched = call(cloud)
    assert [words[:2] for words in cloud.changes] == [["builds", "submit"]]
    assert cloud.state["services"]["thumbnails"]["labels"]["source"] == "0123456789abcdef"
    assert "Changes:" in watched.text


def test_settings_that_somebody_made_are_kept() -> None:
    cloud = CloudProject(deployed([]))
    cloud.state["services"]["thumbnails"]["env"] |= {"OUTPUT_LAYOUT": "flat", "THUMBNAIL_SIZES": "200x200"}
    call(cloud)
    assert cloud.changes == []


def test_a_layout_that_somebody_chose_is_kept_when_other_settings_change() -> None:
    cloud = CloudProject(deployed([]))
    cloud.state["services"]["thumbnails"]["env"]["OUTPUT_LAYOUT"] = "flat"
    call(cloud, "--folder=others")
    for thing in (cloud.state["services"]["thumbnails"], cloud.state["jobs"]["thumbnails-job"]):
        assert thing["env"]["INPUT_FOLDER"] == "gs://my-images/others"
        assert thing["env"]["OUTPUT_LAYOUT"] == "flat"


def test_a_new_version_keeps_the_number_of_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    cloud = CloudProject(deployed(["--tasks=50"]))
    monkeypatch.setattr("service.deploy.preflight.fingerprint", lambda _: "0123456789abcdef")
    call(cloud)
    assert cloud.state["jobs"]["thumbnails-job"]["tasks"] == 50


def test_a_changed_number_of_tasks_needs_no_build() -> None:
    cloud = CloudProject(deployed([]))
    call(cloud, "--tasks=50")
    assert [words[:3] for words in cloud.changes] == [["run", "jobs", "update"]]
    assert cloud.state["jobs"]["thumbnails-job"]["tasks"] == 50


def test_new_accounts_are_waited_for() -> None:
    cloud = CloudProject(too_early=2)
    watched = call(cloud)
    assert watched.waited[:2] == [5, 10]
    patient = copy.deepcopy(cloud.state)
    for account in patient["accounts"].values():
        account["uses"] = 0
    assert patient == deployed([])


def test_the_wait_is_bounded() -> None:
    cloud = CloudProject(too_early=1000)
    watched = Watched()
    options = parse_options(["--bucket=my-images"])
    with pytest.raises(DeployProblem, match="does not exist"):
        deploy(options, cloud, watched.terminal)
    assert sum(watched.waited) <= 600


def test_a_grant_that_was_there_before_stays() -> None:
    state = new_project()
    state["policy"].append(["roles/pubsub.publisher", f"serviceAccount:{STORAGE_AGENT}"])
    cloud = CloudProject(copy.deepcopy(state))
    call(cloud)
    assert GRANTED not in {account["description"] for account in cloud.state["accounts"].values()}
    call(cloud, "--undo")
    assert without_leftovers(cloud.state) == without_leftovers(state)


def test_undoing_leaves_what_others_made() -> None:
    state = new_project()
    cloud = CloudProject(state)
    cloud.state["accounts"][f"thumbnails@{PROJECT}.iam.gserviceaccount.com"] = {
        "description": "",
        "policy": [],
        "uses": 0,
    }
    cloud.state["policy"].append(
        ["roles/run.developer", f"serviceAccount:thumbnails@{PROJECT}.iam.gserviceaccount.com"]
    )
    cloud.state["buckets"]["my-images"]["policy"].append(
        ["roles/storage.objectUser", f"serviceAccount:thumbnails@{PROJECT}.iam.gserviceaccount.com"]
    )
    cloud.state["topics"]["thumbnails"] = {"labels": {}, "policy": []}
    cloud.state["schedulers"]["thumbnails-nightly"] = {"schedule": "", "httpTarget": {"uri": ""}}
    before = copy.deepcopy(cloud.state)
    call(cloud, "--undo")
    assert cloud.state == before


def test_it_says_what_it_makes_and_grants_and_costs_before_it_asks() -> None:
    cloud = CloudProject()
    with pytest.raises(DeployProblem, match="nothing was changed"):
        call(cloud, answer="n")
    assert cloud.changes == []
    watched = Watched("n")
    with pytest.raises(DeployProblem):
        deploy(parse_options(["--bucket=my-images"]), cloud, watched.terminal)
    for part in (
        "project my-project, region us-central1, as me@example.com",
        "Makes:",
        "service account thumbnails-call",
        "Eventarc trigger thumbnails",
        "Grants:",
        "roles/storage.objectUser on gs://my-images to thumbnails",
        "0.10 dollars a month",
    ):
        assert part in watched.text


def test_nobody_to_ask() -> None:
    cloud = CloudProject()
    terminal = Terminal(lambda _: None, None, lambda _: None)
    with pytest.raises(DeployProblem, match="--yes") as raised:
        deploy(parse_options(["--bucket=my-images"]), cloud, terminal)
    assert raised.value.status == 2
    assert cloud.changes == []
    deploy(parse_options(["--bucket=my-images", "--yes"]), cloud, terminal)
    assert cloud.state == deployed([])


def test_all_that_may_have_a_mark_has_one() -> None:
    for words in WAYS.values():
        state = deployed(words)
        for kind in ("accounts", "schedulers"):
            assert all(thing["description"].startswith(MARK) for thing in state[kind].values())
        for kind in ("repositories", "services", "jobs", "triggers", "topics"):
            assert all(thing["labels"]["deployed-by"] == "thumbnail-service" for thing in state[kind].values())
