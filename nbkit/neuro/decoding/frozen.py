"""Frozen embeddings as a scikit-learn transformer and as items of a phase.

The backbone never sees a target, so computing embeddings before a cross-validation causes no leakage. With a cache,
each window is embedded once, whatever the number of folds, estimators and sessions.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin

from nbkit.neuro.decoding.cache import EmbeddingCache
from nbkit.neuro.decoding.decoding_task import DecodingTask
from nbkit.neuro.decoding.folds import check_windows
from nbkit.neuro.decoding.models.foundation import FoundationModel
from nbkit.neuro.decoding.models.registry import load_model
from nbkit.neuro.decoding.models.weights import weights_for
from nbkit.neuro.signals.recordings.listing import unique_keys

# The model counts by its fingerprint, and with it the seed and the source of its weights. The size of a batch and the
# device change the last bit at most; embeddings of a GPU are meant to be found on a CPU.
_NOT_IN_KEY = ("model", "weights", "seed", "cache", "batch_size", "device")


class FrozenEmbedding(TransformerMixin, BaseEstimator):
    """Turn windows into the embeddings of a frozen foundation model.

    Parameters
    ----------
    model : str or FoundationModel
        A key of `list_foundation_models`, built in `fit` for the windows given there, or a model that is already built.
    ch_names : sequence of str
        Channel names of the windows.
    sfreq : float
        Sampling frequency of the windows, in Hz.
    weights : "random", "hub", path, URL, or mapping of str to path or URL
        For the model, or by model; see `weights_for`.
    seed : int
        Random seed of random weights.
    cache : EmbeddingCache, path or None
        Where embeddings are stored; None computes them every time.
    batch_size : int
    device : {"auto", "cpu", "cuda"}
    precision : {"auto", "fp32", "fp16", "bf16"}

    Attributes
    ----------
    weights_ : str
        Description of where the backbone's weights come from.
    said_ : tuple of str
        Description of the preprocessing of the windows.
    """

    def __init__(
        self,
        model: str | FoundationModel = "cbramod",
        ch_names: Sequence[str] = (),
        sfreq: float = 200.0,
        weights: str | Path | Mapping[str, str] = "random",
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
        """Build the model for windows of this shape and return self; nothing is learned.

        Raises
        ------
        ValueError
            If windows, channels and model do not fit together.
        """
        windows = check_windows(X, ch_names=self.ch_names)
        model = self._model_for(windows)
        self.shape_, self.said_, self.weights_ = windows.shape[1:], said_of(model, windows, self), model.weights
        self.n_features_out_ = model.dim
        return self

    def transform(self, X: np.ndarray) -> np.ndarray:
        """Return the embeddings of windows.

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
            raise ValueError(
                f"Windows have shape {windows.shape[1:]}, but the model was fitted on (channels, time) = {self.shape_}."
            )
        model, precision = self._model_for(windows), chosen_precision(self.device, self.precision)

        def compute(part: np.ndarray) -> np.ndarray:
            prepared = model.prepare(part, self.ch_names, self.sfreq)
            return model.embed(prepared, self.batch_size, chosen_device(self.device), precision)

        if self.cache is None:
            return compute(windows)
        cache = self.cache if isinstance(self.cache, EmbeddingCache) else EmbeddingCache(self.cache)
        return cache.embed(windows, self.made_of(model), compute)

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Return names of the embedding's dimensions, for scikit-learn's `set_output`."""
        key = self.model if isinstance(self.model, str) else self.model.key
        return np.array([f"{key}_{i:04d}" for i in range(self.n_features_out_)], dtype=object)

    def made_of(self, model: FoundationModel) -> dict[str, Any]:
        """Return everything that an embedding depends on besides its window, for the key in the cache.

        All parameters count but those of `_NOT_IN_KEY`, so one that is added later counts.
        """
        own = {name: value for name, value in self.get_params(deep=False).items() if name not in _NOT_IN_KEY}
        own |= {"ch_names": list(map(str, self.ch_names)), "sfreq": float(self.sfreq)}
        precision = chosen_precision(self.device, self.precision)
        return own | {"precision": precision, "model": model.fingerprint, "weights": model.weights}

    def _model_for(self, windows: np.ndarray) -> FoundationModel:
        weights = weights_for(self.model, self.weights) if isinstance(self.model, str) else ""
        return model_for(self.model, self.ch_names, self.sfreq, windows.shape[-1], weights, self.seed)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array, tags.input_tags.two_d_array = True, False
        return tags


def model_for(
    model: str | FoundationModel, ch_names: Sequence[str], sfreq: float, n_times: int, weights: str | Path, seed: int
) -> FoundationModel:
    """Return a model built for windows of a given shape; the last few models are kept in memory for the next folds.

    Raises
    ------
    ValueError
        If there are no channel names, or the model does not accept such windows.
    """
    if not isinstance(model, str):
        return model
    if not len(ch_names):
        raise ValueError(
            "The argument ch_names is empty: a foundation model needs the names of the windows' channels; pass them."
        )
    return _built(model, tuple(map(str, ch_names)), n_times / float(sfreq), str(weights), int(seed))


@lru_cache(maxsize=4)
def _built(key: str, ch_names: tuple[str, ...], window: float, weights: str, seed: int) -> FoundationModel:
    return load_model(key, weights=weights, ch_names=ch_names, window=window, seed=seed)


def said_of(model: FoundationModel, windows: np.ndarray, of: Any) -> tuple[str, ...]:
    """Return a description of each step of the preprocessing of windows for a model."""
    return tuple(model.prepare(windows[:1], of.ch_names, of.sfreq).said)


def chosen_device(device: str) -> str:
    """Return the device; "auto" becomes CUDA if it is available, else the CPU."""
    if device != "auto":
        return device
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def chosen_precision(device: str, precision: str) -> str:
    """Return the precision; "auto" becomes the best precision for the device."""
    import torch

    from nbkit.neuro.decoding.training import precision_of

    return precision_of(precision, torch.device(chosen_device(device)))[0]


# -- as items of a phase --


def embedding_rows(task: DecodingTask, models: Iterable[str]) -> list[dict[str, str]]:
    """Return a manifest row for each model and group of a task; a group's windows are embedded together."""
    groups = sorted(set(task.groups.tolist()))
    named = unique_keys(groups)  # a person may have any name
    return [
        {"key": f"{task.name}-{key}-{named[group]}", "model": key, "group": group} for key in models for group in groups
    ]


