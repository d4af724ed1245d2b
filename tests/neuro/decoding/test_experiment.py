"""The seed's own samples, in the form in which they can work, and what an experiment refuses."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression

from nbkit.neuro.decoding.cache import EmbeddingCache
from nbkit.neuro.decoding.decoders import BandPowers, FineTune, FrozenProbe
from nbkit.neuro.decoding.experiment import CrossValidation, Experiment, seed_of
from nbkit.neuro.decoding.models.registry import list_foundation_models
from nbkit.neuro.decoding.tasks import stand_in
from nbkit.neuro.decoding.training import FineTuneSettings

TASK = stand_in(24, subjects=4)
META = pd.DataFrame({"Subject": TASK.groups, "Session": "1"})
CV = CrossValidation("stratified_group_kfold", n_splits=2, group_key="Subject")


def run(experiment, tmp_path, y=None, **more):
    given = {"sample_metadata": META, "ch_names": TASK.ch_names, "sfreq": TASK.sfreq, "folder": tmp_path} | more
    return experiment.run(TASK.windows, TASK.target if y is None else y, **given)


def test_section_1_a_frozen_backbone_with_logistic_regression(tmp_path):
    experiment = Experiment(
        task="classification",
        models={"labram_probe": FrozenProbe("labram", head=LogisticRegression(max_iter=1000))},
        metrics=["balanced_accuracy"],
        cv=CV,
    )
    cache = EmbeddingCache(tmp_path / "embeddings")
    result = run(experiment, tmp_path, cache=cache)
    table = result.get_detailed_scores()
    assert list(table["fold"]) == [1, 2] and set(table["weights"]) == {"random, seed 0"}
    held = [set(names.split(", ")) for names in table["held_out"]]
    assert held[0] | held[1] == set(TASK.groups) and not held[0] & held[1]
    assert cache.use.computed == 24  # 1.1: once, whatever the folds
    assert run(experiment, tmp_path / "again", cache=cache).get_detailed_scores().equals(table)
    assert cache.use.computed == 24


def test_section_1_2_the_table_of_models():
    assert set(list_foundation_models().index) == {
        "bendr", "biot", "cbramod", "eegpt", "labram", "luna", "reve", "signaljepa",
    }  # fmt: skip


def test_sections_2_and_3_qlora_and_its_artifacts(tmp_path):
    settings = FineTuneSettings(steps=2, batch_size=4, warmup_steps=0, r=16, alpha=32, dropout=0.05, val_every=1)
    experiment = Experiment(
        models={"labram_qlora": FineTune("labram", "qlora", settings), "power": BandPowers()}, cv=CV
    )
    result = run(experiment, tmp_path)
    artifacts = result.get_model_artifacts()
    assert list(artifacts.columns) == ["Model", "Fold", "ArtifactType", "ArtifactKey", "ArtifactValue"]
    history = result.get_model_artifacts(artifact_type="training_history")
    assert set(history["Model"]) == {"labram_qlora"} and set(history["Fold"]) == {1, 2}
    checkpoints = result.get_model_artifacts(artifact_type="checkpoints").set_index(["Fold", "ArtifactKey"])
    for fold in (1, 2):
        kept = tmp_path / "labram_qlora" / str(fold) / checkpoints.loc[(fold, "path"), "ArtifactValue"]
        assert kept.stat().st_size == checkpoints.loc[(fold, "bytes"), "ArtifactValue"]
        assert "4 bits" in (kept.parent / "card.md").read_text()
    assert list(result.summary()["model"])[0] == "band_power"


def test_text_labels_and_regressions_are_taken_too(tmp_path):
    named = np.array(["noise", "rhythm"])[TASK.target]
    result = run(Experiment(models={"power": BandPowers()}, cv=CV), tmp_path, named)
    assert result.get_detailed_scores()["balanced_accuracy"].mean() > 0.9
    cv = CrossValidation("group_kfold", 2)
    result = run(Experiment(models={"power": BandPowers()}, task="regression", cv=cv), tmp_path, TASK.target * 0.1)
    assert result.get_detailed_scores()["r2"].mean() > 0.5 and result.metrics == ("r2", "rmse", "r")


def test_what_cannot_be_run_is_refused_before_anything_is_trained(tmp_path):
    models = {"power": BandPowers()}
    with pytest.raises(ValueError, match="A classification has no metrics loss"):
        run(Experiment(models, metrics=["loss"]), tmp_path)
    with pytest.raises(ValueError, match="no column 'Person'; it has Subject, Session"):
        run(Experiment(models, cv=CrossValidation(group_key="Person")), tmp_path)
    with pytest.raises(ValueError, match="n_splits=5 with 4 groups"):
        run(Experiment(models), tmp_path)
    with pytest.raises(ValueError, match="1 channel names for 19 channels"):
        run(Experiment(models), tmp_path, ch_names=["Cz"])
    assert not list(tmp_path.iterdir())


def test_a_folds_seed_is_its_names():
    assert seed_of("a-fold-1", 1) == seed_of("a-fold-1", 1) != seed_of("a-fold-2", 1) != seed_of("a-fold-2", 2)
