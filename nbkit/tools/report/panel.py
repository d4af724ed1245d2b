"""A live panel of all phases in a notebook, read from the store again and again.

A thread of its own reads the store, so the kernel is free for other cells. Where the store does not answer, the last
good look stays on the screen with the error below it. Where there are no widgets, the status is printed once.
"""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nbkit.runtime.errors import NbkitError, UsageError
from nbkit.runtime.store.protocol import Store
from nbkit.runtime.words import show_duration
from nbkit.tools.report.rendering import environment
from nbkit.tools.status.listing import Listing, list_once, user_cache
from nbkit.tools.status.status import PhaseStatus, read_status
from nbkit.tools.status.store_use import StoreUse, read_use
from nbkit.tools.status.table import cells, shard_lines, total, words

_JOIN = 5.0  # seconds that stopping waits for a look in work
_MARKS = {"complete": "●", "work left": "◐", "not begun": "○", "complete, some failed": "◐"}
_HEADER = ("Phase", "State", "", "Done", "Left", "Failed", "Rate", "Sessions", "Still takes", "Checkpoint")
# the widget's own style is for one line
_TEMPLATE = """\
{% set cell = "text-align: left; padding: 1px 12px 1px 0; white-space: nowrap" %}
<div style="white-space: normal; line-height: 1.45; font-size: 12px">
{% if begun %}
<div style="overflow-x: auto"><table style="font-variant-numeric: tabular-nums">
<thead><tr>{% for text in header %}<th style="{{ cell }}">{{ text }}</th>{% endfor %}</tr></thead>
<tbody>
{% for slug, state, done, whole, rest in begun %}
<tr><td style="{{ cell }}">{{ slug }}</td><td style="{{ cell }}">{{ state }}</td><td style="{{ cell }}">
{% if whole %}<progress value="{{ done }}" max="{{ whole }}" aria-label="{{ slug }} done" style="width: 6em"></progress>
{% endif %}</td>
{% for text in rest %}<td style="{{ cell }}">{{ text }}</td>{% endfor %}</tr>
{% endfor %}
</tbody></table></div>
{% if waiting %}<p style="opacity: .7">Not begun: {{ waiting | join(", ") }}.</p>{% endif %}
{% else %}
<p>No phase has begun in this store.</p>
{% endif %}
{% for line in lines %}<div>{{ line }}</div>{% endfor %}
{% if fault %}<div role="alert"><strong>{{ fault }}</strong></div>{% endif %}
<div style="opacity: .7">Read at {{ looked }}; {{ then }}.</div>
</div>"""


def show_panel(
    store: str | Store | None = None, slugs: Sequence[str] | None = None, every: float = 30.0
) -> StatusPanel:
    """Show a panel that reads the store by itself until it is stopped.

    Parameters
    ----------
    store : str, Store or None
        Folder or URL; None takes NBKIT_STORE, then ``./nbkit-store``.
    slugs : sequence of str or None
        Phases; all phases of the map by default.
    every : float
        Seconds between two looks.

    Returns
    -------
    panel : StatusPanel
        ``panel.stop()`` ends it, as its *Stop* button does.

    Raises
    ------
    UsageError
        For an interval of 0 or less.
    StoreError
        For a store that cannot be reached at the first look.
    """
    panel = StatusPanel(store, slugs, every)
    panel.look()
    if not panel.show():
        print(panel.words())
    return panel


class StatusPanel:
    """The newest look at a store, as a widget or as text; created by `show_panel`."""

    def __init__(self, store: str | Store | None, slugs: Sequence[str] | None, every: float) -> None:
        if not every > 0:
            raise UsageError(
                f"The interval is {every!r}; it must be above 0 seconds. Nothing was shown. Pass every=30, for example."
            )
        self._store, self._slugs, self.every = store, list(slugs or []) or None, every
        self._listing: Listing | None = None
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
        """Whether it reads the store by itself."""
        return self._thread is not None and self._thread.is_alive()

    def look(self) -> None:
        """Read the store now."""
        with self._looking:
            if self._listing is None:
                self._listing = list_once(self._store, cache=user_cache())
            else:
                self._listing.refresh()
            rows, use = read_status(self._listing, self._slugs, Path(self._folder.name)), read_use(self._listing)
            self._rows, self._use, self._fault = rows, use, ""
            self._looked_at, self.looks = time.time(), self.looks + 1

    def words(self) -> str:
        """Return the newest look as a table of text."""
        return "\n".join([words(self._rows, self._use), *([self._fault] if self._fault else [])])

    def show(self) -> bool:
        """Display the widget and start reading by itself; False where there is no kernel to display it."""
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
        """Stop reading. The screen stays as it is; a second call changes nothing."""
        self._ended.set()
        self._wanted.set()
        if wait and self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(_JOIN)
        for button in self._buttons:
            button.disabled = True
        self._update()

    def _go_on(self) -> None:
        self._listing = self._listing.connect()  # a connection of this thread's own
        while True:
            self._wanted.wait(self.every)
            self._wanted.clear()
            if self._ended.is_set():
                return
            try:
                self.look()
            except (NbkitError, OSError) as error:
                self._fault = f"The store could not be read at {time.strftime('%H:%M:%S')}: {error}"
            if not self._ended.is_set():
                self._update()

    def _update(self) -> None:
        if self._shown is not None:
            self._shown.value = self.html()

    def html(self) -> str:
        """Return the newest look as HTML in which every value is escaped."""
        begun = [row for row in self._rows if row.state != "not begun"]
        return (
            environment()
            .from_string(_TEMPLATE)
            .render(
                header=_HEADER,
                begun=[_row(row) for row in begun],
                waiting=[row.slug for row in self._rows if row.state == "not begun"],
                lines=_lines(self._rows, self._use),
                fault=self._fault,
                looked=time.strftime("%H:%M:%S", time.localtime(self._looked_at)),
                then="stopped" if self._ended.is_set() else f"again every {show_duration(self.every)}",
            )
        )


def _widgets() -> Any:
    """Return ipywidgets where a kernel can show widgets; else None."""
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
    lines += [f"✖ {row.slug}, set aside: {row.set_aside}" for row in rows if row.set_aside]
    lines += [f"! {row.slug}: {note}" for row in rows for note in row.notes]
    return [*lines, *([total(rows)] if total(rows) else []), *([use.words()] if use else [])]


def _row(row: PhaseStatus) -> tuple[str, str, int, int, list[str]]:
    """Return a phase's row: slug, state, done, the whole (0 where it is unknown, and no bar is shown), other cells."""
    slug, state, *rest = cells(row)
    done, whole = (row.step, row.max_steps) if row.max_steps else (row.done, row.done + (row.left or 0))
    known = row.max_steps or row.left is not None
    return slug, f"{_MARKS.get(state, '!')} {state}", done, whole if known else 0, rest
