"""The comparison: the first place and name in the order of the training, and what is no part of it."""

from __future__ import annotations

from typing import Any

from nbkit.runtime.training.proving.compare import differing_names, final_difference, first_difference


def record(batch: int, when: str = "start", step: int = 0, **values: str) -> dict[str, Any]:
    named = {name.replace("_", " "): value for name, value in values.items()}
    return {"place": [0, batch], "when": when, "step": step, "values": named}


WHOLE = [record(0, weight_a="1"), record(1, step=1, weight_a="2"), record(2, step=2, weight_a="3", metric_b="x")]


def test_equal_runs_have_no_difference_even_where_batches_are_done_again():
    assert first_difference(WHOLE, [WHOLE[:2], WHOLE[1:]]) is None


def test_the_first_session_and_batch_are_named():
    found = first_difference(WHOLE, [WHOLE[:1], [record(1, step=1, weight_a="2"), record(2, step=2, weight_a="4")]])
    assert found is not None
    difference, first = found
    assert (difference.step, difference.batch, difference.name) == (2, 2, "weight a")
    assert (difference.in_one_go, difference.with_stops, difference.resumed_at) == ("3", "4", (0, 1))
    assert first["place"] == [0, 1] and difference.others == ("metric b",)


def test_what_is_trained_comes_before_a_metric_that_differs_earlier():
    other = [record(0, weight_a="1", metric_c="1"), record(1, step=1, weight_a="9")]
    found = first_difference(WHOLE, [other])
    assert found is not None and found[0].name == "weight a" and found[0].trained
    found = first_difference(WHOLE, [other[:1]])
    assert found is not None and found[0].name == "metric c" and not found[0].trained
    assert first_difference(WHOLE, [other[:1]], ignored=["metric c"]) is None


def test_what_is_missing_differs():
    found = first_difference(WHOLE, [[record(0)]])
    assert found is not None and found[0].with_stops == "nothing"
    assert differing_names(WHOLE, [record(0, weight_a="1", weight_z="1")]) == {"weight z"}


def test_the_last_checkpoints_are_compared():
    whole = {"step": 3, "final": {"weight a": "1", "metric b": "2"}}
    assert final_difference(whole, {"final": {"weight a": "1", "metric b": "2"}}) is None
    difference = final_difference(whole, {"final": {"weight a": "1", "metric b": "3"}})
    assert difference is not None and (difference.step, difference.batch, difference.name) == (3, -1, "metric b")
