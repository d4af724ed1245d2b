"""Real EEG with response times, of people that no training saw: scored beside a ridge and the constant, no claim made.

What precedes and follows a target on four dry electrodes tells next to nothing of the response time across people; what
must hold is that the model does not pretend otherwise.
"""

from __future__ import annotations

from dataclasses import replace

import lightning
import numpy as np
import pytest

from nbkit.neuro.jepa.finetune import CHALLENGES, ComparedRegressor, FinetuneSettings
from nbkit.neuro.signals.recordings.cueing import CH_NAMES, write_cueing
from nbkit.neuro.signals.windows.window_data import WindowData
from nbkit.neuro.training.held_out.values import score_held_out
from tests.neuro.labram.training import train


@pytest.mark.train
def test_response_times_of_other_people_are_scored_beside_the_constant(shared_data, tmp_path):
    root = shared_data / "eeg_cueing_muse"
    if not root.is_dir():
        pytest.skip("the cueing recordings (../shared/data/eeg_cueing_muse) are not here")
    people = sorted(path.name.removeprefix("sub-") for path in root.glob("sub-*"))[:8]
    write_cueing(root, tmp_path, subjects=people)
    data = WindowData(tmp_path, 16, fractions=(0.6, 0.15, 0.25), may_miss=CHALLENGES[1].others)
    lightning.seed_everything(1, verbose=False)
    module = ComparedRegressor.for_data(replace(FinetuneSettings.smoke(), steps=30, lr=1e-3, min_lr=1e-4), data)
    assert module.encoder.settings.n_chans == len(CH_NAMES) == 4
    train(module, data, 30)
    found = score_held_out("cueing_test_nrmse", module, module, data)
    assert len(set(found.subjects)) == 2 and not set(found.subjects) & set(data.train_dataset.subjects)
    constant, model = found.scores["constant, training mean"], found.scores["pretrained, last step"]
    assert {row["baseline"] for row in found.rows} == {constant}
    assert constant - 0.1 < model < constant + 0.1
    assert np.isfinite(found.prediction).all()
