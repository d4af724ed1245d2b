"""The live panel: it keeps looking, never blocks the kernel, ends cleanly, and says the same without widgets."""

from __future__ import annotations

import threading
import time

import pytest

import nbkit
from nbkit.runtime.errors import StoreError, UsageError
from nbkit.runtime.store.folder import FolderStore
from nbkit.tools.report import panel as panel_module
from nbkit.tools.report.panel import show_panel

ipywidgets = pytest.importorskip("ipywidgets")


@pytest.fixture
def store(tmp_path) -> FolderStore:
    add_item(tmp_path, "a")
    return FolderStore(tmp_path / "store")


@pytest.fixture
def with_kernel(monkeypatch):
    """Let the panel find a kernel, as in a notebook."""
    monkeypatch.setattr(panel_module, "_widgets", lambda: ipywidgets)


@pytest.fixture
def show(store):
    shown = []

    def show_one(**options):
        shown.append(show_panel(options.pop("store", store), ["toy"], **options))
        return shown[-1]

    yield show_one
    for one in shown:
        one.stop()
        assert not one.running


def add_item(folder, key: str, error: str = "") -> None:
    session = nbkit.open_session("toy", store=folder / "store", folder=folder / "work")
    for item in session.work([{"key": key}]):
        with item:
            if error:
                raise ValueError(error)
            item.save(x=[1])
    session.close()


def until(true, seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_it_shows_what_came_into_the_store_since(with_kernel, show, tmp_path):
    panel = show(every=0.02)
    assert ">1</td>" in panel._shown.value
    add_item(tmp_path, "b")
    until(lambda: ">2</td>" in panel._shown.value)
    assert panel.running and "again every" in panel._shown.value


def test_it_stops_at_once_and_says_so(with_kernel, show):
    panel = show(every=3600.0)
    _, stop = panel._buttons
    stop.click()
    until(lambda: not panel.running)
    assert "stopped" in panel._shown.value and all(button.disabled for button in panel._buttons)
    panel.stop()
    assert not [thread for thread in threading.enumerate() if thread.name == "nbkit-status-panel"]


def test_its_button_looks_now(with_kernel, show):
    panel = show(every=3600.0)
    panel._buttons[0].click()
    until(lambda: panel.looks == 2)


class Slow(FolderStore):
    """Answer late, or not at all."""

    gate, broken = threading.Event(), False

    def list(self, prefix=""):
        if threading.current_thread().name == "nbkit-status-panel":
            if self.broken:
                raise StoreError("the connection broke <b>")
            self.gate.wait(20)
        return super().list(prefix)

    def connect(self):
        return self


def test_a_slow_store_does_not_hold_the_kernel(with_kernel, show, tmp_path):
    panel = show(store=Slow(tmp_path / "store"), every=0.01)
    until(lambda: panel._looking.locked())
    before = panel.html()  # this thread, the kernel's, goes on
    panel.stop(wait=False)
    assert "toy" in before and panel.looks == 1
    Slow.gate.set()


def test_a_store_that_does_not_answer_leaves_the_last_look(with_kernel, show, tmp_path):
    broken = Slow(tmp_path / "store")
    broken.broken = True
    panel = show(store=broken, every=0.01)
    until(lambda: "could not be read" in panel._shown.value)
    assert "toy" in panel._shown.value and "&lt;b&gt;" in panel._shown.value and panel.running


def test_nothing_of_a_store_is_markup(with_kernel, show, tmp_path):
    add_item(tmp_path, "c", error="<script>alert(1)</script>")
    panel = show(every=3600.0)
    assert "<script" not in panel._shown.value and "&lt;script&gt;" in panel._shown.value


def test_without_a_kernel_it_is_said_in_words_and_nothing_runs(show, capsys):
    panel = show(every=0.01)
    said = capsys.readouterr().out
    assert "phase" in said and "toy" in said and "store: " in said
    assert not panel.running and panel._shown is None


def test_without_ipywidgets_it_is_said_in_words(show, capsys, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "ipywidgets", None)
    assert not show().running and "toy" in capsys.readouterr().out


def test_an_empty_store_is_said(tmp_path, with_kernel, show):
    assert "No phase has begun" in show(store=FolderStore(tmp_path / "other"))._shown.value


@pytest.mark.parametrize("every", [0, -1.0, float("nan")])
def test_an_interval_that_is_none_is_refused(store, every):
    with pytest.raises(UsageError, match="above 0"):
        show_panel(store, every=every)
