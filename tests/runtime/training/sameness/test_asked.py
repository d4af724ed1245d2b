"""What a person asks of a resume, by parameter, command or variable; a fresh start is made once."""

from __future__ import annotations

import pytest

import nbkit
from nbkit.runtime.errors import UsageError
from nbkit.runtime.training.sameness.asked import VARIABLE, check_resume, fit_options
from tests.runtime.training.training_support import run_child, train_tiny


@pytest.mark.parametrize(
    ("resume", "options"),
    [
        ("exact", {}), ("accept", {"accept_changes": True}), ("fresh", {"fresh": 1}), ("fresh-1", {"fresh": 1}),
        ("fresh-12", {"fresh": 12}), ("anew", {"fresh": True}),
    ],
)  # fmt: skip
def test_what_is_asked_becomes_an_option_of_fit_unless_the_call_says_it(monkeypatch, resume, options):
    if resume != "anew":  # only a command says that
        found = fit_options(check_resume(resume), {"max_steps": 3})
        assert found == {"max_steps": 3, **options}
        assert all(type(found[name]) is type(options[name]) for name in options)
        said = {"accept_changes": False, "fresh": False}
        assert fit_options(resume, said) == said
    monkeypatch.setenv(VARIABLE, resume)
    assert fit_options("exact", {}) == fit_options("fresh-7", {}) == options


@pytest.mark.parametrize("resume", ["", "Exact", "fresh-0", "fresh-", "fresh-x", "anew", "new", None, True, 1])
def test_what_is_unknown_is_refused_before_anything_is_made(tmp_path, resume):
    with pytest.raises(UsageError, match="Allowed are 'exact'.*'accept'.*'fresh'"):
        nbkit.open_session("toy", store=tmp_path / "store", folder=tmp_path / "work", resume=resume)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.train
def test_a_fresh_start_with_a_number_is_made_once_whatever_ends_its_sessions(tmp_path):
    store = tmp_path / "store"

    def session(machine: str, **options):
        return run_child(train_tiny, tmp_path / machine, store, max_steps=10, save_every=None, **options)

    session("a")
    first = session("b", fresh=1, lr=0.5, steps=4)
    assert (first.report.resumed_from, first.report.step) == (None, 4)
    assert any("starts again, as run 2; the earlier checkpoints are kept" in line for line in first.said)
    second = session("c", fresh=1, lr=0.5)  # another machine, the same parameter
    assert (second.report.resumed_from, second.report.step) == (4, 10)
    third = session("b", fresh=1, lr=0.5)  # complete, and stays so
    assert third.report.steps_this_session == 0
    fourth = session("c", fresh=2, lr=0.1, steps=3)
    assert (fourth.report.resumed_from, fourth.report.step) == (None, 3)
    fifth = session("d", fresh=1, lr=0.1)  # an older number goes on with the newest run
    assert fifth.report.resumed_from == 3
    stored = {path.parent.name for path in store.rglob("step-*.ckpt")}
    assert stored == {"checkpoints", "run-2", "run-3"}


@pytest.mark.train
def test_the_first_start_of_all_may_have_a_number_too(tmp_path):
    first = run_child(train_tiny, tmp_path / "a", tmp_path / "s", max_steps=10, fresh=1, steps=4)
    second = run_child(train_tiny, tmp_path / "b", tmp_path / "s", max_steps=10, fresh=1)
    assert (first.report.resumed_from, second.report.resumed_from) == (None, 4)


@pytest.mark.rehearse
@pytest.mark.parametrize(
    ("flags", "told"), [([], "None"), (["--accept-changes"], "accept"), (["--fresh"], "anew")], ids=str
)
def test_the_command_tells_the_session(make_notebook, tmp_path, monkeypatch, capfd, flags, told):
    from nbkit.tools.commands import cli

    monkeypatch.chdir(tmp_path)
    path = make_notebook("SMOKE = False", "import os\nprint('told', os.environ.get('NBKIT_RESUME'))")
    assert cli.run(["run", str(path), "--store", str(tmp_path / "store"), *flags]) == 0
    assert f"told {told}" in capfd.readouterr().out


def test_accepting_and_beginning_again_contradict_each_other(capsys):
    from nbkit.tools.commands import cli

    assert cli.run(["run", "start_here", "--accept-changes", "--fresh"]) == 2
    assert "Give one" in capsys.readouterr().err
