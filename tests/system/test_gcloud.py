"""Every gcloud command that somebody is told to type, or that a build runs, is one that gcloud takes."""

import shlex
from pathlib import Path

import pytest

from tests.support.gcloud import commands_of_build, commands_of_readme, refusals

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def _nobody_is_logged_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
    monkeypatch.setenv("CLOUDSDK_CORE_DISABLE_PROMPTS", "1")
    monkeypatch.setenv("CLOUDSDK_CORE_PROJECT", "my-project")


def checked(commands: list[list[str]]) -> list[str]:
    said = refusals(commands)
    if said is None:
        pytest.skip("needs gcloud, whose own parser is asked")
    assert len(said) == len(commands)
    return said


@pytest.mark.parametrize(
    ("file", "at_least"), [("README.md", 40), ("cloudbuild.yaml", 2)], ids=["README.md", "cloudbuild.yaml"]
)
def test_gcloud_takes_every_command(file: str, at_least: int) -> None:
    find = commands_of_readme if file == "README.md" else commands_of_build
    commands = find((ROOT / file).read_text())
    # Should nothing be found any more, nothing would be wrong with it.
    assert len(commands) >= at_least
    refused = {shlex.join(words): said for words, said in zip(commands, checked(commands), strict=True) if said}
    assert not refused


def test_what_is_wrong_is_found() -> None:
    said = checked(
        [
            ["run", "deploy", "x", "--image=y", "--no-such-flag"],
            ["run", "jobs", "deploy", "x", "--image=y", "--tasks=many"],
            ["scheduler", "jobs", "create", "http", "x"],
            ["no", "such", "group"],
            ["run", "deploy", "x", "--image=y", "--region=us-central1"],
        ]
    )
    assert [bool(reason) for reason in said] == [True, True, True, True, False]
    assert "no-such-flag" in said[0]


def test_commands_are_found_wherever_a_shell_would_run_one() -> None:
    readme = """
```sh
A=some
B=$A-thing
C=$(gcloud one two --three='f(x)')
gcloud four $B --five=$(gcloud six) \\
  --seven='a b'  # a remark
curl "$(gcloud eight)" | gcloud nine && echo gcloud
gcloud ten --eleven='{
  "twelve": "$13"
}'
```
~~~
gcloud is not a command here
~~~
"""
    assert commands_of_readme(readme) == [
        ["one", "two", "--three=f(x)"],
        ["six"],
        ["four", "some-thing", "--five=stand-in", "--seven=a b"],
        ["eight"],
        ["nine"],
        ["ten", '--eleven={\n  "twelve": "stand-in"\n}'],
    ]
