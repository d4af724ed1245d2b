"""Frozen embeddings as a scikit-learn transformer, and as items of a phase.

The backbone never sees a target, so embedding before a cross-validation leaks nothing; through a cache each window is
embedded once, however many folds, estimators and sessions ask for it.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin

from nbkit.neuro.decoding.bandpower import linear_model
from nbkit.neuro.decoding.cache import EmbeddingCache
from nbkit.neuro.decoding.folds import check_windows
from nbkit.neuro.decoding.models.foundation import FoundationModel
from nbkit.neuro.decoding.models.registry import load_model
from nbkit.neuro.decoding.tasks import DecodingTask


class FrozenEmbedding(TransformerMixin, BaseEstimator):
    """Turn windows into the embeddings of a frozen foundation model.

    Parameters
    ----------
    model : str or FoundationModel
        A key of `list_foundation_models`, built for the windows that it is fitted on, or a model that is built.
    ch_names : sequence of str
        Of the windows.
    sfreq : float
        Of the windows, in Hz.
    weights : "random", "hub" or path
    seed : int
        Of random weights.
    cache : EmbeddingCache, path or None
        Where embeddings are kept; None computes them every time.
    batch_size : int
    device : {"auto", "cpu", "cuda"}
    precision : {"auto", "fp32", "fp16", "bf16"}

    Attributes
    ----------
    weights_ : str
        Where the backbone's weights come from, in words.
    said_ : tuple of str
        What is done to the windows.
    """

    def __init__(
        self,
        model: str | FoundationModel = "cbramod",
        ch_names: Sequence[str] = (),
        sfreq: float = 200.0,
        weights: str | Path = "random",
        seed: int = 0,
        cache: EmbeddingCache | str | Path | None = None,
        batch_size: int = 32,
        device: str = "auto",
        precision: str = "auto",
    ) -> None:
        self.model = model
        self.ch_names = ch_names
        self.sfreq = sfreq
        self.weights = weights
        self.seed = seed
        self.cache = cache
        self.batch_size = batch_size
        self.device = device
        self.precision = precision

    def fit(self, X: np.ndarray, y: Any = None) -> FrozenEmbedding:
        """Build the model for windows of this shape; nothing is learned.

        Raises
        ------
        ValueError
            For windows, channels or a model that do not go together.
        """
        windows = check_windows(X, ch_names=self.ch_names)
        model = self._model_for(windows)
        self.shape_, self.said_, self.weights_ = windows.shape[1:], said_of(model, windows, self), model.weights
        self.n_features_out_ = model.dim
        return self

    def transform(self, X: np.ndarray) -> np.ndarray:
        """Return the embeddings.

        Parameters
        ----------
        X : ndarray of shape (windows, channels, time)
            In uV.

        Returns
        -------
        embeddings : float32 ndarray of shape (windows, dim)
        """
        from sklearn.utils.validation import check_is_fitted

        check_is_fitted(self, "shape_")
        windows = check_windows(X, ch_names=self.ch_names)
        if windows.shape[1:] != self.shape_:
            raise ValueError(f"windows of shape {windows.shape[1:]}; fitted on (channels, time) = {self.shape_}.")
        model, precision = self._model_for(windows), chosen_precision(self.device, self.precision)

        def compute(part: np.ndarray) -> np.ndarray:
            prepared = model.prepare(part, self.ch_names, self.sfreq)
            return model.embed(prepared, self.batch_size, chosen_device(self.device), precision)

        if self.cache is None:
            return compute(windows)
        cache = self.cache if isinstance(self.cache, EmbeddingCache) else EmbeddingCache(self.cache)
        return cache.embed(windows, self.made_of(model), compute)

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Name the embedding's numbers, for `set_output`."""
        key = self.model if isinstance(self.model, str) else self.model.key
        return np.array([f"{key}_{i:04d}" for i in range(self.n_features_out_)], dtype=object)

    def made_of(self, model: FoundationModel) -> dict[str, Any]:
        """Return all that an embedding depends on beside its window: what the cache's key is made of."""
        return {
            "model": model.fingerprint, "weights": model.weights, "ch_names": list(map(str, self.ch_names)),
            "sfreq": float(self.sfreq), "precision": chosen_precision(self.device, self.precision),
        }  # fmt: skip

    def _model_for(self, windows: np.ndarray) -> FoundationModel:
        return model_for(self.model, self.ch_names, self.sfreq, windows.shape[-1], self.weights, self.seed)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array, tags.input_tags.two_d_array = True, False
        return tags


