"""Networks from scratch are trained and stored as foundation models are, and learn what is planted."""

from __future__ import annotations

import pytest

from nbkit.neuro.decoding.artifacts import read_records
from nbkit.neuro.decoding.decoders import RIVALS, Scratch, rival
from nbkit.neuro.decoding.experiment import run_fold
from nbkit.neuro.decoding.folds import outer_folds
from nbkit.neuro.decoding.rivals.scratch import SFREQ, scratch_model
from nbkit.neuro.decoding.tasks import stand_in
from nbkit.neuro.decoding.training import FineTuneSettings

TASK = stand_in(80, subjects=4)


@pytest.mark.train
@pytest.mark.parametrize("name", ["eegnet", "shallow"])
def test_they_find_the_planted_rhythm_on_people_held_out(tmp_path, name):
    fold = outer_folds(TASK.target, TASK.groups, n_splits=2)[0]
    settings = FineTuneSettings(steps=80, batch_size=16, warmup_steps=5, val_every=20, head_rate=5e-3)
    result = run_fold(f"{name}-scratch", rival(name, settings), TASK, fold, tmp_path, seed=1)
    (record,) = read_records([result["record"]])
    assert record["scores"]["balanced_accuracy"] > 0.8 and record["mode"] == "scratch"
    assert record["info"]["weights"] == "none: trained here from scratch" and result["checkpoint"].is_file()
    assert record["info"]["settings"]["backbone_rate"] == 5e-3


def test_their_windows_are_those_of_the_task_at_128_hz():
    model = scratch_model("shallow", TASK.ch_names, 200.0, 400)
    assert model.sfreq == SFREQ and model.n_times == 256 and not model.random
    assert model.embed(model.prepare(TASK.windows[:3], TASK.ch_names, 200.0)).shape == (3, model.dim)
    assert set(RIVALS) == {"band_power", "riemann", "xdawn", "eegnet", "shallow"}
    assert rival("eegnet", FineTuneSettings.smoke()) == Scratch("eegnet", FineTuneSettings.smoke())
    with pytest.raises(ValueError, match="There is no rival 'svm'"):
        rival("svm", FineTuneSettings.smoke())
