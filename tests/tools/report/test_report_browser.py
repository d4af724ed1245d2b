"""The report in a real browser: no error, no request, readable on a phone, in the dark and on paper."""

from __future__ import annotations

import shutil
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from nbkit.tools.report.page import write_report
from tests.tools.report.report_store import make_store

pytestmark = pytest.mark.browser

CHROMIUM = "/usr/bin/chromium"
PHONE, DESK = {"width": 360, "height": 740}, {"width": 1280, "height": 900}
# every text against what is behind it, as WCAG 2 measures it (https://www.w3.org/TR/WCAG22/#dfn-contrast-ratio)
CONTRAST = """() => {
  const parse = colour => colour.match(/[\\d.]+/g).map(Number);
  const linear = v => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4;
  const light = ([r, g, b]) => .2126 * linear(r / 255) + .7152 * linear(g / 255) + .0722 * linear(b / 255);
  const back = node => {
    for (; node; node = node.parentElement) {
      const colour = parse(getComputedStyle(node).backgroundColor);
      if (colour.length < 4 || colour[3] > 0) return colour;
    }
    return [255, 255, 255];
  };
  const poor = [];
  for (const node of document.querySelectorAll("body *:not(title, desc)")) {
    if (![...node.childNodes].some(child => child.nodeType === 3 && child.data.trim())) continue;
    const style = getComputedStyle(node), ink = node.closest("svg") ? style.fill : style.color;
    const [low, high] = [light(parse(ink)), light(back(node))].sort((a, b) => a - b);
    if ((high + .05) / (low + .05) < 4.5) poor.push(`${node.tagName} ${node.textContent.slice(0, 40)} ${ink}`);
  }
  return poor;
}"""
TOO_WIDE = """() => [...document.querySelectorAll("main *")]
  .filter(node => !node.closest(".scrolls, svg"))
  .filter(node => node.getBoundingClientRect().right > document.documentElement.clientWidth + 1)
  .map(node => node.outerHTML.slice(0, 90))"""


