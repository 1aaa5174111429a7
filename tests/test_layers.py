"""Which module may import which: the picture in this table is kept true here."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import service

ROOT = Path(service.__file__).parent

CORE = {"errors", "locations", "chunks", "selection", "decoding", "thumbnail", "events", "memory", "metrics"}
RUN_PARTS = CORE | {"costs", "store", "pipeline", "orders", "reports", "plans", "standing", "journal", "flight"}
MAY_IMPORT: dict[str, set[str]] = {
    "__init__": set(),
    "errors": set(),
    "logs": set(),
    "traces": {"logs"},
    "metrics": set(),
    "locations": {"errors"},
    "chunks": {"errors", "locations"},
    "costs": set(),
    "structure": {"errors"},
    "decoding": {"errors", "structure"},
    "colours": set(),
    "encoding": {"errors"},
    "shrinking": {"decoding", "errors"},
    "weighing": {"decoding", "shrinking"},
    "specs": {"errors"},
    "thumbnail": {"specs", "errors", "decoding", "shrinking", "weighing", "colours", "encoding"},
    "memory": {"errors"},
    "selection": {"locations"},
    "events": {"errors", "locations", "selection"},
    "transfer": set(),
    "store": {"locations", "selection"},
    "storage": {"errors", "locations", "selection", "store", "transfer"},
    "pipeline": CORE | {"specs", "store"},
    "reports": CORE | {"costs", "pipeline"},
    "orders": {"chunks", "errors", "locations"},
    "plans": {"chunks", "errors", "locations", "orders", "selection", "store"},
    "standing": CORE | {"store", "pipeline"},
    "journal": {"chunks", "errors", "locations", "reports", "store"},
    "flight": {"errors", "pipeline", "selection"},
    "runs": RUN_PARTS,
    "status": {"errors", "journal", "locations", "plans", "reports", "selection", "store"},
    "settings": {"chunks", "costs", "errors", "locations", "memory", "metrics", "specs"},
    "boot": {"errors", "logs", "memory", "settings"},
    "front": set(),
    "wiring": RUN_PARTS | {"storage", "runs", "settings", "specs"},
    "waiting": {"errors", "pipeline", "reports", "runs", "wiring"},
    "accepting": set(),
    "sheets": {"errors", "locations", "selection", "store"},
    "glance": {"locations", "settings"},
    "rendering": {"locations"},
    "pages": {"accepting", "errors", "glance", "locations", "rendering", "sheets", "status", "wiring"},
    "app": CORE | {"pipeline", "orders", "pages", "reports", "runs", "front", "status", "traces", "waiting", "wiring"},
    "progress": {"reports"},
    "job": {"boot", "errors", "metrics", "orders", "progress", "runs", "wiring"},
    "__main__": {"app", "boot", "errors", "front", "settings", "wiring"},
}
ONLY_THERE = {
    "google": {"storage", "transfer"},
    "requests": {"storage", "transfer"},
    "urllib3": {"storage", "transfer"},
    "PIL": {"decoding", "shrinking", "weighing", "colours", "encoding", "thumbnail"},
    "pi_heif": {"decoding"},
    "cloudevents": {"events"},
    "opentelemetry": {"metrics"},
    "jinja2": {"rendering"},
    "markupsafe": {"rendering"},
}
MODULES = sorted(path for path in ROOT.glob("*.py"))


def _imports(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module or "")
            if node.module == "service":
                found.update(f"service.{alias.name}" for alias in node.names)
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_a_module_imports_only_what_lies_below_it(path: Path) -> None:
    ours = {name.removeprefix("service.") for name in _imports(path) if name.startswith("service.")}
    assert ours <= MAY_IMPORT[path.stem]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_a_vendor_has_one_door(path: Path) -> None:
    vendors = {name.partition(".")[0] for name in _imports(path)}
    assert {vendor for vendor, owners in ONLY_THERE.items() if vendor in vendors and path.stem not in owners} == set()


def test_only_the_settings_read_the_environment_and_only_the_storage_client_needs_a_word_in_it() -> None:
    readers = {path.stem for path in MODULES if "os.environ" in path.read_text()}
    assert readers <= {"storage"}


def test_a_start_does_without_the_templates() -> None:
    program = "import sys, service.app; sys.exit('jinja2' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
