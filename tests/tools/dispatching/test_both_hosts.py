"""The dispatcher over Kaggle and Colab: its plan under every state, and a fortnight in which both hosts fail."""

from __future__ import annotations

import ast
import contextlib
import io
import json
import random
import tempfile
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nbkit.runtime.errors import NbkitError, StoreError, UsageError
from nbkit.tools.colab import push as colab_push
from nbkit.tools.colab.budget import SHORTEST as COLAB_SHORTEST
from nbkit.tools.colab.budget import Budget
from nbkit.tools.colab.client import Colab
from nbkit.tools.colab.push import Order, Supervisor
from nbkit.tools.dispatching.colab_plan import ColabPlan
from nbkit.tools.dispatching.decision import Work, decide
from nbkit.tools.dispatching.dispatch import dispatch
from nbkit.tools.dispatching.elsewhere import Room, spread
from nbkit.tools.kaggle.client import connect
from nbkit.tools.kaggle.push import PushRefused, push_phase
from tests.tools.colab import standin
from tests.tools.dispatching import toys
from tests.tools.dispatching.test_dispatch import worlds

TWO_SYSTEMS = {
    "prepare": (10, "cpu", (), 0.0), "long_train": (20, "gpu", ("prepare",), 37.0),
    "other_train": (30, "gpu", ("prepare",), 15.0), "second_prepare": (40, "cpu", (), 0.0),
    "second_train": (50, "gpu", ("second_prepare",), 34.0), "second_score": (60, "gpu", ("second_train",), 5.0),
}  # fmt: skip

# -- the plan ----------------------------------------------------------------------------------------------------------

rooms = st.builds(
    Room,
    hours=st.floats(0, 30),
    units=st.none() | st.floats(0, 60),
    runtimes=st.integers(0, 3),
    rate=st.sampled_from([0.0, 1.76, 5.3]),
)


@given(worlds(), rooms, st.booleans())
@settings(max_examples=120, deadline=None)
def test_no_plan_asks_more_of_colab_than_it_has(world, room, kaggle):
    work, hours = world
    known = {phase.slug: phase for phase in work}
    alone = decide(work, hours if kaggle else 0.0)
    plan = spread(work, alone, room, kaggle)
    there = [choice for choice in plan if choice.verb == "push" and choice.host == "colab"]
    assert len(there) <= room.runtimes and sum(choice.hours for choice in there) <= room.hours + 1e-9
    if room.units is not None and room.rate:
        assert sum(choice.hours for choice in there) * room.rate <= room.units + 1e-6
    for choice in there:
        phase = known[choice.slug]
        assert not phase.busy and not phase.complete and phase.wanted and phase.fruitless < 2
        assert all(known[need].complete for need in phase.needs) and COLAB_SHORTEST <= choice.hours <= 12
    if kaggle:  # what Kaggle can begin stays there
        at_kaggle = {choice.slug for choice in plan if choice.verb == "push" and choice.host == "kaggle"}
        assert at_kaggle == {choice.slug for choice in alone if choice.verb == "push"}
    assert all(choice.reason or choice.verb == "push" for choice in plan)


def test_long_phase_of_items_is_divided_between_the_hosts():
    work = [Work("a", 10, gpu=False, words="work left", divisible=True, sessions_left=5), Work("b", 20, ("a",))]
    plan = spread(work, decide(work, 30.0), Room(20.0))
    assert [(c.slug, c.verb, c.host, c.shard) for c in plan] == [
        ("a", "push", "kaggle", "1/2"), ("a", "push", "colab", "2/2"), ("b", "waits", "kaggle", ""),
    ]  # fmt: skip
    assert "the other half on Colab" in plan[0].reason and "the other half is on Kaggle" in plan[1].reason
    whole = spread(work, decide(work, 30.0), Room(0.1))
    assert [(c.host, c.shard) for c in whole] == [("kaggle", ""), ("kaggle", "")]


def test_reasons_name_both_hosts():
    work = [Work("a", 10), Work("b", 20), Work("c", 30)]
    plan = spread(work, decide(work, 0.0), Room(9.5, runtimes=2))
    assert [(c.verb, c.host) for c in plan] == [("push", "colab"), ("waits", "kaggle"), ("waits", "kaggle")]
    assert "next week's quota" in plan[0].reason and "Colab has 9.50 h left" in plan[0].reason
    assert "Colab: for next week's budget: 0.2 h" in plan[1].reason
    (busy,) = spread(work[:1], decide(work[:1], 0.0), Room(9.5, runtimes=0, words="Colab's client is not here"))
    assert busy.verb == "waits" and "Colab's client is not here" in busy.reason


