"""Finetuning: four modes as scikit-learn estimators, trained where they should be and nowhere else."""

from __future__ import annotations

import dataclasses
import hashlib

import numpy as np
import pytest
import torch
from sklearn.base import clone, is_classifier, is_regressor
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GroupKFold, cross_val_score

from nbkit.neuro.decoding.artifacts import NeuralTrainable
from nbkit.neuro.decoding.finetune import (
    MODES,
    FoundationClassifier,
    FoundationRegressor,
    StandardisedHead,
    decoder_for,
)
from nbkit.neuro.decoding.models.registry import load_model
from nbkit.neuro.decoding.tasks import stand_in
from nbkit.neuro.decoding.training import FineTuneSettings, forward

pytestmark = pytest.mark.train

TASK = stand_in(24, subjects=4)
SMOKE = FineTuneSettings.smoke()
TRAINED = TASK.groups != "S04"


def classifier(mode="head", **more):
    return FoundationClassifier("labram", TASK.ch_names, TASK.sfreq, mode, SMOKE, **more)


def fitted(mode="head", **more):
    return classifier(mode, **more).fit(TASK.windows[TRAINED], TASK.target[TRAINED], TASK.groups[TRAINED])


@pytest.mark.parametrize("mode", MODES)
def test_each_mode_trains_what_it_should_and_says_what(mode, tmp_path):
    made = fitted(mode, folder=tmp_path)
    before, _ = decoder_for(made.model_, mode, 2, SMOKE, made.seed)
    before = StandardisedHead(before.head, np.zeros((2, 200), np.float32)) if mode == "head" else before
    wanted = {name for name, weight in before.named_parameters() if weight.requires_grad}
    after = dict(made.network_.named_parameters())
    changed = {n for n, w in before.named_parameters() if not torch.equal(w.detach(), after[n].detach())}
    assert changed <= wanted and bool(changed) == (made.trained_.best_step > 0)  # step 0 is the start, to the bit
    kept = torch.load(tmp_path / "best.pt", weights_only=True)["state_dict"]
    assert set(kept) == wanted | ({"mean", "deviation"} if mode == "head" else set())
    manifest, info = made.get_checkpoint_manifest(), made.get_model_card_info()
    assert manifest["sha256"] == hashlib.sha256((tmp_path / "best.pt").read_bytes()).hexdigest()
    assert manifest["weights"] == sum(w.numel() for w in kept.values()) and info["weights"] == "random, seed 0"
    assert made.get_failure_diagnostics()["dead_adapters"] == [] and isinstance(made, NeuralTrainable)
    assert ("adapters" in info["trains"]) == (mode in ("lora", "qlora")) and "by group" in info["split"]
    assert ("4 bits" in info["trains"]) == (mode == "qlora")
    odds = made.predict_proba(TASK.windows[~TRAINED])
    np.testing.assert_allclose(odds.sum(1), 1.0)
    assert made.score(TASK.windows[~TRAINED], TASK.target[~TRAINED]) == np.mean(odds.argmax(1) == TASK.target[~TRAINED])


def test_the_backbone_that_is_shared_is_never_changed():
    model = load_model("labram", ch_names=TASK.ch_names, window=2.0)
    before = model.fingerprint
    FoundationClassifier(model, TASK.ch_names, TASK.sfreq, "full", SMOKE).fit(TASK.windows, TASK.target, TASK.groups)
    del model.fingerprint
    assert model.fingerprint == before


def test_a_head_on_kept_embeddings_is_the_head_on_the_whole_network():
    made = fitted("head")
    whole = torch.nn.Sequential(made.model_.with_head(2).backbone, made.network_)
    array = made.model_.prepare(TASK.windows, TASK.ch_names, TASK.sfreq).array
    outputs = forward(whole, array, "cpu").softmax(1)
    np.testing.assert_allclose(made.predict_proba(TASK.windows), outputs, atol=1e-5)


@pytest.mark.parametrize("mode", ["head", "lora"])
def test_the_same_fit_gives_the_same_bits(mode, tmp_path):
    first, second = (fitted(mode, folder=tmp_path / name) for name in "ab")
    assert first.get_artifact_metadata() == second.get_artifact_metadata()
    assert (first.predict_proba(TASK.windows) == second.predict_proba(TASK.windows)).all()
    assert fitted(mode, seed=1).get_training_history() != first.get_training_history()


def test_a_heads_embeddings_are_standardised_on_the_windows_it_is_trained_on():
    values = np.random.default_rng(0).normal(3.0, [0.01, 5.0, 0.0], (50, 3)).astype(np.float32)
    made = StandardisedHead(torch.nn.Identity(), values)(torch.as_tensor(values)).numpy()
    np.testing.assert_allclose(made.mean(0), 0, atol=1e-4)
    np.testing.assert_allclose(made.std(0), [1, 1, 0], atol=1e-3)


def test_it_keeps_to_scikit_learns_conventions():
    made = classifier("lora")
    before = made.get_params()
    assert clone(made).get_params() == before and is_classifier(made)
    assert is_regressor(FoundationRegressor()) and FoundationRegressor().get_params().keys() == before.keys()
    with pytest.raises(NotFittedError):
        made.predict(TASK.windows)
    names = np.array(["noise", "rhythm"])[TASK.target]
    named = classifier().fit(TASK.windows, names, TASK.groups)
    assert list(named.classes_) == ["noise", "rhythm"] and set(named.predict(TASK.windows)) <= set(names)
    assert named.get_params() == classifier().get_params()
    scores = cross_val_score(classifier(), TASK.windows, TASK.target, groups=TASK.groups, cv=GroupKFold(2))
    assert len(scores) == 2 and np.isfinite(scores).all()


def test_what_was_planted_is_learned_by_people_who_were_not_seen():
    task, settings = stand_in(80), dataclasses.replace(SMOKE, steps=200, head_rate=1e-2, val_every=20)
    trained = task.groups != "S04"
    made = FoundationClassifier("cbramod", task.ch_names, task.sfreq, "head", settings)
    made.fit(task.windows[trained], task.target[trained], task.groups[trained])
    assert made.score(task.windows[~trained], task.target[~trained]) >= 0.9
    shuffled = task.permuted(1)
    made.fit(shuffled.windows[trained], shuffled.target[trained], shuffled.groups[trained])
    assert abs(made.score(shuffled.windows[~trained], shuffled.target[~trained]) - 0.5) <= 0.35


def test_a_regressor_predicts_in_the_targets_unit():
    values = 0.4 + 0.1 * TASK.target
    made = FoundationRegressor("labram", TASK.ch_names, TASK.sfreq, "head", SMOKE).fit(
        TASK.windows, values, TASK.groups
    )
    assert made.predict(TASK.windows).shape == (24,) and abs(made.predict(TASK.windows).mean() - values.mean()) < 0.2
    with pytest.raises(ValueError, match="1 of 24 targets are not finite"):
        made.fit(TASK.windows, np.where(np.arange(24) == 3, np.nan, values))
    with pytest.raises(ValueError, match="their deviation is 0"):
        made.fit(TASK.windows, np.ones(24))


def test_what_cannot_be_learned_from_is_refused():
    with pytest.raises(ValueError, match="choose one of head, full, lora, qlora"):
        fitted("frozen")
    with pytest.raises(ValueError, match="are of class 1; two or more"):
        classifier().fit(TASK.windows[TASK.target == 1], TASK.target[TASK.target == 1])
    with pytest.raises(ValueError, match="NaN"):
        classifier().fit(np.full_like(TASK.windows, np.nan), TASK.target)
