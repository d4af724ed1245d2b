"""Frozen embeddings: scikit-learn's conventions, the cache, the items of a phase."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import StratifiedGroupKFold, cross_val_score
from sklearn.pipeline import make_pipeline

from nbkit.neuro.decoding.cache import EmbeddingCache
from nbkit.neuro.decoding.frozen import FrozenEmbedding, embed_row, embedding_rows
from nbkit.neuro.decoding.models.backbones import make_network
from nbkit.neuro.decoding.models.registry import load_model
from nbkit.neuro.decoding.models.table import spec_of
from nbkit.neuro.decoding.tasks import stand_in

TASK = stand_in(16, subjects=4)


def embedding(**more):
    return FrozenEmbedding("labram", TASK.ch_names, TASK.sfreq, **more)


def test_it_gives_the_models_own_embeddings_with_and_without_a_cache(tmp_path):
    model = load_model("labram", ch_names=TASK.ch_names, window=2.0)
    expected = model.embed(model.prepare(TASK.windows, TASK.ch_names, TASK.sfreq))
    np.testing.assert_allclose(embedding().fit_transform(TASK.windows), expected, atol=1e-6)
    cache = EmbeddingCache(tmp_path)
    np.testing.assert_allclose(embedding(cache=cache).fit_transform(TASK.windows), expected, atol=1e-6)
    again = embedding(cache=tmp_path).fit_transform(TASK.windows)
    np.testing.assert_array_equal(again, embedding(cache=cache).fit_transform(TASK.windows))
    assert cache.use.computed == 16 and cache.use.found == 16


def test_other_weights_channels_and_rates_are_other_embeddings(tmp_path):
    cache = EmbeddingCache(tmp_path)
    first = embedding(cache=cache).fit_transform(TASK.windows)
    other = embedding(cache=cache, seed=1).fit_transform(TASK.windows)
    renamed = FrozenEmbedding("labram", TASK.ch_names[::-1], TASK.sfreq, cache=cache).fit_transform(TASK.windows)
    slower = FrozenEmbedding("labram", TASK.ch_names, 100.0, cache=cache).fit_transform(TASK.windows)
    assert cache.use.found == 0 and cache.use.computed == 64
    assert not np.allclose(first, other) and not np.allclose(first, renamed) and not np.allclose(first, slower)


def test_weights_by_model_are_loaded_for_that_model(tmp_path):
    from safetensors.torch import save_file

    other = load_model("labram", ch_names=TASK.ch_names, window=2.0, seed=5)
    file = tmp_path / "labram.safetensors"
    network = make_network(spec_of("labram"), other.ch_names, other.n_times, {}, seed=5)  # with its head, as published
    save_file({name: value.contiguous() for name, value in network.state_dict().items()}, file)
    expected = other.embed(other.prepare(TASK.windows, TASK.ch_names, TASK.sfreq))
    made = embedding(weights={"labram": str(file)})
    np.testing.assert_allclose(made.fit_transform(TASK.windows), expected, atol=1e-6)
    assert "labram.safetensors" in made.weights_
    with pytest.raises(FileNotFoundError, match=r"absent\.pth"):
        embedding(weights={"labram": str(tmp_path / "absent.pth")}).fit(TASK.windows)


def test_it_keeps_to_scikit_learns_conventions(tmp_path):
    made = embedding(cache=EmbeddingCache(tmp_path))
    before = made.get_params()
    twin = clone(made)
    assert twin.get_params() == before and twin.cache is made.cache
    with pytest.raises(NotFittedError):
        made.transform(TASK.windows)
    made.fit(TASK.windows)
    assert made.get_params() == before and made.weights_ == "random, seed 0" and "19 of 19" in made.said_[0]
    frame = clone(made).set_output(transform="pandas").fit_transform(TASK.windows)
    assert frame.shape == (16, 200) and frame.columns[3] == "labram_0003"
    assert made.set_params(seed=4).seed == 4


def test_a_cross_validation_embeds_each_window_once(tmp_path):
    cache = EmbeddingCache(tmp_path)
    probe = make_pipeline(embedding(cache=cache), LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto"))
    folds = StratifiedGroupKFold(4)
    first = cross_val_score(probe, TASK.windows, TASK.target, groups=TASK.groups, cv=folds)
    assert cache.use.computed == 16
    again = cross_val_score(probe, TASK.windows, TASK.target, groups=TASK.groups, cv=folds)
    assert cache.use.computed == 16 and (first == again).all()


def test_what_cannot_be_embedded_is_refused():
    with pytest.raises(ValueError, match="ch_names is empty"):
        FrozenEmbedding("labram").fit(TASK.windows)
    with pytest.raises(ValueError, match="there are: bendr"):
        FrozenEmbedding("labrador", TASK.ch_names).fit(TASK.windows)
    with pytest.raises(ValueError, match="labram takes 1 to 15 s"):
        embedding().fit(TASK.windows[..., :100])
    with pytest.raises(ValueError, match="NaN"):
        embedding().fit(np.where(np.arange(400) == 3, np.nan, TASK.windows))
    with pytest.raises(ValueError, match=r"fitted on \(channels, time\)"):
        embedding().fit(TASK.windows).transform(TASK.windows[..., :300])


def test_items_hold_packs_that_serve_another_machine(tmp_path):
    rows = embedding_rows(TASK, ["labram"])
    assert [row["key"] for row in rows] == [f"stand_in-labram-S0{i}" for i in range(1, 5)]
    files = {}
    for row in rows:
        files |= embed_row(row, TASK, embedding(cache=EmbeddingCache(tmp_path / row["group"])))
    assert len(files) == 4
    cache = EmbeddingCache(tmp_path / "elsewhere")
    assert cache.take(files.values()) == 16
    found = embedding(cache=cache).fit_transform(TASK.windows)
    assert cache.use.computed == 0
    np.testing.assert_allclose(found, embedding().fit_transform(TASK.windows), atol=1e-6)
    with pytest.raises(ValueError, match="no EmbeddingCache"):
        embed_row(rows[0], TASK, embedding())