def model_for(
    model: str | FoundationModel, ch_names: Sequence[str], sfreq: float, n_times: int, weights: str | Path, seed: int
) -> FoundationModel:
    """Return a model that is built for some windows; the last few are kept, for each fold asks again.

    Raises
    ------
    ValueError
        Without channel names, or for a model that does not take such windows.
    """
    if not isinstance(model, str):
        return model
    if not len(ch_names):
        raise ValueError("ch_names is empty: a foundation model has to know the windows' channels by name.")
    return _built(model, tuple(map(str, ch_names)), n_times / float(sfreq), str(weights), int(seed))


@lru_cache(maxsize=4)
def _built(key: str, ch_names: tuple[str, ...], window: float, weights: str, seed: int) -> FoundationModel:
    return load_model(key, weights=weights, ch_names=ch_names, window=window, seed=seed)


def said_of(model: FoundationModel, windows: np.ndarray, of: Any) -> tuple[str, ...]:
    """Return what is done to windows on their way into a model."""
    return tuple(model.prepare(windows[:1], of.ch_names, of.sfreq).said)


def chosen_device(device: str) -> str:
    """Return the device that "auto" stands for: CUDA where there is one."""
    if device != "auto":
        return device
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def chosen_precision(device: str, precision: str) -> str:
    """Return the precision that "auto" stands for on a device."""
    import torch

    from nbkit.neuro.decoding.training import precision_of

    return precision_of(precision, torch.device(chosen_device(device)))[0]


def frozen_probe(embedding: FrozenEmbedding, kind: str) -> Any:
    """Return a pipeline of a frozen backbone and the linear model that stands on band powers, too.

    Parameters
    ----------
    embedding : FrozenEmbedding
    kind : {"classification", "regression"}
    """
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(embedding, StandardScaler(), linear_model(kind))


# -- as items of a phase --


def embedding_rows(task: DecodingTask, models: Iterable[str]) -> list[dict[str, str]]:
    """Return a manifest row for each model and group of a task: a block of windows that is embedded together."""
    groups = sorted(set(task.groups.tolist()))
    return [{"key": f"{task.name}-{key}-{group}", "model": key, "group": group} for key in models for group in groups]


def embedded_models(task: DecodingTask, models: Iterable[str], embedding: FrozenEmbedding) -> list[str]:
    """Return those models whose embeddings of all windows of a task are in the cache already."""
    ready = []
    for key in models:
        mine = copy.copy(embedding).set_params(model=key)
        windows = check_windows(task.windows)
        made_of = mine.made_of(mine._model_for(windows))
        if mine.cache.holds(windows, made_of):
            ready.append(key)
    return ready


def embed_row(row: Mapping[str, str], task: DecodingTask, embedding: FrozenEmbedding) -> dict[str, Path]:
    """Embed one row's windows and give the packs that hold them, by name: what an item keeps.

    Parameters
    ----------
    row : mapping
        Of `embedding_rows`.
    task : DecodingTask
    embedding : FrozenEmbedding
        With a cache; its model is the row's.
    """
    if not isinstance(embedding.cache, EmbeddingCache):
        raise ValueError("the embedding has no EmbeddingCache, so there is no pack to keep; give it one.")
    mine = copy.copy(embedding).set_params(model=row["model"]) if isinstance(embedding.model, str) else embedding
    windows = task.windows[task.groups == row["group"]]
    mine.fit_transform(windows)
    paths = mine.cache.packs_of(windows, mine.made_of(mine._model_for(windows)))
    return {path.stem: path for path in paths}