@pytest.mark.parametrize("wrong", [{"hours": 0.0}, {"hours": 5.0, "units": 0.0}, {"hours": 5.0, "runtimes": 0}])
def test_budget_of_nothing_is_refused(wrong):
    with pytest.raises(UsageError, match="The week's budget for Colab"):
        ColabPlan(**wrong)


# -- a fortnight -------------------------------------------------------------------------------------------------------


class SimulatedColab(Colab):
    """Colab's client in simulated hours: its words are the stand-in's, its runs advance the toy phases."""

    def __init__(self, folder: Path, world: toys.Simulated, chance: random.Random) -> None:
        super().__init__("colab")
        self.folder, self.world, self.random = folder, world, chance
        self.begun, self.lost, self.spent, self.fault = {}, 0, [], ""

    def _call(self, *arguments: str) -> str:
        out, err = io.StringIO(), io.StringIO()
        if self.random.random() < 0.05:  # 429 and 5xx of Colab's own server
            standin.told(self.folder, faults={arguments[0]: ["broken"]})
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = standin.main(self.folder, list(arguments))
        if code:
            raise self._refused(arguments[0], out.getvalue() + err.getvalue())
        now = self.world.server.now
        if arguments[0] == "new":
            self.begun[arguments[2]] = now
        if arguments[0] == "stop" and arguments[2] in self.begun:
            self.spent.append((self.begun.pop(arguments[2]), now))
        return out.getvalue()

    def execute(self, name, code, say, going_on) -> str:
        told = json.loads(ast.literal_eval(code.partition("json.loads(")[2].partition(")\n")[0]))
        with standin.state(self.folder) as known:
            machine = Path(known["runtimes"][name]["machine"])
        cells = json.loads((machine / told["notebook"]).read_text())["cells"]
        parameters = {s.targets[0].id: ast.literal_eval(s.value) for s in ast.parse(cells[0]["source"]).body}
        limit = float(parameters["LIMIT"].rstrip("s")) / 3600
        slug = name.removeprefix("nbkit-").replace("-", "_")
        total = toys.TOYS[slug][3] or 2.0
        hours = min(total - self.world.steps.get(slug, 0) / toys.STEPS_AN_HOUR, limit)
        if self.fault:  # a full Drive, or a login that has expired: the run says so and ends
            self.world.server.advance(0.1)
            say(self.fault)
            say('nbkit-run-ended {"exit": 1}')
            return 'nbkit-run-ended {"exit": 1}'
        lives = self.random.expovariate(1 / 4.0)  # hours until the runtime is lost
        self.world.server.advance(min(hours, lives))
        self.world.end(slug, min(hours, lives), total, lives < hours)
        if lives < hours:
            self.lost += 1
            with standin.state(self.folder) as known:
                known["runtimes"].pop(name)
            self.spent.append((self.begun.pop(name), self.world.server.now))
            raise self._refused("exec", standin.BROKEN)
        say('nbkit-run-ended {"exit": 0}')
        return 'nbkit-run-ended {"exit": 0}'


@pytest.fixture
def colab_folder(tmp_path, monkeypatch):
    folder = tmp_path / "colab"
    folder.mkdir()
    monkeypatch.setenv("NBKIT_STATE", str(tmp_path / "state"))
    for name in ("_AGAIN", "_STOPPING"):
        monkeypatch.setattr(colab_push, name, 0.0)
    return folder


@pytest.fixture
def two_systems(monkeypatch):
    monkeypatch.setitem(toys.__dict__, "TOYS", TWO_SYSTEMS)
    monkeypatch.setattr("tests.tools.dispatching.conftest.TOYS", TWO_SYSTEMS)


