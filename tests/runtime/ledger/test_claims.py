"""Who is to blame where sessions died: the same whatever the order of the records, and no healthy item for long."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbkit.runtime.ledger.claims import BETWEEN, DEATHS, OUTSIDE, Claims, _needed, blame
from nbkit.runtime.ledger.segments import LedgerState

SESSIONS = st.sampled_from(["s1", "s2", "s3"])
KEYS = st.sampled_from("abc")
TIMES = st.floats(0, 100)
RECORDS = st.one_of(
    st.builds(
        lambda k, n, t: {"e": "begun", "k": k, "n": n, "t": t},
        st.lists(KEYS, max_size=3, unique=True), st.integers(1, 5), TIMES,
    ),
    st.builds(lambda k, n, t: {"e": "failed", "k": k, "err": "", "n": n, "t": t}, KEYS, st.integers(0, 5), TIMES),
    st.builds(lambda k, of, t: {"e": "died", "k": k, "of": of, "t": t}, KEYS, SESSIONS, TIMES),
    st.builds(lambda of, how: {"e": "ended", "of": of, "how": how}, SESSIONS, st.sampled_from([OUTSIDE, BETWEEN])),
    st.builds(lambda t: {"e": "open", "t": t, "limit": 50.0}, TIMES),
    st.just({"e": "close", "t": 1.0}),
    st.builds(lambda k: {"e": "done", "k": k, "o": []}, KEYS),
)  # fmt: skip


def judged(records: list[tuple[str, int, dict]]) -> tuple[object, dict[str, int]]:
    state = LedgerState()
    for session, number, record in records:
        state.add(session, [(number, record)])
    return blame(state.claims, state.done.__contains__, "me", 1e6), state.deaths


def consistent(records: list[tuple[str, dict]]) -> list[tuple[str, int, dict]]:
    """Return records with numbers; of a session one opening and, of claims, one with each number."""
    seen, numbered = set(), []
    for number, (session, record) in enumerate(records, 1):
        mark = (session, record["e"], record.get("n")) if record["e"] in ("open", "begun") else (session, number)
        if mark not in seen:
            seen.add(mark)
            numbered.append((session, number, record))
    return numbered


@given(st.lists(st.tuples(SESSIONS, RECORDS), max_size=14), st.randoms())
def test_the_order_of_records_does_not_matter(records, rng):
    records = consistent(records)
    shuffled = rng.sample(records, len(records))
    assert judged(shuffled + records[:3]) == judged(records)


@given(st.lists(st.tuples(SESSIONS, RECORDS), max_size=14))
def test_no_item_that_is_done_is_to_blame(records):
    found, _ = judged(consistent(records))
    done = {record["k"] for _, record in records if record["e"] == "done"}
    assert not done & (found.deaths.keys() | found.suspects.keys() | found.aside.keys())


def died_in(claims: Claims, session: str, keys: list[str], at: float) -> None:
    claims.take(session, {"e": "open", "t": at, "limit": None})
    claims.take(session, {"e": "begun", "n": 1, "k": keys, "t": at + 1})


def test_suspects_of_a_claim_are_claimed_alone_and_the_last_begun_first():
    claims = Claims()
    died_in(claims, "s1", ["a", "b", "c"], 0)
    found = blame(claims, {"b"}.__contains__, "me", 1e6)
    assert found.suspects == {"c": (1, 0), "a": (1, 1)} and not found.deaths


@pytest.mark.parametrize(
    ("at_random", "others", "needed"),
    [(0, 0, 3), (0, 50, 3), (1, 20, 3), (5, 20, 4), (10, 20, 7), (9, 10, 10), (3, 3, 10)],
)
def test_the_more_sessions_die_otherwise_the_more_deaths_are_asked_for(at_random, others, needed):
    assert _needed(at_random, others) == needed >= DEATHS


def storm(rng: random.Random, killer: str | None, survives: float) -> tuple[Claims, set[str], int]:
    """Run sessions on twelve items, one after the other, most of which are killed at random."""
    claims, done, keys = Claims(), set(), [f"k{i:02d}" for i in range(12)]
    for number in range(400):
        found = blame(claims, done.__contains__, "", 1e9)
        todo = [key for key in keys if key not in done and key not in found.aside]
        if not todo:
            return claims, done, number
        session = f"s{number:03d}"
        claims.take(session, {"e": "open", "t": float(number), "limit": 1.0})
        ordered = sorted(todo, key=lambda key: (found.deaths[key], found.suspects.get(key, (0, 0))[1]))
        for n, key in enumerate(ordered, 1):
            claims.take(session, {"e": "begun", "n": n, "k": [key], "t": number + 0.1})
            if key == killer or rng.random() > survives:
                break
            done.add(key)
        else:
            claims.take(session, {"e": "close", "t": number + 0.5})
    raise AssertionError("no end")


def test_random_kills_seldom_set_a_healthy_item_aside_and_a_killer_always_is():
    """Half of all items are killed at random: far more than on any host."""
    wrong = 0
    for seed in range(100):
        claims, done, _ = storm(random.Random(seed), None, survives=0.5)
        wrong += len(done) < 12
        claims, done, sessions = storm(random.Random(seed), "k05", survives=0.9)
        assert "k05" not in done and sessions < 60
    assert wrong <= 10, "three deaths alone set one aside in 80 of these 100 storms"


def test_kills_that_are_known_count_for_nothing():
    claims = Claims()
    for i in range(9):
        died_in(claims, f"s{i}", ["a"], 10 * i)
        claims.take("later", {"e": "ended", "of": f"s{i}", "how": OUTSIDE})
    found = blame(claims, lambda key: False, "me", 1e6)
    assert not found.deaths and not found.suspects
