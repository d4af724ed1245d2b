"""Logged metrics: no spike of a long line is lost, and what a chart shows is where it belongs."""

from __future__ import annotations

import pytest

from nbkit.tools.report.chart import draw
from nbkit.tools.report.metrics import POINTS, metrics_of
from nbkit.tools.report.page import write_report
from nbkit.tools.report.reading import PhaseRecord, Score, StoredFigure
from nbkit.tools.report.sections import training_of
from nbkit.tools.status.status import PhaseStatus
from tests.runtime.ledger.odd_records import healthy


def rows(**metrics) -> list[dict]:
    steps = range(max(map(len, metrics.values())))
    return [{"step": i} | {name: v[i] for name, v in metrics.items() if i < len(v)} for i in steps]


def record_of(history: list[dict], *figures: str) -> PhaseRecord:
    scores = [Score("val_mse", 3.0, "uV^2", 9.0, "persistence")]
    stored = [StoredFigure(name, b"", 1, 1) for name in figures]
    return PhaseRecord(PhaseStatus("toy", "Toy", "work left"), None, scores, history=history, figures=stored)


def test_metrics_come_in_the_order_of_logging_with_their_ends():
    loss, mse = metrics_of(rows(loss=[2.0, 1.0, 1.5], val_mse=[4.0, 3.0]))
    assert (loss.name, loss.points) == ("loss", ((0, 2.0), (1, 1.0), (2, 1.5)))
    assert mse.text == "from 4 at step 0 to 3 at step 1, between 3 and 4"


def test_no_spike_is_lost_and_the_ends_stay():
    values = [1.0] * 10_000
    values[4567], values[-1] = 50.0, 7.0
    (metric,) = metrics_of(rows(loss=values))
    steps = [step for step, _ in metric.points]
    assert len(steps) <= POINTS + 2 and max(value for _, value in metric.points) == 50.0
    assert metric.points[0] == (0, 1.0) and metric.points[-1] == (9999, 7.0)
    assert steps == sorted(set(steps))


def test_what_is_no_number_is_no_point():
    assert metrics_of([{"step": 1, "a": None, "b": "x", "c": True, "d": float("nan")}] * 3) == []
    assert metrics_of([{"step": 1, "a": 1.0}]) == [] == metrics_of([])


def test_a_chart_carries_the_unit_and_the_baseline_of_its_score():
    (_, mse), (_, loss) = training_of(record_of(rows(val_mse=[4.0, 3.0], loss=[1.0, 0.5])))
    assert (mse.y_label, loss.y_label) == ("µV²", "") and loss.goal is None
    assert "baseline 9, persistence" in mse.text
    assert mse.top <= mse.goal < min(float(point.split(",")[1]) for point in mse.line.split()), "9 is above 3 and 4"


def test_what_a_stored_figure_shows_is_not_drawn_again():
    history = rows(val_mse=[4.0, 3.0])
    assert [chart for _, chart in training_of(record_of(history, "bands", "curves"))] == [None]
    assert training_of(record_of(history, "bands"))[0][1] is not None


def test_points_and_ticks_lie_inside_the_axes_and_grow_to_the_right_and_up():
    for values in ([1.0, 2.0, 3.0], [1e-4, 0.5, 30.0], [5.0, 5.0, 5.0], [-2.0, 0.0, 3.0]):
        chart = draw("x", "x", "", [(10.0 * i, value) for i, value in enumerate(values)], ("Step", ""))
        points = [tuple(map(float, point.split(","))) for point in chart.line.split()]
        assert all(chart.left <= x <= chart.right and chart.top <= y <= chart.bottom for x, y in points)
        assert [x for x, _ in points] == sorted({x for x, _ in points})
        assert (points[0][1] > points[-1][1]) == (values[0] < values[-1])
        assert len(chart.x_ticks) >= 2 and len(chart.y_ticks) >= 1
        assert all(chart.top <= y <= chart.bottom for y, _ in chart.y_ticks)


def test_a_tick_stands_at_its_own_value():
    chart = draw("x", "x", "", [(0.0, 0.0), (10.0, 100.0)], ("Step", ""), whole=True)
    at = {number: y for y, number in chart.y_ticks}
    assert (at["0"], at["100"]) == tuple(round(float(point.split(",")[1]), 1) for point in chart.line.split())
    wide = draw("x", "x", "", [(0.0, 0.001), (10.0, 1000.0)], ("Step", ""))
    assert [number for _, number in wide.y_ticks if number in ("0.001", "1", "1000")], "powers of ten"


@pytest.mark.parametrize("step", [10**18, 10**19, 10**100, 10**298, -(10**298), -5])
def test_a_step_that_no_training_takes_is_left_out_of_the_curves(tmp_path, step):
    store = healthy(tmp_path / "store")
    rows = [f'{{"step": {number}, "a": 1}}\n' for number in (1, 3, step)]
    (store.root / "p" / "metrics.jsonl").write_text("".join(rows))
    notes = write_report(str(store.root), tmp_path / "page.html", ["p"]).notes
    assert any("1 lines of metrics.jsonl" in note for note in notes) == (abs(step) > 2**60)