@pytest.mark.kill
@pytest.mark.usefixtures("two_systems", "world")
def test_fortnight_over_both_hosts_completes_two_systems_within_the_budgets(server, store, tmp_path, colab_folder):
    """91 GPU hours in two weeks of 30 on Kaggle and 24 on Colab, while both hosts, the Drive and its login fail."""
    chance = random.Random(7)
    world = toys.Simulated(server, store, tmp_path, seed=3)
    colab, kaggle = SimulatedColab(colab_folder, world, chance), connect(first_wait=0.01)
    jobs, failures, mended = [], [], 0
    plan = ColabPlan(24.0, colab=colab, launcher=lambda choice, store: jobs.append(choice) or "started")
    put, begin = store.put, server.on_run
    now = lambda: server.now.timestamp()  # noqa: E731
    faults = {range(3, 5): "The Drive is full: put was refused", range(29, 32): "The login to Drive no longer works"}
    finished, furthest, held = None, {}, []

    def reserved() -> timedelta:
        return sum((run.began + run.limit - server.now for run in server.busy() if run.gpu), timedelta())

    for look in range(14 * 4):
        colab.fault = next((words for looks, words in faults.items() if look in looks), "")

        def refused(path: Path, name: str, words=colab.fault):
            if words and name.startswith("dispatcher/"):
                raise StoreError(words)
            return put(path, name)

        def no_progress(ref, request, run, words=colab.fault):
            if not words:
                return begin(ref, request, run)
            run.takes, run.finish = timedelta(hours=0.1), lambda: "ERROR"

        store.put, server.on_run = refused, no_progress
        for slug in [choice.slug for choice in held if not colab.fault]:  # a person has mended it, and pushes by hand
            if server.used() + reserved() <= timedelta(hours=28):
                with contextlib.suppress(PushRefused):  # two sessions run there: tomorrow
                    push_phase(kaggle, slug, store, limit="1h", clock=now)
                    mended += 1
        fault = chance.choice(["", "", "429", "drop", "502"])
        server.faults = {"*": [""] * chance.randrange(8) + [fault]} if fault else {}
        decision = None
        try:
            decision = dispatch(kaggle, store, clock=now, elsewhere=plan)
        except NbkitError as error:  # as cron would: the next call tries again
            failures.append(str(error))
        held = [choice for choice in decision.choices if choice.verb == "held"] if decision else held
        assert server.used() + reserved() <= timedelta(hours=30, seconds=1)
        until = server.now + timedelta(hours=6)
        for choice in jobs:
            order = Order(choice.slug, {}, limit=None, by="dispatcher", shard=choice.shard)
            sleep = lambda seconds: server.advance(seconds / 3600)  # noqa: E731
            Supervisor(colab, store, order, Budget(choice.hours), lambda _: None, now, sleep).run()
        jobs.clear()
        for slug, steps in world.steps.items():
            assert steps >= furthest.get(slug, 0), "work was lost"
            furthest[slug] = steps
        if decision is not None and all(choice.verb == "done" for choice in decision.choices):
            finished = look / 4
            break
        if server.now < until:
            server.advance((until - server.now).total_seconds() / 3600)
    assert finished is not None and finished < 14, [(c.slug, c.verb, c.reason[:90]) for c in held] or world.steps
    assert {slug: steps / 100 for slug, steps in world.steps.items()} == {
        slug: row[3] or 2.0 for slug, row in TWO_SYSTEMS.items()
    }
    assert colab.lost >= 3 and mended >= 2 and len(failures) >= 2
    assert any("full" in words for words in failures) and any("no longer works" in words for words in failures)
    on_colab = sorted((began, (ended - began).total_seconds() / 3600) for began, ended in colab.spent)
    for began, _ in on_colab:
        week = sum(hours for other, hours in on_colab if timedelta() <= other - began < timedelta(days=7))
        assert week <= 24.0, f"{week:.2f} h on Colab in seven days"
    records = [json.loads(store.path(stat.name).read_text()) for stat in store.list("dispatcher/decisions/")]
    assert all(choice["reason"] for record in records for choice in record["choices"])
    assert all(record["colab"]["hours"] <= 24.0 for record in records)
    where = {choice["host"] for record in records for choice in record["choices"] if choice["verb"] == "pushed"}
    assert where == {"kaggle", "colab"}
    total = sum(hours for _, hours in on_colab)
    print(f"complete after {finished} days: {world.sessions} sessions, {len(on_colab)} runtimes on Colab, {colab.lost} "
          f"lost, {total:.1f} h there; {len(failures)} calls of the dispatcher failed and were made again")  # fmt: skip


@pytest.mark.usefixtures("world")
def test_colab_that_does_not_answer_leaves_kaggle_as_it_is(server, store, tmp_path, monkeypatch, colab_folder):
    monkeypatch.setenv("PATH", str(tmp_path))
    decision = dispatch(connect(first_wait=0.01), store, dry_run=True, elsewhere=ColabPlan(20.0))
    assert [choice.verb for choice in decision.choices] == ["push", "waits", "waits"]
    assert "no program 'colab'" in decision.words() and decision.row()["colab"]["runtimes"] == 0


@pytest.mark.usefixtures("world")
def test_colab_alone_takes_what_can_go_on(store, tmp_path, colab_folder):
    world = toys.Simulated.__new__(toys.Simulated)
    started = []
    colab = SimulatedColab(colab_folder, world, random.Random(0))
    colab._call = lambda *arguments: ""
    plan = ColabPlan(20.0, colab=colab, launcher=lambda choice, _: started.append(choice.slug) or "started")
    decision = dispatch(None, store, elsewhere=plan)
    assert started == ["prepare"] and decision.choices[0].host == "colab"
    with tempfile.TemporaryDirectory():
        assert "started" in decision.choices[0].reason
