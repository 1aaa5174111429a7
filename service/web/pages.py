"""Pages for people: what the service is set to, how far its runs are, what it made.

Addresses, headers and who wants which answer; what there is to see comes from `sheets.py` and `status.py`, and how it
looks is in `templates/` and `static/`. Every page works without JavaScript, and none asks anything of another host.
"""

import hashlib
from collections.abc import Mapping
from functools import cache
from http import HTTPStatus
from pathlib import Path
from typing import ClassVar

from anyio import CapacityLimiter, to_thread
from fastapi import FastAPI, Request
from fastapi.responses import Response
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.bootstrap import PAGE_IMAGE_READS, Service
from service.errors import ObjectNotFound
from service.naming import Hour
from service.runs.status import RunList, RunStatus, list_runs
from service.web.accepting import prefers_html
from service.web.contact_sheet import MAX_IMAGE_BYTES, PAGE_SIZE, contact_sheet, find_thumbnail, newest_hours
from service.web.overview import doors, service_address, settings_in_force

VARY = {"Vary": "Accept"}

_PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_DATA_POLICY = "default-src 'none'; frame-ancestors 'none'"
_IMAGE_POLICY = "default-src 'none'; sandbox; frame-ancestors 'none'"
_ALWAYS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_IMMUTABLE = "max-age=31536000, immutable"
_NO_CACHE = "no-cache"

