"""A proxy before the storage emulator that counts requests by kind and does the harm that networks do."""

import json
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler
from urllib.parse import parse_qs, unquote, urlsplit

from service.naming import BOOKKEEPING_FOLDER
from tests.support.http_server import listening


class Harm(Enum):
    """What else than an error status may become of a request."""

    RESET_BEFORE = "the connection breaks before the request is processed"
    RESET_AFTER = "the connection breaks after it was processed: the answer is lost"
    TWICE = "it is processed twice, and the second answer comes"
    CUT = "half of the answer's body arrives"
    STALL = "no answer comes"


_SUCCESS = range(200, 300)

Fault = Harm | int | None
"""A harm, or the HTTP status to answer with instead of forwarding."""


class Proxy:
    """What happens to requests, and what was asked."""

    def __init__(self, target: str) -> None:
        self.target = urlsplit(target).netloc
        self.url = ""
        self.requests: Counter[str] = Counter()
        """By kind; and the connections that they came on."""
        self.fault: Callable[[str, str], Fault] = lambda _kind, _name: None
        self.served: Callable[[str, str, int], None] = lambda _kind, _name, _size: None
        """Is told of each request that storage serves: its kind, its name, and the bytes of the answer."""
        self.released = threading.Event()
        """Set at the end, so that no stalled request outlives the test."""
        self._lock = threading.Lock()

    def count(self, kind: str) -> None:
        with self._lock:
            self.requests[kind] += 1


def kind_and_name(method: str, target: str, body: bytes) -> tuple[str, str]:
    """What a request of the JSON API is for, and the object or prefix that it is about.

    What is about the plans and reports of runs is of a kind of its own, such as `bookkeeping write`.
    """
    kind, name = _kind_and_name(method, target, body)
    return (f"bookkeeping {kind}" if name.startswith(BOOKKEEPING_FOLDER) else kind), name


def _kind_and_name(method: str, target: str, body: bytes) -> tuple[str, str]:
    parts = urlsplit(target)
    query = parse_qs(parts.query)
    _, _, name = parts.path.partition("/o/")
    if parts.path.startswith("/upload/"):
        return "write", unquote(query.get("name", [""])[0]) or name_in(body)
    if method == "GET" and query.get("alt") == ["media"]:
        return "read", unquote(name)
    if method == "GET" and parts.path.endswith("/o"):
        return "list", query.get("prefix", [""])[0]
    if method == "GET" and name:
        return "stat", unquote(name)
    return "other", parts.path


def name_in(body: bytes) -> str:
    """The object's name in the metadata as JSON, which begins a resumable upload and is the first part of another."""
    part = body.partition(b"\r\n\r\n")[2].partition(b"\r\n--")[0]
    return str(json.loads(part or body)["name"])


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # The body would wait 40 ms for the word that the headers have come.
    disable_nagle_algorithm = True
    proxy: Proxy

    def setup(self) -> None:
        super().setup()
        self.proxy.count("connection")
        self.upstream = HTTPConnection(self.proxy.target, timeout=30)

    def finish(self) -> None:
        self.upstream.close()
        super().finish()

    def _forward(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        kind, name = kind_and_name(self.command, self.path, body)
        self.proxy.count(kind)
        fault = self.proxy.fault(kind, name)
        if fault is Harm.STALL:
            self.proxy.released.wait()
        if fault in {Harm.RESET_BEFORE, Harm.STALL}:
            return self._reset()
        if isinstance(fault, int):
            headers = {"Content-Type": "application/json"} | ({"Retry-After": "1"} if fault == 429 else {})
            return self._answer(fault, headers, b'{"error": {"message": "made up"}}')
        headers = {key: value for key, value in self.headers.items() if key.lower() not in {"host", "connection"}}
        self.upstream.request(self.command, self.path, body or None, headers)
        answer = self.upstream.getresponse()
        data = answer.read()
        if fault is Harm.TWICE:
            self.upstream.request(self.command, self.path, body or None, headers)
            answer = self.upstream.getresponse()
            data = answer.read()
        if fault is Harm.RESET_AFTER:
            return self._reset()
        if answer.status in _SUCCESS:
            self.proxy.served(kind, name, len(data))
        hop_by_hop = {"connection", "content-length", "transfer-encoding"}
        kept = {key: value for key, value in answer.getheaders() if key.lower() not in hop_by_hop}
        return self._answer(answer.status, kept, data, cut=fault is Harm.CUT)

    do_GET = do_POST = do_PUT = _forward  # noqa: N815 - the names that http.server looks for

    def _answer(self, status: int, headers: dict[str, str], data: bytes, *, cut: bool = False) -> None:
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data[: len(data) // 2] if cut else data)
        if cut:
            self.wfile.flush()
            self._reset()

    def _reset(self) -> None:
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)


@contextmanager
def proxied(target: str) -> Iterator[Proxy]:
    """Run a proxy in threads of this process."""
    proxy = Proxy(target)
    with listening(type("Handler", (_Handler,), {"proxy": proxy})) as url:
        proxy.url = url
        try:
            yield proxy
        finally:
            proxy.released.set()
