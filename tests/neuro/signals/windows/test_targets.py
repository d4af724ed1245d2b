"""Any column as the target: which are classes, which windows are left out, and mistakes in words."""

from __future__ import annotations

import json

import numpy as np
import pytest

from nbkit.neuro.signals.windows.shards import WindowShards
from nbkit.neuro.signals.windows.targets import choose_target
from nbkit.neuro.signals.windows.window_data import WindowData
from tests.neuro.training.rhythms import write_rhythms

SPLIT = {"fractions": (0.6, 0.2, 0.2)}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return write_rhythms(tmp_path_factory.mktemp("rhythms"))


def test_texts_are_class_numbers_in_batches_and_windows_without_one_are_counted(store):
    data = WindowData(store, 8, target="label", **SPLIT)
    assert data.classes == ("rest", "task") and data.missing == 20 and data.others == 0
    for side in (data.train_dataset, data.val_dataset, data.test_dataset):
        names = side.column("label")
        assert [data.classes[int(sample["target"])] for sample in side] == names.tolist()
    batch = next(iter(data.train_dataloader()))
    assert set(batch) == {"window", "target"} and not batch["target"].is_floating_point()
    # 5 windows of each 8 are rest and 4 task, less one: balanced weights make both weigh the same
    counts = np.bincount(data.train_dataset.column("target"))
    np.testing.assert_allclose(np.multiply(data.class_weights(), counts), [counts.sum() / 2] * 2)
    assert data.say_target(1) == "label task"


def test_whole_numbers_of_few_values_are_classes_unless_numbers_are_asked_for(store):
    assert WindowData(store, 8, target="score", **SPLIT).classes == ("0", "1", "2")
    numbers = WindowData(store, 8, target="score", classes=None, **SPLIT)
    assert numbers.classes == () and numbers.target_scale()[0] == pytest.approx(15 / 16)
    real = WindowData(store, 8, target="rt", **SPLIT)
    assert real.classes == () and real.train_dataset[3]["target"] == pytest.approx(real.train_dataset.column("rt")[3])


def test_some_classes_in_an_order_of_ones_own(store):
    data = WindowData(store, 8, target="score", classes=[2, 0], **SPLIT)
    assert data.classes == ("2", "0") and data.others == 50 and data.missing == 0
    side = data.train_dataset
    assert np.array_equal(side.column("target"), np.where(side.column("score") == 2, 0, 1))


def test_whole_numbers_taken_as_classes_are_marked_and_trial_types_have_their_bids_name(store):
    shards = WindowShards(store, columns=())
    assert choose_target(shards, "score").numbers and not choose_target(shards, "score", ["2", "0"]).numbers
    assert not choose_target(shards, "label").numbers
    asked, own = choose_target(shards, "trial_type"), choose_target(shards, "label")
    assert asked.classes == own.classes and np.array_equal(asked.values, own.values)


def test_mistakes_are_answered_in_words(store):
    shards = WindowShards(store, columns=())
    for wrong, words in (
        ({"column": "hand"}, "No column 'hand'.*label.*TARGET"),
        ({"column": "label", "classes": ["sleep"]}, "label = sleep.*CLASSES.*rest"),
        ({"column": "label", "classes": ["rest"]}, "nothing to tell apart"),
        ({"column": "label", "classes": ["rest", "rest"]}, "twice"),
        ({"column": "label", "classes": None}, "texts.*CLASSES = \\[\\]"),
    ):
        with pytest.raises(ValueError, match=words):
            choose_target(shards, **wrong)
    with pytest.raises(ValueError, match="without a TARGET"):
        WindowData(store, classes=["rest"])
    with pytest.raises(ValueError, match="make it the target"):
        WindowData(store, 8, columns=("label",)).setup()


def test_a_class_that_training_lacks_is_refused(tmp_path):
    write_rhythms(tmp_path, subjects=6)
    seeds = []
    for seed in range(20):
        data = WindowData(tmp_path, 8, target="label", seed=seed, fractions=(0.6, 0.2, 0.2))
        seeds += [seed] if "S02" not in data.train_dataset.subjects else []
    for path in tmp_path.rglob("*.json"):
        said = json.loads(path.read_text())
        kind = "patient" if said["subject"] == "S02" else "control"
        path.write_text(json.dumps({**said, "columns": {**said["columns"], "kind": [kind] * said["shape"][0]}}))
    assert seeds
    with pytest.raises(ValueError, match="No training window is of class patient of kind.*seed.*FRACTIONS"):
        WindowData(tmp_path, 8, target="kind", seed=seeds[0], fractions=(0.6, 0.2, 0.2)).setup()