_STATIC = Path(__file__).parent / "static"
_STATIC_TYPES = {".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}

_HOURS_AT_A_GLANCE = 24
_HOURS_ON_A_PAGE = 200
_RUNS_AT_A_GLANCE = 10
_LARGEST_GENERATION = 2**63 - 1
_GET = ["GET", "HEAD"]


class SecurityHeadersMiddleware:
    """Gives every answer the headers that keep a browser from doing more with it than it should."""

    OPEN: ClassVar[frozenset[str]] = frozenset({"/docs", "/docs/oauth2-redirect"})
    """The API's own page, which comes from elsewhere with scripts in it."""

    def __init__(self, app: ASGIApp) -> None:
        """Stand before an application."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection, as ASGI has it."""

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _ALWAYS.items():
                    headers.setdefault(name, value)
                if scope["path"] not in self.OPEN:
                    headers.setdefault("Content-Security-Policy", _DATA_POLICY)
            await send(message)

        await self._app(scope, receive, guarded)


class Pages:
    """The pages of one service."""

    def __init__(self, service: Service) -> None:
        """Assemble; nothing is read or asked."""
        self._service = service
        self._store = service.store
        self._bucket = service.settings.destination_bucket
        self._settings = service.settings
        self._images = CapacityLimiter(PAGE_IMAGE_READS)

    def add_to(self, app: FastAPI) -> None:
        """Serve them at their addresses; those of runs are in `app.py`, which has the same in JSON."""
        app.add_middleware(SecurityHeadersMiddleware)
        for path, page in (
            ("/", self._glance),
            ("/hours", self._hours),
            ("/hours/{hour}", self._sheet),
            ("/hours/{hour}/", self._sheet),
            ("/hours/{hour}/{name:path}", self._image),
            ("/static/{name}", self._static),
        ):
            app.add_api_route(path, page, methods=_GET, include_in_schema=False, response_class=Response)

    def runs(self, found: RunList) -> Response:
        """Show the latest runs."""
        return self._page("runs.html", section="runs", found=found)

    def run(self, status: RunStatus) -> Response:
        """Show how far a run is."""
        return self._page("run.html", section="runs", run=status, hour=status.timestamp)

    def problem(self, status: int, code: str, reason: str, headers: Mapping[str, str]) -> Response:
        """Say why there is nothing else to show."""
        title = HTTPStatus(status).phrase
        page = self._page("problem.html", section="", status=status, title=title, code=code, reason=reason)
        page.status_code = status
        # Errors that nobody foresaw are answered outside of `SecurityHeadersMiddleware`.
        page.headers.update(_ALWAYS | dict(headers))
        return page

    def _glance(self, request: Request) -> Response:
        address = service_address(request.headers, request.url.scheme)
        return self._page(
            "glance.html",
            section="glance",
            settings=list(settings_in_force(self._settings)),
            runs=list_runs(self._store, self._bucket),
            most_runs=_RUNS_AT_A_GLANCE,
            found=newest_hours(self._store, self._bucket, _HOURS_AT_A_GLANCE),
            calls=doors(self._settings, address),
        )

    def _hours(self, before: str = "") -> Response:
        older_than = Hour.parse(before, "before") if before else None
        found = newest_hours(self._store, self._bucket, _HOURS_ON_A_PAGE, older_than)
        return self._page("hours.html", section="hours", found=found, before=older_than)

    def _sheet(self, hour: str, folder: str = "", after: str = "", search: str = "") -> Response:
        search = search.strip()
        asked = Hour.parse(hour, "hour")
        sizes = self._settings.thumbnail_sizes
        return self._page(
            "sheet.html",
            section="hours",
            hour=asked,
            folder=folder,
            after=after,
            search=search,
            sheet=contact_sheet(self._store, self._bucket, asked, folder=folder, after=after, search=search),
            page_size=PAGE_SIZE,
            sizes=sizes if len(sizes) > 1 else (),
            width=max(box.width for box in sizes),
            height=max(box.height for box in sizes),
        )

    async def _image(self, request: Request, hour: str, name: str, generation: str | None = None) -> Response:
        # A contact sheet asks for hundreds at once. Should storage hang, the threads of all else are still free.
        return await to_thread.run_sync(
            self._image_answer, request, hour, name, generation, abandon_on_cancel=True, limiter=self._images
        )

    def _image_answer(self, request: Request, hour: str, name: str, generation: str | None) -> Response:
        found, content_type = find_thumbnail(self._store, self._bucket, hour, name, _generation(generation))
        headers = {
            "ETag": f'"{found.generation}"',
            # Who may call is decided before each request, so no cache on the way may answer in its place.
            "Cache-Control": f"private, {_IMMUTABLE if generation else _NO_CACHE}",
            "Content-Security-Policy": _IMAGE_POLICY,
        }
        if _is_known(request, headers["ETag"]):
            return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
        if request.method == "HEAD":
            return Response(headers=headers | {"Content-Length": str(found.size)}, media_type=content_type)
        return Response(self._store.read(found, MAX_IMAGE_BYTES), headers=headers, media_type=content_type)

    def _static(self, request: Request, name: str, v: str = "") -> Response:
        file = _static_files().get(name)
        if file is None:
            raise ObjectNotFound("there is no such file")
        data, version, content_type = file
        headers = {
            "ETag": f'"{version}"',
            "Cache-Control": f"public, {_IMMUTABLE}" if v == version else _NO_CACHE,
        }
        if _is_known(request, headers["ETag"]):
            return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
        return Response(data, headers=headers | {"Content-Type": content_type})

    def _page(self, template: str, **values: object) -> Response:
        from service.web.rendering import render  # noqa: PLC0415 - a service that nobody looks at starts without it

        versions = {name: version for name, (_, version, _) in _static_files().items()}
        return Response(
            render(template, bucket=self._bucket, versions=versions, **values),
            headers={"Content-Security-Policy": _PAGE_POLICY, "Cache-Control": _NO_CACHE, **VARY},
            media_type="text/html",
        )


def prefers_page(request: Request) -> bool:
    """Whether a request is a person's with a browser."""
    return request.method in _GET and prefers_html(",".join(request.headers.getlist("accept")))


def _generation(text: str | None) -> int | None:
    if text is None:
        return None
    if text.isascii() and text.isdigit() and (number := int(text)) <= _LARGEST_GENERATION:
        return number
    raise ObjectNotFound("there is no such thumbnail")


def _is_known(request: Request, etag: str) -> bool:
    """Whether the caller has this already (RFC 9110, 13.1.2)."""
    known = ",".join(request.headers.getlist("if-none-match")).split(",")
    return any(tag.strip().removeprefix("W/") in {etag, "*"} for tag in known)


@cache
def _static_files() -> dict[str, tuple[bytes, str, str]]:
    """Each file's bytes, a digest of them, and its content type."""
    return {
        path.name: (data := path.read_bytes(), hashlib.sha256(data).hexdigest()[:16], _STATIC_TYPES[path.suffix])
        for path in _STATIC.iterdir()
        if path.suffix in _STATIC_TYPES
    }
