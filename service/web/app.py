"""The web application: its doors, pages and error answers put together around a service."""

import anyio.lowlevel
from fastapi import Depends, FastAPI, Request

from service.bootstrap import STORAGE_THREADS, Service, build
from service.errors import ForeignPage
from service.process import Stop
from service.settings import Settings
from service.telemetry.trace_context import TraceContextMiddleware
from service.web.answers import add_error_handlers
from service.web.events import add_event_route
from service.web.pages import Pages, add_docs
from service.web.runs import add_run_routes
from service.web.startup import HEALTHY
from service.web.storage_threads import StorageThreads
from service.web.thumbnails import add_thumbnail_route

_PATIENCE_SECONDS = 5.0
"""Longest wait of a GET request for a thread to ask storage from."""


def load(settings: Settings, stop: Stop) -> tuple[Service, FastAPI]:
    """Assemble the service and its application.

    Raises:
        CredentialsMissing: see `bootstrap.build`.
    """
    service = build(settings, stop=stop)
    # What anyio needs of asyncio is imported when it is first used: here, and not by the first request.
    anyio.run(anyio.lowlevel.checkpoint)
    return service, create_app(service)


def create_app(service: Service) -> FastAPI:
    """Build the application around a service that is ready."""
    pages = Pages(service) if service.settings.pages else None
    threads = StorageThreads(STORAGE_THREADS, _PATIENCE_SECONDS)
    description = "Thumbnails of the images in a Cloud Storage folder: a whole folder, or one image as it arrives."
    app = FastAPI(
        title="Thumbnails for Cloud Storage",
        description=f"{description} [Web pages](/)" if pages else description,
        dependencies=[Depends(_refuse_foreign_page)],
        docs_url=None,
        redoc_url=None,
    )
    app.add_middleware(TraceContextMiddleware)
    app.state.pages = pages
    add_error_handlers(app)

    @app.head("/health", include_in_schema=False)
    @app.get("/health")
    async def health() -> dict[str, str]:
        """Tell that the process serves; ask nothing of storage."""
        return HEALTHY

    add_run_routes(app, service, pages, threads)
    add_event_route(app, service)
    add_thumbnail_route(app, service, pages, threads)
    add_docs(app)
    if pages:
        pages.add_to(app, threads)
    return app


async def _refuse_foreign_page(request: Request) -> None:
    """Refuse a POST that a page of another host makes a browser send.

    If a proxy adds the token, any page that is open beside it could start runs.
    """
    if request.method != "POST":
        return
    site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
    if site:
        is_own = site in {"same-origin", "none"}
    else:
        # An origin is a scheme and a host, and may be malformed: compared as text, it needs no parser that can fail.
        is_own = not origin or origin.partition("://")[2] == request.base_url.netloc
    if not is_own:
        raise ForeignPage(
            f"a page of {origin or 'another host'} may not call; use curl, Cloud Scheduler or this service's own /docs"
        )
