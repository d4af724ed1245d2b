"""Rehearsals: real kills of real kernels, and what is counted."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from nbkit.runtime.errors import UsageError
from nbkit.runtime.ledger.receipts import Receipt
from nbkit.runtime.store.folder import FolderStore
from nbkit.runtime.training.newest import newest_step
from nbkit.runtime.words import parse_duration
from nbkit.tools.phases import Phase
from nbkit.tools.rehearsal.accounts import RehearsedSession, account, report, work_seconds
from nbkit.tools.rehearsal.lengthening import rounded_up, spelled
from nbkit.tools.rehearsal.live_line import LiveLine, doing
from nbkit.tools.rehearsal.process_tree import ProcessTree
from nbkit.tools.rehearsal.rehearse import Rehearsal, Script, rehearse, to_look_at
from nbkit.tools.rehearsal.running import run_notebook
from tests.conftest import CLOSE, OPEN, PARAMETERS, WORK

pytestmark = pytest.mark.rehearse

# -- killing ---------------------------------------------------------------------------------------------------------

_PARENT = """
import subprocess, sys, time
code = "import subprocess, sys, time; p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(300)']); "
code += "print(p.pid, flush=True); time.sleep(300)"
child = subprocess.Popen([sys.executable, "-c", code], start_new_session=True)
print(child.pid, flush=True)
time.sleep(300)
"""


def alive(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def test_kill_reaches_children_in_sessions_of_their_own_and_nobody_else():
    bystander = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"])
    process = subprocess.Popen([sys.executable, "-c", _PARENT], stdout=subprocess.PIPE, text=True)
    try:
        pids = [int(process.stdout.readline()), int(process.stdout.readline())]
        assert all(map(alive, pids))
        assert ProcessTree(process.pid).kill() == 3
        assert not any(map(alive, pids))
        assert process.wait(10) == -9 and bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()
        process.stdout.close()


def test_kill_finds_orphans_that_were_seen_before_their_parent_died():
    process = subprocess.Popen([sys.executable, "-c", _PARENT], stdout=subprocess.PIPE, text=True)
    pids = [int(process.stdout.readline()), int(process.stdout.readline())]
    tree = ProcessTree(process.pid)
    tree.look()
    process.kill()
    process.wait()
    process.stdout.close()
    assert all(map(alive, pids))
    tree.kill()
    assert not any(map(alive, pids))


def test_kill_during_items_and_wipe_loses_nothing(make_notebook, tmp_path):
    """The whole way: sessions killed and wiped until complete; outputs equal an uninterrupted run's bytes."""
    leave = """import os, subprocess, sys
from pathlib import Path
assert not Path("left-behind").exists()
Path("left-behind").write_text("x")
sleeper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"], start_new_session=True)
Path(NOTES, f"{sleeper.pid}").write_text(os.getcwd())"""
    notes = tmp_path / "notes"
    notes.mkdir()
    notebook = make_notebook("NOTES = ''\n" + PARAMETERS, OPEN, leave, WORK, CLOSE)
    said: list[str] = []
    code, (document,) = rehearse(
        [notebook],
        script=Script(session=3.0, kill="mixed", seed=3),
        store=str(tmp_path / "store"),
        parameters={"N": 30, "SECONDS": 0.15, "NOTES": str(notes)},
        max_sessions=12,
        say=said.append,
    )
    assert code == 0, "\n".join(said)
    sums = document["sums"]
    assert document["complete"] and sums["kills"] >= 1 and sums["items"] == 30
    assert document == json.loads((tmp_path / "store/toy/rehearsal.json").read_text())
    assert 0 < sums["goodput"] <= 1
    left = {int(path.name): path.read_text() for path in notes.iterdir()}
    assert len(left) == sums["sessions"]
    assert not any(map(alive, left)) and not any(Path(folder).exists() for folder in left.values())

    assert run_notebook(notebook, {"N": 30, "NOTES": str(notes)}, tmp_path / "whole", folder=tmp_path, quiet=True) == 0
    for pid in (int(path.name) for path in notes.iterdir() if int(path.name) not in left):
        psutil.Process(pid).kill()
    whole = {path.name: path.read_bytes() for path in (tmp_path / "whole/toy/items").iterdir()}
    assert whole == {path.name: path.read_bytes() for path in (tmp_path / "store/toy/items").iterdir()}


