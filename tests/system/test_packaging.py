import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

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
PINNED = re.compile(r"\S+:\S+@sha256:[0-9a-f]{64}")
"""An image by its tag, for people, and by its digest, which alone decides."""


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


def step(identity: str) -> dict[str, Any]:
    (found,) = [step for step in yaml.safe_load(BUILD)["steps"] if step["id"] == identity]
    return dict(found)


def labels() -> dict[str, str]:
    words = shlex.split(last("LABEL"))
    return dict(word.split("=", 1) for word in words)


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


def stand_in(folder: Path, name: str, script: str) -> dict[str, str]:
    """Put a program into the folder; return an environment in which it is found first."""
    program = folder / name
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    return os.environ | {"PATH": f"{folder}:{os.environ['PATH']}"}


def run_step(identity: str, environment: dict[str, str], folder: Path, **values: str) -> str:
    """Run the shell script of a step as Cloud Build would; a substitution without a value is `x`."""
    script = re.sub(r"\$\{(\w+)\}", lambda name: values.get(name[1], "x"), step(identity)["args"][-1])
    done = subprocess.run(
        [shutil.which("bash") or "bash", "-euc", script.replace("$$", "$")],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def test_the_build_takes_the_base_image_by_its_digest(tmp_path: Path) -> None:
    python = yaml.safe_load(BUILD)["substitutions"]["_PYTHON"]
    assert PINNED.fullmatch(python)
    built_from = run_step("build", stand_in(tmp_path, "docker", "cat"), ROOT, _PYTHON=python)
    assert built_from == (ROOT / "Dockerfile").read_text().replace("\nFROM python:3.13-slim", f"\nFROM {python}")
    assert built_from.count(f"\nFROM {python}") == 2


def test_the_command_beside_the_digest_renews_it(tmp_path: Path) -> None:
    (tmp_path / "cloudbuild.yaml").write_text(BUILD)
    environment = stand_in(tmp_path, "docker", f"echo sha256:{'1' * 64}")
    (command,) = re.findall(r"^  #   (sed .*)$", BUILD, re.MULTILINE)
    subprocess.run(["/bin/sh", "-euc", command], cwd=tmp_path, env=environment, check=True)
    old, new = BUILD.splitlines(), (tmp_path / "cloudbuild.yaml").read_text().splitlines()
    changed = [pair for pair in zip(old, new, strict=True) if pair[0] != pair[1]]
    assert [after for _, after in changed] == [f"  _PYTHON: python:3.13-slim@sha256:{'1' * 64}"]


def test_no_image_of_others_is_taken_by_its_tag_alone() -> None:
    # Google's own builders are the platform's part, and have no other names.
    names = {step["name"] for step in yaml.safe_load(BUILD)["steps"]}
    others = {name for name in names if not name.startswith("gcr.io/") and name != "${_PYTHON}"}
    assert others
    assert all(PINNED.fullmatch(name) for name in others)


def test_the_build_asks_for_provenance_of_the_image_that_it_deploys() -> None:
    build = yaml.safe_load(BUILD)
    assert build["options"]["requestedVerifyOption"] == "VERIFIED"
    # Cloud Build attests to nothing but what stands here.
    (image,) = build["images"]
    deployed = {word for step in build["steps"] for word in step["args"] if word.startswith("--image=")}
    assert deployed == {f"--image={image}"}


def test_the_list_of_what_is_in_the_image_is_attached_to_the_image(tmp_path: Path) -> None:
    (image,) = yaml.safe_load(BUILD)["images"]
    assert f"docker:{image}" in step("list")["args"]
    (written,) = re.findall(r"--output=spdx-json=/workspace/(\S+)", " ".join(step("list")["args"]))
    assert {"push", "list"} == set(step("attach-list")["waitFor"])
    digest = f"sha256:{'1' * 64}"
    run_step(
        "push", stand_in(tmp_path, "docker", f'[ "$1" = push ] || echo "x-docker.pkg.dev/x/x/x@{digest}"'), tmp_path
    )
    values = {"_REGION": "r", "PROJECT_ID": "p", "_REPOSITORY": "t", "_SERVICE": "s", "BUILD_ID": "b"}
    words = run_step("attach-list", stand_in(tmp_path, "gcloud", 'echo "$@"'), tmp_path, **values).split()
    assert {
        # The pages find it by the image's tag, which is the build, too.
        "sbom-b",
        f"--target=projects/p/locations/r/repositories/t/packages/s/versions/{digest}",
        f"--files={written}",
    } <= set(words)
    assert image.endswith(":${BUILD_ID}")


def test_the_labels_say_what_the_image_is() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    names = {name.removeprefix("org.opencontainers.image."): text for name, text in labels().items()}
    assert set(names) == {"title", "description", "licenses", "revision"}
    assert names["title"] == (ROOT / "README.md").read_text().splitlines()[0].removeprefix("# ")
    assert names["description"] == project["description"]
    assert names["licenses"].split(" AND ")[0] == project["license"]
    assert "--build-arg=REVISION=${COMMIT_SHA}" in step("build")["args"][-1]
    assert names["revision"] == "${REVISION}"


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
