"""Both trainings side by side: alike, independent of each other, in one checkpoint, and resumed together."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from nbkit.neuro.bandvar.controls.by_subject import MODEL, SURROGATE, Errors, measure_errors
from nbkit.neuro.bandvar.controls.excess import excess_rows, skill_arrays, skill_table
from nbkit.neuro.bandvar.controls.paired import PairedBandVAR, module_for
from nbkit.neuro.bandvar.controls.rollouts import (
    control_rollouts,
    control_rows,
    groups_of_stack,
    open_models,
    score_rollouts,
    subject_rows,
)
from nbkit.neuro.bandvar.data import BandData
from nbkit.neuro.bandvar.rollout import delta_conditioned_inference, rollout_table, snr_db
from nbkit.neuro.bandvar.training import BandVAR, BandVARSettings
from nbkit.neuro.signals.windows.shards import write_signal
from nbkit.runtime.training.fit import fit
from tests.runtime.training.training_support import FakeSession, StopAt, checkpoint_of, digest

SETTINGS = replace(BandVARSettings.smoke(), d_model=16, nhead=2, steps=12, batch_size=4)


def coupled(seconds: int, seed: int, sfreq: float = 100.0) -> np.ndarray:
    """EEG whose fast rhythm is loud where the slow one is positive: a relation across bands that no spectrum shows."""
    draws = np.random.default_rng(seed)
    time = np.arange(int(seconds * sfreq)) / sfreq
    slow = np.sin(2 * np.pi * (2 * time + 0.15 * np.cumsum(draws.normal(size=time.size)) / sfreq**0.5))
    fast = np.sin(2 * np.pi * 6 * time) * (slow > 0)
    return 20 * np.stack([slow, slow]) + 12 * np.stack([fast, fast]) + draws.normal(size=(2, time.size))


@pytest.fixture
def data(tmp_path):
    for subject in range(4):
        cuts = {"windows": (np.arange(0, 2900, 100), 100, {})}
        named = dict(ch_names=["C3", "C4"], subject=f"S{subject}", data="synthetic", run="1")
        write_signal(tmp_path / f"S{subject}", coupled(30, subject), sfreq=100.0, cuts=cuts, **named)
    return BandData(tmp_path, 4, val_fraction=0.5, surrogate=True)


def test_a_pair_is_a_window_and_the_same_window_of_the_surrogate(data):
    pair = next(iter(data.val_dataloader()))
    assert pair.shape == (4, 2, 5, 2, 100)
    assert torch.equal(pair[0, 0], data.val_dataset[0]) and torch.equal(pair[0, 1], data.twins[1][0])
    assert len(data.twins[0]) == len(data.train_dataset) and not torch.equal(pair[:, 0], pair[:, 1])
    assert data.surrogate_scale[0] == pytest.approx(data.scale[0], rel=0.2)


def test_windows_at_the_edges_are_neither_trained_on_nor_scored(data):
    assert data.train_dataset.at_edges > 0
    for side in (data.train_dataset, data.val_dataset):
        starts = side.shards.starts
        assert starts.min() >= 330 and starts.max() + 100 <= 3000 - 330


def test_each_model_learns_as_in_a_training_of_its_own(data):
    torch.manual_seed(0)
    pair = PairedBandVAR.for_data(SETTINGS, data)
    same = [name for name, value in pair.real.model.state_dict().items() if not name.endswith("_scale")]
    other = pair.surrogate.model.state_dict()
    assert all(torch.equal(pair.real.model.state_dict()[name], other[name]) for name in same)
    batch = next(iter(data.train_dataloader()))
    pair.log = lambda *args, **options: None
    pair.training_step(batch, 0).backward()
    pair.configure_gradient_clipping(None)
    alone = BandVAR.for_data(SETTINGS, data)
    alone.model.load_state_dict(pair.real.model.state_dict())
    alone.loss(batch[:, 0]).backward()
    torch.nn.utils.clip_grad_norm_(alone.parameters(), SETTINGS.grad_clip)
    for (name, ours), theirs in zip(pair.real.model.named_parameters(), alone.model.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, msg=name)


@pytest.mark.train
def test_both_resume_together_bit_for_bit(data, tmp_path):
    def train(name, stop=None):
        torch.manual_seed(0)
        session = FakeSession(tmp_path / name, store=tmp_path / f"{name}-store")
        module = module_for(SETTINGS, data)
        calls = [StopAt(session, stop)] if stop else []
        return fit(session, module, data, max_steps=12, val_check_interval=5, callbacks=calls), module

    whole, first = train("whole")
    half, _ = train("halves", stop=7)
    rest, second = train("halves")
    assert whole.complete and half.step == 7 and rest.resumed_from == 7 and rest.complete
    assert digest(checkpoint_of(tmp_path / "halves")) == digest(checkpoint_of(tmp_path / "whole"))
    assert {"val_excess", "val_mse", "val_surrogate_mse"} <= set(rest.history[-1])
    path = next((tmp_path / "halves").rglob("step-000000012.ckpt"))
    real, surrogate = open_models(path)
    torch.testing.assert_close(real.state_dict(), second.real.state_dict())
    torch.testing.assert_close(surrogate.state_dict(), second.surrogate.state_dict())
    torch.testing.assert_close(BandVAR.from_checkpoint(path).state_dict(), first.real.state_dict())
    real.check_held_out(data)
    with pytest.raises(ValueError, match="the model was trained on them"):
        real.check_held_out(SimpleNamespace(val_dataset=data.train_dataset))


def test_a_table_counts_what_the_predictors_are_worth(data):
    torch.manual_seed(0)
    module = PairedBandVAR.for_data(SETTINGS, data)
    errors = measure_errors(module, data)
    assert errors.subjects and set(errors.windows) == {len(data.val_dataset) // 2}
    np.testing.assert_allclose(errors.skill(MODEL), 0, atol=1e-6)  # untrained, it copies its input
    np.testing.assert_allclose(errors.skill(SURROGATE, 1), 0, atol=1e-6)
    levels = data.val_dataset.stack().astype(float)
    copied = np.square(np.diff(levels, axis=1)).mean(axis=-1)
    half = len(levels) // 2
    np.testing.assert_allclose(errors.mse["persistence"], [copied[:half].mean(0), copied[half:].mean(0)])
    rows = {row["name"]: row for row in excess_rows(errors)}
    assert rows["excess"]["value"] == pytest.approx(0, abs=1e-6) and rows["excess"]["baseline"] == 0
    assert rows["skill_model"]["baseline"] == pytest.approx(errors.skill("Wiener filter").mean())
    assert rows["excess_low"]["value"] <= rows["excess"]["value"] <= rows["excess_high"]["value"]
    assert "Wiener filter on surrogates" in skill_table(errors) and skill_arrays(errors)["by_channel"].shape == (4, 2)
    assert excess_rows(None) == [] and skill_arrays(None)["skills"] == {} and "not complete" in skill_table(None)


def test_a_model_without_surrogates_is_scored_beside_the_linear_predictors():
    mse = {name: np.full((3, 2, 4), value) for name, value in
           {"model": 0.5, "Wiener filter": 0.8, "AR": 0.9, "persistence": 1.0}.items()}  # fmt: skip
    errors = Errors(("1", "2", "3"), ("theta", "alpha"), mse, np.ones(3))
    rows = {row["name"]: row for row in excess_rows(errors)}
    assert not errors.controlled and "excess" not in rows
    assert (rows["skill_model"]["value"], rows["skill_model"]["baseline"]) == pytest.approx((0.5, 0.2))
    assert rows["skill_model_beyond_wiener_low"]["value"] == pytest.approx(0.3)
    assert skill_arrays(errors)["excess"] is None


def test_controls_are_rolled_out_beside_the_model(data):
    torch.manual_seed(0)
    module = PairedBandVAR.for_data(SETTINGS, data)
    truth, names = data.val_dataset.stack(10), ("delta", "theta", "alpha", "beta", "gamma")
    table = rollout_table(module.real.model, truth, names)
    controls = control_rollouts(data, truth, module.surrogate, names)
    rows = {row["name"]: row for row in control_rows(controls, table)}
    assert controls["wiener"]["stage_mse_delta"] == 0 and set(controls) >= {"ar", "surrogate"}
    assert rows["delta_conditioned_snr_db_gain"]["value"] == pytest.approx(0, abs=1e-5)  # untrained: persistence
    gap = table["delta_conditioned"]["snr_db"] - controls["wiener"]["snr_db"]
    assert rows["delta_conditioned_snr_db_beyond_wiener"]["value"] == pytest.approx(gap)
    assert "surrogate_snr_db" not in {
        row["name"] for row in control_rows(control_rollouts(data, truth, None, names, limit=0), table)
    }


def test_rollouts_are_scored_by_subject_with_rivals_on_the_same_subjects(data):
    torch.manual_seed(0)
    module = PairedBandVAR.for_data(SETTINGS, data)
    for weight in module.real.model.parameters():
        torch.nn.init.normal_(weight, std=0.02)
    truth, names = data.val_dataset.stack(10), ("delta", "theta", "alpha", "beta", "gamma")
    groups = groups_of_stack(data, 10)
    table = rollout_table(module.real.model, truth, names, groups=groups)
    rows = {row["name"]: row for row in subject_rows(control_rollouts(data, truth, None, names), table, data)}
    rolled = delta_conditioned_inference(module.real.model, truth[:, 0], len(names)).numpy()
    each = []
    for group in range(groups.max() + 1):  # one window after another
        of = [place for place in range(10) if groups[place] == group]
        each.append(snr_db(np.stack([truth[i, -1] for i in of]), np.stack([rolled[i, -1] for i in of])))
    row = rows["delta_conditioned_snr_db_by_subject"]
    assert row["value"] == pytest.approx(np.mean(each)) and row["over"] == f"{len(each)} subjects"
    assert [rival["name"] for rival in row["rivals"]] == ["persistence", "Wiener filter", "AR of each channel"]
    assert row["rivals"][0]["difference"] == pytest.approx(row["value"] - row["baseline"])
    assert len(each) == 1 or row["low"] < row["value"] < row["high"]
    assert "delta_conditioned_snr_db_gain_by_subject" not in rows
    all_of_it = {row["name"]: row for row in score_rollouts(module.real.model, None, data, truth)}
    assert all_of_it["delta_conditioned_snr_db_by_subject"] == row and "zero_start_snr_db" in all_of_it
