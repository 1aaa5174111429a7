"""gcloud accepts every command of the pages and of the build."""

import shlex
from pathlib import Path

import pytest

from tests.support.gcloud import commands_of_build, commands_of_page, refusals

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / ".readme").glob("*.md")), ROOT / ".github" / "CONTRIBUTING.md"]


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


def refused(commands: list[list[str]]) -> dict[str, str]:
    return {shlex.join(words): said for words, said in zip(commands, checked(commands), strict=True) if said}


def test_gcloud_accepts_every_command_of_the_pages() -> None:
    commands = [command for page in PAGES for command in commands_of_page(page.read_text())]
    # If none were found, none would be refused.
    assert len(commands) >= 55
    assert not refused(commands)


def test_gcloud_accepts_every_command_of_the_build() -> None:
    commands = commands_of_build((ROOT / "cloudbuild.yaml").read_text())
    assert len(commands) >= 2
    assert not refused(commands)


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
    page = """
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
    assert commands_of_page(page) == [
        ["one", "two", "--three=f(x)"],
        ["six"],
        ["four", "some-thing", "--five=stand-in", "--seven=a b"],
        ["eight"],
        ["nine"],
        ["ten", '--eleven={\n  "twelve": "stand-in"\n}'],
    ]
