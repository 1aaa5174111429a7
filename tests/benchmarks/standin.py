"""A stand-in for Cloud Storage that costs next to nothing and answers after a delay, as a process of its own.

It speaks the part of the JSON API that google-cloud-storage uses to list, describe, read and write, with the headers,
checksums, preconditions and page sizes of the real one. One folder, however large, is made of a few files and never
held; what is written is kept in memory. Requests are counted by kind. Started as `python -m tests.benchmarks.standin`.
"""

import argparse
import asyncio
import base64
import gc
import hashlib
import heapq
import json
import re
import resource
import secrets
import struct
import sys
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

import google_crc32c

from service.naming import BOOKKEEPING_FOLDER

CONTENT_TYPES = {".jpg": "image/jpeg", ".png": "image/png", ".webp": "image/webp", ".gif": "image/gif"}
"""By file extension."""

BUCKET = "bench"
FOLDER = "in/"
"""Where the corpus is."""

CONTROL = "/bench"
"""GET reads the counts as JSON. POST forgets counts and writes; it sets `delay`, in seconds, and `count`, the objects
in the folder, where they are given."""

KINDS = ("list", "read", "write", "stat", "other")
"""What requests are counted as."""

BOOKKEEPING = "bookkeeping "
"""Stands before the kind of a request about the service's plans and reports, which are counted by themselves."""

_PAGE_SIZE = 1000
"""The most objects in a page of a listing, as in Cloud Storage."""

_FIRST_GENERATION = 1_760_000_000_000_000
_CREATED = "2026-11-01T12:00:00.000Z"
_DIGITS = 7
_TAIL_MARK, _GENERATION_MARK = "~tail~", "~generation~"
"""Where a template has what differs between objects; nothing in a URL or in JSON changes these."""

