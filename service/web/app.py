"""The web application: its doors, pages and error answers put together around a service."""

from fastapi import FastAPI

from service.bootstrap import Service
from service.telemetry.trace_context import TraceContextMiddleware
from service.web.answers import add_error_handlers
from service.web.events import add_event_door
from service.web.pages import Pages, add_docs
from service.web.runs import add_run_door, add_run_status
from service.web.startup import HEALTHY

_MAX_BODY_BYTES = 1024 * 1024
"""Of a request; an event has two thousand."""


def create_app(service: Service) -> FastAPI:
    """Build the application around a service that is ready."""
    app = FastAPI(
        title="Thumbnails for Cloud Storage",
        description="Thumbnails of the images in a Cloud Storage folder: a whole folder, or one image as it arrives.",
        max_body_size=_MAX_BODY_BYTES,
        docs_url=None,
        redoc_url=None,
    )
    app.add_middleware(TraceContextMiddleware)
    pages = Pages(service) if service.settings.pages else None
    app.state.pages = pages
    add_error_handlers(app)

    @app.head("/health", include_in_schema=False)
    @app.get("/health")
    async def health() -> dict[str, str]:
        """Tell that the process serves; ask nothing of storage."""
        return HEALTHY

    add_run_door(app, service)
    add_run_status(app, service, pages)
    add_event_door(app, service)
    add_docs(app)
    if pages:
        pages.add_to(app)
    return app