@pytest.fixture(scope="module")
def browser():
    sync = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    path = shutil.which("chromium") or CHROMIUM
    if not Path(path).exists():
        pytest.skip("there is no Chromium on this machine")
    flags = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run", "--disable-sync")
    with sync.sync_playwright() as playing:
        opened = playing.chromium.launch(executable_path=path, headless=True, args=list(flags))
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def page_file(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    write_report(str(make_store(folder, evil=True)), folder / "page.html")
    return folder / "page.html"


@pytest.fixture
def look(browser, page_file):
    """Return a function that opens the page and gives it with its faults: errors, and requests that left the file."""
    contexts = []

    def open_page(size: dict = DESK, scheme: str = "light"):
        contexts.append(browser.new_context(viewport=size, color_scheme=scheme))
        page, faults = contexts[-1].new_page(), []
        page.on("console", lambda message: faults.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("request", lambda asked: None if _inside(asked.url, page_file) else faults.append(asked.url))
        page.goto(page_file.as_uri())
        return page, faults

    yield open_page
    for context in contexts:
        context.close()


def _inside(url: str, file: Path) -> bool:
    return url.startswith(("data:", "blob:", "about:")) or url == file.as_uri()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [PHONE, DESK], ids=["phone", "desk"])
def test_it_opens_whole_and_fits(look, size, scheme):
    page, faults = look(size, scheme)
    frame = page.query_selector("iframe")
    frame.scroll_into_view_if_needed()
    page.wait_for_function("document.querySelector('iframe').clientHeight > 100")
    inside = frame.content_frame()
    inside.wait_for_selector("body[data-state=drawn]", state="attached")
    assert inside.inner_text("#here") == "drawn & whole", "a stored view draws itself in its frame"
    assert page.title() == "nbkit report", "what a store holds does not run"
    assert page.evaluate("[...document.images].filter(i => !(i.complete && i.naturalWidth)).length") == 0
    assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    assert page.evaluate(TOO_WIDE) == []
    assert page.evaluate(CONTRAST) == []
    assert faults == []


def test_a_frame_cannot_reach_the_page_around_it(look):
    page, _ = look()
    frame = page.query_selector("iframe")
    frame.scroll_into_view_if_needed()
    inside = frame.content_frame()
    inside.wait_for_selector("body[data-state=drawn]", state="attached")
    reach = "() => { try { return parent.document.title } catch (error) { return error.name } }"
    assert inside.evaluate(reach) == "SecurityError"


def test_a_script_that_no_phase_stored_does_not_run(look):
    page, faults = look()
    page.evaluate("document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=\"document.title=1\">')")
    page.evaluate("s = document.createElement('script'); s.text = 'document.title = 2'; document.body.append(s)")
    page.wait_for_timeout(200)
    assert page.title() == "nbkit report" and any("Content Security Policy" in fault for fault in faults)


RUNAWAY = """<p>x</p><script>
const at = "http://127.0.0.1:PORT/", more = document.createElement("script");
fetch(at + "fetched", {mode: "no-cors"}).catch(() => 0); new Image().src = at + "image";
more.src = at + "script"; document.head.append(more);
document.body.dataset.state = "tried"; setTimeout(() => location.href = at + "away", 1000)</script>"""


def test_a_view_that_tries_reaches_no_network(browser, tmp_path):
    reached: set[str] = set()

    class Noting(BaseHTTPRequestHandler):
        def do_GET(self):
            reached.add(self.path)
            self.send_error(404)

        def log_message(self, *_):
            """Print nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Noting) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        pages = tmp_path / "store" / "toy" / "pages"
        pages.mkdir(parents=True)
        (pages / "runaway.html").write_text(RUNAWAY.replace("PORT", str(server.server_port)))
        (pages.parent / "results.json").write_text("{}")
        write_report(str(tmp_path / "store"), tmp_path / "page.html")
        _let_it_try(browser, tmp_path / "page.html")
        assert reached == set()
        unguarded = (tmp_path / "page.html").read_text().replace("Content-Security-Policy", "x")
        (tmp_path / "unguarded.html").write_text(unguarded)
        _let_it_try(browser, tmp_path / "unguarded.html")
        assert {"/fetched", "/image", "/script", "/away"} <= reached, "without the page's policy it would"
        server.shutdown()


def _let_it_try(browser, file: Path) -> None:
    context = browser.new_context()
    page = context.new_page()
    page.goto(file.as_uri())
    frame = page.query_selector("iframe")
    frame.scroll_into_view_if_needed()
    frame.content_frame().wait_for_selector("body[data-state=tried]", state="attached")
    page.wait_for_timeout(2000)
    context.close()


def test_on_paper_every_section_is_black_on_white(look):
    page, _ = look(scheme="dark")
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert not page.is_visible("nav") and not page.is_visible("iframe") and page.is_visible(".on-paper")
    assert page.evaluate(CONTRAST) == []
    page.evaluate("document.body.insertAdjacentHTML('beforeend', '<details><summary>x</summary><p id=folded>y</p>')")
    seen = "document.getElementById('folded').checkVisibility()"
    assert page.evaluate(seen), "nothing stays folded on paper"
    page.emulate_media(media="screen")
    assert not page.evaluate(seen)
    page.emulate_media(media="print")
    pdf = page.pdf(prefer_css_page_size=True)
    assert pdf.startswith(b"%PDF") and pdf.count(b"/Type /Page\n") >= 2


def test_the_charts_follow_the_scheme(look):
    ink = "getComputedStyle(document.querySelector('.chart text')).fill"
    assert [look(scheme=scheme)[0].evaluate(ink) for scheme in ("light", "dark")] == [
        "rgb(28, 33, 39)",
        "rgb(232, 235, 238)",
    ]


def test_the_contrast_probe_can_fail(look):
    page, _ = look()
    page.evaluate("document.querySelector('h1').style.color = '#999'")
    page.evaluate("document.querySelector('h1').style.width = '200vw'")
    assert len(page.evaluate(CONTRAST)) == 1 and len(page.evaluate(TOO_WIDE)) == 1
