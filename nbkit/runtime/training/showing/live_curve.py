"""A curve of the training that grows in the notebook while it trains."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from lightning.pytorch import Callback

from nbkit.ground.figures import BASELINE, FIRST, SECOND, tidy
from nbkit.runtime.cells.shown import LivePicture

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.figure import Figure

_SHARE = 0.01  # of the time goes into drawing
_SOONEST, _LATEST = 5.0, 60.0  # seconds between two pictures, on a busy machine, too


class LiveCurve(Callback):
    """Draw the loss and the monitored score anew every some seconds, in one place of the notebook.

    Parameters
    ----------
    history : History
    monitor : str or None
        The score that decides which checkpoint is the best.
    """

    def __init__(self, history: Any, monitor: str | None) -> None:
        self.history, self.monitor = history, monitor
        self._picture = LivePicture()
        self._next = time.monotonic() + _SOONEST

    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if time.monotonic() >= self._next:
            self._draw()

    def on_train_end(self, trainer: Any, module: Any) -> None:
        self._draw()

    def _draw(self) -> None:
        began = time.monotonic()
        rows = list(self.history.rows())
        if rows:
            self._picture.show(plot_live(rows, self.monitor))
        took = time.monotonic() - began
        self._next = time.monotonic() + min(_LATEST, max(_SOONEST, took / _SHARE))


def plot_live(rows: Sequence[dict[str, Any]], monitor: str | None) -> Figure:
    """Plot the training loss and the monitored score against steps.

    Parameters
    ----------
    rows : sequence of dict
        The history: ``{"step": step, name: value, ...}``.
    monitor : str or None
    """
    import matplotlib.pyplot as plt

    names = dict.fromkeys(name for row in rows for name in row if name != "step")
    loss = next((n for n in names if "loss" in n and not n.startswith("val") and n != monitor), None)
    shown = [(name, color) for name, color in ((loss, FIRST), (monitor, SECOND)) if name in names]
    figure, panels = plt.subplots(1, max(1, len(shown)), figsize=(9, 2.6), layout="constrained", squeeze=False)
    for axes, (name, color) in zip(panels[0], shown, strict=False):
        points = [(row["step"], row[name]) for row in rows if name in row]
        axes.plot(*zip(*points, strict=True), color=color, linewidth=1.2, marker="o" if len(points) < 60 else "")
        axes.axhline(points[-1][1], color=BASELINE, linewidth=0.6, linestyle=":")
        axes.set(xlabel="Step", title=f"{name}: {points[-1][1]:.4g} at step {points[-1][0]}")
        tidy(axes)
    if not shown:
        panels[0, 0].text(0.5, 0.5, "No loss was logged yet.", ha="center", va="center")
    return figure
