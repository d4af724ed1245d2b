"""Signals that ask for the end."""

from __future__ import annotations

import os
import signal
import time

import pytest

from nbkit.runtime.budget import Budget
from nbkit.runtime.signals import ENDING, StopSignals

WATCHED = (*ENDING, signal.SIGINT)


@pytest.mark.parametrize("number", WATCHED)
def test_a_signal_asks_for_a_stop_and_the_handler_before_comes_back(number: int) -> None:
    asked: list[str] = []
    before = signal.getsignal(number)
    with StopSignals(asked.append, lambda words: None):
        os.kill(os.getpid(), number)
        time.sleep(0.01)
    assert asked == [signal.Signals(number).name]
    assert signal.getsignal(number) is before


@pytest.mark.parametrize("limit", [None, 10.0, 1e6])
@pytest.mark.parametrize("number", WATCHED)
def test_after_a_signal_from_the_host_the_session_ends_before_it_is_killed(number: int, limit: float | None) -> None:
    now = [5.0]
    budget = Budget(limit, 0.0, clock=lambda: now[0])
    before = budget.wall()
    with StopSignals(budget.stop_for_signal, lambda words: None):
        os.kill(os.getpid(), number)
        time.sleep(0.01)
    assert budget.stop_reason == signal.Signals(number).name and not budget.fits(0.0)
    assert budget.wall() == (before if number == signal.SIGINT else min(before, 20.0))
    now[0] += 4.0
    first = budget.wall()
    budget.stop_for_signal(signal.Signals(number).name)  # again: no more time than the first one gave
    assert budget.wall() == first


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="Windows has no SIGHUP")
def test_a_process_started_with_nohup_outlives_its_terminal() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    asked: list[str] = []
    try:
        with StopSignals(asked.append, lambda words: None):
            os.kill(os.getpid(), signal.SIGHUP)
            time.sleep(0.01)
        assert asked == [] and signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("number", ENDING)
def test_a_worker_that_inherits_the_handler_still_ends(number: int) -> None:
    asked: list[str] = []
    with StopSignals(asked.append, lambda words: None):
        read, write = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.write(write, b".")  # python forgets a signal that comes while it forks
            time.sleep(10)
            os._exit(0)
        os.read(read, 1)
        os.kill(pid, number)
        _, status = os.waitpid(pid, 0)
    assert os.WTERMSIG(status) == number and asked == []