def test_kill_finds_by_their_mark_orphans_that_nobody_saw(tmp_path):
    mark = ("NBKIT_TEST_MARK", str(tmp_path))
    environment = os.environ | dict([mark])
    process = subprocess.Popen([sys.executable, "-c", _PARENT], stdout=subprocess.PIPE, text=True, env=environment)
    tree = ProcessTree(process.pid, mark)
    pids = [int(process.stdout.readline()), int(process.stdout.readline())]
    process.kill()
    process.wait()
    process.stdout.close()
    assert tree.kill() == 2
    assert not any(map(alive, pids))


def test_sigterm_to_the_rehearsal_ends_its_session_too(toy, tmp_path, root):
    command = [sys.executable, "-m", "nbkit", "rehearse", str(toy), "--store", str(tmp_path / "store")]
    command += ["--session", "60s", "--kill", "none", "-p", "N=1000", "-p", "SECONDS=0.2"]
    environment = os.environ | {"TMPDIR": str(tmp_path), "PYTHONPATH": str(root)}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    items = tmp_path / "store/toy/items"
    while process.poll() is None and not items.is_dir():
        time.sleep(0.05)
    started = psutil.Process(process.pid).children(recursive=True)
    assert len(started) >= 2
    process.terminate()
    _, said = process.communicate(timeout=60)
    assert process.returncode == 3 and b"run the same command again to continue" in said
    assert not any(alive(one.pid) for one in started)
    assert not list(tmp_path.glob("nbkit-rehearsal-*"))


# -- the plan of kills -----------------------------------------------------------------------------------------------


def test_random_moments_lie_within_the_session_and_depend_on_the_seed_alone():
    moments = [Script(10.0, "random", seed=1).plan("a.ipynb", n)[1] for n in range(1, 200)]
    assert all(3.0 <= m <= 10.0 for m in moments) and min(moments) < 3.5 and max(moments) > 9.5
    assert moments == [Script(10.0, "random", seed=1).plan("a.ipynb", n)[1] for n in range(1, 200)]
    assert moments != [Script(10.0, "random", seed=2).plan("a.ipynb", n)[1] for n in range(1, 200)]


def test_moments_move_to_the_wall_while_nothing_is_saved():
    assert Script(10.0, "random").plan("a.ipynb", 1, fruitless=2) == (10.0, 10.0)


def test_ways_to_kill():
    assert Script(10.0, "none").plan("a", 1) == (10.0, None)
    assert Script(10.0, "wall").plan("a", 1) == (20.0, 10.0)
    for kill in ("mixed", "work"):
        assert [Script(10.0, kill).plan("a", n)[1] is None for n in (1, 2, 3, 4)] == [False, True, False, True]


def test_an_unknown_way_to_kill_is_refused(toy):
    with pytest.raises(UsageError, match="Did you mean 'random'"):
        rehearse([toy], script=Script(kill="randm"))


def test_a_parameter_that_no_notebook_names_is_refused(toy, tmp_path):
    with pytest.raises(UsageError, match="Did you mean 'SECONDS'"):
        rehearse([toy], script=Script(), store=str(tmp_path / "st"), parameters={"SECOND": 1.0})


# -- when it stops ---------------------------------------------------------------------------------------------------


def put_receipt(store, folder, step):
    """Put the receipt of a checkpoint into the store, as a session does that was killed after it."""
    receipt = Receipt("toy", step, 0, step, size=1, sha256="0" * 64)
    store.put(receipt.write(folder), f"toy/checkpoints/{receipt.name}")


class Puppet:
    """Play sessions from a list instead of running them."""

    def __init__(self, store: FolderStore, tmp_path: Path, *endings: dict) -> None:
        self.store, self.tmp_path, self.endings = store, tmp_path, list(endings)
        self.played: list[float | None] = []

    def play(self, notebook, number, limit, kill_after):
        ending = self.endings.pop(0)
        self.played.append(kill_after)
        now = time.time()
        opened = {"t": now, "e": "open", "slug": "toy", "session": f"s{number}", "done": 0, "step": 0}
        if "receipt" in ending:
            put_receipt(self.store, self.tmp_path, ending["receipt"])
        events = [opened, *ending.get("events", [])] if ending.get("opens", True) else []
        return RehearsedSession(
            number, now - 2.0, now + 3.0, limit, ending["ending"], ending.get("exit", -9), 1, events
        )

    def last_output(self, number):
        return "  | the end of the log"


