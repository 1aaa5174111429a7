"""The contact sheet: one HTML file that shows every thumbnail and says how it came about.

Nothing in it is loaded from elsewhere and nothing in it runs. The names in it are other people's: all text is escaped.
"""

import base64
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from html import escape

_KILOBYTE = 1000


@dataclass(frozen=True, slots=True)
class Card:
    """One thumbnail."""

    name: str
    source: str
    data: bytes
    content_type: str
    width: int
    height: int
    source_bytes: int
    door: str
    """Which made it, in a word."""
    note: str = ""


@dataclass(frozen=True, slots=True)
class NotMade:
    """A file without a thumbnail, and why."""

    source: str
    code: str
    reason: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class Timing:
    """What one step did, and how fast."""

    step: str
    result: str
    seconds: float
    rate: str = ""


@dataclass(frozen=True, slots=True)
class Sheet:
    """All that is on it."""

    title: str
    subtitle: str
    figures: Sequence[tuple[str, str]]
    """A number, and what it counts."""
    timings: Sequence[Timing] = ()
    cards: Sequence[Card] = ()
    rejected: Sequence[NotMade] = ()
    passed_over: Sequence[NotMade] = field(default=())


def size_text(count: float) -> str:
    """A number of bytes for people, in decimal units: `940 B`, `3.2 kB`, `1.4 MB`."""
    if count < _KILOBYTE:
        return f"{count:.0f}\N{NO-BREAK SPACE}B"
    for unit in ("kB", "MB"):
        count /= _KILOBYTE
        if round(count, 1) < _KILOBYTE:
            return f"{count:.1f}\N{NO-BREAK SPACE}{unit}"
    return f"{count / _KILOBYTE:.1f}\N{NO-BREAK SPACE}GB"


def render(sheet: Sheet) -> str:
    """Return the HTML document."""
    parts = [
        _figures(sheet.figures),
        _timings(sheet.timings),
        _section("Thumbnails", "ul", "grid", map(_card, sheet.cards)),
        _section("Rejected", "ul", "plain", map(_not_made, sheet.rejected)),
        _section("Passed over", "ul", "plain", map(_not_made, sheet.passed_over)),
    ]
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>{escape(sheet.title)}</title>
<style>{_STYLE}</style>
</head>
<body>
<header>
<h1>{escape(sheet.title)}</h1>
<p>{escape(sheet.subtitle)}</p>
</header>
<main>
{"".join(parts)}</main>
</body>
</html>
"""


def _figures(figures: Iterable[tuple[str, str]]) -> str:
    items = "".join(f"<div><dd>{escape(number)}</dd><dt>{escape(what)}</dt></div>\n" for number, what in figures)
    return f'<dl class="figures">\n{items}</dl>\n'


def _timings(timings: Sequence[Timing]) -> str:
    if not timings:
        return ""
    rows = "".join(
        f'<tr><th scope="row">{escape(timing.step)}</th><td>{escape(timing.result)}</td>'
        f'<td class="number">{timing.seconds:.2f} s</td><td class="number">{escape(timing.rate)}</td></tr>\n'
        for timing in timings
    )
    return f'<section class="timings"><table>\n{rows}</table></section>\n'


def _section(title: str, tag: str, style: str, items: Iterable[str]) -> str:
    listed = list(items)
    if not listed:
        return ""
    return (
        f'<section>\n<h2>{escape(title)} <span class="count">{len(listed):,}</span></h2>\n'
        f'<{tag} class="{style}">\n{"".join(listed)}</{tag}>\n</section>\n'
    )


def _card(card: Card) -> str:
    data = base64.b64encode(card.data).decode()
    address = escape(f"data:{card.content_type};base64,{data}")
    note = f'<p class="note">{escape(card.note)}</p>\n' if card.note else ""
    return f"""<li class="card">