_HEAD_END = b"\r\n\r\n"
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_RANGE = re.compile(rb"\r\nrange: *bytes=(\d+)-(\d*)", re.IGNORECASE)
_CONTENT_RANGE = re.compile(rb"\r\ncontent-range: *bytes (\d+)-(\d+|\*)/(\d+|\*)", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding: *chunked", re.IGNORECASE)
_UPLOADED_TYPE = re.compile(rb"\r\nx-upload-content-type: *([^\r\n]+)", re.IGNORECASE)
_BOUNDARY = re.compile(rb"\r\ncontent-type: *multipart/related; *boundary=\"?([^\"\r\n;]+)", re.IGNORECASE)
_FIELDS = re.compile(r"items\(([\w/,]*)\)")
_BUCKET_RESOURCE = {
    "kind": "storage#bucket",
    "id": BUCKET,
    "name": BUCKET,
    "projectNumber": "123456789012",
    "location": "US-CENTRAL1",
    "locationType": "region",
    "storageClass": "STANDARD",
    "timeCreated": _CREATED,
    "metageneration": "1",
}
"""What the client asks for by itself in the background, unless told not to."""

_SMALL_BODY = 65_536
"""Bytes of a body that is copied behind its head, to be sent in one piece."""


@dataclass(frozen=True, slots=True)
class Stored:
    """One generation of an object."""

    name: str
    generation: int
    content_type: str
    data: bytes
    crc32c: str
    md5: str
    extra: dict[str, Any] = field(default_factory=dict)
    """What else was said when it was written, such as custom metadata."""
    created: str = _CREATED
    """As the JSON API writes it. What tasks of a run agree on depends on it."""

    @classmethod
    def of(
        cls, name: str, generation: int, content_type: str, data: bytes, extra: dict[str, Any], created: str = _CREATED
    ) -> "Stored":
        """Make one of its bytes."""
        crc32c = base64.b64encode(struct.pack(">I", google_crc32c.value(data))).decode()
        md5 = base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()
        return cls(name, generation, content_type, data, crc32c, md5, extra, created)

    def resource(self, root: str, name: str, generation: int | str) -> dict[str, Any]:
        """Describe it as the JSON API does, under a name and a generation; `root` is the URL of the stand-in."""
        path = f"/storage/v1/b/{BUCKET}/o/{quote(name, safe='')}"
        return {
            "kind": "storage#object",
            "id": f"{BUCKET}/{name}/{generation}",
            "selfLink": f"{root}{path}",
            "mediaLink": f"{root}/download{path}?generation={generation}&alt=media",
            "name": name,
            "bucket": BUCKET,
            "generation": str(generation),
            "metageneration": "1",
            "contentType": self.content_type,
            "storageClass": "STANDARD",
            "size": str(len(self.data)),
            "md5Hash": self.md5,
            "crc32c": self.crc32c,
            "etag": "CJDy0v2C2IADEAE=",
            "timeCreated": self.created,
            "updated": self.created,
            "timeStorageClassUpdated": self.created,
            "timeFinalized": self.created,
        } | self.extra

    def rendered(self, root: str, fields: Sequence[str] | None) -> str:
        """Its description as JSON, with nothing but these fields where some are named."""
        return _json(self.resource(root, self.name, self.generation), fields)


def _json(resource: dict[str, Any], fields: Sequence[str] | None) -> str:
    return json.dumps(resource if fields is None else {key: resource[key] for key in fields if key in resource})


class Folder:
    """A folder of any number of objects, of which none is held: their bytes repeat those of a few files."""

    def __init__(self, root: str, files: Sequence[Path], count: int) -> None:
        self.root = root
        self.count = count
        self._ends = [file.suffix for file in files]
        known = {
            file: Stored.of("", 0, CONTENT_TYPES[file.suffix], file.read_bytes(), {}) for file in dict.fromkeys(files)
        }
        self._stored = [known[file] for file in files]
        self._templates: dict[tuple[str, ...] | None, list[str]] = {}

    def name(self, index: int) -> str:
        """The name of the object at a position of the listing."""
        return f"{FOLDER}{index:0{_DIGITS}}{self._ends[index % len(self._ends)]}"

    def find(self, name: str) -> Stored | None:
        """The object of a name."""
        digits = name[len(FOLDER) : len(FOLDER) + _DIGITS]
        if not digits.isdigit() or int(digits) >= self.count or self.name(int(digits)) != name:
            return None
        stored = self._stored[int(digits) % len(self._stored)]
        return Stored(
            name, _FIRST_GENERATION + int(digits), stored.content_type, stored.data, stored.crc32c, stored.md5
        )

    def position(self, name: str) -> int:
        """How many objects are before this name."""
        return bisect_left(range(self.count), name, key=self.name)

    def page(
        self, lowest: str, prefix: str, highest: str, size: int, fields: tuple[str, ...] | None
    ) -> tuple[list[str], str]:
        """The descriptions of so many objects from a name on, and the name of the next one: the quick way."""
        start = self.position(lowest)
        end = min(self.count, self.position(prefix + "\U0010ffff"), self.position(highest) if highest else self.count)
        templates = self.templates(fields)
        items = [self.rendered(index, templates) for index in range(start, min(end, start + size))]
        return items, self.name(start + size) if start + size < end else ""

    def rendered(self, index: int, templates: Sequence[str]) -> str:
        """Describe an object as JSON."""
        return (
            templates[index % len(templates)]
            .replace(_TAIL_MARK, self.name(index)[len(FOLDER) :])
            .replace(_GENERATION_MARK, str(_FIRST_GENERATION + index))
        )

    def templates(self, fields: tuple[str, ...] | None) -> Sequence[str]:
        """What `rendered` needs: for each file its description without what differs."""
        if fields not in self._templates:
            self._templates[fields] = [
                _json(stored.resource(self.root, FOLDER + _TAIL_MARK, _GENERATION_MARK), fields)
                for stored in self._stored
            ]
        return self._templates[fields]


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer."""

    status: int
    headers: Sequence[str] = ()
    body: bytes = b""

    def head(self) -> bytes:
        """Status line and headers."""
        lines = [
            f"HTTP/1.1 {self.status} {HTTPStatus(self.status).phrase}",
            *self.headers,
            f"Content-Length: {len(self.body)}",
            # What the real one sends with every answer, for the sake of those who have to parse it.
            "X-GUploader-UploadID: AHmUCY1mZ0rWq3n8vJt5aKx2bLw9cPd7eQf4gRh6iSj0kTl1mUn",
            "Expires: Sun, 22 Nov 2026 12:00:00 GMT",
            "Date: Sun, 22 Nov 2026 12:00:00 GMT",
            "Vary: Origin",
            "Vary: X-Origin",
            "Server: UploadServer",
        ]
        return "\r\n".join(lines).encode() + _HEAD_END


def _of_json(text: str, status: int = HTTPStatus.OK) -> Answer:
    headers = (
        "Content-Type: application/json; charset=UTF-8",
        "Cache-Control: private, max-age=0, must-revalidate, no-transform",
        "ETag: CJDy0v2C2IADEAE=",
    )
    return Answer(status, headers, text.encode())


def _refusal(status: HTTPStatus, reason: str) -> Answer:
    return _of_json(json.dumps({"error": {"code": status, "message": reason}}), status)


class Storage:
    """What is stored, and the answer to each request."""

    def __init__(self, folder: Folder, delay: float) -> None:
        self.delay = delay
        self._folder = folder
        self._counts: Counter[str] = Counter()
        self._written: dict[str, Stored] = {}
        self._sorted: list[str] = []
        self._sessions: dict[str, tuple[dict[str, Any], bytearray]] = {}
        """Resumable uploads that were begun."""
        self._generation = _FIRST_GENERATION * 2

    def answer(self, method: str, target: str, head: bytes, body: bytes) -> tuple[Answer, float]:
        """Answer a request.

        Returns:
            The answer, and after how many seconds it is to be sent.
        """
        split = urlsplit(target)
        query = {key: values[-1] for key, values in parse_qs(split.query, keep_blank_values=True).items()}
        if split.path == CONTROL:
            return self._control(method, query), 0
        kind, name, answer = self._routed(method, split.path, query, head, body)
        self._counts[f"{BOOKKEEPING}{kind}" if name.startswith(BOOKKEEPING_FOLDER) else kind] += 1
        return answer, self.delay

    def _routed(
        self, method: str, path: str, query: dict[str, str], head: bytes, body: bytes
    ) -> tuple[str, str, Answer]:
        """Answer a request; say of what kind it is, and which name or prefix it is about."""
        kind, path = (
            ("write", path.removeprefix("/upload")) if path.startswith("/upload/")
            else ("", path.removeprefix("/download"))
        )  # fmt: skip
        root = f"/storage/v1/b/{BUCKET}"
        if not (path == root or path.startswith(f"{root}/")):
            return kind or "other", "", _refusal(HTTPStatus.NOT_FOUND, "no such bucket")
        if path == root:
            return "other", "", _of_json(json.dumps(_BUCKET_RESOURCE))
        name = unquote(path.removeprefix(f"{root}/o").removeprefix("/"))
        if kind and method in {"POST", "PUT"}:
            return kind, *(self._write if method == "POST" else self._continue)(query, head, body)
        if method == "GET" and path == f"{root}/o":
            return "list", query.get("prefix", ""), self._list(query)
        if method == "GET" and name:
            return ("read", name, self._read(name, query, head)) if query.get("alt") == "media" else (
                "stat", name, self._stat(name, query)
            )  # fmt: skip
        return "other", name, _refusal(HTTPStatus.NOT_IMPLEMENTED, f"the stand-in knows no {method} {path}")

    def _control(self, method: str, query: dict[str, str]) -> Answer:
        usage = resource.getrusage(resource.RUSAGE_SELF)
        known = {
            "counts": dict(self._counts),
            "thumbnails": sum(not name.startswith(BOOKKEEPING_FOLDER) for name in self._written),
            "seconds": usage.ru_utime + usage.ru_stime,
        }
        if method == "POST":
            self._counts.clear()
            self._written.clear()
            self._sorted = []
            self.delay = float(query.get("delay", self.delay))
            self._folder.count = int(query.get("count", self._folder.count))
            gc.collect()
        return _of_json(json.dumps(known))

    def _find(self, name: str, query: dict[str, str]) -> Stored | Answer:
        stored = self._written.get(name) or self._folder.find(name)
        if stored is None or query.get("generation", str(stored.generation)) != str(stored.generation):
            return _refusal(HTTPStatus.NOT_FOUND, f"No such object: {BUCKET}/{name}")
        if query.get("ifGenerationMatch", str(stored.generation)) != str(stored.generation):
            return _refusal(HTTPStatus.PRECONDITION_FAILED, "conditionNotMet")
        return stored

    def _stat(self, name: str, query: dict[str, str]) -> Answer:
        found = self._find(name, query)
        if isinstance(found, Answer):
            return found
        return _of_json(found.rendered(self._folder.root, query["fields"].split(",") if "fields" in query else None))

    def _read(self, name: str, query: dict[str, str], head: bytes) -> Answer:
        found = self._find(name, query)
        if isinstance(found, Answer):
            return found
        headers = [
            f"Content-Type: {found.content_type}",
            f"X-Goog-Hash: crc32c={found.crc32c}",
            f"X-Goog-Hash: md5={found.md5}",
            f"X-Goog-Generation: {found.generation}",
            "X-Goog-Metageneration: 1",
            "X-Goog-Storage-Class: STANDARD",
            "X-Goog-Stored-Content-Encoding: identity",
            f"X-Goog-Stored-Content-Length: {len(found.data)}",
            "Content-Disposition: attachment",
            "Cache-Control: no-cache, no-store, max-age=0, must-revalidate",
            "Pragma: no-cache",
            "Last-Modified: Sun, 01 Nov 2026 12:00:00 GMT",
            "ETag: CJDy0v2C2IADEAE=",
        ]
        if part := _RANGE.search(head):
            first, last = int(part[1]), min(int(part[2] or len(found.data)), len(found.data) - 1)
            headers.append(f"Content-Range: bytes {first}-{last}/{len(found.data)}")
            return Answer(HTTPStatus.PARTIAL_CONTENT, headers, found.data[first : last + 1])
        return Answer(HTTPStatus.OK, headers, found.data)

    def _write(self, query: dict[str, str], head: bytes, body: bytes) -> tuple[str, Answer]:
        """Take an upload in one request, `uploadType=multipart` or `media`, or begin one; say under which name."""
        if query.get("uploadType") == "resumable":
            return self._begin(query, head, body)
        name = query.get("name", "")
        extra: dict[str, Any] = {}
        content_type = "application/octet-stream"
        data = body
        if query.get("uploadType") == "multipart":
            boundary = _BOUNDARY.search(head)
            if boundary is None:
                return name, _refusal(HTTPStatus.BAD_REQUEST, "no boundary")
            _, about, content = body.split(b"--" + boundary[1], 2)
            extra = json.loads(about.partition(_HEAD_END)[2])
            part_head, _, data = content.partition(_HEAD_END)
            data = data[: data.rindex(b"\r\n--" + boundary[1])]
            content_type = part_head.partition(b":")[2].strip().decode()
        elif query.get("uploadType") != "media":
            self._counts["unsupported"] += 1
            return name, _refusal(HTTPStatus.NOT_IMPLEMENTED, "the stand-in knows no such upload")
        name = str(extra.pop("name", name))
        there = self._written.get(name)
        wanted = query.get("ifGenerationMatch")
        if wanted is not None and wanted != str(there.generation if there else 0):
            return name, _refusal(HTTPStatus.PRECONDITION_FAILED, "conditionNotMet")
        self._generation += 1
        created = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        stored = Stored.of(name, self._generation, content_type, data, extra, created)
        promised = {"crc32c": stored.crc32c, "md5Hash": stored.md5}
        checked = {key: extra.pop(key) for key in promised if key in extra}
        if any(promised[key] != value for key, value in checked.items()):
            return name, _refusal(HTTPStatus.BAD_REQUEST, "the checksum is not that of the bytes")
        if not checked:
            self._counts["write without checksum"] += 1
        self._written[name] = stored
        fields = query["fields"].split(",") if "fields" in query else None
        return name, _of_json(stored.rendered(self._folder.root, fields))

    def _begin(self, query: dict[str, str], head: bytes, body: bytes) -> tuple[str, Answer]:
        """Begin an upload of several requests; say under which name."""
        declared = _UPLOADED_TYPE.search(head)
        about: dict[str, Any] = {"contentType": declared[1].decode()} if declared else {}
        about |= {"name": query.get("name", "")} | json.loads(body)
        upload_id = secrets.token_hex()
        self._sessions[upload_id] = about, bytearray()
        location = f"Location: {self._folder.root}/upload/storage/v1/b/{BUCKET}/o?upload_id={upload_id}"
        return about["name"], Answer(HTTPStatus.OK, (location,), b"")

    def _continue(self, query: dict[str, str], head: bytes, body: bytes) -> tuple[str, Answer]:
        """Take bytes of an upload that was begun; say under which name."""
        upload_id = query.get("upload_id", "")
        if upload_id not in self._sessions:
            return "", _refusal(HTTPStatus.NOT_FOUND, "no such upload")
        about, data = self._sessions[upload_id]
        name = str(about["name"])
        part = _CONTENT_RANGE.search(head)
        if part is None or int(part[1]) > len(data):
            return name, _refusal(HTTPStatus.BAD_REQUEST, "no such range")
        data[int(part[1]) :] = body
        if part[2] != b"*" and part[3] == b"*":
            return name, Answer(HTTPStatus.PERMANENT_REDIRECT, (f"Range: bytes=0-{len(data) - 1}",), b"")
        self._generation += 1
        created = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        stored = Stored.of(name, self._generation, str(about["contentType"]), bytes(data), {}, created)
        if b"\r\nx-goog-hash:" not in head.lower():
            self._counts["write without checksum"] += 1
        elif f"crc32c={stored.crc32c}".encode() not in head:
            return name, _refusal(HTTPStatus.BAD_REQUEST, "the checksum is not that of the bytes")
        del self._sessions[upload_id]
        self._written[name] = stored
        return name, _of_json(stored.rendered(self._folder.root, None))

    def _list(self, query: dict[str, str]) -> Answer:
        named = _FIELDS.search(query.get("fields", ""))
        fields = tuple(named[1].split(",")) if named else None
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
        after = base64.urlsafe_b64decode(query["pageToken"]).decode() if "pageToken" in query else ""
        lowest = max(prefix, query.get("startOffset", ""), after)
        highest = query.get("endOffset", "")
        size = min(int(query.get("maxResults", _PAGE_SIZE)), _PAGE_SIZE)
        glob = re.compile(_translated(query["matchGlob"])) if "matchGlob" in query else None
        if not (delimiter or glob or self._has_written(prefix)):
            return _page(*self._folder.page(lowest, prefix, highest, size, fields), (), fields)
        items: list[str] = []
        prefixes: list[str] = []
        resume = ""
        for name, render in self._entries(lowest, fields):
            if not name.startswith(prefix) or (highest and name >= highest):
                break
            if (glob and not glob.fullmatch(name)) or (prefixes and name.startswith(prefixes[-1])):
                continue
            if len(items) + len(prefixes) == size:
                resume = name
                break
            if delimiter and (end := name.find(delimiter, len(prefix))) >= 0:
                prefixes.append(name[: end + len(delimiter)])
            else:
                items.append(render())
        return _page(items, resume, prefixes, fields)

    def _names(self) -> list[str]:
        """The names of what was written, in order; nothing of it is ever deleted."""
        if len(self._sorted) != len(self._written):
            self._sorted = sorted(self._written)
        return self._sorted

    def _has_written(self, prefix: str) -> bool:
        names = self._names()
        place = bisect_left(names, prefix)
        return place < len(names) and names[place].startswith(prefix)

    def _entries(self, lowest: str, fields: tuple[str, ...] | None) -> Iterator[tuple[str, Callable[[], str]]]:
        """All objects from a name on, in the order of names, each with what describes it."""
        folder = self._folder
        written: Iterable[tuple[str, Callable[[], str]]] = (
            (name, lambda name=name: self._written[name].rendered(folder.root, fields))  # type: ignore[misc]
            for name in self._names()[bisect_left(self._names(), lowest) :]
        )
        templates = folder.templates(fields)
        listed: Iterable[tuple[str, Callable[[], str]]] = (
            (folder.name(index), lambda index=index: folder.rendered(index, templates))  # type: ignore[misc]
            for index in range(folder.position(lowest), folder.count)
        )
        return heapq.merge(written, listed, key=lambda entry: entry[0])


def _page(items: Sequence[str], resume: str, prefixes: Sequence[str], fields: tuple[str, ...] | None) -> Answer:
    """A page of a listing, the next of which begins with the name `resume`, where there is one."""
    parts = ['"kind": "storage#objects"'] if fields is None else []
    if resume:
        parts.append(f'"nextPageToken": "{base64.urlsafe_b64encode(resume.encode()).decode()}"')
    if prefixes:
        parts.append(f'"prefixes": {json.dumps(prefixes)}')
    if items:
        parts.append(f'"items": [{",".join(items)}]')
    return _of_json(f"{{{','.join(parts)}}}")


def _translated(glob: str) -> str:
    """A `matchGlob` as a regular expression (cloud.google.com/storage/docs/json_api/v1/objects/list)."""
    symbols = {"**": ".*", "*": "[^/]*", "?": "[^/]", "{": "(?:", "}": ")", ",": "|", "[": "[", "]": "]", "-": "-"}
    return "".join(symbols.get(part) or re.escape(part) for part in re.findall(r"\*\*|.", glob, re.DOTALL))


def _joined(received: bytearray, position: int) -> tuple[bytes, int] | None:
    """Join a body in chunks (RFC 9112, 7.1); return it, and where it ends. None if it is not all there."""
    parts: list[bytearray] = []
    while (line_end := received.find(b"\r\n", position)) >= 0:
        start = line_end + 2
        end = start + int(received[position:line_end], 16)
        if len(received) < end + 2:
            return None
        if end == start:
            return b"".join(parts), end + 2
        parts.append(received[start:end])
        position = end + 2
    return None


class _Connection(asyncio.Protocol):
    """One client's connection: one request at a time, as all of them do."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._received = bytearray()
        self._wanted = 0
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if isinstance(transport, asyncio.Transport):
            self._transport = transport
            transport.set_write_buffer_limits(high=1 << 30)

    def data_received(self, data: bytes) -> None:
        self._received += data
        if len(self._received) < self._wanted:
            return
        head_end = self._received.find(_HEAD_END)
        if head_end < 0:
            return
        head = bytes(self._received[:head_end])
        if _CHUNKED.search(head):
            joined = _joined(self._received, head_end + len(_HEAD_END))
            if joined is None:
                return
            body, self._wanted = joined
        else:
            length = _LENGTH.search(head)
            self._wanted = head_end + len(_HEAD_END) + (int(length[1]) if length else 0)
            if len(self._received) < self._wanted:
                return
            body = bytes(self._received[head_end + len(_HEAD_END) : self._wanted])
        del self._received[: self._wanted]
        self._wanted = 0
        method, target, _ = head[: head.find(b"\r\n")].decode().split(" ")
        answer, delay = self._storage.answer(method, target, head, body)
        if delay:
            asyncio.get_running_loop().call_later(delay, self._send, answer)
        else:
            self._send(answer)

    def _send(self, answer: Answer) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        if len(answer.body) <= _SMALL_BODY:
            self._transport.write(answer.head() + answer.body)
        else:
            self._transport.write(answer.head())
            self._transport.write(answer.body)


async def serve(storage: Storage, port: int) -> None:
    """Answer requests until cancelled."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Connection(storage), "127.0.0.1", port, backlog=1024)
    async with server:
        await server.serve_forever()


def main() -> None:
    """Serve on a port until killed; the files of the folder are named on stdin, a line each."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--count", type=int, required=True, help="objects in the folder")
    parser.add_argument("--delay", type=float, default=0, help="seconds before each answer")
    options = parser.parse_args()
    files = [Path(line) for line in sys.stdin.read().splitlines()]
    storage = Storage(Folder(f"http://127.0.0.1:{options.port}", files, options.count), options.delay)
    # What is held does not change, and need not be looked through for garbage again and again.
    gc.freeze()
    with suppress(KeyboardInterrupt):
        asyncio.run(serve(storage, options.port))


if __name__ == "__main__":
    main()
