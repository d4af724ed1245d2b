"""The comparison: every (model, mode, fold) an item that leaves the same bytes whenever it is made."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from nbkit.neuro.decoding.artifacts import read_records
from nbkit.neuro.decoding.cache import EmbeddingCache
from nbkit.neuro.decoding.compare import ALL_MODES, CompareSettings, fold_rows, folds_of, run_row
from nbkit.neuro.decoding.judging.comparison import pair_table, result_rows, subject_table
from nbkit.neuro.decoding.judging.predictions import gathered
from nbkit.neuro.decoding.tasks import stand_in
from nbkit.neuro.decoding.training import FineTuneSettings

TASK = stand_in(24, subjects=4)
SETTINGS = CompareSettings(("labram",), ("frozen", "head", "lora"), 2, ("band_power",), "random")
TRAINING = FineTuneSettings.smoke()


def test_the_full_comparison_has_an_item_for_each_fold_and_keys_that_stand_once():
    task = stand_in(80, subjects=10)
    rows = fold_rows(task, CompareSettings.full())
    assert len(rows) == (8 * 5 + 4) * 5 and len({row["key"] for row in rows}) == len(rows)
    assert {row["mode"] for row in rows} == {"baseline", "scratch", *ALL_MODES}
    assert len(fold_rows(TASK, CompareSettings.smoke())) == (2 * 3 + 2) * 2


@pytest.mark.parametrize(
    "change", [{"models": ("gpt",)}, {"modes": ("prompt",)}, {"modes": ()}, {"rivals": ("svm", "band_power")}]
)
def test_unknown_models_and_modes_are_refused(change):
    with pytest.raises(ValueError, match="there are"):
        dataclasses.replace(CompareSettings.smoke(), **change)


def everything(folder, cache, rows):
    results = [run_row(row, TASK, SETTINGS, TRAINING, folder, cache) for row in rows]
    files = {f"{path.parent.name}/{path.name}": path.read_bytes() for result in results for path in result.values()}
    return results, files


@pytest.mark.train
def test_items_made_again_elsewhere_in_another_order_leave_the_same_bytes(tmp_path):
    rows = fold_rows(TASK, SETTINGS)
    results, files = everything(tmp_path / "a", EmbeddingCache(tmp_path / "ca"), rows)
    again, files_again = everything(tmp_path / "b", EmbeddingCache(tmp_path / "cb"), rows[::-1])
    assert files == files_again and len(files) == 2 * (3 + 3 + 4 + 4) and len(again) == len(results)

    records = read_records(result["record"] for result in results)
    assert len(records) == len(rows)
    assert {tuple(r["scores"].items()) for r in records if r["mode"] == "baseline"} == {
        tuple(r["beside"].items()) for r in records
    }
    table = subject_table(records, draws=50)
    found = {row["name"]: row for row in result_rows(table)}
    assert found["balanced_accuracy_band_power_baseline"]["baseline_is"] == "chance"
    frozen = found["balanced_accuracy_labram_frozen"]
    assert frozen["baseline"] == pytest.approx(found["balanced_accuracy_band_power_baseline"]["value"])
    assert "4 groups are too few to tell from band powers" in frozen["baseline_is"]
    summary = table.set_index(["model", "mode"])
    assert summary.loc[("labram", "frozen"), "score"] == pytest.approx(frozen["value"])
    assert len(pair_table(records, draws=50)) == 6


def test_no_item_ever_trains_on_who_it_is_tested_on(tmp_path):
    for fold, row in zip(folds_of(TASK, SETTINGS), fold_rows(TASK, SETTINGS)[:2], strict=True):
        result = run_row(row, TASK, SETTINGS, TRAINING, tmp_path)
        (found,) = gathered(read_records([result["record"]])).values()
        assert (
            set(TASK.groups[found.windows])
            == set(found.groups)
            == set(fold.held_out)
            == set(row["held_out"].split(", "))
        )
        assert not set(fold.held_out) & set(TASK.groups[fold.train])


@pytest.mark.train
def test_shuffled_targets_give_chance_frozen_and_with_a_head(tmp_path):
    cache, training = EmbeddingCache(tmp_path / "c"), dataclasses.replace(TRAINING, steps=200, head_rate=1e-2)
    task = stand_in(80, subjects=4)
    settings = dataclasses.replace(SETTINGS, models=("cbramod",), modes=("frozen", "head"))
    rows = [row for row in fold_rows(task, settings) if row["model"] == "cbramod"]
    scores = {"real": [], "shuffled": []}
    for kind, tasks in (("real", [task]), ("shuffled", [task.permuted(seed) for seed in range(4)])):
        for one in tasks:
            results = [run_row(row, one, settings, training, tmp_path / kind, cache) for row in rows]
            scores[kind] += [record["scores"]["auc"] for record in read_records(r["record"] for r in results)]
    assert cache.use.computed == 80  # shuffled targets are the same windows
    assert np.mean(scores["real"]) > 0.75 and abs(np.mean(scores["shuffled"]) - 0.5) < 0.1
