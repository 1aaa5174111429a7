"""The pages in a real browser, as people use them: headless Chromium, driven by Playwright.

Screenshots in light and dark stay in `.artifacts/`.
"""

import itertools
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import quote, urlsplit

import httpx
import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Dialog, Page, Request, expect

from service.bootstrap import Service
from tests.conftest import Put, Serve
from tests.support.chromium import CHROMIUM, MISSING, chromium
from tests.support.pictures import jpeg
from tests.support.proxy import Fault, Proxy

ARTIFACTS = Path(__file__).resolve().parents[2] / ".artifacts"
HOUR = "20251203T15Z"
HOSTILE = "<img src=x onerror=alert(1)> \"x\" 'y' \u202egpj.jpg"

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason=MISSING)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


class Tab:
    """A page of the browser that notes whatever goes wrong on it."""

    def __init__(self, context: BrowserContext, url: str) -> None:
        self.page: Page = context.new_page()
        self.url = url
        self.troubles: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", self._said)
        self.page.on("pageerror", lambda error: self.troubles.append(f"error: {error}"))
        self.page.on("requestfailed", self._failed)
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.on("dialog", self._interrupted)

    def _said(self, message: ConsoleMessage) -> None:
        # Of an image alone, which may have no style at all, Chromium complains about the style that is its own.
        if not (message.text.startswith("Applying inline style") and "generation=" in self.page.url):
            self.troubles.append(f"{message.type} on the console: {message.text}")

    def _failed(self, request: Request) -> None:
        # What is still under way as a page is left is no trouble.
        if request.failure != "net::ERR_ABORTED":
            self.troubles.append(f"{request.failure}: {request.url}")

    def _interrupted(self, dialog: Dialog) -> None:
        self.troubles.append(f"a dialog: {dialog.message}")
        dialog.dismiss()

    def open(self, path: str) -> Page:
        self.page.goto(self.url + path)
        return self.page

    def check(self) -> None:
        """Nothing went wrong, and no other host was asked for anything."""
        assert not self.troubles
        assert {urlsplit(url).netloc for url in self.asked} == {urlsplit(self.url).netloc}


Open = Callable[..., Tab]


@pytest.fixture
def tab(browser: Browser) -> Iterator[Open]:
    contexts, tabs = list[BrowserContext](), list[Tab]()

    def tab(client: httpx.Client, **options: object) -> Tab:
        settings = {"viewport": {"width": 1200, "height": 900}, "reduced_motion": "reduce"} | options
        context = browser.new_context(**settings)  # type: ignore[arg-type]  # Playwright's own
        context.set_default_timeout(20_000)
        contexts.append(context)
        tabs.append(Tab(context, str(client.base_url).rstrip("/")))
        return tabs[-1]

    yield tab
    for one in tabs:
        one.check()
    for context in contexts:
        context.close()


@pytest.fixture
def filled(serve: Serve, put: Put) -> tuple[httpx.Client, Service]:
    """A service that has made thumbnails of 60 photos, one with a hostile name, and rejected what is none."""
    for index in range(60):
        put(f"in/photo {index:02}.jpg", jpeg(400, 300 + index))
    put(f"in/{HOSTILE}", jpeg(300, 400))
    put("in/no image <b>.jpg", b"no image")
    client, service = serve()
    client.post("/run", json={"timestamp": HOUR, "run_id": "first"})
    return client, service


Filled = tuple[httpx.Client, Service]


def shoot(page: Page, name: str) -> None:
    ARTIFACTS.mkdir(exist_ok=True)
    page.screenshot(path=ARTIFACTS / f"{name}.png", full_page=True)


def loaded(page: Page) -> list[int]:
    """The width of each image that is in view, as it came."""
    page.wait_for_load_state("networkidle")
    widths: list[int] = page.evaluate(
        """() => [...document.querySelectorAll("img[loading]")]
            .filter((image) => image.getBoundingClientRect().top < innerHeight)
            .map((image) => image.naturalWidth)"""
    )
    return widths