def played(tmp_path, *endings, script=None, **options):
    store = FolderStore(tmp_path / "store")
    puppet = Puppet(store, tmp_path, *endings)
    script = script or Script(5.0, "random")
    rehearsal = Rehearsal(puppet, store, script, tmp_path / "cache", say=lambda text: None, **options)
    return rehearsal.run(Path("x.ipynb")), puppet


KILLED = {"ending": "killed"}


def begun(after=0.5):
    """Return a killed session whose work began but brought nothing to the store."""
    return {"ending": "killed", "events": [{"t": time.time() + after, "e": "ready", "step": 0}]}


def test_sessions_without_progress_are_lengthened_first_and_then_end_it(tmp_path):
    document, puppet = played(tmp_path, *[begun() for _ in range(9)])
    assert not document["complete"]
    assert [(change["after"], change["to_s"]) for change in document["lengthened"]] == [(3, 10.0), (6, 20.0)]
    assert "3 successive sessions of 20 s brought nothing new" in document["reason"]
    assert "no work was done: use --session 40s, or smaller work (--smoke)" in document["reason"]
    assert [puppet.played[n] for n in (2, 5, 8)] == [5.0, 10.0, 20.0]


def test_progress_between_them_starts_the_count_again(tmp_path):
    stored = [{**begun(), "receipt": step} for step in (10, 20)]
    done = {"ending": "complete", "exit": 0}
    document, _ = played(tmp_path, begun(), begun(), stored[0], begun(), begun(), stored[1], begun(), done)
    assert document["complete"] and document["sums"]["sessions"] == 8 and document["lengthened"] == []


def test_a_failed_session_ends_it_with_its_last_output(tmp_path):
    document, _ = played(tmp_path, {"ending": "failed", "exit": 1, "opens": False})
    assert "failed with exit code 1" in document["reason"] and "the end of the log" in document["reason"]


def test_what_there_is_to_look_at_is_said_and_what_is_not_real(tmp_path):
    store = FolderStore(tmp_path / "store")
    assert to_look_at(store, "toy", tmp_path / "cache", "there") == to_look_at(store, None, tmp_path, "there") == []
    (tmp_path / "store/toy/figures").mkdir(parents=True)
    for name in ("curves.png", "bands.png"):
        (tmp_path / "store/toy/figures" / name).write_bytes(b"x")
    (tmp_path / "store/toy/results.json").write_text('{"data": "synthetic: two sines", "metrics": {}}')
    assert to_look_at(store, "toy", tmp_path / "cache", "there") == [
        "  figures: bands.png, curves.png in there/toy/figures", "  not real: synthetic: two sines",
    ]  # fmt: skip
    (tmp_path / "store/toy/results.json").write_text('{"data": "real", "metrics": {}}')
    assert len(to_look_at(store, "toy", tmp_path / "again", "there")) == 1


def test_max_sessions_end_it(tmp_path):
    endings = [{"ending": "killed", "receipt": step} for step in (10, 20)]
    document, _ = played(tmp_path, *endings, max_sessions=2)
    assert "--max-sessions" in document["reason"]


def test_a_notebook_that_was_over_before_its_kill_is_run_again_and_killed(tmp_path):
    whole = {"ending": "complete", "exit": 0, "events": [{"t": time.time() + 4.0, "e": "close", "complete": True}]}
    document, puppet = played(tmp_path, whole, KILLED, whole, script=Script(60.0, "work"))
    assert document["complete"] and document["sums"]["kills"] == 1
    assert puppet.played[0] == 60.0 and 0.5 < puppet.played[1] < 3.0


