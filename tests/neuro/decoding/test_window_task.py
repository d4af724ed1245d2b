"""Tasks on stored windows: any column as target and group."""

from __future__ import annotations

import numpy as np
import pytest

from nbkit.neuro.decoding.folds import outer_folds
from nbkit.neuro.decoding.frozen import embedding_rows
from nbkit.neuro.decoding.tasks import load_task
from nbkit.neuro.decoding.window_task import window_task
from nbkit.neuro.signals.windows.montages import group_by_montage
from nbkit.neuro.signals.windows.shard_writing import write_signal
from nbkit.runtime.names import check_name


def store(folder, people=6, names=("C3", "Cz", "C4"), **columns):
    """Write one recording of four windows a person."""
    rng = np.random.default_rng(0)
    for person in range(people):
        starts = np.arange(4) * 100
        base = {"start_s": starts / 100.0, "label": np.array(["rest", "work", "rest", "work"])}
        cuts = {"windows": (starts, 100, base | {n: np.asarray(f(person)) for n, f in columns.items()})}
        facts = dict(sfreq=100.0, ch_names=names, subject=f"P{person}", run="1", data="real")
        write_signal(folder / f"{len(names)}-{person}", rng.normal(size=(len(names), 400)) * 20, cuts=cuts, **facts)
    return folder


def test_classes_and_people(tmp_path):
    task = load_task("windows", windows=[store(tmp_path)])
    assert task.kind == "classification" and task.classes == ("rest", "work") and task.windows.shape == (24, 3, 100)
    assert task.target.tolist() == [0, 1, 0, 1] * 6 and task.strategy == "stratified_group_kfold"
    for fold in outer_folds(task.target, task.groups, task.strategy, 3):
        assert not set(task.groups[fold.train]) & set(task.groups[fold.test])
    alone = load_task("windows", windows=[tmp_path], leave_one_out=True, subjects=["P1", "P2"])
    assert len(outer_folds(alone.target, alone.groups, alone.strategy, 0)) == 2


def test_numbers_are_a_regression_and_few_whole_ones_classes(tmp_path):
    columns = {"age": lambda p: [20.5 + p] * 4, "sex": lambda p: [p % 2] * 4, "rt": lambda p: [0.3, np.nan, 0.5, 0.4]}
    store(tmp_path, **columns)
    said = []
    age = window_task([tmp_path], "age", say=said.append)
    assert age.kind == "regression" and age.target[4] == 21.5 and age.strategy == "group_kfold"
    sex = window_task([tmp_path], "sex", say=said.append)
    assert sex.classes == ("0", "1")
    assert said == ["The 2 values of sex are taken as classes; CLASSES = None predicts numbers."]
    said.clear()
    assert window_task([tmp_path], "sex", classes=None, say=said.append).kind == "regression" and not said
    assert len(window_task([tmp_path], "rt", say=said.append).target) == 18
    assert said == ["6 of 24 windows have no rt and are left out."]
    chosen = window_task([tmp_path], "age", classes=["20.5", "25.5"])
    assert chosen.classes == ("20.5", "25.5") and len(chosen.target) == 8


def test_groups_may_be_any_column(tmp_path):
    store(tmp_path, site=lambda p: [f"site {p % 2}"] * 4)
    assert set(window_task([tmp_path], group="site").groups) == {"site 0", "site 1"}
    assert len(set(window_task([tmp_path], group="run").groups)) == 6  # of each person
    with pytest.raises(ValueError, match="GROUP='room' is no column"):
        window_task([tmp_path], group="room")


def test_several_montages_are_told(tmp_path):
    store(tmp_path, 2, ("Fp1", "Fp2"))
    store(tmp_path, 6)
    found = group_by_montage([tmp_path], "pretrain")
    assert [(montage.windows, len(montage.ch_names)) for montage in found] == [(24, 3), (8, 2)]
    said = []
    assert window_task([tmp_path], say=said.append).ch_names == ("C3", "Cz", "C4")
    assert "Several montages" in said[0] and "2 channels (Fp1, Fp2) x 100 samples" in said[0]


def test_people_of_any_name_have_items(tmp_path):
    task = window_task([store(tmp_path)])
    named = np.array(["静息", "a b", "a/b", "CON", "x" * 300, "P:1"])[np.arange(24) // 4]
    rows = embedding_rows(
        load_task("windows", windows=[tmp_path]).__class__(**{**vars(task), "groups": named}), ["biot"]
    )
    assert len({row["key"].casefold() for row in rows}) == 6 and all(check_name(row["key"]) for row in rows)


def test_mistakes_are_answered_in_words(tmp_path):
    store(tmp_path, one=lambda p: ["a"] * 4)
    with pytest.raises(ValueError, match="No column 'hand'.*label"):
        window_task([tmp_path], "hand")
    with pytest.raises(ValueError, match="nothing to tell apart.*a: 24"):
        window_task([tmp_path], "one")
    with pytest.raises(ValueError, match="No window has label = sleep.*rest: 12, work: 12"):
        window_task([tmp_path], classes=["sleep"])
