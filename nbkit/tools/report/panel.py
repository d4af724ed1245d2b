"""A live look at all phases in a notebook, read from the store again and again.

The reading happens in a thread of its own, so the kernel is free for other cells; a store that does not answer leaves
the last good look on the screen and says so. Where there are no widgets the same is said in words, once.
"""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, tostring

from nbkit.runtime.errors import NbkitError, UsageError
from nbkit.runtime.store.protocol import Store
from nbkit.runtime.words import show_duration
from nbkit.tools.report.html import tag
from nbkit.tools.status.status import PhaseStatus, read_status, store_of
from nbkit.tools.status.store_use import StoreUse, read_use
from nbkit.tools.status.table import cells, shard_lines, total, words

_SELDOM = 10  # looks from one listing of the whole store to the next
_JOIN = 5.0  # seconds that stopping waits for a look in work
_MARKS = {"complete": "●", "work left": "◐", "not begun": "○", "complete, some failed": "◐"}


def show_panel(
    store: str | Store | None = None, slugs: Sequence[str] | None = None, every: float = 30.0
) -> StatusPanel:
    """Show a panel that looks at the store by itself, until it is stopped.

    Parameters
    ----------
    store : str, Store or None
        Folder or URL; None takes NBKIT_STORE, then ``./nbkit-store``.
    slugs : sequence of str or None
        Phases; all of the map by default.
    every : float
        Seconds from one look to the next.

    Returns
    -------
    panel : StatusPanel
        ``panel.stop()`` ends it, as its own button does.

    Raises
    ------
    UsageError
        For an interval that is not above 0.
    StoreError
        For a store that cannot be reached at the first look.
    """
    panel = StatusPanel(store, slugs, every)
    panel.look()
    if not panel.show():
        print(panel.words())
    return panel


class StatusPanel:
    """Keep the newest look at a store, as a widget or as words; made by `show_panel`."""

    def __init__(self, store: str | Store | None, slugs: Sequence[str] | None, every: float) -> None:
        if not every > 0:
            raise UsageError(f"{every=}: give the seconds from one look to the next, above 0. Nothing was begun.")
        self._store, self._slugs, self.every = store_of(store), list(slugs or []) or None, every
        self._folder = tempfile.TemporaryDirectory(prefix="nbkit-panel-")
        self._rows: list[PhaseStatus] = []
        self._use: StoreUse | None = None
        self._fault, self._looked_at, self.looks = "", 0.0, 0
        self._wanted, self._ended, self._looking = threading.Event(), threading.Event(), threading.Lock()
        self._thread: threading.Thread | None = None
        self._shown: Any = None
        self._buttons: tuple[Any, ...] = ()

    @property
    def running(self) -> bool:
        """Return whether it looks at the store by itself."""
        return self._thread is not None and self._thread.is_alive()

    def look(self) -> None:
        """Read the store now."""
        with self._looking:
            rows = read_status(self._store, self._slugs, Path(self._folder.name))
            if self.looks % _SELDOM == 0:
                self._use = read_use(self._store)
            self._rows, self._fault, self._looked_at, self.looks = rows, "", time.time(), self.looks + 1

    def words(self) -> str:
        """Return the newest look as a table of text."""
        return "\n".join([words(self._rows, self._use), *([self._fault] if self._fault else [])])

    def show(self) -> bool:
        """Display the widget and begin to look by itself; False where there is nothing to display it in."""
        widgets = _widgets()
        if widgets is None:
            return False
        from IPython.display import display

        self._shown = widgets.HTML(value=self.html())
        again, stop = widgets.Button(description="Look now"), widgets.Button(description="Stop")
        again.on_click(lambda _: self._wanted.set())
        stop.on_click(lambda _: self.stop(wait=False))
        self._buttons = (again, stop)
        display(widgets.VBox([self._shown, widgets.HBox([again, stop])]))
        self._thread = threading.Thread(target=self._go_on, name="nbkit-status-panel", daemon=True)
        self._thread.start()
        return True

    def stop(self, wait: bool = True) -> None:
        """End looking; what is on the screen stays. A second call changes nothing."""
        self._ended.set()
        self._wanted.set()
        if wait and self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(_JOIN)
        for button in self._buttons:
            button.disabled = True
        self._update()

    def _go_on(self) -> None:
        self._store = self._store.connect()  # a connection of this thread's own
        while True:
            self._wanted.wait(self.every)
            self._wanted.clear()
            if self._ended.is_set():
                return
            try:
                self.look()
            except (NbkitError, OSError) as error:
                self._fault = f"the store could not be read at {time.strftime('%H:%M:%S')}: {error}"
            if not self._ended.is_set():
                self._update()

    def _update(self) -> None:
        if self._shown is not None:
            self._shown.value = self.html()

    def html(self) -> str:
        """Return the newest look as HTML in which nothing of the store is markup."""
        look = "white-space: normal; line-height: 1.45; font-size: 12px"  # the widget's own is for one line
        whole = tag("div", _table(self._rows), style=look)
        for text in _lines(self._rows, self._use):
            whole.append(tag("div", text))
        if self._fault:
            whole.append(tag("div", tag("strong", self._fault), role="alert"))
        looked = time.strftime("%H:%M:%S", time.localtime(self._looked_at))
        then = "stopped" if self._ended.is_set() else f"again every {show_duration(self.every)}"
        whole.append(tag("div", f"Looked at {looked}; {then}.", style="opacity: .7"))
        return tostring(whole, encoding="unicode", method="html")


