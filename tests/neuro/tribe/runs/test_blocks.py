"""Runs cut in time: each response is in one block, with its past before it; and the mean of several people."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from nbkit.neuro.tribe.runs.blocks import cut_in_time, mean_subject
from nbkit.neuro.tribe.runs.runs import NOBODY, split_runs, stimulus_of
from nbkit.neuro.tribe.runs.windows import RunWindows


def test_every_response_is_in_one_block_and_has_its_past(some_runs):
    run = replace(some_runs[0], low=np.arange(41.0)[:, None])
    blocks = cut_in_time(run, 3, lead_s=6.0)
    assert [block.name for block in blocks] == [f"{run.name}@{k}of3" for k in (1, 2, 3)]
    assert [len(block) for block in blocks] == [13, 19, 19]  # 5 steps of lead-in, except the first
    np.testing.assert_array_equal(np.concatenate([block.bold[block.scored] for block in blocks]), run.bold)
    assert blocks[1].low[:6, 0].tolist() == [8, 9, 10, 11, 12, 13] and blocks[1].scored.tolist()[:6] == [False] * 5 + [
        True
    ]
    assert not (blocks[1].teacher_valid & ~blocks[1].scored).any()
    window = RunWindows(blocks[1:2], 19)[0]
    assert window["bold_valid"].tolist() == blocks[1].scored.tolist()
    assert cut_in_time(run, 1) == [run]
    with pytest.raises(ValueError, match="41 steps: 5 blocks would have 8 each, and 10 is the least"):
        cut_in_time(run, 5)


def test_the_mean_subject_has_the_mean_response_in_z_units(some_runs):
    pair = [run for run in some_runs if run.name == some_runs[0].name]
    assert [run.subject for run in pair] == [0, 1]
    dead = np.arange(24) != 2
    (mean,) = mean_subject([pair[0], replace(pair[1], keep=dead)])
    wanted = (pair[0].bold + pair[1].bold) / 2
    np.testing.assert_allclose(mean.bold, wanted / wanted.std(0), atol=1e-4)
    assert mean.subject == NOBODY and not mean.keep[2] and mean.keep[3]
    assert len(mean_subject(some_runs)) == 3


def test_what_an_earlier_phase_was_trained_on_is_never_held_out(some_runs):
    names = sorted({run.name for run in some_runs})
    for last in names:
        _, val = split_runs(some_runs, seen=set(names) - {last})
        assert {run.name for run in val} == {last}
    blocks = [block for run in some_runs for block in cut_in_time(run, 2)]
    _, val = split_runs(blocks, seen=names[:2])
    assert {stimulus_of(run.name) for run in val} == {names[2]}
    with pytest.raises(ValueError, match="trained on all 3 stimuli"):
        split_runs(some_runs, seen=names)
    with pytest.raises(ValueError, match=f"trained on 1 of 1 stimuli that begin with '{names[0]}'"):
        split_runs(some_runs, val_prefix=names[0], seen=names[:1])