def for_model(task: DecodingTask, embedding: FrozenEmbedding, key: str) -> tuple[DecodingTask, FrozenEmbedding]:
    """Return a task with a model's own cleaning, and an embedding by this model of its windows.

    The cleaning is part of the key in the cache: as the model's in its fingerprint, and by the windows themselves.

    Parameters
    ----------
    task : DecodingTask
    embedding : FrozenEmbedding
        A model that is already built is kept.
    key : str
    """
    model = key if isinstance(embedding.model, str) else embedding.model
    its = task.cleaned_for(model)
    return its, copy.copy(embedding).set_params(model=model, sfreq=its.sfreq)


def embed_task(task: DecodingTask, models: Iterable[str], embedding: FrozenEmbedding) -> dict[str, np.ndarray]:
    """Return the embeddings of all windows of a task, by model."""
    found = {}
    for key in models:
        its, mine = for_model(task, embedding, key)
        found[key] = mine.fit_transform(its.windows)
        embedding.weights_ = mine.weights_
    return found


def embedded_models(task: DecodingTask, models: Iterable[str], embedding: FrozenEmbedding) -> list[str]:
    """Return the models whose embeddings of all windows of a task are already in the cache."""
    ready = []
    for key in models:
        its, mine = for_model(task, embedding, key)
        windows = check_windows(its.windows)
        made_of = mine.made_of(mine._model_for(windows))
        if mine.cache.holds(windows, made_of):
            ready.append(key)
    return ready


def embed_row(row: Mapping[str, str], task: DecodingTask, embedding: FrozenEmbedding) -> dict[str, Path]:
    """Embed one row's windows and return the cache files that hold them, by name, for the item to store.

    Parameters
    ----------
    row : mapping
        A row of `embedding_rows`.
    task : DecodingTask
    embedding : FrozenEmbedding
        Must have a cache; its model is replaced by the row's.

    Raises
    ------
    ValueError
        If the embedding has no cache.
    """
    if not isinstance(embedding.cache, EmbeddingCache):
        raise ValueError("The embedding has no EmbeddingCache, so there is no file to store; pass cache=.")
    its, mine = for_model(task.subset(task.groups == row["group"]), embedding, row["model"])
    windows = its.windows
    mine.fit_transform(windows)
    paths = mine.cache.packs_of(windows, mine.made_of(mine._model_for(windows)))
    return {path.stem: path for path in paths}
