"""What is shown and fetched of runs on Colab: their state, their logs, their files, and pushes beside a terminal."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from nbkit.runtime.errors import UsageError
from nbkit.runtime.store.folder import FolderStore
from nbkit.tools.colab.background import alone, is_pushed_from_here, log_file
from nbkit.tools.colab.looking import read_log, state_lines, used_this_week
from nbkit.tools.colab.pull import pull_stored
from nbkit.tools.commands import cli
from nbkit.tools.kaggle.runs import Push, record_push
from tests import ROOT
from tests.tools.colab import standin

DAY = 86400.0


@pytest.fixture(autouse=True)
def own_state(tmp_path, monkeypatch):
    monkeypatch.setenv("NBKIT_STATE", str(tmp_path / "state"))


@pytest.fixture
def store(tmp_path) -> FolderStore:
    return FolderStore(tmp_path / "store")


def push(at: float, hours: float = 2.0, units: float = 4.0, host: str = "colab", **more) -> Push:
    return Push("toy", "nbkit-toy", "https://x", 0, at, hours, True, "hand", 0, 0, host, units, **more)


def put(store: FolderStore, tmp_path, name: str, text: str) -> None:
    (tmp_path / "file").write_text(text)
    store.put(tmp_path / "file", name)


def test_state_of_runtimes_is_told_and_kaggles_pushes_are_not(store, folder, tmp_path):
    now = 1e9
    assert state_lines(store, ["toy"], now) == []
    record_push(store, push(now - 60, host="kaggle"))
    assert state_lines(store, ["toy"], now) == []
    record_push(store, push(now - 3600, shard="2/2"))
    assert state_lines(store, ["toy"], now) == [
        "on Colab: toy ended, shard 2/2, begun 1 h ago, 2.00 h, 4.0 units",
    ]
    standin.told(folder, runtimes={"nbkit-toy": {"machine": str(tmp_path), "gpu": "T4", "began": 0}})
    assert "toy running" in state_lines(store, ["toy"], now)[0]
    standin.told(folder, logged_in=False)
    lines = state_lines(store, ["toy"], now)
    assert "toy unknown" in lines[0] and "not logged in" in lines[1]


def test_week_counts_what_was_given_until_the_end_is_known():
    now = 1e9
    pushes = [push(now - DAY), push(now - 8 * DAY), push(now - 100, 9.25, 0.0), push(now - DAY, host="kaggle")]
    assert used_this_week(pushes, now) == (11.25, 4.0, 2.0)
    assert used_this_week([], now) == (0.0, 0.0, 0.0)


def test_log_here_comes_before_the_one_in_the_store(store, tmp_path, capsys):
    with pytest.raises(UsageError, match="no log of toy on Colab.*--host colab"):
        read_log(store, "toy")
    for name, text in (("toy/colab/1.log", "old"), ("toy/colab/2.log", "newer")):
        put(store, tmp_path, name, text)
    assert read_log(store, "toy") == ("toy/colab/2.log in the store", "newer")
    log_file("toy").write_text("here")
    assert read_log(store, "toy") == (str(log_file("toy")), "here")
    assert cli.run(["log", "toy", "--host", "colab", "--follow", "--store", str(store.root)]) == 0
    assert capsys.readouterr().out.splitlines() == [f"{log_file('toy')}:", "here"]


def test_files_are_chosen_by_patterns(store, tmp_path, capsys):
    for name in ("sessions/1.ipynb", "results.json", "figures/a.png", "items/k.npz", "checkpoints/step-1.ckpt"):
        put(store, tmp_path, f"toy/{name}", name)
    out = tmp_path / "out"
    all_of_it = pull_stored(store, "toy", out)
    assert sorted(p.relative_to(out).as_posix() for p in all_of_it.files) == [
        "figures/a.png", "results.json", "sessions/1.ipynb",
    ]  # fmt: skip
    assert [p.name for p in pull_stored(store, "toy", out, ["items/*"]).files] == ["k.npz"]
    with pytest.raises(UsageError, match=r"fits \*\.mp4. There are: checkpoints, figures, items, results.json"):
        pull_stored(store, "toy", out, ["*.mp4"])
    command = ["pull", "toy", "--host", "colab", "--files", "figures/*", "--store", str(store.root), "--json"]
    assert cli.run([*command, "--to", str(tmp_path / "two")]) == 0
    assert json.loads(capsys.readouterr().out)["files"] == [str(tmp_path / "two/figures/a.png")]


def test_one_push_of_a_phase_at_a_time_from_a_machine():
    assert not is_pushed_from_here("toy")
    with alone("toy"):
        code = "from nbkit.tools.colab.background import is_pushed_from_here as f; print(f('toy'), f('other'))"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
        assert done.stdout.split() == ["True", "False"]
        with pytest.raises(UsageError, match="goes on from this machine. 'nbkit log toy'"), alone("toy"):
            pass
    assert not is_pushed_from_here("toy")


def test_commands_name_what_is_wrong(capsys, folder, tmp_path):
    for command, words in (
        (["push", "eeg_windows", "--host", "clab"], "no host 'clab'"),
        (["push", "eeg_windows", "--gpu", "T4", "--store", "s3://x/y"], "--gpu and --units are for --host colab"),
        (["push", "eeg_windows", "--host", "colab", "--store", str(tmp_path)], "a run on Colab cannot reach it"),
        (["push", "eeg_windows", "--host", "colab", "--hours", "0"], "The budget is 0 h"),
        (["dispatch", "--colab-hours", "-1", "--store", "s3://x/y"], "The week's budget for Colab is -1 h"),
        (["dispatch", "--colab-hours", "9", "--gpu", "T5", "--store", "s3://x/y"], "no GPU 'T5'"),
    ):
        assert cli.run(command) == 2, command
        assert words in capsys.readouterr().err


@pytest.mark.kill
def test_push_that_is_ended_ends_its_runtime(hub, folder, tmp_path):
    """The command itself, with a phase of the map: SIGTERM ends it, and no runtime is left behind."""
    told = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "nbkit", "push", "start_here", "--host", "colab", "--store", hub.url]
    with open(tmp_path / "words", "w") as out:
        process = subprocess.Popen(command, cwd=ROOT, env=told, stdout=out, stderr=out)
    until = time.monotonic() + 60
    while "exec" not in {call[0] for call in calls(folder)} and time.monotonic() < until and process.poll() is None:
        time.sleep(0.2)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 3, (tmp_path / "words").read_text()
    with standin.state(folder) as known:
        assert known["begun"] == 1 and known["runtimes"] == {}
        assert [call[0] for call in known["calls"]].count("upload") == 3


def calls(folder) -> list[list[str]]:
    with standin.state(folder) as known:
        return known["calls"]
