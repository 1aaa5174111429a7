"""The pages are complete and right: tables name all that the code has, and links and paths lead somewhere."""

import ast
import re
from collections.abc import Iterable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import get_args

import pytest
from pydantic import BaseModel

from service.deploy.options import parse_options
from service.deploy.steps import steps, variables
from service.errors import ServiceError
from service.outcome import Result
from service.runs.report import RunReport
from service.runs.request import RunRequest
from service.runs.run_list import RunList
from service.runs.status import RunStatus
from service.settings import Settings
from service.telemetry import metrics
from service.web.answers import ErrorAnswer
from service.web.events import EventAnswer
from service.web.thumbnails import ThumbnailList

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
CONTRIBUTING = ROOT / ".github" / "CONTRIBUTING.md"
PAGES = sorted((ROOT / ".readme").glob("*.md"))
ALL = [README, CONTRIBUTING, *PAGES]
API = (ROOT / ".readme" / "api.md").read_text()
DEPLOYING = (ROOT / ".readme" / "deploying.md").read_text()
OPERATING = (ROOT / ".readme" / "operating.md").read_text()
SETTINGS = (ROOT / ".readme" / "settings.md").read_text()

FOLDERS = {"service", "tests", ".readme", ".github", ".ci"}
SUFFIXES = {".py", ".md", ".toml", ".yaml"}


# Markdown


def without_code_blocks(text: str) -> str:
    return re.sub(r"^(```|~~~).*?^\1$", "", text, flags=re.MULTILINE | re.DOTALL)


def codes(text: str) -> list[str]:
    return re.findall(r"`([^`]+)`", text)


def section(text: str, title: str) -> str:
    """The text below a heading, up to the next heading of the same or a higher level."""
    text = without_code_blocks(text)
    heading = re.search(rf"^(#+) {re.escape(title)}$", text, re.MULTILINE)
    assert heading, f"no heading {title}"
    below = text[heading.end() :]
    end = re.search(rf"^#{{1,{len(heading[1])}}} ", below, re.MULTILINE)
    return below[: end.start()] if end else below


def table(text: str, first_column: str) -> dict[str, list[str]]:
    """The rows of all tables with this first column, by each code in their first cell."""
    rows: dict[str, list[str]] = {}
    inside = False
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")] if line.startswith("|") else []
        if cells and inside:
            for code in codes(cells[0]):
                assert code not in rows, f"{code} is there twice"
                rows[code] = cells
        inside = bool(cells) and (inside or cells[0] == first_column)
    return rows


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub gives the headings of a page."""
    titles = re.findall(r"^#+ (.+)$", without_code_blocks(page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def links(page: Path) -> Iterator[str]:
    """The targets of the links and pictures of a page that lead to this repository."""
    for target in re.findall(r"\]\(([^)\s]+)\)", without_code_blocks(page.read_text())):
        if not re.match(r"[a-z]+:", target):
            yield target


def by_name(page: Path) -> str:
    return page.name


# Fields


def models_in(annotation: object) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from models_in(inner)


def paths(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, field in model.model_fields.items():
        if not field.exclude:
            yield prefix + name
            for inner in models_in(field.annotation):
                yield from paths(inner, f"{prefix}{name}.")


def undocumented(
    model: type[BaseModel], rows: dict[str, list[str]], prefix: str = "", parent: str = ""
) -> Iterator[str]:
    """The fields that have neither a row of their own nor a place in the row of the field that they are in."""
    for name, field in model.model_fields.items():
        path = prefix + name
        text = " ".join(rows[path][1:]) if path in rows else parent if f"`{name}`" in parent else ""
        if field.exclude:
            continue
        if not text:
            yield path
            continue
        for inner in models_in(field.annotation):
            yield from undocumented(inner, rows, f"{path}.", text)


@pytest.mark.parametrize(
    ("model", "title", "first_column"),
    [
        (RunRequest, "Fields of the body", "field"),
        (RunReport, "The report", "field"),
        (EventAnswer, "`POST /events`", "field of the answer"),
        (ThumbnailList, "`GET /thumbnails`", "field"),
        (RunList, "`GET /runs`", "field"),
        (RunStatus, "`GET /runs/<run_id>`", "field"),
        (ErrorAnswer, "Errors", "field"),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else "",
)
def test_the_table_of_fields_is_that_of_the_model(model: type[BaseModel], title: str, first_column: str) -> None:
    rows = table(section(API, title), first_column)
    assert not list(undocumented(model, rows))
    assert set(rows) <= set(paths(model))


def test_a_field_that_no_table_names_is_found() -> None:
    class Inner(BaseModel):
        named: int
        forgotten: int

    class Outer(BaseModel):
        all: list[Inner]
        other: Inner | None
        missing: int

    rows = table(
        "| field | meaning |\n| --- | --- |\n| `all` | `named` |\n| `other` | |\n| `other.named` | x |", "field"
    )
    assert list(undocumented(Outer, rows)) == ["all.forgotten", "other", "missing"]
    assert set(rows) <= set(paths(Outer))


# Error codes


def all_kinds(kind: type[ServiceError]) -> Iterator[type[ServiceError]]:
    yield kind
    for below in kind.__subclasses__():
        yield from all_kinds(below)


def codes_in(source: str) -> Iterator[str]:
    """The error codes that a module spells out: `code="…"` in a call and `{"code": "…"}`."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.keyword) and node.arg == "code":
            yield from texts(node.value)
        elif isinstance(node, ast.Dict):
            for key, value in zip(node.keys, node.values, strict=True):
                if key is not None and "code" in texts(key):
                    yield from texts(value)


