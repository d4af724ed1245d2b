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
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

import nbkit
from nbkit.tools.phases import find_phase
from nbkit.tools.rehearsal.process_tree import ProcessTree
from nbkit.tools.rehearsal.running import kernel_of_this_python
from tests.conftest import CLOSE, OPEN, PARAMETERS, WORK
from tests.runtime.training.training_support import Tiny, TinyData, digest

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
    errors: all('[data-mime-type="application/vnd.jupyter.stderr"]')  // as JupyterLab draws an error, too
      .map(error => error.innerText.trim()).filter(text => /^(-{20}|\\w*(Error|Interrupt)\\b)/.test(text)),
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


class Opened:
    """A notebook in a page of its own, as a person has it before them."""

    def __init__(self, browser: Any, address: str, screenshot: Path) -> None:
        self.context = browser.new_context(viewport={"width": 1200, "height": 3600})
        self.page, self.screenshot = self.context.new_page(), screenshot
        self.outside: list[str] = []  # what left the loopback

        def only_here(route: Any) -> None:
            here = re.match(r"(https?|wss?)://127\.0\.0\.1[:/]", route.request.url)
            self.outside.extend([] if here else [route.request.url])
            route.continue_() if here else route.abort()

        self.page.route(re.compile("^(http|ws)"), only_here)
        self.page.goto(address)
        self.page.wait_for_selector(".jp-Notebook .jp-CodeCell", timeout=SECONDS * 1000)
        self.page.get_by_text("Python 3 | Idle").wait_for(timeout=SECONDS * 1000)  # the bar below: kernel connected
        self.page.evaluate(WATCH)

    def choose(self, menu: str, entry: str) -> None:
        self.page.get_by_role("menuitem", name=menu, exact=True).click()
        self.page.locator(".lm-Menu-itemLabel", has_text=re.compile(f"^{entry}$")).click()

    def look(self) -> dict[str, Any]:
        return self.page.evaluate(LOOK)

    def wait_until(self, reached: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
        until = time.monotonic() + SECONDS
        while not reached(seen := self.look()):
            if time.monotonic() > until:
                self.page.screenshot(path=self.screenshot)
                pytest.fail(f"not through after {SECONDS} s, see {self.screenshot}: {seen}")
            self.page.wait_for_timeout(200)
        return seen

    def wait_for_the_end(self, after: list[str]) -> dict[str, Any]:
        """Wait until all cells have been run, or one failed, since their prompts were `after`; return what is seen."""

        def ended(seen: dict[str, Any]) -> bool:
            fresh = [re.fullmatch(r"\[\d+\]:", p) and p not in after for p in seen["prompts"]]
            return all(fresh) or bool(seen["errors"] and fresh[0] and "[*]:" not in seen["prompts"])

        self.wait_until(ended)
        self.page.wait_for_timeout(500)
        self.page.screenshot(path=self.screenshot)
        return self.look()

    def run_cell(self, number: int) -> None:
        self.page.locator(".jp-CodeCell").nth(number).locator(".cm-content").click()
        self.page.keyboard.press("Shift+Enter")

    def run_all(self) -> dict[str, Any]:
        after = self.look()["prompts"]
        self.choose("Run", "Run All Cells")
        return self.wait_for_the_end([p for p in after if p.strip("[ ]:")])


@pytest.mark.timeout(4 * SECONDS)
@pytest.mark.parametrize(
    ("name", "values", "steps"),
    [("00_start_here", {"ITEM_S": 0.05}, 5), ("10_eeg_windows", {"SMOKE": True}, 2)],
)
def test_a_notebook_in_jupyterlab(lab, browser, root, tmp_path, name, values, steps):
    address, shown, server = lab
    figures = len(find_phase(name.partition("_")[2]).figures)
    with_parameters(root / "notebooks" / f"{name}.ipynb", shown / f"{name}.ipynb", **values)
    notebook = Opened(browser, address.format(f"{name}.ipynb"), tmp_path / f"{name}.png")
    seen = notebook.run_all()
    notebook.context.close()
    assert seen["errors"] == []
    widths = [float(width.removesuffix("%")) for width in seen["widths"] if width.endswith("%")]
    assert widths[-1] == 100.0 and len(set(widths)) >= steps, f"the bar was drawn at {widths}"
    assert len(seen["images"]) == figures and all(width > 300 for width in seen["images"])
    assert re.search(r"stopped\s+complete", seen["text"]), seen["text"][-500:]
    assert notebook.outside == []
    kernels = [p.cmdline()[0] for p in server.children(recursive=True) if "ipykernel_launcher" in " ".join(p.cmdline())]
    assert kernels and set(kernels) == {sys.executable}, "another interpreter's kernel ran the notebook"


@pytest.mark.timeout(4 * SECONDS)
def test_interrupt_run_again_two_at_once_and_a_cell_after_close(lab, browser, make_notebook, tmp_path):
    address, shown, _ = lab
    made = shown / "made.txt"
    counted = WORK.replace(
        "    with item:\n", f"    with item:\n        print(item.key, file=open({str(made)!r}, 'a'))\n"
    )
    parameters = PARAMETERS.replace("N = 4", "N = 40").replace("SECONDS = 0.0", "SECONDS = 0.25")
    cells = [f"{parameters}\nimport nbkit", OPEN, counted, CLOSE]
    for name in ("first.ipynb", "second.ipynb"):
        shutil.copy(make_notebook(*cells, name=name), shown / name)
    first = Opened(browser, address.format("first.ipynb"), tmp_path / "first.png")
    second = Opened(browser, address.format("second.ipynb"), tmp_path / "second.png")
    second.run_cell(0)
    second.wait_until(lambda seen: seen["prompts"][0] == "[1]:")  # its kernel has imported nbkit

    # interrupt in mid work, then run all again: it goes on
    first.choose("Run", "Run All Cells")
    first.wait_until(lambda seen: made.is_file() and len(made.read_text().split()) >= 5)
    first.choose("Kernel", "Interrupt Kernel")
    seen = first.wait_until(lambda seen: seen["errors"] and "[*]:" not in seen["prompts"])
    assert "KeyboardInterrupt" in seen["errors"][0] and "nbkit" not in seen["errors"][0].replace("import nbkit", "")
    before = made.read_text().split()
    assert len(before) < 40

    # another notebook on the same store meanwhile: it is told, and shares the items
    after = first.look()["prompts"]
    first.choose("Run", "Run All Cells")
    first.wait_until(lambda seen: len(made.read_text().split()) >= len(before) + 2)
    beside = second.run_all()
    seen = first.wait_for_the_end(after)
    assert seen["errors"] == beside["errors"] == []
    assert "was still open in this process" in seen["text"] and re.search(r"stopped\s+complete", seen["text"])
    assert "1 other session of toy on this machine" in beside["text"]
    assert re.search(r"stopped\s+complete", beside["text"])
    keys = made.read_text().split()
    assert set(keys) == {f"k{i:03d}" for i in range(40)}
    assert keys.index("k039") < keys.index("k038"), "the second did not begin at the other end"

    # run all once more in the same kernel: complete, and nothing is made twice
    seen = first.run_all()
    assert seen["errors"] == [] and re.search(r"stopped\s+complete", seen["text"])
    assert made.read_text().split() == keys

    # a cell after close: a sentence, and what to do
    first.run_cell(2)
    (error,) = first.wait_until(lambda seen: seen["errors"])["errors"]
    assert "This session of toy is closed. Run the cell with nbkit.open_session again" in error
    assert "Traceback" not in error and made.read_text().split() == keys
    assert first.outside == second.outside == []
    first.context.close()
    second.context.close()


TRAINING = """from tests.runtime.training.training_support import Tiny, TinyData
class Told(Tiny):
    def on_train_batch_end(self, *args):
        print(self.global_step, file=open(SEEN, "a"))"""
FIT = """session = nbkit.open_session("tiny", store=STORE, accelerator="cpu")
report = session.fit(Told(pause=PAUSE), TinyData(), max_steps=STEPS, save_every=600, val_check_interval=5)"""
STEPS = 30


@pytest.mark.timeout(4 * SECONDS)
def test_a_training_that_is_interrupted_and_whose_kernel_is_restarted(lab, browser, make_notebook, tmp_path):
    address, shown, _ = lab
    seen_steps = shown / "steps.txt"

    names = {"STORE": str(tmp_path / "store"), "SEEN": str(seen_steps), "PAUSE": 0.15, "STEPS": STEPS}
    parameters = "\n".join([f"{name} = {value!r}" for name, value in names.items()] + ["import nbkit"])

    def steps() -> list[int]:
        return [int(step) for step in seen_steps.read_text().split()] if seen_steps.is_file() else []

    shutil.copy(make_notebook(parameters, TRAINING, FIT, CLOSE, name="training.ipynb"), shown / "training.ipynb")
    notebook = Opened(browser, address.format("training.ipynb"), tmp_path / "training.png")
    notebook.choose("Run", "Run All Cells")
    notebook.wait_until(lambda seen: len(steps()) >= 5)
    notebook.choose("Kernel", "Interrupt Kernel")
    seen = notebook.wait_for_the_end([])
    assert seen["errors"] == [] and "SIGINT: stopping at the next safe point" in seen["text"], seen["text"][-800:]
    assert "Its state is saved." in seen["text"] and re.search(r"stopped\s+SIGINT", seen["text"])
    first = steps()
    assert first == list(range(1, len(first) + 1)) and len(first) < STEPS

    # the cell once more: it goes on, no step is done twice
    notebook.run_cell(2)
    notebook.wait_until(lambda seen: len(steps()) >= len(first) + 5)
    assert steps()[len(first)] == len(first) + 1

    # a new kernel, all cells: it goes on from the last state that was saved
    before, prompts = len(steps()), notebook.look()["prompts"]
    notebook.choose("Kernel", "Restart Kernel and Run All Cells…")
    notebook.page.locator(".jp-Dialog button.jp-mod-accept").click()
    notebook.wait_until(lambda seen: seen["prompts"] != prompts and "[5]:" not in seen["prompts"])
    seen = notebook.wait_for_the_end([])
    assert seen["errors"] == [] and re.search(r"stopped\s+complete", seen["text"]), seen["text"][-800:]
    assert steps()[-1] == STEPS and steps()[before] > 1 and "ended without closing" in seen["text"]
    assert seen["text"].count("nbkit session") == 2, "cards of earlier runs are still there"
    notebook.context.close()

    alone = nbkit.open_session("tiny", store=tmp_path / "alone", folder=tmp_path / "here", accelerator="cpu")
    alone.fit(Tiny(), TinyData(), max_steps=STEPS, save_every=600, val_check_interval=5)
    alone.close()
    last = f"tiny/checkpoints/step-{STEPS:09d}.ckpt"
    whole, parts = (torch.load(tmp_path / where / last, weights_only=True) for where in ("alone", "store"))
    assert digest(whole) == digest(parts)
