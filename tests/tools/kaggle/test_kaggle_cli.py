"""The Kaggle commands in processes of their own: exit codes, JSON, words; the client comes by the proxy variables."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time

import pytest

from nbkit.runtime.ledger.segments import encode_line, segment_of
from nbkit.runtime.store.folder import FolderStore
from nbkit.tools.commands import cli
from nbkit.tools.kaggle.runs import Push, record_push
from tests.tools.kaggle.kaggle_loopback import NO_QUOTA, Kernel, Loopback, Run, need_client

need_client()


@pytest.fixture
def server(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with Loopback() as loopback, loopback.point(monkeypatch, tmp_path / "home"):
        monkeypatch.setattr("nbkit.tools.kaggle.client.FIRST_WAIT", 0.01)
        yield loopback


def test_a_process_of_its_own_reaches_kaggle_and_prints_one_document(server, root, tmp_path):
    (tmp_path / "home").mkdir(exist_ok=True)
    told = {"PYTHONPATH": str(root), "HOME": str(tmp_path / "home")}
    environment = os.environ | server.environment(tmp_path / "home") | told
    command = [sys.executable, "-m", "nbkit", "quota", "--json"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0 and json.loads(done.stdout)["gpu"]["left"] == 30.0, done.stderr


def test_help_names_the_commands(capsys):
    assert cli.run(["--help"]) == 0
    said = capsys.readouterr().out
    assert all(f"\n  {name} " in said for name in ("login", "push", "pull", "quota", "dispatch"))


def test_quota_in_words(server, capsys):
    assert cli.run(["quota"]) == 0
    assert "GPU: 30.0 of 30.0 h left this week" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("slug", "exits", "advice"),  # without GPU hours only a phase on a CPU is pushed
    [("bandvar_train", 1, "the checkpoint with the most steps counts"), ("eeg_windows", 0, "Items are shared")],
)
def test_a_session_that_is_open_already_is_named_by_push(server, capsys, tmp_path, monkeypatch, slug, exits, advice):
    pytest.importorskip("hatchling")
    server.hours = 0.0
    segment, data = segment_of(slug, "s1", 1, [encode_line(
        {"e": "open", "host": "colab", "machine": "m7", "t": time.time() - 60, "limit": 3600.0}
    )])  # fmt: skip
    path = tmp_path / "store" / segment.name
    path.parent.mkdir(parents=True)
    path.write_bytes(data)
    monkeypatch.setattr("nbkit.tools.handing_on.reachable", lambda address: address)
    monkeypatch.setattr("nbkit.tools.kaggle.push.reachable", lambda address: address)
    assert cli.run(["push", slug, "--store", str(tmp_path / "store")]) == exits
    said = capsys.readouterr().err
    assert f"note: a session of {slug} is open already: s1 on colab (m7), open since" in said
    assert re.search(r"its wall is in 5[0-9] min", said) and advice in said


def test_a_refused_push_exits_1_and_a_users_mistake_2(server, capsys):
    pytest.importorskip("hatchling")
    server.hours = 0.0
    assert cli.run(["push", "bandvar_train", "--store", "memory://nbkit-test-push"]) == 1
    assert f"{NO_QUOTA} 'nbkit quota' shows" in capsys.readouterr().err
    assert cli.run(["push", "bandvar_train", "--store", "here"]) == 2
    assert "cannot reach it" in capsys.readouterr().err
    assert cli.run(["push", "bandvar_trian", "--store", "memory://nbkit-test-push"]) == 2
    assert cli.run(["push", "bandvar_train", "--store", "memory://nbkit-test-push", "-p", "STEP=3"]) == 2
    assert "no parameter 'STEP'" in capsys.readouterr().err
    server.hours = 30.0
    assert cli.run(["push", "bandvar_train", "--store", "memory://nbkit-test-push", "--json"]) == 0
    pushed = json.loads(capsys.readouterr().out)
    assert (pushed["version"], pushed["gpu"], pushed["ref"]) == (1, True, "mary/nbkit-bandvar-train")


def test_pull_brings_the_last_run(server, capsys, tmp_path):
    server.kernels["mary/nbkit-bandvar-train"] = Kernel({}, files={"x.png": b"abc"}, log="words")
    assert cli.run(["pull", "bandvar_train", "--json"]) == 0
    pulled = json.loads(capsys.readouterr().out)
    assert (tmp_path / "nbkit-output/bandvar_train/x.png").read_bytes() == b"abc" and pulled["log"].endswith(".log")
    assert cli.run(["pull", "eeg_windows"]) == 1
    assert "no run of mary/nbkit-eeg-windows" in capsys.readouterr().err


LOG = '[{"time": 1.5, "data": "a line"}]'


def test_only_chosen_files_are_pulled_and_a_log_is_shown(server, capsys, tmp_path):
    files = {"x.png": b"abc", "figures/y.png": b"d", "big.bin": b"e"}
    ended = Run(server.now, True, server.now - server.now, "COMPLETE")
    server.kernels["mary/nbkit-bandvar-train"] = Kernel({}, [ended], files=files, log=LOG)
    command = ["pull", "bandvar_train", "--json", "--files", "figures/*", "--files", "x.*"]
    assert cli.run(command) == 0
    pulled = json.loads(capsys.readouterr().out)
    assert sorted(path.rpartition("/")[2] for path in pulled["files"]) == ["x.png", "y.png"]
    assert cli.run(["log", "bandvar_train", "--follow"]) == 0
    assert capsys.readouterr().out == "      1.5 a line\n"


def test_dispatch_in_a_dry_run(server, capsys):
    assert cli.run(["dispatch", "--dry-run", "--json", "--store", "memory://nbkit-test-dispatch"]) == 0
    choices = {choice["slug"]: choice["verb"] for choice in json.loads(capsys.readouterr().out)["choices"]}
    assert choices["eeg_windows"] == "push" and choices["bandvar_train"] == "waits" and "start_here" not in choices
    assert not server.kernels


def pushed_once(server, folder) -> None:
    run = Run(server.now, True, server.now - server.now, "ERROR", message="CUDA out of memory")
    server.kernels["mary/nbkit-bandvar-train"] = Kernel({}, [run], 4)
    push = Push("bandvar_train", "mary/nbkit-bandvar-train", "https://k/x", 4, 0.0, 9.25, True, "hand")
    record_push(FolderStore(folder), push)


def test_status_shows_pushed_runs(server, capsys, tmp_path):
    pushed_once(server, tmp_path / "st")
    assert cli.run(["status", "--store", "st"]) == 0
    assert "on Kaggle: bandvar_train error (CUDA out of memory), version 4" in capsys.readouterr().out
    assert cli.run(["status", "--store", "st", "--json"]) == 0
    runs = {row["slug"]: row.get("run") for row in json.loads(capsys.readouterr().out)["phases"]}
    assert runs["bandvar_train"]["state"] == "error" and runs["eeg_windows"] is None


def test_status_does_not_fail_without_kaggle(server, capsys, tmp_path, monkeypatch):
    pushed_once(server, tmp_path / "st")
    server.faults["*"] = ["drop"] * 50
    assert cli.run(["status", "--store", "st"]) == 0
    assert "could not be asked for the state of the pushed runs" in capsys.readouterr().out
    monkeypatch.delenv("KAGGLE_KEY")
    assert cli.run(["status", "--store", "st"]) == 0
    assert "bandvar_train unknown" in capsys.readouterr().out
    server.seen.clear()
    assert cli.run(["status", "--store", "other"]) == 2  # there is no such store
    assert server.seen == [] and "Kaggle" not in capsys.readouterr().out


def test_login_says_what_it_needs(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert cli.run(["login", "drive"]) == 2
    assert "client_secret" in capsys.readouterr().err
