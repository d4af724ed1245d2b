"""Stimuli, teacher and fMRI in one run, and windows of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from nbkit.ground.stand_in import is_made_up
from nbkit.neuro.tribe.runs.runs import data_of, make_stimulus_run, planted_runs, split_runs, stored_runs
from nbkit.neuro.tribe.runs.targets import run_of
from nbkit.neuro.tribe.runs.windows import RunWindows, TribeData, starts
from nbkit.neuro.tribe.stimuli.segments import N_VERTICES, Segment, write_segment
from nbkit.neuro.tribe.stimuli.synthetic import synthetic_fmri, synthetic_stimulus


def test_everything_of_a_run_has_its_steps(some_runs):
    for run in some_runs:
        assert len(run) == 41 and run.step_s == 1.49
        assert {v.shape[0] for v in (run.bold, run.teacher, run.fusion, *run.features.values())} == {41}
        assert run.ceiling == 0.8 and "synthetic" in run.data
    assert [run.subject for run in some_runs] == [0, 1] * 3 and "stand-in" in data_of(some_runs)


def test_features_and_segments_of_the_store_meet_by_name(world, tmp_path):
    features = []
    for index in (0, 1):
        made = synthetic_stimulus(replace(world, duration_s=130.0), index)
        features.append(tmp_path / f"{made['video_id']}.npz")
        np.savez(features[-1], **made)
    draws = np.random.default_rng(0)
    said = torch.from_numpy(draws.normal(size=(130, N_VERTICES)).astype(np.float32))
    fusion = torch.from_numpy(draws.normal(size=(130, 1152)).astype(np.float32))
    parts = [(0, 100), (100, 130)]
    paths = [write_segment(tmp_path, Segment("planted", "stim0001", a, b, said[a:b], fusion[a:b], fusion[a:b]))
             for a, b in parts]  # fmt: skip
    (run,) = stored_runs(features, paths, step_s=1.0, n_outputs=5124)
    assert run.name == "stim0001" and run.teacher.shape == (130, 5124)
    np.testing.assert_allclose(run.teacher[105], said[100, :2562].tolist() + said[100, 10242:12804].tolist(), atol=2e-3)
    np.testing.assert_allclose(run.fusion[100], fusion[100], atol=2e-3)
    assert not run.teacher_valid[:5].any() and run.teacher_valid[5:].all() and run.fusion_valid.all()
    assert [r.teacher for r in stored_runs(features)] == [None, None]
    with pytest.raises(ValueError, match="no stimulus in common"):
        stored_runs(features[:1], paths)


@pytest.mark.parametrize(
    ("stimuli", "brain", "said"),
    [
        ("real", "real", "real"),
        ("made up", "made up", "synthetic stand-in: planted latents"),
        ("made up", "real", "made-up stimuli; the fMRI is recorded"),
        ("real", "made up", "made-up fMRI; the stimuli are real"),
    ],
)
def test_the_label_says_which_part_is_made_up(world, stimuli, brain, said):
    features, bold = synthetic_stimulus(world, 0), synthetic_fmri(world, 0, synthetic_stimulus(world, 0))
    features |= {"data": np.array("real")} if stimuli == "real" else {}
    bold |= {"data": "real"} if brain == "real" else {}
    label = data_of([make_stimulus_run(features, 1.49, fmri=run_of(bold))])
    assert label.startswith(said) and is_made_up(label) == ("made up" in (stimuli, brain))


def test_what_is_of_another_stimulus_or_grid_is_refused(world):
    one, other = (synthetic_stimulus(world, index) for index in (0, 1))
    fmri = run_of(synthetic_fmri(world, 0, other))
    with pytest.raises(ValueError, match="fMRI of the stimulus 'stim0001' was given for 'stim0000'"):
        make_stimulus_run(one, 1.49, fmri=fmri)
    with pytest.raises(ValueError, match="TR of 1.49 s for a grid of 1 s"):
        make_stimulus_run(other, 1.0, fmri=fmri)


def test_no_stimulus_is_on_both_sides(some_runs):
    train, val = split_runs(some_runs, 0.34)
    assert len(train) == 4 and len(val) == 2 and not {r.name for r in train} & {r.name for r in val}
    assert {r.name for r in split_runs(some_runs, val_prefix="stim0002")[1]} == {"stim0002"}
    with pytest.raises(ValueError, match="no stimulus begins with 's07'"):
        split_runs(some_runs, val_prefix="s07")
    with pytest.raises(ValueError, match="in training and validation"):
        TribeData(some_runs, val, 20)


def test_windows_keep_the_tail_and_mark_what_is_not_there(some_runs):
    assert starts(41, 20, 20) == [0, 20, 21] and starts(40, 20, 20) == [0, 20] and starts(10, 20, 5) == [0]
    windows = RunWindows(some_runs, 20)
    assert len(windows) == 18
    last = windows[2]
    np.testing.assert_array_equal(last["bold"], some_runs[0].bold[21:41])
    assert last["seen"].all() and windows[0]["teacher_valid"].sum() == 16  # steps 0 to 3 are before 5 s
    long = RunWindows(some_runs, 50)[1]
    assert long["seen"].sum() == 41 and not long["bold_valid"][41:].any() and (long["text"][41:] == 0).all()


def test_targets_that_only_some_runs_have(world):
    with_fmri = planted_runs(world, [0], subjects=[0], teacher=False)
    taught = planted_runs(world, [1])
    windows = RunWindows([*with_fmri, *taught], 41)
    first, second = windows[0], windows[1]
    assert first.keys() == second.keys()
    assert first["bold_valid"].all() and not first["teacher_valid"].any()
    assert not second["bold_valid"].any() and second["teacher_valid"].any() and second["subject"] == -1
    with pytest.raises(ValueError, match="make them alike"):
        RunWindows([*with_fmri, *planted_runs(replace(world, n_outputs=12, parcels=12), [1])], 20)
    with pytest.raises(ValueError, match="no runs"):
        RunWindows([], 20)
