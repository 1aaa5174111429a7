"""The body of a request, unless a page of another host makes a browser send it."""

from typing import Annotated
from urllib.parse import urlsplit

from fastapi import Depends, Request

from service.errors import ForeignPage


async def _read_body(request: Request) -> bytes:
    """Return the raw body: callers send JSON under many media types, and bad JSON has an answer of its own.

    Raises:
        ForeignPage: a browser says that another host's page makes it call. If a proxy adds the token, any page that is
            open beside it could start runs.
    """
    site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
    foreign = (
        site not in {"same-origin", "none"} if site else bool(origin) and urlsplit(origin).netloc != request.url.netloc
    )
    if foreign:
        raise ForeignPage(
            f"a page of {origin or 'another host'} may not call; use curl, Cloud Scheduler or this service's own /docs"
        )
    return await request.body()


Body = Annotated[bytes, Depends(_read_body)]
