"""Which module may import which, and which room a library lives in."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import service

ROOT = Path(service.__file__).parent

ROWS = [
    "errors",
    "memory",
    "storage images telemetry",
    "naming prices",
    "selection settings",
    "events process lookup outcome",
    "writer",
    "thumbnailer",
    "bootstrap",
    "runs",
    "web job",
    "__main__",
]
"""A room, which is a package or a module at the top, imports from itself and from the rows before its own."""

VENDORS = {
    "google requests urllib3 google_crc32c": "storage",
    "PIL pillow_heif": "images",
    "jinja2 markupsafe": "web",
    "opentelemetry": "telemetry",
}
"""Libraries, and the one room that each lives in."""

ROW_OF = {room: number for number, row in enumerate(ROWS) for room in row.split()}
OWNER_OF = {vendor: owner for vendors, owner in VENDORS.items() for vendor in vendors.split()}
TOOLS = ("demo", "deploy")
"""Programs for people, which the container leaves out. No row names them, so no module may import them."""
MODULES = sorted(path for path in ROOT.rglob("*.py") if not {*TOOLS} & {*path.parts} and path != ROOT / "__init__.py")


def room_of(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imports(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "imports name the whole module"
            found.add(node.module or "")
            if node.module == "service":
                found.update(f"service.{alias.name}" for alias in node.names)
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_imports_from_its_own_room_and_the_rows_before(path: Path) -> None:
    room = room_of(path)
    assert room in ROW_OF, f"no row names {room}"
    ours = {name.split(".")[1] for name in imports(path) if name.startswith("service.")} - {room}
    assert {other for other in ours if ROW_OF[other] >= ROW_OF[room]} == set()


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_vendor_lives_in_one_room(path: Path) -> None:
    vendors = {name.partition(".")[0] for name in imports(path)}
    assert {vendor for vendor in vendors if OWNER_OF.get(vendor, room_of(path)) != room_of(path)} == set()


def test_deploying_needs_no_library_of_the_cloud_and_no_picture() -> None:
    program = "import sys, service.deploy.main; sys.exit(any(name in sys.modules for name in ('google.cloud', 'PIL')))"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_only_the_settings_read_the_environment_and_only_the_storage_client_and_programs_need_a_word_in_it() -> None:
    assert {path.name for path in MODULES if "os.environ" in path.read_text()} <= {"cloud.py", "worker_process.py"}


def test_a_start_does_without_the_templates() -> None:
    program = "import sys, service.web.app; sys.exit('jinja2' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
