"""Past sessions: what each came to, told from records alone."""

from __future__ import annotations

from nbkit.runtime.ledger.segments import encode_line, segment_of
from nbkit.tools.status.past_sessions import CountedState, PastSession, goodput_of, past_sessions


def fold_of(*sessions: tuple[str, list[dict]]) -> CountedState:
    fold = CountedState()
    for name, records in sessions:
        fold.add_segment(*segment_of("toy", name, 1, [encode_line(record) for record in records]))
    return fold


def opened(at: float, step: int | None = None) -> dict:
    return {"e": "open", "t": at, "host": "local", "limit": 60.0} | ({} if step is None else {"step": step, "done": 0})


def closed(at: float, reason: str, **more) -> dict:
    return {"e": "close", "t": at, "reason": reason, **more}


def done(key: str, seconds: float = 1.0) -> dict:
    return {"e": "done", "k": key, "o": [], "s": seconds}


def test_a_killed_training_session_reached_what_the_next_one_found():
    fold = fold_of(
        ("c", [opened(30.0, step=140)]),
        ("a", [opened(10.0, step=0)]),
        ("b", [opened(20.0, step=80), closed(28.0, "wall", step=140)]),
    )
    past = past_sessions(fold, newest_step=200)
    assert [(p.session, p.from_step, p.to_step, p.ended) for p in past] == [
        ("a", 0, 80, "not closed"),
        ("b", 80, 140, "stopped before the wall"),
        ("c", 140, 200, "not closed"),
    ]
    assert [p.length for p in past] == [None, 8.0, None] and [p.closed for p in past] == [False, True, False]


def test_a_rehearsal_knows_how_long_a_killed_session_lasted():
    watched = {"sessions": [{"session": "a", "ended": "killed", "length_s": 7.5}, {"session": None}]}
    (past,) = past_sessions(fold_of(("a", [opened(10.0, step=0)])), None, watched)
    assert (past.ended, past.length, past.to_step) == ("killed", 7.5, None)


def test_items_are_counted_by_the_session_that_stored_them():
    fold = fold_of(
        ("a", [opened(1.0), done("x", 2.0), done("y", 3.0)]),
        ("b", [opened(2.0), {"e": "failed", "k": "z", "t": 3.0, "err": "E"}, closed(9.0, "complete")]),
    )
    first, second = past_sessions(fold)
    assert (first.items, first.work, first.failed) == (2, 5.0, 0) and (second.items, second.failed) == (0, 1)
    assert second.ended == "complete"


def test_items_side_by_side_are_work_for_as_long_as_the_session_was():
    spread = [done(key, 4.0) for key in "wxyz"]  # four workers, four seconds each, in one session of five
    (past,) = past_sessions(fold_of(("a", [opened(1.0), *spread, closed(6.0, "complete")])))
    assert (past.items, past.length, past.work) == (4, 5.0, 5.0)


def test_a_record_that_stands_in_two_segments_counts_once():
    lines = [encode_line(record) for record in (opened(1.0), done("x"), done("y"), done("z"))]
    fold = CountedState()
    fold.add_segment(*segment_of("toy", "a", 1, lines[:2]))
    fold.add_segment(*segment_of("toy", "a", 1, lines))  # merged from its parts, one of which is still there
    fold.add_segment(*segment_of("toy", "a", 3, lines[2:]))
    assert fold.tallies["a"].items == len(fold.done) == 3


def test_records_of_older_versions_tell_less_and_break_nothing():
    fold = fold_of(("a", [{"e": "open", "t": 1.0}, done("x"), {"e": "close", "t": 2.0}]), ("b", [done("y")]))
    (only,) = past_sessions(fold)
    assert (only.from_step, only.to_step, only.ended, only.items) == (None, None, "closed", 1)


def test_goodput_is_work_over_all_of_the_time_or_not_known():
    whole, killed = PastSession("a", length=60.0), PastSession("b", length=None)
    assert goodput_of([whole, whole], 30.0) == 0.25
    assert goodput_of([whole, killed], 30.0) is None
    assert goodput_of([], 1.0) is None and goodput_of([whole], None) is None
    assert goodput_of([whole, killed], None, {"sums": {"goodput": 0.4}}) == 0.4
    assert goodput_of([whole], 30.0, {"sums": {"goodput": "much"}}) == goodput_of([whole], 30.0, {"sums": 3}) == 0.5
