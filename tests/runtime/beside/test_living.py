"""Which sessions are open, from generated histories of two machines whose clocks differ."""

from __future__ import annotations

import random
from types import SimpleNamespace

import pytest

from nbkit.runtime.beside import listening
from nbkit.runtime.beside.listening import Others
from nbkit.runtime.beside.living import SILENCE, open_sessions, whereabouts
from nbkit.runtime.ledger.claims import ALIVE, BEAT, OUTSIDE
from nbkit.runtime.ledger.segments import LedgerState
from tests.runtime.children import fork, reap

NOW = 1.8e9
HOUR = 3600.0


def state_with(session: str, *records: dict) -> LedgerState:
    state = LedgerState()
    state.add(session, list(enumerate(records, 1)))
    return state


def opening(at: float, **more: object) -> dict:
    return {"e": "open", "host": "kaggle", "machine": "m1", "boot": "b1", "pid": 7, "limit": 9 * HOUR, "t": at, **more}


@pytest.mark.parametrize(
    ("what", "records", "found"),
    [
        ("heard a minute ago", [opening(NOW - HOUR), {**ALIVE, "t": NOW - 60}], True),
        ("opened a minute ago", [opening(NOW - 60)], True),
        ("not heard for an hour", [opening(NOW - 2 * HOUR), {**ALIVE, "t": NOW - HOUR}], False),
        ("closed", [opening(NOW - 60), {"e": "close", "t": NOW}], False),
        ("known to have ended", [opening(NOW - 60), {"e": "ended", "of": "other", "how": OUTSIDE, "t": NOW}], False),
        ("a clock that is an hour ahead", [opening(NOW + HOUR)], True),
        ("a clock that is years ahead", [opening(NOW + 1e8)], False),
        ("past its wall", [opening(NOW - 10 * HOUR), {**ALIVE, "t": NOW - 60}], False),
    ],
)
def test_open_by_the_clocks(what, records, found):
    assert [other.session for other in open_sessions(state_with("other", *records), "me", NOW)] == ["other"] * found


def test_a_session_of_this_machine_is_open_only_while_its_process_exists():
    here, gone = whereabouts(), fork(lambda: None)
    reap(gone)
    found = lambda pid: open_sessions(state_with("other", opening(NOW, **{**here, "pid": pid})), "me", NOW)  # noqa: E731
    assert found(gone) == [] and [other.here for other in found(here["pid"])] == [True]


def test_the_words_name_machine_times_and_wall(monkeypatch):
    monkeypatch.setattr("time.time", lambda: NOW)
    (other,) = open_sessions(state_with("s1", opening(NOW - HOUR), {**ALIVE, "t": NOW - 40}), "me")
    words = other.words()
    assert words.startswith("s1 on kaggle (m1), open since ") and "(1 h), last heard 40 s ago" in words
    assert words.endswith("its wall is in 8 h")
    monkeypatch.setattr("socket.gethostname", lambda: "laptop")
    other_boot = whereabouts()["boot"]
    assert whereabouts()["machine"] == "laptop"
    monkeypatch.setattr("socket.gethostname", lambda: "desk")
    assert whereabouts()["boot"] != other_boot


@pytest.mark.parametrize("skew", [-40 * HOUR, -HOUR, -60.0, 0.0, 60.0, HOUR, 40 * HOUR, 1e6])
@pytest.mark.parametrize("end", ["lives", "killed", "closes"])
def test_listening_finds_out_whatever_the_clocks_say(monkeypatch, skew, end):
    """The other opens, lives for a while and ends; listings lag. What is said is right soon, and once."""
    for seed in range(5):
        draw = random.Random(f"{skew} {end} {seed}")
        began, until, lag = draw.uniform(-2 * HOUR, 600), draw.uniform(700, 3000), draw.uniform(0, 150)
        clock, said, state = SimpleNamespace(now=0.0), [], LedgerState()
        monkeypatch.setattr(listening.time, "time", lambda clock=clock: NOW + clock.now)
        beats = [began + BEAT * n for n in range(1, 100) if began + BEAT * n < until or end == "lives"]
        records = [(began, opening(NOW + skew + began))] + [(at, {**ALIVE, "t": NOW + skew + at}) for at in beats]
        records += [(until, {"e": "close", "t": NOW + skew + until})] if end == "closes" else []
        feed = [(at + lag, number, record) for number, (at, record) in enumerate(records, 1)]

        def fetch(feed=feed, state=state, clock=clock):
            while feed and feed[0][0] <= clock.now:
                _, number, record = feed.pop(0)
                state.add("other", [(number, record)])

        fetch()
        others = Others(state, "me", None, True, False, said.append, lambda clock=clock: clock.now)
        while clock.now < 4500:
            clock.now += 20
            fetch()
            others.look()
            alive = began + lag < clock.now and (end == "lives" or clock.now < until)
            settled = clock.now > max(began, 0) + SILENCE + lag + 40
            if settled and (alive or clock.now > until + SILENCE + lag + 40):
                assert bool(others.beside()) == alive == others.may_store(), (seed, clock.now, began, until)
        told = [line for line in said if "at work" in line]
        gone = [line for line in said if "this one goes on" in line]
        assert len(told) <= 1 and (began < 0 or told), said
        assert len(gone) == (end != "lives") or skew, said


def test_other_shards_are_not_named_and_items_are_shared():
    state = state_with("other", opening(NOW, shard="1/2"))
    named = lambda shard, trains: Others(state, "me", shard, trains, False, print)  # noqa: E731
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("time.time", lambda: NOW)
        assert not named("2/2", False).card_rows() and named("2/2", False).at_first
        assert "Items are shared" in named("1/2", False).card_rows()[1][1]
        assert "Close one" in named("1/2", True).card_rows()[1][1]
        assert not named("1/2", False).may_store()
