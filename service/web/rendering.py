"""HTML from templates. Jinja2 lives here alone, and is imported with the first page that somebody opens.

Object names, reasons and parameters are hostile text. They are escaped everywhere, stand in `<bdi>` so that they cannot
reorder the text around them, and are percent-encoded in addresses.
"""

import math
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote, urlencode

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape
from pydantic import ByteSize

from service.naming import Hour
from service.web.static_files import static_address

_VISIBLE = {
    **{code: chr(0x2400 + code) for code in range(0x20)},
    0x7F: "␡",
    **dict.fromkeys(range(0x80, 0xA0), "�"),
    **dict.fromkeys(range(0xD800, 0xE000), "�"),
}
"""Control characters to their pictures, and to � those without one and lone surrogates."""


def _text(value: object) -> str:
    return str(value).translate(_VISIBLE)


def _breakable(value: object) -> Markup:
    """Let a line break after a slash, without changing what is copied."""
    return escape(_text(value)).replace("/", Markup("/<wbr>"))


def _isolated(value: object) -> str:
    """Do what `<bdi>` does, for attributes and titles: between FIRST STRONG ISOLATE and POP DIRECTIONAL ISOLATE."""
    return f"\u2068{_text(value)}\u2069"


def _path(name: str) -> str:
    return quote(name, safe="/", errors="replace")


def _query(**parameters: object) -> str:
    given = {name: value for name, value in parameters.items() if value not in (None, "")}
    return "?" + urlencode(given, errors="replace") if given else ""


def _number(value: float) -> str:
    return f"{value:,}".removesuffix(".0")


def format_size(size: int) -> str:
    """Format bytes: `812 B`, `3.4 KiB`, `120.0 MiB`."""
    return ByteSize(size).human_readable(separator=" ")


def _duration(seconds: float) -> str:
    """Format seconds: `40 s`, `2 min 5 s`, `3 h 20 min`."""
    minutes, whole_seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours:,} h {minutes} min"
    return f"{minutes} min {whole_seconds} s" if minutes else f"{whole_seconds} s"


def _dollars(dollars: float) -> str:
    """Format dollars: `$168.40`, `$0.0213`, `$0`; of less than a dollar, two digits that tell something."""
    if not dollars or dollars >= 1:
        return f"${dollars:,.2f}" if dollars else "$0"
    return f"${dollars:.{1 - math.floor(math.log10(dollars))}f}"


def _moment(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _long_hour(hour: Hour) -> str:
    """Format `20251203T15Z` as `3 December 2025, 15:00 UTC`."""
    moment = hour.moment
    return f"{moment.day} {moment:%B} {moment.year:04}, {moment:%H}:00 UTC"


_environment = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    auto_reload=False,
    trim_blocks=True,
    lstrip_blocks=True,
)
_environment.filters |= {
    "text": _text,
    "breakable": _breakable,
    "isolated": _isolated,
    "last_part": lambda name: name.rpartition("/")[2],
    "path": _path,
    "number": _number,
    "size": format_size,
    "duration": _duration,
    "dollars": _dollars,
    "moment": _moment,
    "hour": _long_hour,
}
_environment.globals |= {"query": _query, "static": static_address}


def render(template: str, **values: object) -> bytes:
    """Return a page of a file in `templates/`, with values for all of its variables."""
    return _environment.get_template(template).render(values).encode(errors="replace")
