"""A log that grows is shown line by line, each once."""

from __future__ import annotations

from nbkit.tools.commands.following import follow_log


def test_new_lines_are_shown_once_and_a_half_written_one_when_it_is_whole():
    texts = iter(["a\nb\nc", "a\nb\ncd\ne", "a\nb\ncd\nef\n"])
    more = iter([True, True, False])
    said: list[str] = []
    follow_log(lambda: next(texts), lambda: next(more), said.append, lambda _: None)
    assert said == ["a", "b", "cd", "ef"]


def test_log_that_does_not_grow_is_shown_whole_at_once():
    said: list[str] = []
    follow_log(lambda: "a\nb", lambda: False, said.append, lambda _: None)
    assert said == ["a", "b"]


def test_log_that_began_anew_is_shown_anew():
    texts = iter(["a\nb\n", "x\n"])
    more = iter([True, False])
    said: list[str] = []
    follow_log(lambda: next(texts), lambda: next(more), said.append, lambda _: None)
    assert said == ["a", "x"]
