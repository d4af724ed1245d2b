"""Several data sets: each with its own folds, reference and corrections, and one item for each piece of work."""

from __future__ import annotations

from dataclasses import replace

import pytest

from nbkit.neuro.decoding.artifacts import read_records
from nbkit.neuro.decoding.benchmark import DataSet, benchmark_rows, data_sets, load_tasks
from nbkit.neuro.decoding.compare import CompareSettings, item_settings, run_row
from nbkit.neuro.decoding.judging.comparison import in_words, result_rows, subject_table
from nbkit.neuro.decoding.tasks import stand_in
from nbkit.neuro.decoding.training import FineTuneSettings
from nbkit.neuro.signals.assignment import assign

SETTINGS = CompareSettings((), ("frozen",), 2, ("band_power", "riemann"), "random")
TRAINING = FineTuneSettings.smoke()


def test_a_parameter_becomes_data_sets():
    usual = DataSet("rest_or_movement", target="age")
    found = data_sets({"sleep": {"store": "a", "target": "stage"}, "mat": "b", "cue": {"task": "cue_validity"}}, usual)
    assert found["sleep"] == DataSet("windows", "a", "stage") and found["mat"] == DataSet("windows", "b", "age")
    assert found["cue"].task == "cue_validity" and data_sets({}, usual) == {"": usual}
    with pytest.raises(ValueError, match="'x' has no label; it may have task, store, target"):
        data_sets({"x": {"label": "age"}}, usual)


def test_every_data_set_has_items_of_its_own_and_a_reference_of_its_own(tmp_path):
    asked = []
    tasks = load_tasks({"one": DataSet("stand_in"), "": DataSet("stand_in")}, asked.append, tmp_path)
    assert list(tasks) == ["one", "stand_in"] and not asked
    tasks["one"] = replace(stand_in(24, subjects=4, seed=3), name="one")
    rows = benchmark_rows(tasks, SETTINGS)
    assert len({row["key"] for row in rows}) == len(rows) == 8 and {row["task"] for row in rows} == set(tasks)
    assert len({row["content"] for row in rows}) == 2
    results = [run_row(row, tasks[row["task"]], SETTINGS, TRAINING, tmp_path) for row in rows]
    table = subject_table(read_records(result["record"] for result in results), draws=50)
    assert len(table) == 4 and list(table["task"].unique()) == ["one", "stand_in"]
    assert table[table["mode"] == "baseline"].groupby("task")["p_holm"].count().tolist() == [1, 1]
    names = {row["name"] for row in result_rows(table, by_task=True)}
    assert {"one_balanced_accuracy_riemann_baseline", "stand_in_auc_band_power_baseline"} <= names
    assert all("over 4 groups" in line for line in in_words(table))
    assert item_settings(SETTINGS, TRAINING)["strategy"] == ""


def test_a_fold_is_the_part_of_the_store_that_a_pretraining_held_out():
    task = stand_in(80, subjects=10)
    parts = [benchmark_rows({"t": task}, replace(SETTINGS, fold=f"{n}/3")) for n in (1, 2, 3)]
    for number, rows in enumerate(parts, 1):
        held = assign(task.groups.tolist(), fold=f"{number}/3")[2]
        assert {row["fold"] for row in rows} == {str(number)}
        assert all(set(row["held_out"].split(", ")) == held for row in rows)
    every = benchmark_rows({"t": task}, replace(SETTINGS, strategy="store", n_splits=3))
    assert sorted(row["key"] for row in every) == sorted(row["key"] for rows in parts for row in rows)


def test_whom_pretraining_saw_is_in_the_table(tmp_path):
    from nbkit.neuro.decoding.models.foundation import FoundationModel
    from tests.neuro.decoding.test_cache_key import Toy

    task = replace(stand_in(24, subjects=4), ch_names=tuple(stand_in(4).ch_names))
    names = task.ch_names[:3]
    model = FoundationModel("toy", Toy(), names, 200.0, 400, 3, "hundredth", "trained", seen=("S01", "S03"))
    rows = benchmark_rows({task.name: task}, SETTINGS, {task.name: {"toy": model}})
    own = {"toy": model}
    records = read_records(run_row(row, task, SETTINGS, TRAINING, tmp_path, own=own)["record"] for row in rows)
    seen = subject_table(records, draws=20).set_index("model")["seen"]
    assert seen["toy"] == 2 and seen["band_power"] == 0
    lines = in_words(subject_table(records, draws=20))
    assert sum("transductive: 2 of 4 were in pretraining" in line for line in lines) == 1
    cards = [(tmp_path / row["key"] / "card.md").read_text() for row in rows if row["model"] == "toy"]
    assert sum("**Transductive**" in card for card in cards) >= 1