def texts(node: ast.expr) -> list[str]:
    return [node.value] if isinstance(node, ast.Constant) and isinstance(node.value, str) else []


def test_the_table_of_error_codes_names_all_and_no_other() -> None:
    defined = {kind.code for kind in all_kinds(ServiceError)}
    for module in (ROOT / "service").rglob("*.py"):
        defined.update(codes_in(module.read_text()))
    assert {"no_route", "error"} <= defined
    assert set(table(section(API, "Error codes"), "code")) == defined


# Settings


def test_the_tables_of_settings_name_all_and_no_other() -> None:
    assert set(table(SETTINGS, "name")) == {name.upper() for name in Settings.model_fields}


def test_the_readme_names_settings_that_exist() -> None:
    assert set(table(README.read_text(), "name")) <= {name.upper() for name in Settings.model_fields}


@pytest.mark.parametrize("text", [SETTINGS, README.read_text()], ids=["settings.md", "README.md"])
def test_documented_defaults_are_those_of_the_settings(text: str) -> None:
    for name, (_, default, *_rest) in table(text, "name").items():
        field = Settings.model_fields[name.lower()]
        if default == "required":
            assert field.is_required()
        elif default == "none":
            assert field.default is None
        elif values := codes(default):
            given = {"input_folder": "gs://photos/in", name.lower(): values[0]}
            assert getattr(Settings.model_validate(given), name.lower()) == field.default


def test_the_fields_of_settings_that_are_models_are_named() -> None:
    for name, field in Settings.model_fields.items():
        for model in models_in(type(field.default)):
            rows = table(SETTINGS, f"field of `{name.upper()}`")
            assert set(rows) == set(model.model_fields)
            for inner, cells in rows.items():
                assert float(cells[1]) == model.model_fields[inner].default


# Metrics


def test_the_table_of_metrics_names_all_and_no_other() -> None:
    source = "".join(path.read_text() for path in (ROOT / "service" / "telemetry").glob("*.py"))
    assert set(table(section(OPERATING, "Metrics"), "instrument")) == set(re.findall(r'"(thumbnails\.\w+)"', source))