def test_kill_at_the_first_item_comes_before_the_second(make_notebook, tmp_path):
    notebook = make_notebook(PARAMETERS, OPEN, WORK, CLOSE)
    shown: list[str] = []
    code, (document,) = rehearse(
        [notebook], script=Script(60.0, "work"), store=str(tmp_path / "store"), parameters={"N": 3, "SECONDS": 1.0},
        say=lambda text: None, show=shown.append,
    )  # fmt: skip
    assert shown[0].startswith("05_toy: starting, ") and "05_toy: " in shown[-1]
    first, second = document["sessions"]
    assert code == 0 and (first["ended"], first["items"], second["ended"]) == ("killed", 1, "complete")


# -- how long sessions are -------------------------------------------------------------------------------------------


class SlowMachine:
    """Play sessions on a scripted clock: start-up takes so long, then a step a second, saved every second step."""

    def __init__(self, store: FolderStore, tmp_path: Path, startup: float, steps: int) -> None:
        self.store, self.tmp_path, self.startup, self.steps = store, tmp_path, startup, steps
        self.limits: list[float] = []

    def play(self, notebook, number, limit, kill_after):
        self.limits.append(limit)
        step = newest_step(self.store, "toy")
        events = [{"t": 0.0, "e": "open", "slug": "toy", "session": f"s{number}", "done": 0, "step": step}]
        now, end = self.startup, limit if kill_after is None else kill_after
        if kill_after is None or now <= end:
            events.append({"t": now, "e": "ready", "step": step})
        stored = step
        while now + 1.0 <= end and step < self.steps:
            now, step = now + 1.0, step + 1
            events.append({"t": now, "e": "step", "step": step})
            stored = step if step % 2 == 0 or step == self.steps else stored
        killed = kill_after is not None and step < self.steps
        if not killed:
            now, stored = max(now, self.startup), step
            events.append({"t": now, "e": "close", "complete": step == self.steps, "reason": "wall"})
        if stored > events[0]["step"]:
            put_receipt(self.store, self.tmp_path, stored)
        ending = "killed" if killed else "complete" if step == self.steps else "stopped"
        return RehearsedSession(
            number, -2.0, kill_after if killed else now, limit, ending, -9 if killed else 0, 1, events
        )

    def last_output(self, number):
        return "  | the end of the log"


def slowly(tmp_path, startup, script, steps=120, **options):
    store = FolderStore(tmp_path / "store")
    machine, said = SlowMachine(store, tmp_path, startup, steps), []
    document = Rehearsal(machine, store, script, tmp_path / "cache", say=said.append, **options).run(Path("x.ipynb"))
    return document, machine, said


@pytest.mark.parametrize("kill", ["mixed", "random", "wall", "work", "none"])
def test_sessions_are_lengthened_until_start_up_leaves_room_for_work(tmp_path, kill):
    document, machine, said = slowly(tmp_path, 34.0, Script(30.0, kill, seed=1))
    assert document["complete"], document["reason"]
    assert document["sums"]["steps"] == 120
    assert document["lengthened"][-1]["to_s"] == 90.0 and document["session_s"] == 30.0
    assert max(machine.limits) == (180.0 if kill == "wall" else 90.0)
    (told,) = [line for line in said if line.endswith("from now on sessions are 1 min 30 s long")]
    # a kill before the first step shows only that start-up took more than that
    assert re.match(r"Start-up took (more than \d\d|34) s of (30|75) s: ", told)


def test_a_start_up_that_leaves_room_changes_no_length(tmp_path):
    document, machine, _ = slowly(tmp_path, 11.0, Script(30.0, "mixed", seed=1))
    assert document["complete"] and document["lengthened"] == [] and set(machine.limits) == {30.0}
    assert document["sums"]["kills"] >= 2


def test_no_kill_comes_before_the_start_up_that_was_measured(tmp_path):
    moments = [Script(30.0, "random", seed=1).plan("a.ipynb", n, startup=20.0)[1] for n in range(1, 200)]
    assert all(20.0 <= moment <= 30.0 for moment in moments) and min(moments) < 21.0


