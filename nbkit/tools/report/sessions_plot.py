"""Progress over sessions: how far each session brought a phase, and which were killed or are open now."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from nbkit.ground.figures import BASELINE, FIRST, GRID, SECOND
from nbkit.runtime.words import counted
from nbkit.tools.report.chart import Chart, draw
from nbkit.tools.status.past_sessions import PastSession
from nbkit.tools.status.status import PhaseStatus

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLUMNS = 3
_DRAWN = {  # kind of mark to how it is drawn
    "dot": {"marker": "o", "color": FIRST, "markersize": 4.5},
    "ring": {"marker": "o", "color": FIRST, "markersize": 5.5, "markerfacecolor": "white", "markeredgewidth": 1.4},
    "cross": {"marker": "X", "color": SECOND, "markersize": 7, "markeredgewidth": 0},
}
_MEANS = {"dot": "closed", "ring": "open now", "cross": "killed or not closed"}


def reached(row: PhaseStatus) -> list[float | None]:
    """Return how far the work had come after each session: steps or items so far; None where it is unknown."""
    if row.max_steps:
        return [past.to_step for past in row.past]
    return [sum(past.items for past in row.past[: number + 1]) for number in range(len(row.past))]


def goal_of(row: PhaseStatus) -> int | None:
    """Return the steps or items of the whole phase; None where they are unknown."""
    return row.max_steps or (row.done + row.left if row.left is not None else None)


def mark_of(past: PastSession) -> str:
    """Return the kind of mark of a session: ``dot``, ``ring`` (open now) or ``cross`` (killed or not closed)."""
    return "dot" if past.closed else "ring" if past.open else "cross"


def count_kinds(sessions: Sequence[PastSession], killed: str = _MEANS["cross"]) -> list[str]:
    """Return in words how many sessions did not close and how many are open now; empty where all closed."""
    kinds = [mark_of(past) for past in sessions]
    return [
        f"{kinds.count(kind)} {words}" for kind, words in (("cross", killed), ("ring", _MEANS["ring"])) if kind in kinds
    ]


def sessions_chart(row: PhaseStatus, name: str) -> Chart:
    """Return the chart of a phase's sessions for the report; `name` is unique on the page."""
    points = [(float(number), far) for number, far in enumerate(reached(row), 1) if far is not None]
    marks = [(x, y, mark_of(row.past[int(x) - 1])) for x, y in points]
    title, labels = f"Progress of {row.slug} over its sessions", ("Session", "Step" if row.max_steps else "Items")
    return draw(name, title, sessions_text(row), points, labels, goal=goal_of(row) or None, marks=marks, whole=True)


def sessions_text(row: PhaseStatus) -> str:
    """Return a phase's sessions in one sentence."""
    count = len(row.past)
    came = f" brought {row.slug} to step {row.step:,} of {row.max_steps:,}" if row.max_steps else ""
    if row.done and not row.max_steps:
        came = f" brought {counted(row.done, 'item')} of {row.slug} to the store"
    closed = ", ".join(count_kinds(row.past)) or ("all closed" if count > 1 else "it closed")
    return f"{counted(count, 'session')}{came}; {closed}."


def at_work(past: PastSession) -> float | None:
    """Return the part of a session in which its items were worked on; None where its length is unknown."""
    return min(1.0, past.work / past.length) if past.length and past.work else None


def plot_progress(rows: Sequence[PhaseStatus]) -> Figure:
    """Plot every phase that has begun, one panel each.

    Parameters
    ----------
    rows : sequence of PhaseStatus

    Returns
    -------
    figure : matplotlib Figure
    """
    import matplotlib.pyplot as plt

    begun = [row for row in rows if row.past and (row.max_steps or row.done or row.left)]
    down = max(1, math.ceil(len(begun) / _COLUMNS))
    across = min(_COLUMNS, max(1, len(begun)))
    size = (max(6.0, 3.9 * across), 2.6 * down)
    figure, panels = plt.subplots(down, across, figsize=size, layout="constrained", squeeze=False)
    for axes in panels.flat[len(begun) :]:
        axes.set_axis_off()
    if not begun:
        panels[0, 0].text(0.5, 0.5, "No phase of this store has done items or steps.", ha="center", va="center")
    for axes, row in zip(panels.flat, begun, strict=False):
        plot_sessions(axes, row)
    kinds = {mark_of(past) for row in begun for past in row.past}
    if kinds - {"dot"}:
        shown = [kind for kind in _DRAWN if kind in kinds]
        handles = [plt.Line2D([], [], linestyle="", label=_MEANS[kind], **_DRAWN[kind]) for kind in shown]
        figure.legend(handles=handles, loc="outside lower right", ncols=3, frameon=False, fontsize=9)
    return figure


def plot_sessions(axes: Axes, row: PhaseStatus) -> None:
    """Plot how far each session of a phase came; a cross is one that was killed or not closed, a ring is open now."""
    from matplotlib.ticker import MaxNLocator

    known = [(number, far) for number, far in enumerate(reached(row), 1) if far is not None]
    if known:
        axes.plot(*zip(*known, strict=True), color=FIRST, linewidth=1.3, zorder=2)
    for number, far in known:
        kind = mark_of(row.past[number - 1])
        axes.plot(number, far, linestyle="", zorder=4 if kind == "cross" else 3, **_DRAWN[kind])
    goal = goal_of(row)
    if goal:
        axes.axhline(goal, color=BASELINE, linestyle=(0, (4, 3)), linewidth=1)
    count = len(row.past)
    axes.set(xlim=(0.5, max(count, 1) + 0.5), ylim=(0, 1.08 * max([goal or 1, *(far for _, far in known)])))
    axes.set(xlabel="Session", ylabel="Step" if row.max_steps else "Items in the store")
    axes.set_xticks(range(1, count + 1, max(1, math.ceil(count / 8))))
    axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.ticklabel_format(axis="y", style="plain", useOffset=False)
    share = f", goodput {row.goodput:.2f}" if row.goodput is not None else ""
    axes.set_title(f"{row.slug}: {row.state}{share}", fontsize=10, loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(True, color=GRID, linewidth=0.6)
    axes.set_axisbelow(True)
