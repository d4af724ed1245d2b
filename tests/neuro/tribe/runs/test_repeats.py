"""The ceiling of repeated stimuli is what the truth reaches in one repeat; what was seen once has none."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from nbkit.neuro.tribe.runs.repeats import with_ceilings


def test_repeats_of_a_stimulus_by_a_subject_give_its_ceiling(some_runs):
    draws, run = np.random.default_rng(0), some_runs[0]
    steps = 1500
    truth = draws.normal(size=(steps, 24))
    features = {name: np.zeros((steps, 2), np.float32) for name in run.features}
    keep = np.arange(24) != 5

    def seen(name, subject, length=steps):
        bold = ((truth + 0.75 * draws.normal(size=truth.shape)) * keep).astype(np.float32)[:length]
        own = {key: value[:length] for key, value in features.items()}
        return replace(run, name=name, subject=subject, features=own, bold=bold, keep=keep, ceiling=None,
                       bold_valid=np.arange(length) > 8, teacher=None)  # fmt: skip

    runs = [seen("film", 0), seen("film", 1), seen("film", 0, 1400), seen("other", 0)]
    found = with_ceilings(runs)
    reached = np.mean([np.corrcoef(truth[:, v], runs[0].bold[:, v])[0, 1] for v in range(24) if v != 5])
    assert found[0].ceiling == found[2].ceiling == pytest.approx(reached, abs=0.02)
    assert found[1].ceiling is None and found[3].ceiling is None
    given = [replace(one, ceiling=0.5) for one in runs]
    assert [one.ceiling for one in with_ceilings(given)] == [0.5] * 4


def test_repeats_that_have_nothing_in_common_have_a_ceiling_near_zero(some_runs):
    draws, run = np.random.default_rng(1), some_runs[0]
    shape = (len(run), 400)
    runs = [replace(run, bold=draws.normal(size=shape).astype(np.float32), keep=None, ceiling=None) for _ in range(2)]
    assert with_ceilings(runs)[0].ceiling < 0.2  # half of the outputs have r below 0, and count as 0
