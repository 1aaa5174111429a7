"""For tests of pages: the application over a store in memory, requests that nothing tidies up, HTML as facts."""

import http.client
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Any
from urllib.parse import urlsplit

import uvicorn
from fastapi import FastAPI

from service.bootstrap import Service, build
from service.demo.network import free_port
from service.settings import Settings
from service.web.app import create_app
from tests.support.assembly import decoders
from tests.support.memory_store import MemoryStore

BROWSER = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}

VOID = {"meta", "link", "img", "input", "wbr", "br"}


@dataclass
class Element:
    """An element that a page has."""

    tag: str
    attributes: dict[str, str]
    text: str = ""
    within: list[str] = field(default_factory=list)
    """The tags around it, from the outside."""


class Html(HTMLParser):
    """What is on a page, as a browser would have it; refuses a page whose elements are not closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[Element] = []
        self._open: list[Element] = []
        self.feed(text)
        self.close()
        assert not self._open, f"never closed: {self._open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        assert len(set(names)) == len(names), f"an attribute twice: {tag} {attrs}"
        element = Element(tag, {name: value or "" for name, value in attrs}, within=[one.tag for one in self._open])
        self.elements.append(element)
        if tag not in VOID:
            self._open.append(element)

    handle_startendtag = handle_starttag

    def handle_endtag(self, tag: str) -> None:
        assert self._open, f"closed, and never opened: {tag}"
        assert self._open.pop().tag == tag

    def handle_data(self, data: str) -> None:
        for element in self._open:
            element.text += data

    def all(self, tag: str, **attributes: str) -> list[Element]:
        return [
            element
            for element in self.elements
            if element.tag == tag and attributes.items() <= element.attributes.items()
        ]

    def one(self, tag: str, **attributes: str) -> Element:
        (element,) = self.all(tag, **attributes)
        return element

    @property
    def addresses(self) -> list[str]:
        """All that a browser may ask for because of this page."""
        asking = ("href", "src", "action", "srcset", "data", "poster", "formaction", "ping")
        return [value for one in self.elements for name, value in one.attributes.items() if name in asking]


@dataclass(frozen=True)
class Answer:
    """A response as it came."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def html(self) -> Html:
        assert self.headers["content-type"] == "text/html; charset=utf-8"
        return Html(self.text)


Ask = Callable[..., Answer]


@dataclass(frozen=True)
class Looked:
    """An application that is being served."""

    url: str
    store: MemoryStore
    service: Service

    def ask(self, target: str, method: str = "GET", **headers: str) -> Answer:
        """Ask for exactly this target: no client in between makes it right."""
        connection = http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=20)
        try:
            connection.putrequest(method, target, skip_host="Host" in headers, skip_accept_encoding=True)
            for name, value in headers.items():
                connection.putheader(name.replace("_", "-"), value)
            connection.endheaders()
            answer = connection.getresponse()
            given = {name.lower(): value for name, value in answer.getheaders()}
            return Answer(answer.status, given, answer.read())
        finally:
            connection.close()

    def page(self, target: str, **headers: str) -> Answer:
        """Ask as a browser does."""
        return self.ask(target, **BROWSER | headers)


@contextmanager
def looking(store: MemoryStore, **settings: Any) -> Iterator[Looked]:  # noqa: ANN401 - whatever a setting is
    """Serve the application over a store in memory."""
    service = build(Settings(**({"input_folder": "gs://photos/in"} | settings)), store, decoders=decoders())
    with serving(create_app(service)) as url:
        yield Looked(url, store, service)
    service.close()


@contextmanager
def serving(app: FastAPI) -> Iterator[str]:
    """Serve an application from a thread; yield its address."""
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=port, log_config=None, access_log=False))
    thread = threading.Thread(target=server.run)
    up = threading.Event()
    original = server.startup

    async def startup(*args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - uvicorn's own
        await original(*args, **kwargs)
        up.set()

    server.startup = startup  # type: ignore[method-assign]  # the only way to know when it listens
    thread.start()
    try:
        assert up.wait(20)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join()
