"""Each model sees recordings cleaned as its authors cleaned theirs, whichever way they come in."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from nbkit.neuro.decoding.cache import EmbeddingCache
from nbkit.neuro.decoding.experiment import FrozenProbe, run_fold
from nbkit.neuro.decoding.folds import outer_folds
from nbkit.neuro.decoding.frozen import FrozenEmbedding, embed_row, embed_task, embedded_models, embedding_rows
from nbkit.neuro.decoding.models import registry
from nbkit.neuro.decoding.models.recording_embedding import embed_recording
from nbkit.neuro.decoding.models.registry import TEN_TWENTY, load_model
from nbkit.neuro.decoding.models.table import MODELS
from nbkit.neuro.decoding.tasks import stand_in
from nbkit.neuro.decoding.window_task import window_task
from nbkit.neuro.signals.intake.cleaning import Cleaning, clean
from nbkit.neuro.signals.intake.facts import Stretch
from nbkit.neuro.signals.intake.recording import Recording
from nbkit.neuro.signals.windows.shard_writing import write_signal
from tests.neuro.signals.intake.edf_files import brain_waves

SFREQ = 250.0
STRETCHES = [[0, 5000, 0.0], [5000, 9000, 100.0]]
STARTS = np.array([0, 1000, 3500, 5000, 7500])


def signal_of(person: int) -> np.ndarray:
    return brain_waves(len(TEN_TWENTY), 36, int(SFREQ), seed=person)


def store(folder, offset: float = 0.0, baseline=None, people: int = 3):
    for person in range(people):
        columns = {"start_s": STARTS / SFREQ, "label": np.array(["rest", "work", "rest", "work", "rest"])}
        facts = dict(sfreq=SFREQ, ch_names=TEN_TWENTY, subject=f"P{person}", data="real", stretches=STRETCHES)
        write_signal(
            folder / f"{person}", signal_of(person) + offset, cuts={"windows": (STARTS, 1500, columns)},
            dtype="float32", baseline=baseline, **facts,
        )  # fmt: skip
    return folder


class Projection(torch.nn.Module):
    """Stands for a network of 25 to 157 million weights: it takes seconds, and sees the same windows."""

    def __init__(self, key, network, ch_names):
        super().__init__()
        self.weight, self.dim = torch.nn.Parameter(torch.ones(())), MODELS[key].dim

    def forward(self, windows):
        draws = torch.Generator().manual_seed(0)
        flat = windows.flatten(1)
        return self.weight * (flat @ torch.randn(flat.shape[1], self.dim, generator=draws)) / flat.shape[1] ** 0.5

    def lora_targets(self):
        return ()


@pytest.mark.parametrize("key", MODELS)
def test_an_offset_moves_no_embedding(key, monkeypatch):
    """Offsets of 100 uV, another one for each channel, in windows that no recording comes with, and in a recording."""
    if MODELS[key].parameters_m > 20:
        monkeypatch.setattr(registry, "make_network", lambda *_: None)
        monkeypatch.setattr(registry, "Backbone", Projection)
    task = stand_in(6, subjects=2, seconds=2.4)
    model = load_model(key, ch_names=task.ch_names, window=2.0)
    offset = 100.0 * np.where(np.arange(len(task.ch_names)) % 3, 1.0, -1.5)[:, None]

    def embedded(windows):
        return model.embed(model.prepare(windows, task.ch_names, task.sfreq))

    plain, moved = embedded(task.windows), embedded(task.windows + offset)
    between = np.abs(plain - plain[::-1]).max()  # what another window does
    assert np.abs(moved - plain).max() < 1e-3 * between
    recording = Recording(signal_of(0), SFREQ, TEN_TWENTY)
    there = embed_recording(recording, model, 4.0).embeddings
    with_offset = embed_recording(replace(recording, signal=recording.signal + offset), model, 4.0).embeddings
    assert np.abs(with_offset - there).max() < 1e-3 * np.abs(there - there[::-1]).max()


def test_windows_are_those_of_the_recording_cleaned_part_by_part(tmp_path):
    task = window_task([store(tmp_path, baseline=(0, 250))], mains=50.0)
    seen = task.cleaned_for("labram")
    assert seen.sfreq == 200.0 and seen.windows.shape == (15, 19, 1200) and seen.cleaned_for("labram") is seen
    raw = Recording(signal_of(1).astype(np.float32).astype(float), SFREQ, TEN_TWENTY).as_raw()
    parts = [Stretch(*part) for part in STRETCHES]
    cleaned, after, _, _ = clean(raw, parts, Cleaning(200.0, 0.1, 75.0, 50.0, bads="keep"))
    for window, start in zip(seen.windows[5:10], STARTS, strict=True):
        first = start * 200 // 250
        assert any(part.start <= first and first + 1200 <= part.stop for part in after)
        cut = cleaned[:, first : first + 1200]
        np.testing.assert_allclose(window, cut - cut[:, :200].mean(axis=1, keepdims=True), atol=2e-3)
    some = task.subset(task.groups == "P1").cleaned_for("labram")
    assert some.windows.tobytes() == seen.windows[5:10].tobytes(), "a key of a cache must not depend on the others"
    assert task.cleaned_for("signaljepa").sfreq == 128.0 and stand_in(4).cleaned_for("labram").cleaning is None


def test_an_offset_of_recordings_moves_no_window(tmp_path):
    plain = window_task([store(tmp_path / "a")]).cleaned_for("bendr").windows
    moved = window_task([store(tmp_path / "b", offset=100.0)]).cleaned_for("bendr").windows
    assert np.abs(moved - plain).max() < 0.05 and plain.std() > 5  # uV


def test_every_entrance_gives_the_same_embedding(tmp_path):
    """As items of a phase, as a task, in a fold, and as a recording second by second."""
    task = window_task([store(tmp_path / "items")])
    cache = EmbeddingCache(tmp_path / "cache")
    embedding = FrozenEmbedding(ch_names=task.ch_names, sfreq=task.sfreq, cache=cache)
    assert embedded_models(task, ["cbramod"], embedding) == []
    for row in embedding_rows(task, ["cbramod"]):
        embed_row(row, task, embedding)
    assert embedded_models(task, ["cbramod"], embedding) == ["cbramod"] and cache.use.computed == 15
    found = embed_task(task, ["cbramod"], embedding)["cbramod"]
    fold = outer_folds(task.target, task.groups, "leave_one_group_out", 0)[0]
    run_fold("cbramod-frozen", FrozenProbe("cbramod"), task, fold, tmp_path / "fold", seed=0, cache=cache)
    assert cache.use.computed == 15, "each window is embedded once"
    model = load_model("cbramod", ch_names=task.ch_names, window=6.0)
    signal = signal_of(1).astype(np.float32).astype(float)
    recording = Recording(signal, SFREQ, TEN_TWENTY, stretches=tuple(Stretch(*part) for part in STRETCHES))
    path = embed_recording(recording, model, every=2.0)
    centres = [STRETCHES[0][2] + s / SFREQ + 3.0 if s < 5000 else 100.0 + (s - 5000) / SFREQ + 3.0 for s in STARTS]
    at = [int(np.argmin(np.abs(path.times_s - centre))) for centre in centres]
    assert np.abs(path.times_s[at] - centres).max() < 1e-9
    np.testing.assert_allclose(path.embeddings[at], found[5:10], atol=1e-3)


def test_the_cleaning_is_part_of_a_models_fingerprint():
    with_mains = load_model("labram", window=2.0, mains=50.0)
    assert with_mains.fingerprint != load_model("labram", window=2.0, mains=60.0).fingerprint
    assert with_mains.cleaning == Cleaning(200.0, 0.1, 75.0, 50.0) and "notch" in with_mains.settings["attributes"]
    assert load_model("biot", window=2.0, mains=50.0).cleaning.notch is None  # its authors had no notch filter
    bands = {key: (spec.cleaning().l_freq, spec.cleaning().h_freq) for key, spec in MODELS.items()}
    assert bands["cbramod"] == (0.3, 75.0) and bands["signaljepa"] == (0.5, 40.0) and bands["reve"] == (0.5, 99.5)
