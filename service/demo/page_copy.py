"""A page of the running service as one HTML file that shows without the service, and loads nothing from elsewhere."""

import base64
from collections.abc import Sequence
from html import escape
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import urljoin

import httpx

from service.demo.network import check, local_client
from service.demo.terminal import progress_bar

_NEED_THE_SERVICE = frozenset({"form", "nav", "script"})
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def save_page(url: str, path: Path) -> None:
    """Write a copy of a page, and of the pages that follow it by `rel="next"`, as one file.

    Args:
        url: the page's.
        path: the HTML file to write.

    Raises:
        LocalWorldError: the service does not answer with a page, or with a file that a page shows.
    """
    with local_client() as client:
        first = copy = _Copy(client, url)
        mains = [first.main]
        while copy.next_page:
            copy = _Copy(client, copy.next_page)
            mains.append(copy.main)
    path.write_text(first.before + "".join(mains) + first.after, encoding="utf-8")


class _Copy(HTMLParser):
    """One page, with its style sheet and pictures inside, and without what only the service can answer."""

    def __init__(self, client: httpx.Client, url: str) -> None:
        super().__init__()
        self.next_page = ""
        self._client = client
        self._url = url
        self._written: list[str] = []
        self._skipping = 0
        with progress_bar("contact sheet", None) as self._bar:
            self.feed(self._get(url).text)
            self.close()
        text = "".join(self._written)
        start, end = text.index(">", text.index("<main")) + 1, text.index("</main>")
        self.before, self.main, self.after = text[:start], text[start:end], text[end:]

    def handle_decl(self, decl: str) -> None:
        self._write(f"<!{decl}>")

    def handle_starttag(self, tag: str, attrs: Sequence[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if given.get("rel") == "next":
            self.next_page = urljoin(self._url, given["href"])
        self._skipping += tag in _NEED_THE_SERVICE
        match tag, given:
            case "link", {"rel": "stylesheet", "href": str(address)}:
                self._write(f"<style>{self._get(address).text}</style>")
                return
            case ("link", {"href": str(address)}) | ("img", {"src": str(address)}):
                if not self._skipping:
                    given["href" if tag == "link" else "src"] = self._data(address)
            case "a", {"href": str(address)} if not address.startswith("#"):
                del given["href"]
        attributes = (f' {name}="{escape(value or "")}"' for name, value in given.items())
        self._write(f"<{tag}{''.join(attributes)}>")
        if tag == "head":
            self._write(f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">')

    def handle_endtag(self, tag: str) -> None:
        self._write(f"</{tag}>")
        self._skipping -= tag in _NEED_THE_SERVICE

    def handle_data(self, data: str) -> None:
        self._write(escape(data, quote=False))

    def _write(self, text: str) -> None:
        if not self._skipping:
            self._written.append(text)

    def _get(self, address: str) -> httpx.Response:
        url = urljoin(self._url, address)
        answer = self._client.get(url, headers={"Accept": "text/html, */*"})
        check(answer, f"copy {url}")
        return answer

    def _data(self, address: str) -> str:
        answer = self._get(address)
        self._bar.update()
        return f"data:{answer.headers['Content-Type']};base64,{base64.b64encode(answer.content).decode()}"
