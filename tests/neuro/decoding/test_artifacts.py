"""What folds leave: cards that say what matters, files whose hashes hold, one table for all."""

from __future__ import annotations

import hashlib
import json

import pytest
import torch

from nbkit.neuro.decoding.artifacts import (
    KINDS,
    artifact_table,
    model_card,
    read_records,
    score_table,
    write_checkpoint,
    write_record,
)


def record(model="labram", mode="lora", fold=1, score=0.6, **more):
    scores = {"balanced_accuracy": score, "balanced_accuracy_trivial": 0.5, "auc": 0.65, "auc_trivial": 0.5}
    kept = {
        "path": "best.pt", "bytes": 10, "sha256": "ab" * 32, "best_step": 4, "metric": "val_loss", "value": 0.61,
        "weights": 1200, "steps": 6, "split": "by group: S2 held out", "trains": "24 adapters",
    }  # fmt: skip
    return {
        "name": f"{model}-{mode}", "model": model, "mode": mode, "fold": fold, "task": "toy", "kind": "classification",
        "data": "synthetic", "held_out": ["S1"], "test_windows": 8, "train_windows": 24, "scores": scores,
        "beside": scores, "info": {"weights": "random, seed 0", "said": ["19 of 19 channels by name"]},
        "history": [{"step": 0, "val_loss": 0.7}, {"step": 1, "train_loss": 0.6, "grad_norm": 1.0, "rate": 1.0}],
        "checkpoint": kept, "diagnostics": {"words": ["2 of 6 steps were not finite"], "grad_norm_max": 3.0}, **more,
    }  # fmt: skip


def test_the_card_says_weights_data_preprocessing_split_and_what_costs_nothing():
    text = model_card(record(), {"balanced_accuracy": 0.81})
    for word in (
        "# labram, lora, fold 1", "**Weights**: random, seed 0", "synthetic", "S1 (8 windows", "19 of 19 channels",
        "best step 4 of 6", "24 adapters", "by group: S2 held out", "abab", "2 of 6 steps were not finite",
        "| balanced_accuracy | 0.600 | 0.810 | 0.500 | chance |", "The backbone is random",
    ):  # fmt: skip
        assert word in text, word
    trained = record(info={"weights": "braindecode/labram-pretrained: 208 of 208"}, diagnostics={"words": []})
    assert "random" not in model_card(trained) and "no problem was detected" in model_card(trained)


def test_a_checkpoint_holds_the_trained_weights_and_its_manifest_their_hash(tmp_path):
    weights = {"head.weight": torch.arange(6.0).reshape(2, 3), "head.bias": torch.zeros(2)}
    made = [write_checkpoint(tmp_path / n / "best.pt", weights, {"model": "toy"}, 4, 0.5) for n in "ab"]
    assert made[0] == made[1] and made[0]["weights"] == 8 and made[0]["best_step"] == 4
    content = (tmp_path / "a/best.pt").read_bytes()
    assert hashlib.sha256(content).hexdigest() == made[0]["sha256"] and len(content) == made[0]["bytes"]
    held = torch.load(tmp_path / "a/best.pt", weights_only=True)
    assert torch.equal(held["state_dict"]["head.weight"], weights["head.weight"])
    assert json.loads(held["about"]) == {"model": "toy"}
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["best.pt"]


def test_records_are_read_back_in_order_whatever_order_they_came_in(tmp_path):
    paths = []
    for fold in (2, 1):
        for model in ("labram", "cbramod"):
            paths += write_record(tmp_path / f"{model}{fold}", record(model, fold=fold))
    found = read_records([*paths, tmp_path / "other.npz"])
    assert [(r["model"], r["fold"]) for r in found] == [("cbramod", 1), ("cbramod", 2), ("labram", 1), ("labram", 2)]
    assert found[0] == record("cbramod")


def test_one_table_holds_all_folds():
    records = [record(fold=1, score=0.6), record(fold=2, score=0.8), record("cbramod", "frozen", 1, 0.9)]
    table = score_table(records)
    assert (
        len(table) == 3
        and list(table["worries"]) == [1, 1, 1]
        and list(table["balanced_accuracy_trivial"]) == [0.5] * 3
    )


def test_artifacts_are_a_long_table_of_chosen_types():
    table = artifact_table([record(), record("cbramod", "frozen", checkpoint=None, history=[])])
    assert list(table.columns) == ["Model", "Fold", "ArtifactType", "ArtifactKey", "ArtifactValue"]
    assert set(table["ArtifactType"]) == set(KINDS)
    history = artifact_table([record()], "training_history")
    assert list(history["ArtifactKey"]) == ["step_0", "step_1"] and history["ArtifactValue"][1]["train_loss"] == 0.6
    kept = artifact_table([record()], "checkpoints").set_index("ArtifactKey")["ArtifactValue"]
    assert kept["best_step"] == 4 and kept["path"] == "best.pt"
    with pytest.raises(ValueError, match="choose one of training_history"):
        artifact_table([record()], "history")
