"""The dispatcher: its decision under every state, and fourteen simulated days through the real client."""

from __future__ import annotations

import json
import random
import time
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nbkit.ground.files import write_json
from nbkit.runtime.errors import UsageError
from nbkit.runtime.ledger.segments import encode_line, segment_of
from nbkit.runtime.store.folder import FolderStore
from nbkit.tools.dispatching.decision import GPU_SESSIONS, SHORTEST, Work, decide, session_hours
from nbkit.tools.dispatching.dispatch import dispatch, fruitless_runs, gpu_hours, preview
from nbkit.tools.kaggle.client import connect
from nbkit.tools.kaggle.push import push_phase
from nbkit.tools.kaggle.quota import Hours
from nbkit.tools.kaggle.runs import Push
from tests.tools.dispatching.toys import STEPS_AN_HOUR, Simulated

# -- the decision ------------------------------------------------------------------------------------------------------


@st.composite
def worlds(draw) -> tuple[list[Work], float]:
    """Draw phases whose needs come earlier, in any state, and hours of quota."""
    work: list[Work] = []
    for number in range(draw(st.integers(1, 8))):
        work.append(
            Work(
                slug=f"p{number}",
                number=number,
                needs=tuple(draw(st.lists(st.sampled_from([w.slug for w in work]), unique=True)) if work else ()),
                gpu=draw(st.booleans()),
                session_hours=draw(st.floats(0.05, 14.0)),
                complete=draw(st.booleans()),
                busy=draw(st.booleans()),
                fruitless=draw(st.integers(0, 3)),
                wanted=draw(st.booleans()),
                open_now=draw(st.sampled_from(["", "", "", "s1 on colab (m7)"])),
            )
        )
    return draw(st.permutations(work)), draw(st.floats(-1.0, 40.0))


@given(worlds())
@settings(max_examples=300, deadline=None)
def test_no_decision_breaks_a_rule(world):
    work, hours = world
    known = {phase.slug: phase for phase in work}
    choices = decide(work, hours)
    pushed = [choice for choice in choices if choice.verb == "push"]
    on_gpu = [choice for choice in pushed if choice.gpu]
    assert sum(choice.hours for choice in on_gpu) <= max(0.0, hours) + 1e-9
    assert not on_gpu or len(on_gpu) + sum(phase.gpu and phase.busy for phase in work) <= GPU_SESSIONS
    for choice in pushed:
        phase = known[choice.slug]
        assert not phase.busy and not phase.complete and phase.wanted and phase.fruitless < 2
        assert not phase.open_now
        assert all(known[need].complete for need in phase.needs)
        assert 0 < choice.hours <= session_hours(phase) <= 12
        assert not phase.gpu or choice.hours >= min(SHORTEST, session_hours(phase))
    assert [choice.slug for choice in choices] == sorted(phase.slug for phase in work if phase.wanted)
    assert all(choice.reason or choice.verb == "push" for choice in choices)
    assert decide(list(reversed(work)), hours) == choices


@given(worlds())
@settings(max_examples=300, deadline=None)
def test_nothing_idles_that_could_go_on(world):
    work, hours = world
    known = {phase.slug: phase for phase in work}
    choices = {choice.slug: choice for choice in decide(work, hours)}
    free = GPU_SESSIONS - sum(phase.gpu and phase.busy for phase in work)
    planned = [choice for choice in choices.values() if choice.verb == "push" and choice.gpu]
    left = hours - sum(choice.hours for choice in planned)
    for phase in work:
        ready = phase.wanted and not (phase.busy or phase.complete or phase.open_now or phase.fruitless >= 2)
        if not ready or not all(known[need].complete for need in phase.needs):
            continue
        if phase.gpu and (len(planned) >= free or left < min(SHORTEST, session_hours(phase)) + 0.01):
            continue
        assert choices[phase.slug].verb == "push"


def test_each_reason_says_what_is_waited_for():
    work = [
        Work("a", 10, complete=True),
        Work("b", 20, ("a",), busy=True, words="running"),
        Work("c", 30, ("b",)),
        Work("d", 40, fruitless=2),
        Work("e", 50, session_hours=9.0),
        Work("f", 60),
    ]
    reasons = {choice.slug: f"{choice.verb} {choice.reason}" for choice in decide(work, 4.0)}
    assert reasons["a"].startswith("done") and "at Kaggle (running)" in reasons["b"]
    assert reasons["c"] == "waits for b, which it needs"
    assert "held its last 2 runs brought nothing new; read the log ('nbkit pull d')" in reasons["d"]
    assert "shortened from 9.25 h" in reasons["e"] and "one of the 2 running GPU sessions" in reasons["f"]
    (late,) = decide([Work("e", 50)], 0.9)
    assert late.verb == "waits" and "next week's quota: 0.90 h are left, and a session takes" in late.reason


