"""Two notebooks in a real JupyterLab, in a real browser: a person presses Run All Cells, watches, and sees figures.

Everything stays on the loopback: the browser's other requests are stopped and counted. Server, kernels and browser
end with the test, by their ids.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from nbkit.tools.phases import find_phase
from nbkit.tools.rehearsal.process_tree import ProcessTree
from nbkit.tools.rehearsal.running import kernel_of_this_python

pytest.importorskip("jupyterlab")
playwright = pytest.importorskip("playwright.sync_api")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
NO_CHROMIUM = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed (Debian: apt-get install chromium)")
pytestmark = [pytest.mark.browser, NO_CHROMIUM]
SWITCHES = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
SECONDS = 200  # a guard against hanging; a run takes some 10 s on a quiet machine

SETTINGS = {
    "notebook-extension/tracker": {"windowingMode": "none"},  # cells out of sight stay in the page
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
}

# every width that a progress bar was drawn with, in its order, and what the cells came to
WATCH = """() => {
  window.widths = [];
  new MutationObserver(() => document.querySelectorAll('.jp-OutputArea .progress-bar').forEach(bar => {
    if (window.widths.at(-1) !== bar.style.width) window.widths.push(bar.style.width);
  })).observe(document.body, {subtree: true, childList: true, attributes: true, attributeFilter: ['style']});
}"""
LOOK = """() => {
  const all = selector => [...document.querySelectorAll('.jp-Notebook ' + selector)];
  return {
    prompts: all('.jp-CodeCell .jp-InputPrompt').map(prompt => prompt.innerText.trim()),
    errors: all('[data-mime-type="application/vnd.jupyter.error"]').map(error => error.innerText),
    images: all('.jp-OutputArea-output img').map(image => image.complete ? image.naturalWidth : 0),
    text: all('.jp-OutputArea').map(area => area.innerText).join('\\n'),
    widths: window.widths,
  };
}"""


def free_port() -> int:
    """Return a port of the loopback that nobody listens on."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return listening.getsockname()[1]


@pytest.fixture(scope="module")
def lab(tmp_path_factory, root) -> Iterator[tuple[str, Path, psutil.Process]]:
    """Return a JupyterLab's address with its token, the folder that it shows, and its process."""
    home = tmp_path_factory.mktemp("jupyterlab")
    shown = home / "notebooks"
    shown.mkdir()
    for name, settings in SETTINGS.items():
        path = home / "settings/@jupyterlab" / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(settings))
    port, token = free_port(), secrets.token_hex(16)
    folders = {"HOME": home, "JUPYTER_CONFIG_DIR": home / "config", "JUPYTER_DATA_DIR": home / "data",
               "JUPYTERLAB_SETTINGS_DIR": home / "settings", "JUPYTERLAB_WORKSPACES_DIR": home / "workspaces",
               "NBKIT_STORE": home / "store"}  # fmt: skip
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("NBKIT_", "JUPYTER"))}
    environment = clean | {name: str(path) for name, path in folders.items()} | kernel_of_this_python(home)
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(root), os.environ.get("PYTHONPATH")]))
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", f"--ServerApp.root_dir={shown}",
               "--ServerApp.ip=127.0.0.1", f"--ServerApp.port={port}", "--ServerApp.port_retries=0",
               f"--IdentityProvider.token={token}", "--LabApp.news_url=None", "--LabApp.extension_manager=readonly",
               "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate"]  # fmt: skip
    with open(home / "server.log", "wb") as log:
        server = subprocess.Popen(command, cwd=shown, env=environment, stdout=log, stderr=log, start_new_session=True)
        tree = ProcessTree(server.pid)
        try:
            _wait_for(f"http://127.0.0.1:{port}/api?token={token}", server, home / "server.log")
            yield f"http://127.0.0.1:{port}/lab/tree/{{}}?reset&token={token}", shown, psutil.Process(server.pid)
        finally:
            tree.look()
            tree.kill()
            server.wait(30)


