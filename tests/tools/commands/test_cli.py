"""The command line: exit codes, words without traceback, JSON."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from nbkit.tools.commands import cli


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_help_names_the_commands(root, tmp_path):
    command = [sys.executable, "-m", "nbkit", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=root, check=True)
    for name in ("check", "run", "rehearse", "status", "report", "verify"):
        assert f"\n  {name} " in done.stdout
    assert "3 stopped with work left" in " ".join(done.stdout.split())


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_the_list_of_commands_is_whole_at_any_width(columns, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("TERMINAL_WIDTH", str(columns))
    assert cli.run(["--help"]) == 0
    said = capsys.readouterr().out
    assert "..." not in said.replace("[ARGS]...", "") and max(map(len, said.splitlines())) <= columns
    assert "Show how much of this week's accelerator time is left on Kaggle." in " ".join(said.split())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["fly"], "fly"),
        (["run"], "NOTEBOOK"),
        (["run", "x.ipynb"], "no notebook 'x.ipynb'"),
        (["run", "05_toy.ipynb", "-p", "M=3"], "no parameter 'M'"),
        (["run", "05_toy.ipynb", "-p", "N"], "not NAME=VALUE"),
        (["run", "05_toy.ipynb", "--limit", "soon"], "The duration 'soon'"),
        (["rehearse", "05_toy.ipynb", "--session", "-3s"], "The duration '-3s'"),
        (["rehearse", "05_toy.ipynb", "--kill", "all"], "no kind of kill 'all'"),
        (["rehearse", "05_toy.ipynb", "--seed", "x"], "seed"),
        (["status", "Not-a-slug"], "Phase slug 'Not-a-slug'"),
        (["status", "--store", "05_toy.ipynb"], "is a file"),
    ],
)
def test_a_users_mistake_exits_2_in_words(toy, arguments, words, capsys):
    assert cli.run(arguments) == 2
    said = capsys.readouterr().err
    assert words in said and "Traceback" not in said


def test_a_fault_of_our_own_keeps_its_traceback(monkeypatch):
    def broken(store, slugs):
        raise ZeroDivisionError("a fault of nbkit")

    monkeypatch.setattr("nbkit.tools.status.status.read_status", broken)
    with pytest.raises(ZeroDivisionError):
        cli.run(["status"])


def test_run_status_and_verify_go_together(toy, tmp_path, capsys):
    assert cli.run(["run", str(toy), "--store", "st", "-p", "N=3"]) == 0
    capsys.readouterr()
    assert cli.run(["status", "toy", "--store", "st", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    (row,) = told["phases"]
    assert (row["done"], row["left"], row["state"]) == (3, 0, "complete")
    assert told["store"]["size"] == sum(path.stat().st_size for path in (tmp_path / "st").rglob("*") if path.is_file())
    assert cli.run(["verify", "--store", "st", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["faults"] == {}
    (tmp_path / "st/toy/items/k001.npz").write_bytes(b"short")
    assert cli.run(["verify", "--store", "st"]) == 1
    assert "FAULT toy/items/k001.npz has 5 bytes" in capsys.readouterr().out


def test_check_exits_1_where_something_is_to_be_mended(tmp_path, capsys):
    (tmp_path / "file").write_text("x")
    assert cli.run(["check", "--store", "file", "--json"]) == 1
    rows = json.loads(capsys.readouterr().out)
    assert [row["what"] for row in rows if row["state"] == "fault"] == ["store"]


@pytest.mark.rehearse
def test_rehearse_prints_one_json_document(toy, capsys):
    arguments = ["rehearse", str(toy), "--store", "st", "--session", "30s", "--kill", "none", "--json"]
    assert cli.run(arguments) == 0
    said = capsys.readouterr()
    (document,) = json.loads(said.out)
    assert document["complete"] and document["sums"]["items"] == 4
    assert "05_toy.ipynb: complete. 1 session, 0 killed" in said.err
