"""The budget never lets begin what cannot end before the reserve."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from nbkit.runtime.budget import Budget


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


KINDS = st.sampled_from(["save", "upload", "flush", "close", "item", "step"])
EVENTS = st.lists(
    st.tuples(st.just("measured"), KINDS, st.floats(0, 500))
    | st.tuples(st.just("wait"), st.just(""), st.floats(0, 300))
    | st.tuples(st.just("fits"), st.just(""), st.floats(0, 500)),
    max_size=40,
)


@given(st.floats(1, 5000), st.floats(0, 100), EVENTS)
def test_what_fits_ends_before_the_reserve_and_the_wall(limit, late, events):
    clock = Clock()
    budget = Budget(limit, started=clock.now - late, clock=clock)
    wall, stopped = clock.now - late + limit, False
    for what, kind, seconds in events:
        if what == "measured":
            budget.measured(kind, seconds)
        elif what == "wait":
            clock.now += seconds
        elif budget.fits(seconds):
            assert not stopped, "a stop stands"
            assert clock.now + seconds + budget.reserve < wall + 1e-6
        else:
            stopped = True
            assert budget.stop_reason == "wall"
        assert 0 <= budget.reserve <= 0.25 * limit + 1e-9
        assert math.isclose(budget.wall() + budget.elapsed(), limit)


@given(st.lists(st.tuples(KINDS, st.floats(0, 1e6)), max_size=20), st.floats(0, 1e9))
def test_without_a_limit_everything_fits(measured, seconds):
    budget = Budget(None, clock=Clock())
    for kind, took in measured:
        budget.measured(kind, took)
    assert budget.fits(seconds) and budget.reserve == 0 and budget.left() == budget.wall() == math.inf


def test_the_reserve_covers_the_slowest_recent_save_and_upload():
    budget = Budget(10_000, clock=Clock())
    for seconds in (100, 5, 5):
        budget.measured("save", seconds)
    budget.measured("upload", 40)
    assert budget.reserve >= 140
    for _ in range(8):
        budget.measured("save", 5)
        budget.measured("upload", 4)
    assert 9 <= budget.reserve < 400, "what is long past no longer counts"


def test_the_first_reason_stands():
    budget = Budget(100, clock=Clock())
    budget.request_stop("SIGTERM")
    budget.request_stop("user")
    assert not budget.fits(0) and budget.stop_reason == "SIGTERM"


def test_an_interrupt_is_over_in_a_later_cell_and_another_signal_is_not():
    budget = Budget(None)
    budget.begin_in(3)
    budget.stop_for_signal("SIGINT")
    for cell in (3, None):  # a loop in the same cell, a script
        budget.begin_in(cell)
        assert budget.stop_reason == "SIGINT" and not budget.fits(0.0)
    budget.begin_in(4)
    assert budget.stop_reason is None and not budget.signalled and budget.fits(0.0)
    budget.stop_for_signal("SIGINT")
    budget.stop_for_signal("SIGTERM")
    budget.begin_in(5)
    assert budget.stop_reason == "SIGTERM" and budget.wall() < 60
