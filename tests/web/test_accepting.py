"""Who gets a page, and who gets JSON."""

import pytest

from service.web.accepting import prefers_html

CHROME = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"


@pytest.mark.parametrize(
    "accept", [CHROME, "text/html", "TEXT/HTML", "text/*", "application/json;q=0.5, text/html;q=0.6", "x, text/html"]
)
def test_browsers_want_a_page(accept: str) -> None:
    assert prefers_html(accept)


@pytest.mark.parametrize(
    "accept",
    [
        "",
        "*/*",
        "application/json",
        "application/json, text/html",
        "application/json, text/plain, */*",
        "text/html;q=0, */*",
        "text/html;q=0.1, application/*",
        "text/html;q=high",
        "text/plain",
        "text",
        "/html, text/",
        ",;,=",
    ],
)
def test_programs_want_json(accept: str) -> None:
    assert not prefers_html(accept)
