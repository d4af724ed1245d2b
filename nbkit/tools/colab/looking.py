"""What is known of a phase's runs on Colab: their state, what they used this week, their logs."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

from nbkit.runtime.errors import NbkitError, UsageError
from nbkit.runtime.store.protocol import Store
from nbkit.runtime.words import show_duration
from nbkit.tools.colab.background import log_file
from nbkit.tools.colab.client import Colab, connect
from nbkit.tools.kaggle.runs import Push, read_pushes

WEEK = 7 * 86400.0


def colab_pushes(store: Store, slug: str) -> list[Push]:
    """Return the runtimes of a phase, oldest first."""
    return [push for push in read_pushes(store, slug) if push.host == "colab"]


def used_this_week(pushes: Iterable[Push], now: float) -> tuple[float, float, float]:
    """Return the hours and compute units that runtimes used in the last seven days, and the units an hour.

    A runtime whose end is not recorded counts with all that it was given.
    """
    recent = [push for push in pushes if push.host == "colab" and now - push.time < WEEK]
    hours, units = sum(push.hours for push in recent), sum(push.units for push in recent)
    rates = [push.units / push.hours for push in recent if push.hours > 0.05 and push.units > 0]
    return hours, units, max(rates, default=0.0)


def state_lines(store: Store, slugs: Iterable[str], now: float | None = None) -> list[str]:
    """Return one line of text on each phase that was pushed to Colab; no error is raised."""
    now = time.time() if now is None else now
    last = {slug: pushes[-1] for slug in slugs if (pushes := colab_pushes(store, slug))}
    if not last:
        return []
    running: dict[str, str] | None = None
    note = ""
    try:
        running = connect().runtimes()
    except NbkitError as error:
        note = f"note: whether runtimes on Colab go on is not known: {error}"
    lines = []
    for slug, push in last.items():
        state = "unknown" if running is None else "running" if push.ref in running else "ended"
        shard = f", shard {push.shard}" if push.shard else ""
        ago = show_duration(max(0.0, now - push.time))
        lines.append(f"on Colab: {slug} {state}{shard}, begun {ago} ago, {push.hours:.2f} h, {push.units:.1f} units")
    return [*lines, *([note] if note else [])]


def busy_on_colab(colab: Colab | None, names: dict[str, str]) -> set[str]:
    """Return the slugs whose runtime is running; `names` has the slug of each runtime's name."""
    return set() if colab is None else {names[name] for name in colab.runtimes() if name in names}


def read_log(store: Store, slug: str) -> tuple[str, str]:
    """Return where the newest log of a phase's pushes to Colab is, and its text.

    Raises
    ------
    UsageError
        If there is none.
    """
    here = log_file(slug)
    if here.is_file():
        return str(here), here.read_text("utf-8", errors="replace")
    names = sorted(stat.name for stat in store.list(f"{slug}/colab/") if stat.name.endswith(".log"))
    if not names:
        raise UsageError(f"There is no log of {slug} on Colab. 'nbkit push {slug} --host colab' starts it.")
    with tempfile.TemporaryDirectory(prefix="nbkit-log-") as folder:
        path = Path(folder, "log")
        store.get(names[-1], path)
        return f"{names[-1]} in the store", path.read_text("utf-8", errors="replace")
