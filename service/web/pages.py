"""Web pages: addresses, headers, and the choice between HTML and JSON.

`overview.py`, `contact_sheet.py` and `runs/status.py` collect what a page shows; `templates/` and `static/` say how it
looks. Every page works without JavaScript and asks nothing of another host.
"""

from collections.abc import Mapping
from http import HTTPStatus

from fastapi import FastAPI, Request
from fastapi.responses import FileResponse, Response
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.bootstrap import PAGE_IMAGE_READS, Service
from service.naming import CREATED, Hour
from service.runs.run_list import RunList, list_runs
from service.runs.status import RunStatus
from service.storage.base import FoundObjects
from service.storage.classes import StorageClass
from service.web.contact_sheet import MAX_IMAGE_BYTES, Thumbnail, contact_sheet, find_thumbnail, newest_hours
from service.web.overview import command_examples, estimate_command, setting_rows
from service.web.static_files import IMMUTABLE, NO_CACHE, STATIC, VersionedStaticFiles
from service.web.storage_threads import StorageThreads

VARY = {"Vary": "Accept"}

_PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_DOCS_POLICY = _PAGE_POLICY.replace("img-src 'self'", "img-src 'self' data:")
"""Swagger UI has icons inside its style sheet."""
_IMAGE_POLICY = "default-src 'none'; sandbox; frame-ancestors 'none'"
_SECURITY_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_PAGE_HEADERS = _SECURITY_HEADERS | {"Content-Security-Policy": _PAGE_POLICY, "Cache-Control": NO_CACHE} | VARY
"""With all of them, since the page of an unforeseen error does not pass `SecurityHeadersMiddleware`."""

_IMAGE_PATIENCE_SECONDS = 20.0
"""Longest wait of an image for those before it. All those of a contact sheet take a second or two."""
_OVERVIEW_HOURS = 24
_HOURS_PER_PAGE = 200
_OVERVIEW_RUNS = 10
_GET = ["GET", "HEAD"]


class SecurityHeadersMiddleware:
    """Adds the headers that limit what a browser does with a response."""

    def __init__(self, app: ASGIApp) -> None:
        """Wrap an application."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection (ASGI)."""

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _SECURITY_HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        await self._app(scope, receive, send_with_headers)


