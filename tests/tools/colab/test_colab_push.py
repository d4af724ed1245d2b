"""A phase on Colab: real sessions of a real notebook, on runtimes that are lost, behind connections that break."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path

import pytest

from nbkit.runtime.errors import UsageError
from nbkit.runtime.store.opening import open_store
from nbkit.runtime.store.retried import Retried
from nbkit.tools.colab import push as colab_push
from nbkit.tools.colab.budget import Budget
from nbkit.tools.colab.client import ColabError, connect
from nbkit.tools.colab.machine import Told, ended
from nbkit.tools.colab.push import Order, Supervisor
from nbkit.tools.kaggle.runs import read_pushes
from tests.runtime.store.hub.hub_state import TOKEN
from tests.tools.colab import standin


@pytest.fixture(autouse=True)
def hurry(monkeypatch):
    monkeypatch.setattr(colab_push, "_AGAIN", 0.05)
    monkeypatch.setattr(colab_push, "PAUSE", 0.1)


def supervisor(hub, said: list[str], budget: Budget | None = None, **parameters) -> Supervisor:
    store = Retried(open_store(hub.url))
    return Supervisor(connect(), store, Order("toy", parameters), budget or Budget(4.0), said.append, patience=1.0)


def commands() -> set[str]:
    """Return the command lines and environments of all processes that may be looked at."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found.add(path.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
        except OSError:
            continue
    return found


@pytest.mark.kill
def test_lost_runtimes_and_broken_connections_lose_nothing(hub, toy, folder, tmp_path):
    """A runtime is lost in its work, the next connection breaks and is joined, and no byte shows the token.

    Two items wait for files, so that neither runtime can end before its fault, however fast the machine is.
    """
    cells = json.loads((toy / "notebooks/10_toy.ipynb").read_text())
    (work,) = [cell for cell in cells["cells"] if "time.sleep(SECONDS)" in "".join(cell["source"])]
    wait = f"while item.key in ('k004', 'k008') and not os.path.exists(f'{folder}/{{item.key}}'): time.sleep(0.05)"
    source = "".join(work["source"]).replace("        time.sleep(SECONDS)\n", f"        {wait}\n")
    work["source"] = "import os\n" + source
    (toy / "notebooks/10_toy.ipynb").write_text(json.dumps(cells))
    standin.told(
        folder,
        lose="lost",
        **{"break": "broken"},
        faults={"new": ["full"], "sessions": ["broken"], "upload": ["broken"]},
    )
    said: list[str] = []
    listed: set[str] = set()
    stop = threading.Event()

    def watch() -> None:
        while not stop.wait(0.1):
            listed.update(commands())
            with standin.state(folder) as known:
                begun, joined = known["begun"], sum(call[0] == "exec" for call in known["calls"]) >= 3
            stored = sum("/items/" in name for name in [*hub.hub.tree()])
            if stored:
                (folder / "lost").touch()  # the first runtime, which waits in k004
            if begun == 2:
                (folder / "k004").touch()
            if stored > 4:
                (folder / "broken").touch()  # the connection to the second one, which waits in k008
            if joined:
                (folder / "k008").touch()  # not before: a run that is complete is not joined again

    watching = threading.Thread(target=watch, daemon=True)
    watching.start()
    try:
        outcome = supervisor(hub, said).run()
    finally:
        stop.set()
        watching.join()
    words = "\n".join(said)
    assert outcome.state == "complete", words
    assert outcome.runtimes == 2 and outcome.lost == 1 and outcome.exit_code == 0
    assert "Trying again" in words and "broke" in words and "goes on from the store" in words
    assert sum("/items/" in name for name in hub.hub.tree()) == 12
    assert any(name.startswith("toy/sessions/") and name.endswith(".ipynb") for name in hub.hub.tree())
    store = Retried(open_store(hub.url))
    pushes = read_pushes(store, "toy")
    assert [p.host for p in pushes] == ["colab"] * 2 and sum(p.hours for p in pushes) == pytest.approx(outcome.hours)
    with standin.state(folder) as known:
        assert known["runtimes"] == {}, "no runtime is left behind"
        assert TOKEN not in json.dumps(known["calls"])
    kept = b"".join(hub.hub.content.values())
    assert TOKEN.encode() not in kept and TOKEN not in words and not any(TOKEN in line for line in listed)
    assert "plantedProxyToken" not in words and b"plantedProxyToken" not in kept
    assert any("exec -s nbkit-toy" in line for line in listed), "the process list was looked at"
    machines = [p for p in folder.glob("machine-*") if (p / "nbkit-hub-credential.json").exists()]
    assert machines and all((p / "nbkit-hub-credential.json").stat().st_mode & 0o077 == 0 for p in machines)


@pytest.mark.kill
def test_runs_that_bring_nothing_are_not_repeated_for_ever(hub, toy, folder):
    cells = json.loads((toy / "notebooks/10_toy.ipynb").read_text())
    cells["cells"][1]["source"] = "raise RuntimeError('the login to Drive no longer works')"
    (toy / "notebooks/10_toy.ipynb").write_text(json.dumps(cells))
    outcome = supervisor(hub, []).run()
    assert outcome.state == "held" and outcome.exit_code == 1 and outcome.runtimes == 2
    assert "brought nothing new" in outcome.words and "no longer works" in outcome.words