def test_a_start_up_that_no_allowed_session_holds_ends_it_with_what_to_do(tmp_path):
    document, machine, _ = slowly(tmp_path, 34.0, Script(30.0, "none", longest=30.0))
    assert not document["complete"] and set(machine.limits) == {30.0}
    assert document["reason"].startswith("Start-up took 34 s of 30 s: use --session 2min, or smaller work (--smoke).")
    assert document["reason"].endswith("the end of the log")


def test_a_work_that_never_begins_ends_it_with_what_to_do(tmp_path):
    document, machine, _ = slowly(tmp_path, 1e6, Script(30.0, "wall"))
    assert not document["complete"] and max(machine.limits) == 2 * 600.0
    assert document["reason"].startswith("Start-up took more than 10 min of 10 min: use --session 30min")


def test_lengths_are_rounded_up_and_spelled_as_an_option_takes_them():
    rounded = [rounded_up(seconds) for seconds in (4.2, 10.0, 41.0, 59.9, 61.0, 599.0, 601.0)]
    assert rounded == [5.0, 10.0, 45.0, 60.0, 90.0, 600.0, 660.0]
    assert [spelled(seconds) for seconds in (5.0, 45.0, 90.0, 120.0)] == ["5s", "45s", "90s", "2min"]
    assert all(parse_duration(spelled(seconds)) == seconds for seconds in rounded)


# -- what is shown meanwhile -----------------------------------------------------------------------------------------


def test_a_log_gets_a_line_every_five_seconds_and_a_terminal_one_that_is_refreshed():
    for terminal, wanted in ((False, ["kept", "at 5", "at 10"]), (True, ["at 1", "at 10"])):
        file, now = io.StringIO(), [0.0]
        file.isatty = lambda terminal=terminal: terminal
        line = LiveLine(file, lambda now=now: now[0])
        line.say("kept")
        for second in range(1, 11):
            now[0] = float(second)
            line.refresh(f"at {second}")
        text = file.getvalue()
        assert [word for word in wanted if word in text] == wanted
        assert text.count("\n") == (1 if terminal else 3)
        line.say("then")
        assert text + ("\r\x1b[K" if terminal else "") + "then\n" == file.getvalue()


def test_in_a_log_a_line_that_says_nothing_new_comes_ever_more_rarely():
    file, now = io.StringIO(), [0.0]
    line = LiveLine(file, lambda: now[0])
    for second in range(1, 301):
        now[0] = float(second)
        line.refresh(f"{second}.0 s of 5 min: {'step 7' if second > 200 else 'no item or step yet'}")
    said = [int(text.partition(".")[0]) for text in file.getvalue().splitlines()]
    assert said == [5, 15, 35, 75, 135, 195, 201, 211, 231, 271]


def test_what_a_session_is_doing_is_read_from_its_journal():
    opened = {"t": 2.0, "e": "open"}
    assert doing([], 1.5, 0.0, 15.0) == "starting, 1.5 s"
    assert doing([opened], 5.0, 0.0, 15.0) == "3.0 s of 15 s: no item or step yet"
    events = [opened, {"t": 3.0, "e": "begin", "key": "a"}, {"t": 4.0, "e": "item", "key": "a"}]
    events += [{"t": 4.0, "e": "begin", "key": "b"}]
    assert doing(events, 5.0, 0.0, 15.0) == "3.0 s of 15 s: 1 item done in this session, working on b"
    training = [opened, *steps(41, 45, 3.0, 0.1)]
    assert doing(training, 14.0, 0.0, 15.0) == "12 s of 15 s: step 45 (5 in this session)"
    assert doing([*training, {"t": 9.0, "e": "close"}], 14.0, 0.0, 15.0) == (
        "closed after 7.0 s: step 45 (5 in this session)"
    )


# -- the chain ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def three_phases(make_notebook, tmp_path, monkeypatch):
    def phase(slug, number, *needs):
        return Phase(slug, number, "Toy", "", needs, (), "any", 1, 1.0, True, (), ())

    (tmp_path / "notebooks").mkdir()
    phases = (phase("one", 1), phase("two", 2, "one"), phase("three", 3))
    for made in phases:
        opened = f"assert {made.number} != 1\n" + OPEN.replace('"toy"', f'"{made.slug}"')  # one never opens
        make_notebook(PARAMETERS, opened, WORK, CLOSE, name=f"notebooks/{made.notebook}")
    monkeypatch.setattr("nbkit.tools.rehearsal.rehearse.load_phases", lambda: phases)
    monkeypatch.chdir(tmp_path)


