"""Progress over sessions: how far each brought the work, and which were killed.

Drawn once for a notebook's figure and for the report's page; only the colours differ.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from nbkit.ground.figures import BASELINE, FIRST, GRID, SECOND
from nbkit.runtime.words import counted, show_duration
from nbkit.tools.report.svg import FAINT, INK, SERIES, drawing, inline, plain_numbers
from nbkit.tools.status.past_sessions import PastSession
from nbkit.tools.status.status import PhaseStatus

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PAPER = (FIRST, SECOND, BASELINE, "#222222")
_COLUMNS = 3


def reached(row: PhaseStatus) -> list[float | None]:
    """Return how far the work had come after each session: the step, or the items so far; None where nobody knows."""
    if row.max_steps:
        return [past.to_step for past in row.past]
    return [sum(past.items for past in row.past[: place + 1]) for place in range(len(row.past))]


def draw_sessions(axes: Axes, row: PhaseStatus, colours: Sequence[str] = PAPER) -> None:
    """Draw a phase's progress over its sessions.

    Parameters
    ----------
    axes : matplotlib Axes
    row : PhaseStatus
    colours : sequence of str
        Of the line and closed sessions, of killed ones, of the goal, of text.
    """
    from matplotlib.ticker import MaxNLocator

    line, killed, faint, _ = colours
    known = [(number, far) for number, far in enumerate(reached(row), 1) if far is not None]
    if known:
        axes.plot(*zip(*known, strict=True), color=line, linewidth=1.3, zorder=2)
    for (number, far), past in ((point, row.past[point[0] - 1]) for point in known):
        if past.closed:
            axes.plot(number, far, "o", color=line, markersize=4.5, zorder=3)
        else:
            axes.plot(number, far, "X", color=killed, markersize=7, zorder=4, markeredgewidth=0)
    goal = row.max_steps or (row.done + row.left if row.left is not None else None)
    if goal:
        axes.axhline(goal, color=faint, linestyle=(0, (4, 3)), linewidth=1)
    axes.set_ylim(0, 1.08 * max([goal or 1, *(far for _, far in known)]))
    count = len(row.past)
    axes.set_xlim(0.5, max(count, 1) + 0.5)
    axes.set_xticks(range(1, count + 1, max(1, math.ceil(count / 8))))
    axes.set(xlabel="Session", ylabel="Step" if row.max_steps else "Items in the store")
    axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    plain_numbers(axes.yaxis)


def sessions_svg(row: PhaseStatus, name: str) -> ElementTree.Element:
    """Return the drawing as an SVG element; `name` is unique on the page."""
    with drawing() as (figure, axes):
        draw_sessions(axes, row, (SERIES[0], SERIES[1], FAINT, INK))
        return inline(figure, name, f"Progress of {row.slug} over its sessions", sessions_words(row))


def sessions_words(row: PhaseStatus) -> str:
    """Say a phase's sessions in one sentence."""
    count, open_ = len(row.past), sum(not past.closed for past in row.past)
    came = f" brought {row.slug} to step {row.step:,} of {row.max_steps:,}" if row.max_steps else ""
    if row.done and not row.max_steps:
        came = f" brought {counted(row.done, 'item')} of {row.slug} to the store"
    closed = f"{open_} killed or not closed" if open_ else "all closed" if count > 1 else "it closed"
    return f"{counted(count, 'session')}{came}; {closed}."


def at_work(past: PastSession) -> float | None:
    """Return the part of a session in which its items were in work; None where the length is not known."""
    return min(1.0, past.work / past.length) if past.length and past.work else None


def plot_progress(rows: Sequence[PhaseStatus]) -> Figure:
    """Draw every phase that has begun, a panel each.

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
        draw_sessions(axes, row)
        share = f", goodput {row.goodput:.2f}" if row.goodput is not None else ""
        axes.set_title(f"{row.slug}: {row.state}{share}", fontsize=10, loc="left")
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(True, color=GRID, linewidth=0.6)
        axes.set_axisbelow(True)
    if any(not past.closed for row in begun for past in row.past):
        marks = (("o", PAPER[0], "closed"), ("X", PAPER[1], "killed, or running now"))
        handles = [plt.Line2D([], [], marker=m, color=c, linestyle="", label=text) for m, c, text in marks]
        figure.legend(handles=handles, loc="outside lower right", ncols=2, frameon=False, fontsize=9)
    return figure


def session_line(past: PastSession) -> str:
    """Say how long one session lasted and what part of it was work."""
    share = at_work(past)
    length = "?" if past.length is None else show_duration(past.length)
    return length + (f", {share:.0%} at work" if share is not None else "")
