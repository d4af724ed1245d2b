"""The curve that grows in a notebook while it trains."""

from __future__ import annotations

import matplotlib.pyplot as plt
import pytest

from nbkit.runtime.training.showing import live_curve
from nbkit.runtime.training.showing.live_curve import LiveCurve, plot_live

ROWS = [{"step": n, "train_loss": 1.0 / (n + 1)} for n in range(5)] + [{"step": 4, "val_mse": 0.5, "val_other": 2.0}]


class _History:
    def rows(self):
        return iter(ROWS)


class _Picture:
    def __init__(self):
        self.shown = []

    def show(self, figure):
        self.shown.append([axes.get_title() for axes in figure.axes])
        plt.close(figure)


def test_loss_and_monitored_score_are_drawn():
    figure = plot_live(ROWS, "val_mse")
    loss, score = figure.axes
    assert loss.get_lines()[0].get_xydata().tolist() == [[row["step"], row["train_loss"]] for row in ROWS[:5]]
    assert score.get_title() == "val_mse: 0.5 at step 4" and score.get_xlabel() == "Step"
    plt.close(figure)


@pytest.mark.parametrize(("monitor", "panels"), [(None, 1), ("val_loss", 1), ("val_other", 2)])
def test_what_is_not_logged_has_no_panel(monitor, panels):
    figure = plot_live(ROWS, monitor)
    assert len(figure.axes) == panels
    plt.close(figure)


def test_a_slow_picture_comes_once_a_minute(monkeypatch):
    clock = [0.0]

    class Slow(_Picture):
        def show(self, figure):
            super().show(figure)
            clock[0] += 2.0

    monkeypatch.setattr(live_curve.time, "monotonic", lambda: clock[0])
    curve = LiveCurve(_History(), "val_mse")
    curve._picture = Slow()
    for _ in range(1000):
        clock[0] += 1.0
        curve.on_train_batch_end(None, None, None, None, 0)
    assert 10 <= len(curve._picture.shown) <= 18
    curve.on_train_end(None, None)
    assert curve._picture.shown[-1] == ["train_loss: 0.2 at step 4", "val_mse: 0.5 at step 4"]
