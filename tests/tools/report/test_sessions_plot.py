"""Progress over sessions: what is drawn is what the sessions came to, and kills are marked apart."""

from __future__ import annotations

from dataclasses import replace

import matplotlib
import matplotlib.pyplot as plt
import pytest

from nbkit.tools.report.sessions_plot import at_work, plot_progress, reached, sessions_chart, sessions_text
from nbkit.tools.status.past_sessions import OPEN, PastSession
from nbkit.tools.status.status import PhaseStatus

matplotlib.use("Agg")
TRAINING = PhaseStatus(
    "toy", "Toy", "work left", step=60, max_steps=100, sessions=3, killed=1,
    past=(PastSession("a", from_step=0, to_step=20, ended="not closed"),
          PastSession("b", from_step=20, to_step=None, ended="complete"),
          PastSession("c", from_step=20, to_step=60, ended="complete")),
)  # fmt: skip
ITEMS = PhaseStatus(
    "items", "Items", "work left", done=7, left=3, sessions=2, goodput=0.5,
    past=(PastSession("a", items=4, ended="killed"), PastSession("b", items=3, ended="complete")),
)  # fmt: skip


OPEN_NOW = replace(ITEMS, slug="running", past=(*ITEMS.past, PastSession("c", items=0, ended=OPEN)))


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def test_how_far_each_session_brought_the_work():
    assert reached(TRAINING) == [20, None, 60] and reached(ITEMS) == [4, 7]


def test_kills_are_crosses_and_closed_sessions_dots():
    panels = [axes for axes in plot_progress([TRAINING, ITEMS]).axes if axes.get_title("left")]
    drawn = [[line for line in axes.lines if line.get_marker() in "oX"] for axes in panels]
    marks = [[(line.get_marker(), *line.get_xydata()[0]) for line in lines] for lines in drawn]
    assert marks == [[("X", 1, 20), ("o", 3, 60)], [("X", 1, 4), ("o", 2, 7)]]
    assert [axes.get_title("left") for axes in panels] == ["toy: work left", "items: work left, goodput 0.50"]
    goals = [axes.lines[-1].get_ydata()[0] for axes in panels]
    assert goals == [100, 10] and all(axes.get_ylim()[1] > goal for axes, goal in zip(panels, goals, strict=True))


def test_a_session_that_is_open_now_is_a_ring_and_no_kill():
    figure = plot_progress([OPEN_NOW])
    last = [line for line in figure.axes[0].lines if line.get_marker() in "oX"][-1]
    assert last.get_marker() == "o" and last.get_markerfacecolor() == "white"
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        "closed", "open now", "killed or not closed",
    ]  # fmt: skip
    assert [kind for _, _, kind in sessions_chart(OPEN_NOW, "x").marks] == ["cross", "dot", "ring"]
    assert sessions_text(OPEN_NOW).endswith("; 1 killed or not closed, 1 open now.")


def test_a_phase_without_items_and_steps_has_no_panel():
    empty = replace(ITEMS, slug="status", done=0, left=0)
    assert len(plot_progress([empty, ITEMS]).axes) == 1
    assert "has done items or steps" in plot_progress([empty]).axes[0].texts[0].get_text()


def test_it_is_said_in_words_too():
    assert sessions_text(TRAINING) == "3 sessions brought toy to step 60 of 100; 1 killed or not closed."
    assert sessions_chart(TRAINING, "x").text == sessions_text(TRAINING)


def test_the_reports_chart_shows_the_same_kills_and_goal():
    training, items = sessions_chart(TRAINING, "x"), sessions_chart(ITEMS, "y")
    assert [kind for _, _, kind in training.marks] == ["cross", "dot"], "where the second session came to is unknown"
    assert [kind for _, _, kind in items.marks] == ["cross", "dot"]
    for chart in (training, items):
        assert chart.goal < min(y for _, y, _ in chart.marks), "the goal is above what was reached"


def test_the_part_of_a_session_that_was_work():
    assert at_work(PastSession("a", length=10.0, work=4.0)) == 0.4
    assert at_work(PastSession("a", length=None, work=4.0)) is None