def test_a_run_is_followed_to_its_end(
    serve: Serve, put: Put, proxy: Proxy, tab: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.runs.reporter._SHORTEST_SECONDS", 1.0)
    for index in range(20):
        put(f"in/{index:02}.jpg", jpeg(40, 30))
    put("in/bad <i>.jpg", b"no image")
    client, _ = serve(concurrency=1)
    reads, gates = itertools.count(1), {8: threading.Event(), 15: threading.Event()}

    def hold(kind: str, name: str) -> Fault:
        if kind == "read" and name.startswith("in/") and (gate := gates.get(next(reads))):
            assert gate.wait(60)
        return None

    proxy.fault = hold
    with ThreadPoolExecutor(1) as caller:
        answer = caller.submit(client.post, "/run", json={"timestamp": HOUR, "run_id": "live"}, timeout=60)
        try:
            watching = tab(client)
            page = watching.page
            while client.get("/runs/live").json().get("done") != 7:
                page.wait_for_timeout(100)
            watching.open("/runs/live")
            expect(page.locator(".state")).to_have_text("Running")
            expect(page.locator("progress")).to_have_js_property("value", 7)
            expect(page.locator("progress")).to_have_js_property("max", 21)
            expect(page.locator("#done")).to_have_text("7 of 21 images · 33 %")
            shoot(page, "run-going-light")
            page.emulate_media(color_scheme="dark")
            shoot(page, "run-going-dark")
            page.emulate_media(color_scheme="light")
            before = len(watching.asked)
            page.get_by_role("link", name="Contact sheet").focus()
            gates[8].set()
            # Not loaded again: what the page itself asks for makes it move.
            expect(page.locator("#announcement")).to_have_text("14 of 21 images · 66 %", timeout=30_000)
        finally:
            for gate in gates.values():
                gate.set()
        expect(page.locator(".state")).to_have_text("Done", timeout=30_000)
        assert answer.result().json()["created"] == 20
    expect(page.locator("progress")).to_have_js_property("value", 21)
    expect(page.locator("#counts div", has_text="Created")).to_have_text("Created20")
    expect(page.locator("#counts div", has_text="Read")).to_contain_text("KiB")
    expect(page.locator("#rejected bdi").first).to_contain_text("bad <i>.jpg")
    expect(page.locator("#announcement")).to_have_text("Done")
    expect(page.get_by_role("link", name="Contact sheet")).to_be_focused()
    assert {urlsplit(url).path for url in watching.asked[before:]} == {"/runs/live"}
    page.get_by_role("link", name="Contact sheet").click()
    expect(page.locator("h1")).to_have_text("3 December 2025, 15:00 UTC")
    assert set(loaded(page)) == {40}
    # At its end a run is left alone.
    del watching.asked[:]
    watching.open("/runs/live")
    page.wait_for_timeout(2500)
    assert [urlsplit(url).path for url in watching.asked].count("/runs/live") == 1


@pytest.mark.parametrize(
    ("device", "width", "height", "scheme"),
    [
        ("desk", 1200, 900, "light"),
        pytest.param("desk", 1200, 900, "dark", marks=pytest.mark.slow),
        pytest.param("phone", 360, 740, "light", marks=pytest.mark.slow),
        ("phone", 360, 740, "dark"),
        pytest.param("narrow", 320, 500, "light", marks=pytest.mark.slow),
    ],
)
def test_every_page_fits_its_window_in_light_and_in_dark(
    filled: Filled, tab: Open, device: str, width: int, height: int, scheme: str
) -> None:
    client, service = filled
    reader = tab(client, color_scheme=scheme, viewport={"width": width, "height": height})
    paths = {
        "overview": "/",
        "runs": "/runs",
        "run": "/runs/first",
        "hours": "/hours",
        "sheet": f"/hours/{HOUR}",
        "search": f"/hours/{HOUR}?search=5",
        "thumbnails": f"/thumbnails?source={quote(f'{service.settings.input_folder}{HOSTILE}')}",
    }
    for name, path in paths.items():
        page = reader.open(path)
        page.wait_for_load_state("networkidle")
        shoot(page, f"{name}-{device}-{scheme}")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        red, green, blue = page.evaluate(
            "getComputedStyle(document.body).backgroundColor.match(/[0-9.]+/g).slice(0, 3).map(Number)"
        )
        assert (red + green + blue > 600) is (scheme == "light")


def test_the_contact_sheet_shows_the_pictures_and_loads_the_rest_as_it_is_needed(filled: Filled, tab: Open) -> None:
    client, _ = filled
    reader = tab(client, viewport={"width": 400, "height": 500})
    page = reader.open(f"/hours/{HOUR}")
    widths = loaded(page)
    assert widths
    assert set(widths) <= {75, 100}
    asked = [url for url in reader.asked if "generation=" in url]
    assert len(asked) < 61, "all were loaded at once"
    place = "() => document.querySelector('.sheet li:last-child').getBoundingClientRect().top + scrollY"
    before = page.evaluate(place)
    page.locator(".sheet li").last.scroll_into_view_if_needed()
    expect(page.locator(".sheet li:last-child img")).not_to_have_js_property("naturalWidth", 0)
    assert page.evaluate(place) == before, "what came later has moved what was there"
    expect(page.locator(".sheet .name").first).to_have_text(HOSTILE)
    # A second look takes them from the browser's own cache.
    page = reader.open(f"/hours/{HOUR}")
    assert loaded(page) == widths
    assert page.evaluate(
        "performance.getEntriesByType('resource').filter((one) => one.name.includes('generation='))"
        ".every((one) => one.transferSize === 0)"
    )


def test_names_are_searched(filled: Filled, tab: Open) -> None:
    client, _ = filled
    page = tab(client).open(f"/hours/{HOUR}")
    page.get_by_label("Search by name").fill("PHOTO 1")
    page.get_by_role("button", name="Search").click()
    expect(page.locator(".sheet li")).to_have_count(10)
    expect(page.locator(".count")).to_contain_text("10 thumbnails whose name contains")
    page.get_by_role("link", name="Clear").click()
    expect(page.locator(".sheet li")).to_have_count(61)
    page.get_by_label("Search by name").fill("<img")
    page.keyboard.press("Enter")
    expect(page.locator(".sheet li")).to_have_count(1)


def test_all_is_reached_with_the_keyboard_alone(filled: Filled, tab: Open) -> None:
    client, _ = filled
    page = tab(client).open("/")

    def focused() -> str:
        text: str = page.evaluate(
            "[document.activeElement].map((one) => one.innerText || one.getAttribute('name') || one.tagName)[0]"
        )
        return text.strip()

    # The first stop leads past the navigation, and is seen only then.
    assert page.locator(".skip").bounding_box()["y"] < 0  # type: ignore[index]  # it has one
    page.keyboard.press("Tab")
    assert focused() == "Skip to the content"
    assert page.locator(".skip").bounding_box()["y"] >= 0  # type: ignore[index]  # it has one
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    page.keyboard.press("Tab")
    assert focused() == "first"
    # Every stop in the order of the page, each with a mark that is seen.
    page = tab(client).open("/")
    stops = page.locator("a[href], button, input:not([type=hidden])").count()
    for index in range(stops):
        page.keyboard.press("Tab")
        assert page.evaluate(
            "(index) => [...document.querySelectorAll('a[href], button, input:not([type=hidden])')].indexOf("
            "document.activeElement) === index", index
        ), f"stop {index} is {focused()}"  # fmt: skip
        assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    # A command is copied, or at least selected, which is said aloud.
    page.locator("pre button").first.focus()
    page.keyboard.press("Enter")
    expect(page.locator("#announcement")).to_have_text("Copied")
    # From here to an image, by keys.
    page.locator("nav a", has_text="Hours").focus()
    page.keyboard.press("Enter")
    page.wait_for_url("**/hours")
    page.get_by_role("link", name=HOUR).focus()
    page.keyboard.press("Enter")
    page.wait_for_url(f"**/hours/{HOUR}")
    page.get_by_label("Search by name").focus()
    page.keyboard.type("photo 07")
    page.keyboard.press("Enter")
    expect(page.locator(".sheet li")).to_have_count(1)
    page.locator("a.frame").focus()
    assert page.locator("a.frame").get_by_role("img", name="photo 07.jpg").count() == 1
    address = page.locator("a.frame").get_attribute("href")
    assert address is not None
    with page.expect_navigation():
        page.keyboard.press("Enter")
    assert page.url.endswith(address)
    assert page.evaluate("document.images[0].naturalWidth") == 100


@pytest.mark.slow
def test_without_scripts_all_but_the_conveniences_work(filled: Filled, put: Put, proxy: Proxy, tab: Open) -> None:
    client, service = filled
    reader = tab(client, java_script_enabled=False)
    page = reader.open("/")
    expect(page.locator("pre")).to_have_count(5)
    expect(page.locator("pre button")).to_have_count(0)
    page.get_by_label("Address of an image").fill(f"{service.settings.input_folder}photo 07.jpg")
    page.get_by_role("button", name="Find its thumbnails").click()
    expect(page.locator(".sheet li")).to_have_count(1)
    assert loaded(page) == [100]
    page.goto(f"{client.base_url}/")
    page.get_by_role("link", name=HOUR).click()
    expect(page.locator(".sheet li")).to_have_count(61)
    page.get_by_label("Search by name").fill("photo 2")
    page.get_by_role("button", name="Search").click()
    expect(page.locator(".sheet li")).to_have_count(10)
    # A run that is going is loaded again now and then, and once it has ended no more.
    put("in/new.jpg", jpeg(40, 30))
    go_on = threading.Event()

    def hold(kind: str, name: str) -> Fault:
        # Not what the browser itself is still asking for.
        if kind == "read" and name.startswith("in/"):
            assert go_on.wait(60)
        return None

    proxy.fault = hold
    with ThreadPoolExecutor(1) as caller:
        body = {"timestamp": HOUR, "run_id": "second"}
        answer = caller.submit(client.post, "/run", json=body, timeout=60)
        try:
            while client.get("/runs/second").json().get("state") != "running":
                page.wait_for_timeout(100)
            reader.open("/runs/second")
            expect(page.locator(".state")).to_have_text("Running")
        finally:
            go_on.set()
        assert answer.result().status_code == 200
    expect(page.locator(".state")).to_have_text("Done", timeout=20_000)


def test_a_page_that_is_not_there_says_so(filled: Filled, tab: Open) -> None:
    client, _ = filled
    reader = tab(client)
    for path, title in (("/nothing", "Not Found"), ("/runs/-x", "Unprocessable Entity"), ("/hours/x/y", "Not Found")):
        page = reader.open(path)
        expect(page.locator("h1")).to_have_text(title)
        page.get_by_role("link", name="Back to the overview").click()
        expect(page.locator("h1")).to_have_text("Overview")
    assert len(reader.troubles) == 3
    assert all("Failed to load resource" in one for one in reader.troubles)
    reader.troubles.clear()


@pytest.mark.parametrize(("device", "width"), [("desk", 1200), ("phone", 390)])
def test_the_api_is_documented_and_called_without_another_host(
    filled: Filled, tab: Open, device: str, width: int
) -> None:
    client, _ = filled
    page = tab(client, viewport={"width": width, "height": 900}).open("/docs")
    expect(page.locator(".opblock")).to_have_count(6)
    page.locator(".opblock", has_text="/runs/{run_id}").click()
    page.get_by_role("button", name="Try it out").click()
    page.get_by_placeholder("run_id").fill("first")
    page.get_by_role("button", name="Execute").click()
    expect(page.locator(".live-responses-table tbody .response-col_status")).to_contain_text("200")
    expect(page.locator(".live-responses-table")).to_contain_text('"created"')
    shoot(page, f"docs-{device}-light")
    assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("width", [1280, 390])
def test_the_table_of_settings_breaks_no_word(filled: Filled, tab: Open, width: int) -> None:
    client, _ = filled
    page = tab(client, viewport={"width": width, "height": 900}).open("/")
    broken = page.locator("th[scope=row].code, [data-label='Set by']").evaluate_all(
        """(cells) => cells.flatMap((cell) => {
            const text = document.createTreeWalker(cell, NodeFilter.SHOW_TEXT).nextNode();
            return [...text.data.matchAll(/\\S+/g)].filter((word) => {
                const range = document.createRange();
                range.setStart(text, word.index);
                range.setEnd(text, word.index + word[0].length);
                return range.getClientRects().length > 1;
            }).map((word) => word[0]);
        })"""
    )
    assert broken == []
