"""The leak test: subjects of the test side are unseen by every phase before, or the score says so."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from nbkit.neuro.jepa import finetune as jepa_finetune
from nbkit.neuro.jepa import pretrain as jepa_pretrain
from nbkit.neuro.labram import finetune as labram_finetune
from nbkit.neuro.labram.codebook import Codebook, CodebookSettings
from nbkit.neuro.labram.pretrain import MaskedEEG, PretrainSettings
from nbkit.neuro.signals.seen import also_seen, exposure
from nbkit.neuro.signals.windows.shards import write_shard
from nbkit.neuro.signals.windows.window_data import WindowData
from nbkit.neuro.training.optimization import counted

OTHERS = jepa_finetune.CHALLENGES[1].others
NAMES = ("Fp1", "Fp2", "O1", "O2")


def windows(folder, subjects):
    rng = np.random.default_rng(0)
    return [
        write_shard(
            folder / f"s{subject:02d}", rng.normal(size=(2, 4, 200)).astype(np.float32), sfreq=100.0, ch_names=NAMES,
            subject=f"S{subject:02d}", columns={name: np.arange(2.0) for name in ("target", *OTHERS)},
        )["windows"]
        for subject in subjects
    ]  # fmt: skip


def saved(module, path):
    checkpoint = {"state_dict": module.state_dict()}
    module.on_save_checkpoint(checkpoint)
    torch.save(checkpoint, path)
    return path


def pretrained(paths, folder, **split):
    """Return untrained checkpoints of codebook, LaBraM and JEPA that say whom they would have seen."""
    data = WindowData(paths, 4, columns=(), **split)
    small = {name: getattr(CodebookSettings.smoke(), name) for name in CodebookSettings.__dataclass_fields__}
    book = saved(Codebook.for_data(CodebookSettings(**small), data), folder / "book.ckpt")
    labram = saved(MaskedEEG.for_data(counted(PretrainSettings.smoke(), 1), data, book), folder / "labram.ckpt")
    jepa = saved(jepa_pretrain.JEPA.for_data(counted(jepa_pretrain.PretrainSettings.smoke(), 1), data), folder / "j")
    return labram, jepa


def finetuned(paths, labram, jepa, **split):
    data = WindowData(paths, 4, may_miss=OTHERS, **split)
    made = labram_finetune.FinetuneSettings.smoke()
    modules = [labram_finetune.Regressor.for_data(made, data, labram)]
    modules.append(jepa_finetune.Regressor.for_data(jepa_finetune.FinetuneSettings.smoke(), data, jepa))
    return data, modules


@pytest.mark.parametrize("fold", [None, "2/3"])
def test_whoever_is_tested_was_in_no_earlier_phase(tmp_path, fold):
    paths = windows(tmp_path, range(40))
    labram, jepa = pretrained(paths, tmp_path, fold=fold)
    some = paths[::2]  # the target is known of half the subjects only
    data, modules = finetuned(some, labram, jepa, fold=fold)
    assert len(data.test_subjects) >= 1
    for module in modules:
        assert not also_seen(module.seen, data.test_subjects)
        assert f"none of {len(data.test_subjects)} test subjects was in pretraining" in str(module.loaded)
        assert set(module.seen) >= set(data.seen)


def test_another_split_is_labelled_transductive(tmp_path):
    paths = windows(tmp_path, range(40))
    labram, jepa = pretrained(paths, tmp_path)
    data, modules = finetuned(paths, labram, jepa, seed=7)
    both = [name for name in data.test_subjects if name in WindowData(paths, 4, columns=()).seen]
    assert both  # the plant is one
    for module in modules:
        assert f"transductive: {len(both)} of {len(data.test_subjects)} test subjects" in str(module.loaded)


def test_words_for_what_is_not_known():
    assert exposure(None, ["a"]) == "whom its pretraining saw is not known"
    assert exposure(["a"], []) == "" and exposure([4], ["04", "5"]).startswith("transductive: 1 of 2")
    assert labram_finetune.test_subjects_of(SimpleNamespace()) == ()
