"""HTTP over a bare socket, so that what the client takes is next to nothing; and the events that are sent."""

import asyncio
import json
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_HOST = "127.0.0.1"
_HEAD_END = b"\r\n\r\n"
_LENGTH = b"\r\ncontent-length:"
_PIECE = 65_536
_TIMEOUT = 60


@dataclass(frozen=True, slots=True)
class Reply:
    """What was answered."""

    status: int
    body: bytes

    @property
    def outcome(self) -> str:
        """What became of an event, or the status where it is another one than 200."""
        return str(json.loads(self.body).get("outcome")) if self.status == 200 else f"HTTP {self.status}"


def request(method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None) -> bytes:
    """A request as it goes over the wire."""
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    return "\r\n".join(lines).encode() + _HEAD_END + body


def event(resource: Mapping[str, Any], what: str = "finalized") -> bytes:
    """An event about an object, as Eventarc sends it."""
    headers = {
        "ce-specversion": "1.0",
        "ce-id": f"{resource['generation']}",
        "ce-source": f"//storage.googleapis.com/projects/_/buckets/{resource['bucket']}",
        "ce-type": f"google.cloud.storage.object.v1.{what}",
        "Content-Type": "application/json",
    }
    return request("POST", "/events", json.dumps(resource).encode(), headers)


class Connection:
    """One connection that is kept."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection((_HOST, port), timeout=_TIMEOUT)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def exchange(self, sent: bytes) -> Reply:
        """Send a request and wait for the answer."""
        self._socket.sendall(sent)
        received = b""
        while (reply := _reply(received)) is None:
            piece = self._socket.recv(_PIECE)
            if not piece:
                raise ConnectionResetError("the connection was closed before the answer")
            received += piece
        return reply

    def close(self) -> None:
        """Let go of it."""
        self._socket.close()


async def exchange(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, sent: bytes) -> Reply:
    """Send a request and wait for the answer; the same as `Connection.exchange`, many at once."""
    writer.write(sent)
    received = b""
    while (reply := _reply(received)) is None:
        piece = await reader.read(_PIECE)
        if not piece:
            raise ConnectionResetError("the connection was closed before the answer")
        received += piece
    return reply


async def connect(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Open a connection for `exchange`."""
    return await asyncio.open_connection(_HOST, port)


def _reply(received: bytes) -> Reply | None:
    head, end, body = received.partition(_HEAD_END)
    if not end:
        return None
    length = int(head.lower().partition(_LENGTH)[2].partition(b"\r\n")[0])
    return Reply(int(head.split(b" ", 2)[1]), body) if len(body) >= length else None