def test_running_sessions_bind_their_whole_length():
    assert gpu_hours(Hours(5.0, 0.0, 30.0), 18.5) == 6.5
    assert gpu_hours(Hours(5.0, 20.0, 30.0), 18.5) == 5.0
    assert gpu_hours(Hours(29.0, 0.0, 30.0), 9.25) == 0.0 == gpu_hours(None, 0.0)


def test_a_push_by_hand_begins_the_count_anew():
    def push(by, step):
        return Push("x", "u/x", "", 1, 0.0, 9.0, True, by, 0, step)

    assert fruitless_runs([push("dispatcher", 3)] * 2, (0, 3)) == 2
    assert fruitless_runs([push("dispatcher", 3)] * 2, (0, 4)) == 0
    assert fruitless_runs([push("dispatcher", 3), push("hand", 3), push("dispatcher", 3)], (0, 3)) == 1


@pytest.mark.usefixtures("world")
def test_fourteen_days_drive_all_phases_to_completion_within_the_quota(server, store, tmp_path):
    """52 GPU hours in two weeks of 30, in sessions of 9 that die, with a connection that fails."""
    world = Simulated(server, store, tmp_path)
    kaggle = connect(first_wait=0.01)
    chance = random.Random(2)
    finished, refused = None, []
    for look in range(14 * 4):
        fault = chance.choice(["", "", "429", "drop", "502"])
        server.faults = {"*": [""] * chance.randrange(8) + [fault]} if fault else {}
        decision = dispatch(kaggle, store, clock=lambda: server.now.timestamp())
        refused += [c for c in decision.choices if c.verb == "failed" or "refused" in c.reason]
        assert sum(run.gpu for run in server.busy()) <= 2
        bound = sum((run.began + run.limit - server.now for run in server.busy() if run.gpu), timedelta())
        assert server.used() + bound <= timedelta(hours=30, seconds=1), "a session was begun that the week cannot hold"
        if all(choice.verb == "done" for choice in decision.choices):
            finished = look / 4
            break
        server.advance(6)
    assert refused == []
    assert finished is not None and finished < 14, [choice.row() for choice in decision.choices]
    assert {slug: steps / STEPS_AN_HOUR for slug, steps in world.steps.items()} == {
        "prepare": 2.0, "long_train": 37.0, "other_train": 15.0
    }  # fmt: skip
    weeks = {}
    for kernel in server.kernels.values():
        for run in (run for run in kernel.runs if run.gpu):
            week = run.began.isocalendar().week
            weeks[week] = weeks.get(week, timedelta()) + (run.ended - run.began)
    assert len(weeks) == 2 and all(hours <= timedelta(hours=30) for hours in weeks.values())
    records = [json.loads(store.path(stat.name).read_text()) for stat in store.list("dispatcher/decisions/")]
    assert len(records) == look + 1 and all(choice["reason"] for record in records for choice in record["choices"])
    print(f"complete after {finished} days, {world.sessions} sessions, GPU hours a week {list(weeks.values())}")


@pytest.mark.usefixtures("world")
def test_a_run_that_waits_or_goes_on_is_not_pushed_twice(server, store):
    kaggle = connect(first_wait=0.01)
    push_phase(kaggle, "prepare", store)
    server.kernels["mary/nbkit-prepare"].runs[-1].state = "QUEUED"
    decision = dispatch(kaggle, store)
    assert [choice.verb for choice in decision.choices] == ["runs", "waits", "waits"]
    assert server.counts["SaveKernel"] == 1


@pytest.mark.usefixtures("world")
def test_runs_that_bring_nothing_are_not_repeated_for_ever(server, store):
    kaggle = connect(first_wait=0.01)

    def fails(ref, request, run):
        run.takes, run.finish = timedelta(hours=0.1), lambda: "ERROR"

    server.on_run = fails
    for _ in range(5):
        decision = dispatch(kaggle, store)
        server.advance(1)
    assert server.counts["SaveKernel"] == 2 and decision.choices[0].verb == "held"
    push_phase(kaggle, "prepare", store)
    server.advance(1)
    assert dispatch(kaggle, store).choices[0].verb == "pushed"


