"""Which metrics stand in one panel, and that no spike of a long curve is lost."""

from __future__ import annotations

from nbkit.tools.report.curves import LINES, POINTS, dash_of, draw, panels_of


def rows(**metrics) -> list[dict]:
    steps = range(max(map(len, metrics.values())))
    return [{"step": i} | {name: v[i] for name, v in metrics.items() if i < len(v)} for i in steps]


def test_one_measure_one_panel():
    found = panels_of(rows(train_loss=[2, 1], val_loss=[3, 2], val_mse=[4, 3], val_mse_persistence=[5, 5], lr=[1, 1]))
    assert [(panel.title, [line.name for line in panel.lines]) for panel in found] == [
        ("loss", ["train_loss", "val_loss"]),
        ("mse", ["val_mse", "val_mse_persistence"]),
        ("lr", ["lr"]),
    ]


def test_a_baseline_goes_with_the_metric_of_its_name_unless_it_is_drawn():
    history = rows(val_mse=[4.0, 3.0], val_r=[0.1, 0.2], val_r_chance=[0.05, 0.05])
    mse, r = panels_of(history, {"val_mse": (9.0, "persistence"), "val_r": (0.05, "chance")})
    assert mse.baseline == (9.0, "persistence") and r.baseline is None
    assert "baseline 9, persistence" in mse.words()


def test_an_axis_carries_the_unit_of_its_score():
    history = rows(val_mse=[4.0, 3.0], loss=[1.0, 0.5])
    assert [panel.unit for panel in panels_of(history, units={"val_mse": "µV²"})] == ["µV²", ""]
    drawn = draw(panels_of(history, units={"val_mse": "µV²"})[0], "x")
    assert "µV²" in [text.text for text in drawn.iter() if text.tag.endswith("text")]


def test_more_lines_than_can_be_told_apart_are_counted():
    (panel,) = panels_of(rows(a=[1, 2], **{f"a_{i}": [1, 2] for i in range(9)}))
    assert len(panel.lines) == LINES and panel.left_out == 10 - LINES and panel.lines[0].name == "a"
    assert len({dash_of(place) for place in range(LINES)}) == LINES, "told apart without colours too"


def test_no_spike_is_lost_and_the_ends_stay():
    values = [1.0] * 10_000
    values[4567], values[-1] = 50.0, 7.0
    (panel,) = panels_of(rows(loss=values))
    (line,) = panel.lines
    assert len(line.steps) <= POINTS + 2 and max(line.values) == 50.0
    assert (line.steps[-1], line.values[-1]) == (9999, 7.0)
    assert list(line.steps) == sorted(line.steps)


def test_what_is_no_number_is_no_point():
    assert panels_of([{"step": 1, "a": None, "b": "x", "c": True, "d": float("nan")}] * 3) == []
    assert panels_of([{"step": 1, "a": 1.0}]) == [] == panels_of([])
