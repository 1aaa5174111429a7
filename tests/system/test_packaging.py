import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TOP_LEVEL = {
    "Dockerfile",
    "LICENSE",
    "README.md",
    "cloudbuild.yaml",
    "pyproject.toml",
    "service",
    "tests",
    "uv.lock",
}
BUILD = (ROOT / "cloudbuild.yaml").read_text()


def instructions() -> Iterator[tuple[str, str]]:
    """Yield the instructions of the Dockerfile, with continuation lines joined."""
    text = re.sub(r"^\s*#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE)
    for line in text.replace("\\\n", " ").splitlines():
        if line.strip():
            name, arguments = line.split(maxsplit=1)
            yield name.upper(), arguments


def final_stage() -> list[tuple[str, str]]:
    stage: list[tuple[str, str]] = []
    for name, arguments in instructions():
        stage = [] if name == "FROM" else [*stage, (name, arguments)]
    return stage


def last(wanted: str) -> str:
    return [arguments for name, arguments in final_stage() if name == wanted][-1]


def test_the_build_fits_cloud_builds_schema() -> None:
    check = subprocess.run(
        [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.cloudbuild", ROOT / "cloudbuild.yaml"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert check.returncode == 0, check.stdout + check.stderr


def test_the_build_uses_every_substitution_it_declares_and_no_other() -> None:
    # Cloud Build refuses a build where they differ.
    declared = re.findall(r"^  (_[A-Z_]+):", BUILD, re.MULTILINE)
    assert sorted(declared) == sorted(set(re.findall(r"\$\{?(_[A-Z_]+)", BUILD)))


def test_the_image_runs_as_a_user_that_is_known_not_to_be_root() -> None:
    # A name could be anybody's; Kubernetes' runAsNonRoot, for one, believes only numbers.
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", last("USER"))


def test_the_image_starts_the_service_without_a_shell_in_between() -> None:
    # A shell as process 1 would keep SIGTERM to itself.
    assert json.loads(last("CMD")) == ["python", "-m", "service"]
    assert "ENTRYPOINT" not in dict(final_stage())


def test_the_stages_share_one_base_image() -> None:
    # The environment made in the one refers to the interpreter by its path, and the other has to have it there.
    assert len({arguments.split()[0] for name, arguments in instructions() if name == "FROM"}) == 1


def test_the_image_takes_nothing_but_the_environment_and_the_service() -> None:
    assert [arguments for name, arguments in final_stage() if name in {"COPY", "ADD"}] == [
        "--from=builder /app/.venv .venv",
        "--from=builder /app/service service",
    ]


@pytest.mark.parametrize("package", ["demo", "deploy"])
def test_what_does_not_serve_stays_out_of_the_image(package: str) -> None:
    rules = (ROOT / ".dockerignore").read_text().splitlines()
    # The last rule that fits decides.
    assert rules.index("*") < rules.index("!service") < rules.index(f"service/{package}")


def test_the_packages_of_the_demo_stay_out_of_the_image() -> None:
    # Without the option, uv installs the demo's packages.
    assert "uv sync --locked --no-default-groups " in (ROOT / "Dockerfile").read_text()


def test_the_top_level_holds_only_what_belongs_there() -> None:
    git = shutil.which("git")
    if git is None or not (ROOT / ".git").exists():
        pytest.skip("needs git and a checkout to tell what belongs to the repository")
    listed = subprocess.run([git, "-C", ROOT, "ls-files", "-z"], capture_output=True, text=True, check=True).stdout
    names = {path.split("/")[0] for path in listed.split("\0") if path}
    assert {name for name in names if not name.startswith(".")} <= TOP_LEVEL