class Pages:
    """The pages of one service."""

    def __init__(self, service: Service) -> None:
        """Prepare the pages without reading anything."""
        self._store = service.store
        self._bucket = service.settings.destination_bucket
        self._settings = service.settings
        self._decoders = service.decoders
        sizes = self._settings.thumbnail_sizes
        self._frame = {"width": max(box.width for box in sizes), "height": max(box.height for box in sizes)}
        self._static_files = VersionedStaticFiles(directory=STATIC)

    def add_to(self, app: FastAPI, threads: StorageThreads) -> None:
        """Add the routes of all pages but those that are served as JSON too, of runs and of one image's thumbnails."""
        app.add_middleware(SecurityHeadersMiddleware)
        # Threads of their own: a contact sheet loads hundreds of images.
        image_threads = StorageThreads(PAGE_IMAGE_READS, _IMAGE_PATIENCE_SECONDS)
        for path, page in (
            ("/", threads.wrap(self._overview)),
            ("/hours", threads.wrap(self._hours)),
            ("/hours/{hour}", threads.wrap(self._contact_sheet)),
            ("/hours/{hour}/", threads.wrap(self._contact_sheet)),
            ("/hours/{hour}/{name:path}", image_threads.wrap(self._image)),
        ):
            app.add_api_route(path, page, methods=_GET, include_in_schema=False, response_class=Response)
        app.mount("/static", self._static_files)

    def runs(self, runs: RunList) -> Response:
        """Return the page of the latest runs."""
        return self._page("runs.html", section="runs", runs=runs)

    def run(self, status: RunStatus, base_url: str) -> Response:
        """Return the page of one run, for a reader who came by an address."""
        return self._page(
            "run.html",
            section="runs",
            run=status,
            hour=None if status.timestamp == CREATED else status.timestamp,
            classes=[each for each in StorageClass if each in _classes_of(status)],
            command=estimate_command(status, base_url),
        )

    def thumbnails(self, source: str, found: FoundObjects) -> Response:
        """Return the page of the thumbnails of one image."""
        return self._page(
            "thumbnails.html",
            section="",
            source=source,
            thumbnails=[Thumbnail.of(stored) for stored in found.objects],
            complete=found.complete,
            **self._frame,
        )

    def problem(self, status: int, code: str, reason: str, headers: Mapping[str, str]) -> Response:
        """Return an error page."""
        title = HTTPStatus(status).phrase
        page = self._page("problem.html", section="", status=status, title=title, code=code, reason=reason)
        page.status_code = status
        page.headers.update(headers)
        return page

    def _overview(self, request: Request) -> Response:
        return self._page(
            "overview.html",
            section="overview",
            input_folder=self._settings.input_folder,
            settings=setting_rows(self._settings),
            decoders=self._decoders,
            runs=list_runs(self._store, self._bucket),
            max_runs=_OVERVIEW_RUNS,
            hours=newest_hours(self._store, self._bucket, _OVERVIEW_HOURS),
            examples=command_examples(self._settings, str(request.base_url)),
        )

    def _hours(self, before: str = "") -> Response:
        older_than = Hour.parse(before, "before") if before else None
        hours = newest_hours(self._store, self._bucket, _HOURS_PER_PAGE, older_than)
        return self._page("hours.html", section="hours", hours=hours, before=older_than)

    def _contact_sheet(self, hour: str, folder: str = "", after: str = "", search: str = "") -> Response:
        search = search.strip()
        parsed = Hour.parse(hour, "hour")
        sizes = self._settings.thumbnail_sizes
        return self._page(
            "contact_sheet.html",
            section="hours",
            hour=parsed,
            folder=folder,
            after=after,
            search=search,
            sheet=contact_sheet(self._store, self._bucket, parsed, folder=folder, after=after, search=search),
            sizes=sizes if len(sizes) > 1 else (),
            **self._frame,
        )

    def _image(self, request: Request, hour: str, name: str, generation: str | None = None) -> Response:
        thumbnail, content_type = find_thumbnail(self._store, self._bucket, hour, name, generation)
        headers = {
            "ETag": f'"{thumbnail.generation}"',
            # Private: callers are authorized before each request, so no shared cache may answer instead.
            "Cache-Control": f"private, {IMMUTABLE if generation else NO_CACHE}",
            "Content-Security-Policy": _IMAGE_POLICY,
        }
        if self._static_files.is_not_modified(Headers(headers), request.headers):
            return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
        if request.method == "HEAD":
            return Response(headers=headers | {"Content-Length": str(thumbnail.size)}, media_type=content_type)
        return Response(self._store.read(thumbnail, MAX_IMAGE_BYTES), headers=headers, media_type=content_type)

    def _page(self, template: str, **values: object) -> Response:
        from service.web.rendering import render

        content = render(template, bucket=self._bucket, **values)
        return Response(content, headers=_PAGE_HEADERS, media_type="text/html")


def _classes_of(status: RunStatus) -> set[StorageClass]:
    return {*status.cost.by_class, *(status.estimate.by_class if status.estimate else ())}


def add_docs(app: FastAPI) -> None:
    """Serve Swagger UI at `/docs`, with files of this host alone."""
    app.mount("/docs/assets", VersionedStaticFiles(directory=STATIC, packages=[("fastapi_offline", "static")]))

    @app.head("/docs", include_in_schema=False)
    @app.get("/docs", include_in_schema=False)
    def docs() -> FileResponse:
        headers = {"Content-Security-Policy": _DOCS_POLICY, "Cache-Control": NO_CACHE}
        return FileResponse(STATIC / "docs.html", headers=headers)


def prefers_page(request: Request) -> bool:
    """Return true for a browser, which asks for HTML by name."""
    return request.method in _GET and "text/html" in request.headers.get("accept", "")
