"""Figures as tables in Markdown."""

from collections.abc import Sequence

MEGABYTE = 1_000_000


def table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table whose first column is text and whose others are figures, lined up for people too."""
    widths = [max(len(row[column]) for row in (titles, *rows)) for column in range(len(titles))]

    def line(cells: Sequence[str]) -> str:
        padded = (
            cell.rjust(width) if place else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(cells, widths, strict=True))
        )
        return f"| {' | '.join(padded)} |"

    rule = ["-" * width if place == 0 else "-" * (width - 1) + ":" for place, width in enumerate(widths)]
    return "\n".join([line(titles), f"| {' | '.join(rule)} |", *(line(row) for row in rows)]) + "\n"


def figure(value: float | None, digits: int = 3) -> str:
    """A figure with so many digits that count, and none behind the point that do not."""
    if value is None:
        return ""
    if value == 0:
        return "0"
    magnitude = len(str(int(abs(value)))) if abs(value) >= 1 else 0
    return f"{value:,.{max(0, digits - magnitude)}f}"