def _wait_for(address: str, server: subprocess.Popen, log: Path) -> None:
    until = time.monotonic() + SECONDS
    while time.monotonic() < until:
        assert server.poll() is None, log.read_text()[-2000:]
        try:
            urllib.request.build_opener(urllib.request.ProxyHandler({})).open(address, timeout=2).close()
            return
        except (OSError, urllib.error.URLError):
            time.sleep(0.2)
    pytest.fail(f"JupyterLab did not answer: {log.read_text()[-2000:]}")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        launched = driver.chromium.launch(executable_path=CHROMIUM, args=SWITCHES)
        yield launched
        launched.close()


def with_parameters(source: Path, target: Path, **values: Any) -> None:
    """Write a notebook's copy with values typed into its parameters cell, as a person would."""
    notebook = json.loads(source.read_text("utf-8"))
    (cell,) = [c for c in notebook["cells"] if "parameters" in c["metadata"].get("tags", [])]
    text = "".join(cell["source"])
    for name, value in values.items():
        text, changed = re.subn(rf"^{name} = \S+", f"{name} = {value!r}", text, flags=re.MULTILINE)
        assert changed == 1, name
    cell["source"] = text
    target.write_text(json.dumps(notebook), "utf-8")


def run_all_cells(browser: Any, address: str, screenshot: Path) -> tuple[dict[str, Any], list[str]]:
    """Open a notebook, run it by the menu; give what the page shows at the end and what left the loopback."""
    context = browser.new_context(viewport={"width": 1200, "height": 3600})
    page, outside = context.new_page(), []

    def only_here(route: Any) -> None:
        here = re.match(r"(https?|wss?)://127\.0\.0\.1[:/]", route.request.url)
        outside.extend([] if here else [route.request.url])
        route.continue_() if here else route.abort()

    page.route(re.compile("^(http|ws)"), only_here)
    page.goto(address)
    page.wait_for_selector(".jp-Notebook .jp-CodeCell", timeout=SECONDS * 1000)
    page.get_by_text("Python 3 | Idle").wait_for(timeout=SECONDS * 1000)  # the bar at the bottom: kernel connected
    page.evaluate(WATCH)
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.locator(".lm-Menu-itemLabel", has_text=re.compile("^Run All Cells$")).click()
    until = time.monotonic() + SECONDS
    while True:
        seen = page.evaluate(LOOK)
        if seen["errors"] or all(re.fullmatch(r"\[\d+\]:", prompt) for prompt in seen["prompts"]):
            break
        if time.monotonic() > until:
            page.screenshot(path=screenshot)
            pytest.fail(f"not through after {SECONDS} s, see {screenshot}: {seen}")
        page.wait_for_timeout(200)
    page.wait_for_timeout(500)
    seen = page.evaluate(LOOK)
    page.screenshot(path=screenshot)
    context.close()
    return seen, outside


@pytest.mark.timeout(4 * SECONDS)
@pytest.mark.parametrize(
    ("name", "values", "steps"),
    [("00_start_here", {"ITEM_S": 0.05}, 5), ("10_eeg_windows", {"SMOKE": True}, 2)],
)
def test_a_notebook_in_jupyterlab(lab, browser, root, tmp_path, name, values, steps):
    address, shown, server = lab
    figures = len(find_phase(name.partition("_")[2]).figures)
    with_parameters(root / "notebooks" / f"{name}.ipynb", shown / f"{name}.ipynb", **values)
    seen, outside = run_all_cells(browser, address.format(f"{name}.ipynb"), tmp_path / f"{name}.png")
    assert seen["errors"] == []
    widths = [float(width.removesuffix("%")) for width in seen["widths"] if width.endswith("%")]
    assert widths[-1] == 100.0 and len(set(widths)) >= steps, f"the bar was drawn at {widths}"
    assert len(seen["images"]) == figures and all(width > 300 for width in seen["images"])
    assert re.search(r"stopped\s+complete", seen["text"]), seen["text"][-500:]
    assert outside == []
    kernels = [p.cmdline()[0] for p in server.children(recursive=True) if "ipykernel_launcher" in " ".join(p.cmdline())]
    assert kernels and set(kernels) == {sys.executable}, "another interpreter's kernel ran the notebook"