def _widgets() -> Any:
    """Return ipywidgets where a kernel can show them; else None."""
    try:
        import ipywidgets
        from IPython import get_ipython
    except ImportError:
        return None
    shell = get_ipython()
    return ipywidgets if getattr(shell, "kernel", None) is not None else None


def _lines(rows: Sequence[PhaseStatus], use: StoreUse | None) -> list[str]:
    lines = [line for row in rows for line in shard_lines(row)]
    lines += [f"✖ {row.slug}, {show_duration(row.error_age)} ago: {row.error}" for row in rows if row.error]
    lines += [f"! {row.slug}: {note}" for row in rows for note in row.notes]
    return [*lines, *([total(rows)] if total(rows) else []), *([use.words()] if use else [])]


def _table(rows: Sequence[PhaseStatus]) -> Element:
    begun = [row for row in rows if row.state != "not begun"]
    if not begun:
        return tag("p", "No phase has begun in this store.")
    header = ("Phase", "State", "", "Done", "Left", "Failed", "Rate", "Sessions", "Still takes", "Checkpoint")
    style = "text-align: left; padding: 1px 12px 1px 0; white-space: nowrap"
    body = tag("tbody")
    for row in begun:
        slug, state, *rest = cells(row)
        parts = [slug, f"{_MARKS.get(state, '!')} {state}", _bar(row), *rest]
        body.append(tag("tr", *(tag("td", part, style=style) for part in parts)))
    head = tag("thead", tag("tr", *(tag("th", text, style=style) for text in header)))
    waiting = [row.slug for row in rows if row.state == "not begun"]
    after = tag("p", f"Not begun: {', '.join(waiting)}.", style="opacity: .7") if waiting else None
    table = tag("table", head, body, style="font-variant-numeric: tabular-nums")
    return tag("div", tag("div", table, style="overflow-x: auto"), after)


def _bar(row: PhaseStatus) -> Element | None:
    """Return the part that is done as a bar; None where nobody knows the whole."""
    done, whole = (row.step, row.max_steps) if row.max_steps else (row.done, row.done + (row.left or 0))
    if not whole or (row.left is None and not row.max_steps):
        return None
    told = {"value": str(done), "max": str(whole), "aria_label": f"{row.slug} done"}
    return tag("progress", f"{done / whole:.0%}", style="width: 6em", **told)
