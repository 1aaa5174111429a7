"""Style sheet, scripts and icons, and how long browsers keep them."""

import hashlib
import os
from functools import cache
from pathlib import Path

from starlette.datastructures import QueryParams
from starlette.responses import Response
from starlette.staticfiles import PathLike, StaticFiles
from starlette.types import Scope

IMMUTABLE = "max-age=31536000, immutable"
NO_CACHE = "no-cache"
"""A browser may keep it, and asks each time if it is still current."""

STATIC = Path(__file__).parent / "static"


class VersionedStaticFiles(StaticFiles):
    """Static files that browsers keep for a year if the address names the version that is served."""

    def file_response(
        self, full_path: PathLike, stat_result: os.stat_result, scope: Scope, status_code: int = 200
    ) -> Response:
        """Return the file, or 304 if the caller has it."""
        response = super().file_response(full_path, stat_result, scope, status_code)
        is_current = QueryParams(scope["query_string"]).get("v") == _version(Path(full_path))
        response.headers["Cache-Control"] = f"public, {IMMUTABLE}" if is_current else NO_CACHE
        return response


def static_address(name: str) -> str:
    """Return the address of a file in `static/`, with the version of its content."""
    return f"/static/{name}?v={_version(STATIC / name)}"


@cache
def _version(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]
