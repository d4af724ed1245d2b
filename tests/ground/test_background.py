"""A thread of ours that finds no memory ends with one line, and any other error of it stays visible."""

from __future__ import annotations

import threading

import pytest

from nbkit.ground.background import Background


def test_the_target_is_called_with_what_it_was_given() -> None:
    seen: list[object] = []
    thread = Background(lambda *args: seen.append((args, threading.current_thread().name)), 1, 2, name="ours")
    thread.start()
    thread.join()
    assert seen == [((1, 2), "ours")] and thread.daemon


def test_the_end_of_memory_is_one_line_and_no_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    def without_memory() -> None:
        raise MemoryError

    thread = Background(without_memory, name="ours")
    thread.start()
    thread.join()
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "memory ran out" in said


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_other_errors_are_shown_as_python_shows_them(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[type[BaseException]] = []
    monkeypatch.setattr(threading, "excepthook", lambda told: seen.append(told.exc_type))
    thread = Background(lambda: 1 // 0, name="ours")
    thread.start()
    thread.join()
    assert seen == [ZeroDivisionError]
