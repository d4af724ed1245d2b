"""A finetuned LaBraM in the challenge's zip predicts what its checkpoint predicts; another's windows are refused."""

from __future__ import annotations

from dataclasses import replace

import lightning
import numpy as np
import pytest
import torch

from nbkit.neuro.challenge.archive import write_zip
from nbkit.neuro.challenge.scoring import score_zip
from nbkit.neuro.labram.finetune import ComparedRegressor, FinetuneSettings
from nbkit.neuro.labram.submission import load_finetuned, stand_in, submission_part
from nbkit.neuro.signals.hbn.synthetic import SyntheticHBNSettings, hbn_ch_names, write_synthetic_hbn
from tests.neuro.labram.training import Windows, train

TINY = replace(FinetuneSettings.smoke(), dim=16, heads=2, depth=2, steps=4, warmup_steps=1, batch_size=8)


class ScalpWindows(Windows):
    """Windows as the challenge has them, some of them."""

    ch_names, sfreq = hbn_ch_names(), 100.0

    def __init__(self, n_times: int = 200) -> None:
        super().__init__(count=16)
        draws = torch.Generator().manual_seed(3)
        for sample in self.samples:
            sample["window"] = 20 * torch.randn(129, n_times, generator=draws)


def finetuned(folder, number, data=None, settings=TINY):
    lightning.seed_everything(number, verbose=False)
    data = data or ScalpWindows()
    module = ComparedRegressor.for_data(settings, data)
    torch.nn.init.normal_(module.head.weight)  # so that predictions differ after four steps
    train(module, data, 4).save_checkpoint(folder / f"challenge{number}-best.ckpt")
    return folder / f"challenge{number}-best.ckpt"


def test_the_zip_predicts_what_the_checkpoints_predict(tmp_path):
    paths = {1: finetuned(tmp_path, 1), 2: finetuned(tmp_path, 2, settings=replace(TINY, depth=1, qkv_bias=True))}
    written = write_zip({n: submission_part(path) for n, path in paths.items()}, tmp_path / "submission.zip")
    batches = list(ScalpWindows().val_dataloader())
    found = score_zip(written.path, {1: batches, 2: batches})
    for number, path in paths.items():
        with torch.no_grad():
            own = torch.cat([load_finetuned(path)(batch["window"])[:, 0] for batch in batches]).numpy()
        np.testing.assert_allclose(found.predictions[number], own, rtol=1e-5, atol=1e-5)
        assert own.std() > 1e-3
    assert not np.allclose(found.predictions[1], found.predictions[2])


def test_other_windows_than_the_challenges_are_refused(tmp_path):
    with pytest.raises(ValueError, match="challenge1-best.ckpt was finetuned on 129 channels, 400 samples at 100 Hz"):
        submission_part(finetuned(tmp_path, 1, ScalpWindows(400)))
    with pytest.raises(ValueError, match=r"finetuned on 4 channels \(E1, E5, E9 ... Cz\), 40 samples at 20 Hz"):
        submission_part(finetuned(tmp_path, 2, Windows(count=16), replace(TINY, patch=20)))


def test_a_stand_in_is_a_checkpoint_for_a_zip_and_always_the_same(tmp_path):
    world = SyntheticHBNSettings(subjects=4, tasks=("contrastChangeDetection",), runs=1, trials=2)
    windows = write_synthetic_hbn(tmp_path / "hbn", "challenge2", world)
    split = dict(fractions=(0.5, 0.25, 0.25), crop=200)
    first, second = (
        submission_part(stand_in(2, windows, tmp_path / f"{n}.ckpt", steps=2, **split)).weights for n in (1, 2)
    )
    assert all(torch.equal(value, second[name]) for name, value in first.items())