<div class="picture"><img src="{address}" width="{card.width}" height="{card.height}" alt=""></div>
<div class="text">
<p class="name">{escape(card.name)}</p>
<p class="facts">{card.width}&times;{card.height} px · {size_text(len(card.data))}</p>
<p class="source">of {escape(card.source)}, {size_text(card.source_bytes)}</p>
{note}<p class="door">{escape(card.door)}</p>
</div>
</li>
"""


def _not_made(item: NotMade) -> str:
    code = f" <code>{escape(item.code)}</code>" if item.code else ""
    note = f'<p class="source">{escape(item.note)}</p>' if item.note else ""
    return f'<li><p class="name">{escape(item.source)}{code}</p><p>{escape(item.reason)}</p>{note}</li>\n'


_STYLE = """
:root {
  --page: #f5f5f3; --surface: #fff; --line: #e3e3df; --text: #1d1d1b; --soft: #62625d;
  --accent: #0b6b4f; --accent-soft: #e2f1eb; --warn: #9a3412; --warn-soft: #fbeae2;
  --check-a: #fff; --check-b: #ececea;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #131314; --surface: #1c1c1e; --line: #303033; --text: #ececea; --soft: #a0a09b;
    --accent: #7fd1b2; --accent-soft: #17352b; --warn: #f0a98a; --warn-soft: #3a2219;
    --check-a: #2a2a2d; --check-b: #222225;
  }
}
* { box-sizing: border-box; margin: 0; }
body {
  background: var(--page); color: var(--text); font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto,
  "Helvetica Neue", Arial, sans-serif; padding: clamp(1.25rem, 4vw, 4rem); max-width: 90rem; margin-inline: auto;
}
h1 { font-size: clamp(1.7rem, 3.5vw, 2.4rem); line-height: 1.2; letter-spacing: -.02em; text-wrap: balance; }
header p { color: var(--soft); margin-top: .5rem; overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; letter-spacing: -.01em; margin-bottom: 1.1rem; }
.count { color: var(--soft); font-weight: 400; margin-left: .3rem; }
section { margin-top: 3.25rem; }
.figures { display: flex; flex-wrap: wrap; gap: 1.5rem 3.25rem; margin-top: 2.5rem; }
.figures div { display: flex; flex-direction: column; }
.figures dd { font-size: 2rem; font-weight: 600; line-height: 1.2; letter-spacing: -.02em;
  font-variant-numeric: tabular-nums; }
.figures dt { color: var(--soft); font-size: .9rem; }
.timings { overflow-x: auto; background: var(--surface); border: 1px solid var(--line); border-radius: 14px;
  margin-top: 2.5rem; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; padding: .8rem 1.2rem; vertical-align: baseline; font-weight: 400; }
tr + tr > * { border-top: 1px solid var(--line); }
th { font-weight: 600; white-space: nowrap; }
td { color: var(--soft); }
.number { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; color: var(--text); }
ul { list-style: none; padding: 0; }
.grid { display: grid; gap: 1.25rem; grid-template-columns: repeat(auto-fill, minmax(13.5rem, 1fr)); }
.card { background: var(--surface); border: 1px solid var(--line); border-radius: 14px; overflow: hidden;
  display: flex; flex-direction: column; }
.picture { display: grid; place-items: center; min-height: 9.5rem; padding: 1.25rem;
  background: repeating-conic-gradient(var(--check-a) 0 25%, var(--check-b) 0 50%) 0 0 / 16px 16px;
  border-bottom: 1px solid var(--line); }
.picture img { display: block; max-width: 100%; height: auto; }
.text { padding: 1rem 1.1rem 1.15rem; display: flex; flex-direction: column; gap: .2rem; flex: 1; }
.name { font-weight: 600; overflow-wrap: anywhere; }
.facts { font-variant-numeric: tabular-nums; }
.source, .facts, .note { font-size: .85rem; overflow-wrap: anywhere; }
.source { color: var(--soft); }
.door { margin-top: auto; padding-top: .7rem; font-size: .78rem; color: var(--accent); }
.note { align-self: start; margin-top: .35rem; padding: .1rem .55rem; border-radius: 7px;
  background: var(--accent-soft); color: var(--accent); }
.plain { background: var(--surface); border: 1px solid var(--line); border-radius: 14px; }
.plain li { padding: .95rem 1.2rem; }
.plain li + li { border-top: 1px solid var(--line); }
.plain p { overflow-wrap: anywhere; }
.plain p + p { color: var(--soft); font-size: .9rem; }
code { font: .8rem ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; color: var(--warn);
  background: var(--warn-soft); border-radius: 6px; padding: .1rem .45rem; margin-left: .4rem; white-space: nowrap; }
@media (max-width: 44rem) {
  table, tbody { display: block; }
  tr { display: flex; flex-wrap: wrap; gap: .1rem 1rem; padding: .9rem 1.2rem; }
  tr + tr { border-top: 1px solid var(--line); }
  tr + tr > * { border-top: 0; }
  th, td { padding: 0; }
  th { flex: 1 1 100%; }
  td:nth-child(2) { flex: 1 1 100%; }
}
@media print { body { padding: 0; } .card, .plain li { break-inside: avoid; } }
"""