def test_budget_ends_it_before_a_runtime_is_begun(hub, toy, folder):
    budget = Budget(4.0, units=10.0, used_units=10.0)
    outcome = supervisor(hub, [], budget).run()
    assert outcome.state == "budget" and outcome.exit_code == 3 and outcome.runtimes == 0
    with standin.state(folder) as known:
        assert known["begun"] == 0


def test_units_that_are_too_few_for_the_rate_stop_the_runtime_at_once(hub, toy, folder):
    standin.told(folder, rate=100.0)
    outcome = supervisor(hub, [], Budget(4.0, units=5.0)).run()
    assert outcome.state == "budget" and outcome.runtimes == 0
    with standin.state(folder) as known:
        assert known["begun"] == 1 and known["runtimes"] == {}
    assert not any("/pushes/" in name for name in hub.hub.tree())


def test_no_runtime_to_be_had_ends_with_work_left(hub, toy, folder):
    standin.told(folder, at_once=0)
    outcome = supervisor(hub, []).run()
    assert outcome.state == "waits" and outcome.exit_code == 3 and "colab stop" in outcome.words


def test_wrong_orders_begin_nothing(hub, toy, folder, tmp_path):
    colab, store = connect(), Retried(open_store(hub.url))
    for order, words in (
        (Order("toy", {}, gpu="T5"), "no GPU 'T5'"),
        (Order("toy", {}, limit="12h"), "too long for Colab"),
        (Order("toy", {"NN": 3}), "NN"),
        (Order("toi", {}), "no phase 'toi'"),
        (Order("toy", {"STORE": "x"}), "--store"),
    ):
        with pytest.raises(UsageError, match=words):
            Supervisor(colab, store, order, Budget(4.0), print)
    with pytest.raises(UsageError, match="folder of this machine, and a run on Colab cannot reach it"):
        Supervisor(colab, Retried(open_store(tmp_path)), Order("toy", {}), Budget(4.0), print)
    for hours, units in ((0.1, None), (float("nan"), None), (4.0, 0.0)):
        with pytest.raises(UsageError, match="The budget is"):
            Budget(hours, units)
    with standin.state(folder) as known:
        assert [call for call in known["calls"] if call[0] != "version"] == []


def test_budget_grants_no_more_than_is_left():
    budget = Budget(10.0, units=20.0)
    assert budget.granted(9.0) == 9.25 and budget.granted(9.0, rate=4.0) == 5.0
    assert budget.granted(11.9) == 10.0
    assert budget.spend(2.0, 4.0, 1.0) == 8.0 and budget.spend(1.0, 4.0, 9.0) == 9.0
    assert (budget.used_hours, budget.used_units) == (3.0, 17.0)
    assert budget.granted(9.0, rate=4.0) == 0.75 and budget.granted(9.0, rate=5.0) == 0.0
    assert budget.words() == "3.00 of 10 h and 17.0 of 20 compute units used"


def test_code_for_the_machine_holds_no_secret_and_its_end_is_read():
    code = Told("nbkit-x", "10_x.ipynb", "hf://datasets/me/x", ("hbn",), ("nbkit-hub-credential.json",)).code()
    compile(code, "machine", "exec")
    assert "hf://datasets/me/x" in code
    assert ended("a line\n") == (False, None)
    assert ended('a\nnbkit-run-ended {"exit": 3}\n') == (True, 3)
    assert ended("nbkit-run-ended what\n") == (True, None) == ended('x\nnbkit-run-ended {"exit": null}')


def test_silent_cell_does_not_end_the_run(hub, toy, folder):
    colab = connect()
    colab.new("nbkit-toy", None)
    began = time.monotonic()
    told = colab.execute("nbkit-toy", "import time; time.sleep(3); print('late')", print, lambda: True)
    assert told == "late" and time.monotonic() - began > 3


class Breaking:
    """A client whose connection breaks some times before the run's end is heard."""

    def __init__(self, breaks: int) -> None:
        self.breaks, self.executed = breaks, 0

    def execute(self, name, code, note, going_on):
        self.executed += 1
        if self.executed <= self.breaks:
            raise ColabError("the connection broke", "failed")
        return 'nbkit-run-ended {"exit": 0}'

    def runtimes(self):
        return ["nbkit-toy"]


@pytest.mark.parametrize(("breaks", "executed"), [(0, 1), (1, 2), (3, 4)])
def test_a_complete_run_is_joined_until_its_notebook_is_stored(breaks, executed):
    watching, said = bare_supervisor(Breaking(breaks)), []
    assert watching._watch("code", 10_000.0, said) is True
    assert watching.colab.executed == executed


def test_a_run_whose_end_is_never_heard_is_not_waited_for_for_ever():
    watching = bare_supervisor(Breaking(10_000))
    assert watching._watch("code", 10_000.0, []) is True
    assert 300.0 <= watching.clock() < 1000.0


def bare_supervisor(colab):
    """Return a supervisor of a phase that is complete in the store, with a clock that only its sleep moves."""
    now = [0.0]
    made = object.__new__(Supervisor)
    made.__dict__ |= {
        "colab": colab, "name": "nbkit-toy", "say": lambda text: None, "clock": lambda: now[0],
        "sleep": lambda seconds: now.__setitem__(0, now[0] + seconds), "_progress": lambda: (12, 0, True),
    }  # fmt: skip
    return made