def test_the_chain_keeps_back_what_needs_a_failed_phase_and_no_other(three_phases, tmp_path):
    said: list[str] = []
    code, documents = rehearse([], script=Script(60.0, "work"), store=str(tmp_path / "st"), chain=True, say=said.append)
    assert code == 1 and [document["complete"] for document in documents] == [False, False, True]
    assert documents[1]["reason"] == "not started, because it needs one" and documents[2]["sums"]["kills"] == 1
    assert "02_two.ipynb: not started, because it needs one" in said
    assert "1 of 3 complete" in said[-1] and "NOT COMPLETE" in said[-1]


def test_a_poisoned_item_on_wiped_machines_is_set_aside_and_all_others_are_done(make_notebook, tmp_path):
    toy = make_notebook(PARAMETERS, OPEN, WORK, CLOSE)
    said: list[str] = []
    code, (document,) = rehearse(
        [toy], script=Script(30.0, "none", poison="k001"), store=str(tmp_path / "st"), parameters={"SECONDS": 0.3},
        say=said.append,
    )  # fmt: skip
    assert code == 0 and document["complete"] and document["failed_items"] == 1, said
    assert 3 <= document["poisoned"] <= 4 and document["sums"]["items"] == 3
    assert "set aside; all others are done" in said[-1]


# -- what is counted -------------------------------------------------------------------------------------------------


def rehearsed(number, *events, ending="killed", stored_items=(), stored_step=0, ended=10.0):
    opened = {"t": 0.0, "e": "open", "slug": "toy", "session": f"s{number}", "done": 0, "step": 0}
    return RehearsedSession(
        number, -1.0, ended, 10.0, ending, None, 1, [opened, *events], set(stored_items), stored_step
    )


def steps(first, last, t, gap):
    return [{"t": t + gap * i, "e": "step", "step": s} for i, s in enumerate(range(first, last + 1))]


def test_steps_lost_and_done_twice_are_counted():
    one = rehearsed(1, *steps(1, 8, 1.0, 1.0), stored_step=5)
    two = rehearsed(2, *steps(6, 10, 2.0, 1.0), ending="complete", stored_step=10)
    sums = account([one, two])
    assert (sums["lost_steps"], sums["twice_steps"], sums["steps"], sums["kills"]) == (3, 3, 10, 1)
    assert sums["useful_s"] == 10.0 and sums["goodput"] == 0.5
    assert sums["startup_s"] == 2.0


def test_a_saves_stall_is_no_work():
    events = [*steps(1, 2, 1.0, 1.0), {"t": 2.5, "e": "save", "step": 2, "stall_s": 0.5}, *steps(3, 3, 3.5, 1.0)]
    assert [round(seconds, 6) for _, seconds in work_seconds(rehearsed(1, *events))] == [1.0, 1.0, 1.0]


def test_items_lost_and_done_twice_are_counted():
    items = [{"t": float(i), "e": "item", "key": key, "s": 1.5} for i, key in enumerate("abc")]
    one = rehearsed(1, *items, stored_items="ab")
    two = rehearsed(2, items[2], ending="complete", stored_items="abc", ended=5.0)
    sums = account([one, two])
    assert (sums["lost_items"], sums["twice_items"], sums["items"]) == (1, 1, 3)
    assert sums["useful_s"] == 4.5 and sums["from_opening_s"] == 15.0


def test_the_report_can_be_read(tmp_path):
    rows = [
        rehearsed(1, *steps(1, 8, 1.0, 1.0), stored_step=5),
        rehearsed(2, *steps(6, 10, 2.0, 1.0), ending="complete"),
    ]
    document = {"notebook": "x.ipynb", "complete": True, "reason": "", "sums": account(rows)}
    text = report(document | {"sessions": [row.row() for row in rows]})
    assert "x.ipynb: complete. 2 sessions, 1 killed" in text
    assert "lost: 3 steps; done twice: 3 steps; of 10 steps" in text and "goodput: 0.50" in text
