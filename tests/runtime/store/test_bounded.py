"""Calls in a thread of their own: what they return and raise, the end of the time, and a thread that died."""

from __future__ import annotations

import threading
import time

import pytest

from nbkit.runtime.errors import StoreError
from nbkit.runtime.store import bounded
from nbkit.runtime.store.bounded import Bounded, OutOfTime


def for_ever() -> float:
    return float("inf")


def test_what_the_call_returns_and_raises_is_passed_on() -> None:
    calls = Bounded(for_ever)
    threads = {calls.call(threading.get_ident, "asking") for _ in range(3)}
    assert len(threads) == 1 and threading.get_ident() not in threads
    with pytest.raises(ZeroDivisionError):
        calls.call(lambda: 1 // 0, "dividing")
    assert calls.call(lambda: 7, "asking") == 7


def test_a_call_is_left_when_the_time_is_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounded, "LEAST", 0.1)
    waits = threading.Event()
    calls = Bounded(lambda: 0.0)
    with pytest.raises(OutOfTime, match="asking had not ended after 0"):
        calls.call(waits.wait, "asking")
    assert calls.call(lambda: 7, "asking") == 7, "the next call has a thread of its own"
    waits.set()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_thread_that_dies_is_a_passing_fault_and_nobody_waits_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def without_memory(calls: object) -> None:
        raise MemoryError

    calls, began = Bounded(for_ever), time.monotonic()
    with monkeypatch.context() as patch:
        patch.setattr(bounded, "_make_calls", without_memory)
        with pytest.raises(StoreError, match="asking: the thread that makes the call has died") as error:
            calls.call(lambda: 7, "asking")
    assert error.value.passing and time.monotonic() - began < 5
    assert calls.call(lambda: 7, "asking") == 7