@pytest.mark.usefixtures("world")
def test_other_notebooks_on_the_gpu_make_it_wait_in_kaggles_words(server, store, tmp_path):
    kaggle = connect(first_wait=0.01)
    Simulated(server, store, tmp_path).end("prepare", 2.0, 2.0, False)
    server.on_run = None
    for slug in ("long_train", "other_train"):
        push_phase(kaggle, slug, store)
    for name in ("long-train", "other-train"):  # as if other notebooks of the user ran there
        server.kernels[f"mary/mine-{name}"] = server.kernels.pop(f"mary/nbkit-{name}")
    decision = dispatch(kaggle, store)
    assert [choice.verb for choice in decision.choices] == ["done", "waits", "waits"] and not decision.failed
    assert "Maximum batch GPU session count of 2 reached." in decision.choices[1].reason
    assert "Kaggle has just rejected another push" in decision.choices[2].reason


@pytest.mark.usefixtures("world")
def test_a_dry_run_pushes_and_writes_nothing(server, store, tmp_path):
    decision = dispatch(connect(first_wait=0.01), store, dry_run=True)
    assert [choice.verb for choice in decision.choices] == ["push", "waits", "waits"]
    assert not server.kernels and not server.datasets and list(store.list()) == []
    assert "nothing was pushed or written" in decision.words()
    write_json(tmp_path / "decision.json", decision.row())
    assert [choice.verb for choice in preview(store).choices] == ["push", "waits", "waits"]


@pytest.mark.usefixtures("world")
def test_a_training_that_somebody_has_open_is_not_pushed_beside_it(server, store):
    opened = {"e": "open", "host": "colab", "machine": "m7", "t": time.time() - 30, "limit": 3600.0}
    write(store, "prepare", opened)
    kaggle = connect(first_wait=0.01)
    assert dispatch(kaggle, store, dry_run=True).choices[0].verb == "push"  # items are shared
    write(store, "prepare", {"e": "close", "t": time.time(), "complete": True, "done": 0, "left": 0}, part=2)
    write(store, "long_train", opened)
    _, held, other = dispatch(kaggle, store, dry_run=True).choices
    assert (held.verb, other.verb) == ("waits", "push")
    assert held.reason.startswith("for the end of a session that trains it already (s1 on colab (m7), open since")


def write(store: FolderStore, slug: str, record: dict, part: int = 1) -> None:
    """Write a segment of one record as session s1 does."""
    segment, data = segment_of(slug, "s1", part, [encode_line(record)])
    path = Path(store.path(segment.name))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


@pytest.mark.usefixtures("world")
def test_single_phases_can_be_asked_for(server, store):
    kaggle = connect(first_wait=0.01)
    assert [c.slug for c in dispatch(kaggle, store, ["long_train"]).choices] == ["long_train"]
    with pytest.raises(UsageError, match="no phase 'long_trian'"):
        dispatch(kaggle, store, ["long_trian"])
    assert server.counts["SaveKernel"] == 0


@pytest.mark.usefixtures("world")
def test_a_push_by_another_dispatcher_in_the_meantime_is_seen(server, store, monkeypatch):
    kaggle = connect(first_wait=0.01)

    def late(work, hours):
        choices = decide(work, hours)
        push_phase(kaggle, "prepare", store)
        return choices

    monkeypatch.setattr("nbkit.tools.dispatching.dispatch.decide", late)
    assert dispatch(kaggle, store).choices[0].verb == "runs"
    assert server.counts["SaveKernel"] == 1


def test_the_ci_workflow_hands_secrets_over_by_the_environment_alone(root):
    yaml = pytest.importorskip("yaml")
    text = (root / ".github/workflows/dispatch.yml").read_text("utf-8")
    flow = yaml.safe_load(text)
    assert flow[True]["schedule"] and flow["permissions"] == {"contents": "read"}  # YAML takes the word on for True
    steps = flow["jobs"]["dispatch"]["steps"]
    (last,) = [step for step in steps if "env" in step]
    assert [name for name, value in last["env"].items() if "secrets." in value] == [
        "KAGGLE_USERNAME", "KAGGLE_KEY", "NBKIT_DRIVE_CREDENTIAL"
    ]  # fmt: skip
    assert text.count("secrets.") == 3 and all("${{" not in step.get("run", "") for step in steps)
    assert last["run"].startswith("python -m nbkit dispatch")
