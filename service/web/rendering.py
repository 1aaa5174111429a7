"""Templates to HTML. The only Jinja2, which is imported with the first page that somebody asks for.

Object names, reasons, whatever a caller sent: all of it is hostile text. It is escaped wherever it stands, set apart by
`<bdi>` so that it cannot turn the text around it, and percent-encoded where it is part of an address.
"""

import unicodedata
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote, urlencode

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from service.naming import Hour

_KIBIBYTE = 1024
_MINUTE = 60
_HOUR = 60 * _MINUTE
_CONTROL_PICTURES = 0x2400
_DELETE = 0x7F
_FIRST_ISOLATE, _POP_ISOLATE = "\u2068", "\u2069"


def _text(value: object) -> str:
    """Show what has no look of its own: control characters as their pictures, what is no character at all as �."""
    return "".join(map(_visible, str(value)))


def _visible(character: str) -> str:
    match unicodedata.category(character):
        case "Cc" if ord(character) < ord(" "):
            return chr(_CONTROL_PICTURES + ord(character))
        case "Cc":
            return "␡" if ord(character) == _DELETE else "�"
        case "Cs":
            return "�"
        case _:
            return character


def _breakable(value: object) -> Markup:
    """Let a line break after a slash; what is copied stays as it is."""
    return escape(_text(value)).replace("/", Markup("/<wbr>"))


def _isolated(value: object) -> str:
    """As `<bdi>` does, where there can be no element: in an attribute, in a title."""
    return f"{_FIRST_ISOLATE}{_text(value)}{_POP_ISOLATE}"


def _last_part(name: str) -> str:
    return name[name.rfind("/") + 1 :]


def _path(name: str) -> str:
    return quote(name, safe="/", errors="replace")


def _query(**parameters: object) -> str:
    given = {name: value for name, value in parameters.items() if value not in (None, "")}
    return "?" + urlencode(given, errors="replace") if given else ""


def _number(value: float) -> str:
    return f"{value:,}".removesuffix(".0")


def format_size(size: int) -> str:
    """Bytes for people: `812 B`, `3.4 KiB`, `120 MiB`."""
    if size < _KIBIBYTE:
        return f"{size} B"
    value = float(size)
    for unit in ("KiB", "MiB", "GiB"):
        value /= _KIBIBYTE
        if value < _KIBIBYTE:
            return f"{value:.1f} {unit}" if value < 100 else f"{value:.0f} {unit}"  # noqa: PLR2004 - three digits
    return f"{_number(round(value / _KIBIBYTE, 1))} TiB"


def _duration(seconds: float) -> str:
    """Seconds for people: `40 s`, `2 min 5 s`, `3 h 20 min`."""
    whole = round(seconds)
    if whole < _MINUTE:
        return f"{whole} s"
    if whole < _HOUR:
        return f"{whole // _MINUTE} min {whole % _MINUTE} s"
    return f"{whole // _HOUR:,} h {whole % _HOUR // _MINUTE} min"


def _moment(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _hour_for_people(hour: Hour | str) -> str:
    """Read `20251203T15Z` as `3 December 2025, 15:00 UTC`."""
    text = str(hour)
    month = datetime(2000, int(text[4:6]), 1, tzinfo=UTC).strftime("%B")
    return f"{int(text[6:8])} {month} {text[:4]}, {text[9:11]}:00 UTC"


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
    "last_part": _last_part,
    "path": _path,
    "number": _number,
    "size": format_size,
    "duration": _duration,
    "moment": _moment,
    "hour": _hour_for_people,
}
_environment.globals["query"] = _query


def render(template: str, **values: object) -> bytes:
    """Return a page.

    Args:
        template: its file's name.
        values: what it shows; all that it asks for.
    """
    return _environment.get_template(template).render(values).encode(errors="replace")
