"""Which of two answers a caller wants, by its Accept header: a page, as browsers do, or JSON, as programs do."""

_HTML = ("text", "html")
_JSON = ("application", "json")


def prefers_html(accept: str) -> bool:
    """Whether a page is wanted more than JSON.

    Args:
        accept: the header's value; several of them joined with commas.

    Returns:
        False where both are as welcome, which is what `*/*` says, and no header at all.
    """
    ranges = list(filter(None, map(_range, accept.split(","))))
    return _quality(_HTML, ranges) > _quality(_JSON, ranges)


def _range(text: str) -> tuple[str, str, float] | None:
    """Read one media range with its quality; None where it is none. What a range says beyond that is passed over."""
    media, *parameters = (part.strip().lower() for part in text.split(";"))
    kind, slash, subtype = media.partition("/")
    if not (kind and slash and subtype):
        return None
    weight = next(
        (value.strip() for name, _, value in (item.partition("=") for item in parameters) if name == "q"), "1"
    )
    try:
        return kind, subtype, float(weight)
    except ValueError:
        return None


def _quality(media: tuple[str, str], ranges: list[tuple[str, str, float]]) -> float:
    """The quality of the narrowest range that takes the media type in (RFC 9110, 12.5.1); 0 where none does."""
    for wanted in (media, (media[0], "*"), ("*", "*")):
        for kind, subtype, weight in ranges:
            if (kind, subtype) == wanted:
                return weight
    return 0.0
