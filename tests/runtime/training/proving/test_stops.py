"""The drawn stops: in order, at different batches, and one of every kind that the run offers."""

from __future__ import annotations

import pytest

from nbkit.runtime.training.proving.stops import Batch, affordable, draw_stops

EPOCHS, BATCHES = 3, 8


def run(accumulate: int = 2, every: int = 5, epochs: int = EPOCHS) -> list[Batch]:
    """Return the batches of a run that steps and validates in these rhythms."""
    numbers = range(epochs * BATCHES)
    return [
        Batch((n // BATCHES, n % BATCHES), (n % BATCHES) % accumulate == accumulate - 1, n % every == every - 1)
        for n in numbers
    ]


@pytest.mark.parametrize("seed", range(20))
def test_one_of_every_kind_in_the_order_of_places(seed):
    stops = draw_stops(run(), 8, seed)
    assert len(stops) == 8 and stops == sorted(stops, key=lambda stop: stop.place)
    assert len({stop.place for stop in stops}) == 8
    kinds = {stop.kind: stop for stop in stops}
    assert set(kinds) == {
        "in a validation", "first batch of an epoch", "mid-epoch", "killed", "while gradients are accumulated",
        "before a validation", "at random",
    }  # fmt: skip
    assert kinds["first batch of an epoch"].place[1] == BATCHES - 1 and kinds["first batch of an epoch"].when == "end"
    assert kinds["while gradients are accumulated"].place[1] % 2 == 0
    place = kinds["in a validation"].place
    assert (place[0] * BATCHES + place[1]) % 5 == 4 and kinds["in a validation"].when == "validation"
    assert [stop.kind for stop in stops if stop.kill] == ["killed"]


def test_a_seed_draws_the_same_again_and_another_draws_others():
    assert draw_stops(run(), 6, 1) == draw_stops(run(), 6, 1) != draw_stops(run(), 6, 2)


def test_no_more_stops_than_batches_and_none_at_the_last():
    stops = draw_stops(run(accumulate=1, every=99, epochs=1)[:3], 9, 0)
    assert [stop.place for stop in stops] == [(0, 0), (0, 1)]


def test_as_many_stops_as_there_is_time_for_and_never_none():
    assert affordable(6, left=100.0, took=3.0, training=2.0) == 6
    assert affordable(6, left=100.0, took=22.0, training=2.0) == 2  # 20 s to start a session, of 80 s less 3 s
    assert affordable(6, left=10.0, took=22.0, training=2.0) == affordable(6, -5.0, 1.0, 1.0) == 1
    assert affordable(6, left=float("inf"), took=22.0, training=2.0) == 6
