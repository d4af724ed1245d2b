"""Embeddings that items store one recording at a time are those of the whole task, whatever machine made them."""

from __future__ import annotations

import numpy as np
import pandas

from nbkit.neuro.decoding.cache import EmbeddingCache
from nbkit.neuro.decoding.frozen import FrozenEmbedding, embed_task, embedded_models
from nbkit.neuro.decoding.own_recordings import embed_windows
from nbkit.neuro.decoding.window_task import window_task
from nbkit.neuro.signals import eeg


def test_what_items_embed_is_found_for_the_whole_task(tmp_path):
    rows = eeg.recordings("synthetic_rest", subjects=[1])
    settings = eeg.window_settings("synthetic_rest", 200.0, 4.0, 20.0)
    there, here = EmbeddingCache(tmp_path / "there"), EmbeddingCache(tmp_path / "here")
    stored, tables = [], []
    for row in rows:  # as on machines that know one recording each
        windows = eeg.make_windows(row, tmp_path / "windows", **settings)
        packs = embed_windows(windows, "labram", there, weights="random")
        table = pandas.read_csv(packs["embeddings"])
        assert len(table) == 2 and list(table["start_s"]) == [0.0, 20.0] and {"subject", "label"} <= set(table)
        stored += [*windows.values(), *packs.values()]
        tables.append(table)
    assert here.take(stored) == 4  # two windows of each of two recordings; other files are passed over
    task = window_task(stored, "label", "recording")
    embedding = FrozenEmbedding("labram", task.ch_names, task.sfreq, "random", 2025, here)
    assert embedded_models(task, ["labram"], embedding) == ["labram"], "nothing is embedded a second time"
    found = embed_task(task, ["labram"], embedding)["labram"]
    vectors = pandas.concat(tables).filter(regex=r"^e\d{4}$").to_numpy()
    np.testing.assert_allclose(np.sort(vectors, axis=0), np.sort(found, axis=0), rtol=1e-4, atol=1e-5)
    without = embed_task(task, ["labram"], FrozenEmbedding("labram", task.ch_names, task.sfreq, "random", 2025))
    np.testing.assert_allclose(found, without["labram"], rtol=1e-4, atol=1e-5)
    assert task.classes == ("rest", "task") and task.data.startswith("synthetic stand-in")