def test_the_table_of_metrics_names_all_values() -> None:
    rows = table(section(OPERATING, "Metrics"), "instrument")
    named = set(codes(" ".join(cell for cells in rows.values() for cell in cells)))
    kinds: list[type[StrEnum]] = [Result]
    kinds += [kind for kind in vars(metrics).values() if isinstance(kind, type) and issubclass(kind, StrEnum)]
    values = {str(value) for kind in kinds for value in kind}
    assert len(values) > 10
    assert values <= named


# Links and paths


def test_the_readme_is_read_in_minutes() -> None:
    assert len(README.read_bytes()) <= 10_240


@pytest.mark.parametrize("page", ALL, ids=by_name)
def test_links_lead_somewhere(page: Path) -> None:
    lost = []
    for link in links(page):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            lost.append(link)
    assert not lost


def test_the_readme_links_every_page() -> None:
    linked = {(README.parent / link.partition("#")[0]).resolve() for link in links(README)}
    assert {*PAGES, CONTRIBUTING} <= linked


@pytest.mark.parametrize("page", PAGES, ids=by_name)
def test_a_page_leads_back_to_the_readme(page: Path) -> None:
    assert "../README.md" in set(links(page))


@pytest.mark.parametrize("page", ALL, ids=by_name)
def test_paths_that_a_page_names_exist(page: Path) -> None:
    named = [code for code in codes(without_code_blocks(page.read_text())) if re.fullmatch(r"[\w./-]+", code)]
    ours = {code for code in named if code.split("/")[0] in FOLDERS or Path(code).suffix in SUFFIXES}
    assert {path for path in ours if not (ROOT / path).exists()} == set()


@pytest.mark.parametrize("page", ALL, ids=by_name)
def test_programs_that_a_page_names_exist(page: Path) -> None:
    for name in re.findall(r"python -m ([\w.]+)", page.read_text()):
        path = ROOT.joinpath(*name.split("."))
        assert path.with_suffix(".py").exists() or (path / "__main__.py").exists(), name


# Deploying


def commands_below(text: str, title: str) -> list[str]:
    """The gcloud commands in the shell blocks below a heading, as they stand there."""
    below = text[text.index(f"\n## {title}\n") :]
    below = below[: below.index("\n## ", 1)]
    blocks = re.findall(r"^```sh\n(.*?)^```", below, re.MULTILINE | re.DOTALL)
    return [line for block in blocks for line in block.splitlines() if line.startswith("gcloud ")]


def without_notes(commands: Iterable[str]) -> list[str]:
    """Without what only notes, for `--undo`, whose a grant is; and without repetitions."""
    return [line for line in dict.fromkeys(commands) if not line.startswith("gcloud iam service-accounts update ")]


def test_the_steps_by_hand_are_those_of_the_command() -> None:
    wanted = [step for step in steps(parse_options(["--bucket=my-images"])) if step.wanted]
    making = without_notes(command for step in wanted for command in step.make)
    removing = without_notes(command for step in reversed(wanted) for command in step.remove)
    by_hand = commands_below(DEPLOYING, "Step by step")
    assert [line for line in by_hand if line in making] == making
    # What else is there looks, or executes the job.
    others = [line for line in by_hand if line not in making]
    assert all(re.search(r" (describe|pull|config set|execute) ", line) for line in others)
    assert [line for line in commands_below(DEPLOYING, "Undo it") if " rm " not in line] == removing


def test_the_values_on_the_page_are_those_of_the_command() -> None:
    values = variables(parse_options(["--bucket=my-images"]), "")
    for name in ("INPUT_FOLDER", "SCHEDULE", "REPAIR", "RUN_SA", "BUILD_SA", "CALL_SA"):
        found = re.search(rf"^{name}=(.*)$", DEPLOYING, re.MULTILINE)
        assert found
        assert found[1].strip("'") == values[name]


def test_the_table_of_options_is_that_of_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse_options(["--help"])
    options = set(re.findall(r"^  (--[\w-]+)", capsys.readouterr().out, re.MULTILINE))
    assert set(table(section(DEPLOYING, "One command"), "option")) == options
