"""What `--dry-run` prints: a shell script that gcloud's parser accepts, and that does the same as the command."""

import copy
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.deploy.main import main
from service.deploy.options import parse_options
from service.deploy.script import script
from tests.support.cloud_project import BUILD, CloudProject, State
from tests.support.deploying import WAYS, call, deployed
from tests.support.gcloud import commands_of_page, refusals
from tests.support.stand_in_gcloud import Machine, machine_in

ROOT = Path(__file__).resolve().parents[2]
NAMED = ["--bucket=my-images", "--project=my-project"]


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    """A machine on which `gcloud` is the stand-in, and nothing sleeps."""
    with machine_in(tmp_path) as running:
        yield running


def printed(words: list[str]) -> str:
    return script(parse_options([*NAMED, *words, "--dry-run"]), ROOT)


def same(state: State) -> State:
    """Without what differs in an order that means nothing."""
    state = copy.deepcopy(state)
    state["policy"].sort()
    return state


@pytest.mark.parametrize("words", WAYS.values(), ids=WAYS)
def test_the_script_does_the_same(machine: Machine, words: list[str]) -> None:
    machine.run(printed(words))
    assert same(machine.cloud.state) == same(deployed(words))
    assert machine.pauses == []


@pytest.mark.parametrize("words", WAYS.values(), ids=WAYS)
def test_the_script_can_be_called_again(machine: Machine, words: list[str]) -> None:
    machine.cloud.state = deployed(words)
    machine.run(printed(words))
    assert machine.cloud.state == deployed(words)


@pytest.mark.parametrize("words", WAYS.values(), ids=WAYS)
def test_the_script_undoes_the_same(machine: Machine, words: list[str]) -> None:
    cloud = CloudProject(deployed(words))
    machine.cloud.state = copy.deepcopy(cloud.state)
    call(cloud, *words, "--undo")
    for _ in range(2):
        machine.run(printed([*words, "--undo"]))
        assert machine.cloud.state == cloud.state


def test_the_script_undoes_what_other_options_made(machine: Machine) -> None:
    cloud = CloudProject(deployed(["--trigger=notification", "--no-job"]))
    machine.cloud.state = copy.deepcopy(cloud.state)
    call(cloud, "--undo")
    machine.run(printed(["--undo"]))
    assert machine.cloud.state == cloud.state


@pytest.mark.parametrize("words", WAYS.values(), ids=WAYS)
def test_the_script_that_undoes_has_no_variable_that_it_does_not_use(words: list[str]) -> None:
    text = printed([*words, "--undo"])
    for name in re.findall(r"^(\w+)=", text, re.MULTILINE):
        assert re.search(rf"\$\{{?{name}\b", text), name


def test_the_script_that_undoes_guesses_no_region(machine: Machine) -> None:
    machine.cloud.state = deployed([])
    del machine.cloud.state["buckets"]["my-images"]
    before = copy.deepcopy(machine.cloud.state)
    with pytest.raises(AssertionError, match="gs://my-images not found"):
        machine.run(printed(["--undo"]))
    assert machine.cloud.state == before
    machine.run(printed(["--undo", "--region=us-central1"]))
    assert machine.cloud.state["services"] == {}


def test_the_script_waits_for_new_accounts(machine: Machine) -> None:
    machine.cloud.too_early = 2
    machine.run(printed([]))
    assert machine.cloud.state["services"] == deployed([])["services"]
    assert machine.pauses[:2] == [5, 10]


def test_a_script_that_stopped_goes_on_when_it_is_called_again(machine: Machine) -> None:
    machine.cloud.fail_at = 12
    with pytest.raises(AssertionError, match="something broke"):
        machine.run(printed([]))
    machine.cloud.fail_at = None
    machine.run(printed([]))
    assert same(machine.cloud.state) == same(deployed([]))


def test_the_command_calls_the_gcloud_of_the_path(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", machine.path)
    assert main([*NAMED, "--yes"]) == 0
    assert "first thumbnail" in capsys.readouterr().out
    assert machine.cloud.state == deployed([])
    machine.cloud.changes.clear()
    assert main(NAMED) == 0
    assert "Nothing is to be done." in capsys.readouterr().out
    assert machine.cloud.changes == []


def test_gcloud_accepts_every_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
    commands: dict[tuple[str, ...], None] = {}
    for words in WAYS.values():
        cloud = CloudProject()
        call(cloud, *words)
        call(cloud, *words, "--undo")
        commands |= dict.fromkeys(map(tuple, cloud.commands))
        for text in (printed(words), printed([*words, "--undo"])):
            found = commands_of_page(f"```sh\n{text}```\n")
            assert len(found) > 20
            commands |= dict.fromkeys(map(tuple, found))
    said = refusals(list(commands))
    if said is None:
        pytest.skip("needs gcloud, whose own parser is asked")
    assert {" ".join(words): reason for words, reason in zip(commands, said, strict=True) if reason} == {}


@pytest.mark.parametrize("job", ["thumbnails-job", ""])
def test_the_build_deploys_no_job_without_a_name(machine: Machine, job: str) -> None:
    machine.cloud.state["apis"] += ["run.googleapis.com"]
    step = next(step for step in BUILD["steps"] if step["id"] == "deploy-job")
    values = dict.fromkeys(BUILD["substitutions"], "4") | {
        "PROJECT_ID": "p",
        "BUILD_ID": "b",
        "_JOB": job,
        "_LABELS": "a=b",
    }
    words = [re.sub(r"\$\{(\w+)\}", lambda match: values[match[1]], word.replace("$$", "$")) for word in step["args"]]
    machine.run(shlex.join([step["entrypoint"], *words]))
    assert list(machine.cloud.state["jobs"]) == ([job] if job else [])


def test_nothing_is_called_for_the_script(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("PATH", "")
    assert main([*NAMED, "--dry-run"]) == 0
    assert capsys.readouterr().out == printed([])


def test_the_script_takes_the_project_of_gcloud() -> None:
    text = script(parse_options(["--bucket=my-images", "--dry-run"]), ROOT)
    assert "PROJECT=$(gcloud config get project)" in text
