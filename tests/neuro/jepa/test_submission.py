"""A finetuned JEPA in the challenge's zip predicts what its checkpoint predicts, alone or beside a LaBraM."""

from __future__ import annotations

from dataclasses import replace

import lightning
import numpy as np
import pytest
import torch

from nbkit.neuro.challenge.archive import write_zip
from nbkit.neuro.challenge.scoring import score_zip
from nbkit.neuro.jepa.finetune import Challenge2Settings, FinetuneSettings, Regressor
from nbkit.neuro.jepa.submission import load_finetuned, stand_in, submission_part
from nbkit.neuro.labram import submission as labram_submission
from nbkit.neuro.signals.hbn.synthetic import SyntheticHBNSettings, write_synthetic_hbn
from tests.neuro.jepa.factor_windows import FactorWindows, ScalpWindows
from tests.neuro.labram import test_submission as labram
from tests.neuro.labram.training import train

SETTINGS = {n: replace(cls.smoke(), steps=2) for n, cls in ((1, FinetuneSettings), (2, Challenge2Settings))}


def finetuned(folder, number, data=None):
    lightning.seed_everything(number, verbose=False)
    data = data or ScalpWindows()
    module = Regressor.for_data(SETTINGS[number], data)
    torch.nn.init.normal_(module.head[-1].weight)  # so that predictions differ after two steps
    train(module, data, 2).save_checkpoint(folder / f"jepa{number}.ckpt")
    return folder / f"jepa{number}.ckpt"


@pytest.mark.parametrize("first", ["jepa", "labram"])
def test_the_zip_predicts_what_the_checkpoints_predict(first, tmp_path):
    ours = finetuned(tmp_path, 2)
    paths = {1: finetuned(tmp_path, 1) if first == "jepa" else labram.finetuned(tmp_path, 1), 2: ours}
    theirs = labram_submission if first == "labram" else None
    parts = {1: (theirs.submission_part if theirs else submission_part)(paths[1]), 2: submission_part(ours)}
    batches = list(ScalpWindows().val_dataloader())
    found = score_zip(write_zip(parts, tmp_path / "submission.zip").path, {1: batches, 2: batches})
    for number, load in ((1, theirs.load_finetuned if theirs else load_finetuned), (2, load_finetuned)):
        with torch.no_grad():
            own = torch.cat([load(paths[number])(batch["window"])[:, 0] for batch in batches]).numpy()
        np.testing.assert_allclose(found.predictions[number], own, rtol=1e-5, atol=1e-5)
        assert own.std() > 1e-4


def test_other_windows_than_the_challenges_are_refused(tmp_path):
    with pytest.raises(ValueError, match="jepa1.ckpt was finetuned on 129 channels, 400 samples at 100 Hz"):
        submission_part(finetuned(tmp_path, 1, ScalpWindows(400)))
    with pytest.raises(ValueError, match="jepa2.ckpt was finetuned on 4 channels"):
        submission_part(finetuned(tmp_path, 2, FactorWindows(count=16)))


def test_a_stand_in_is_a_checkpoint_for_a_zip_and_always_the_same(tmp_path):
    world = SyntheticHBNSettings(subjects=4, tasks=("contrastChangeDetection",), runs=1, trials=2)
    windows = write_synthetic_hbn(tmp_path / "hbn", "challenge2", world)
    split = dict(fractions=(0.5, 0.25, 0.25), crop=200)
    first, second = (
        submission_part(stand_in(2, windows, tmp_path / f"{n}.ckpt", steps=2, **split)).weights for n in (1, 2)
    )
    assert all(torch.equal(value, second[name]) for name, value in first.items())
