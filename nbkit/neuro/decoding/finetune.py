"""Train foundation models on a task as scikit-learn estimators: head, full, LoRA and QLoRA.

The best step is chosen on groups held out from the training side, and its weights are used for predictions; the test
side of an outer fold is never used. A fit is a function of its data, settings and seed: on a CPU it gives the same
bits every time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from torch import Tensor, nn

from nbkit.neuro.decoding.artifacts import CHECKPOINT, write_checkpoint
from nbkit.neuro.decoding.cache import EmbeddingCache
from nbkit.neuro.decoding.folds import check_windows, inner_split
from nbkit.neuro.decoding.frozen import FrozenEmbedding, chosen_device, chosen_precision, model_for, said_of
from nbkit.neuro.decoding.models.foundation import PRECISIONS, Decoder, FoundationModel
from nbkit.neuro.decoding.training import FineTuneSettings, forward, train

MODES = ("head", "full", "lora", "qlora")


def decoder_for(
    model: FoundationModel, mode: str, n_outputs: int, settings: FineTuneSettings, seed: int, device: str = "cpu"
) -> tuple[Decoder, str]:
    """Return a copy of a model with a head, in which only the weights that a mode trains have ``requires_grad``.

    Parameters
    ----------
    model : FoundationModel
    mode : {"head", "full", "lora", "qlora"}
    n_outputs : int
    settings : FineTuneSettings
    seed : int
        Random seed of the head and the adapters.
    device : str

    Returns
    -------
    decoder : Decoder
    said : str
        Description of what is trained, for the model card.

    Raises
    ------
    ValueError
        If the mode is unknown.
    """
    if mode not in MODES:
        raise ValueError(
            f"There is no mode {mode!r}; choose one of {', '.join(MODES)}. For frozen embeddings use FrozenEmbedding."
        )
    decoder = model.with_head(n_outputs, seed=seed).to(device)
    if mode == "full":
        return decoder, "all weights are trained"
    if mode == "head":
        decoder.backbone.requires_grad_(False)
        return decoder, "only the head is trained, on standardised embeddings of the frozen backbone"
    from nbkit.neuro.nn.lora import add_lora, quantise_4bit

    said = ""
    if mode == "qlora":
        compute = PRECISIONS[chosen_precision(device, settings.precision)]
        said = f"{quantise_4bit(decoder, **({} if compute is None else {'compute': compute}))}; "
    report = add_lora(decoder, model.lora_targets(), settings.r, settings.alpha, settings.dropout, seed)
    decoder.head.requires_grad_(True)
    return decoder, f"{said}{report} of rank {settings.r}, and the head"


class StandardisedHead(nn.Module):
    """A head that first standardises embeddings to mean 0 and deviation 1.

    The embeddings of a frozen backbone vary little between windows compared with their common offset, so a head on raw
    embeddings learns slowly. Means and deviations are those of the training side.

    Parameters
    ----------
    head : torch.nn.Module
    embeddings : ndarray of shape (windows, dim)
        Embeddings of the training windows.
    """

    def __init__(self, head: nn.Module, embeddings: np.ndarray) -> None:
        super().__init__()
        deviation = embeddings.std(0)
        deviation[deviation <= 1e-6 * max(float(deviation.max()), 1e-12)] = 1.0
        self.register_buffer("mean", torch.as_tensor(embeddings.mean(0), dtype=torch.float32))
        self.register_buffer("deviation", torch.as_tensor(deviation, dtype=torch.float32))
        self.head = head

    def forward(self, embeddings: Tensor) -> Tensor:
        """Return outputs of shape (batch, outputs) for embeddings of shape (batch, dim)."""
        return self.head((embeddings - self.mean) / self.deviation)


class _FineTuned(BaseEstimator):
    """Shared parts of the classifier and the regressor."""

    def __init__(
        self,
        model: str | FoundationModel = "cbramod",
        ch_names: Sequence[str] = (),
        sfreq: float = 200.0,
        mode: str = "head",
        settings: FineTuneSettings | None = None,
        weights: str | Path = "random",
        seed: int = 0,
        cache: EmbeddingCache | str | Path | None = None,
        device: str = "auto",
        folder: str | Path | None = None,
    ) -> None:
        self.model = model
        self.ch_names = ch_names
        self.sfreq = sfreq
        self.mode = mode
        self.settings = settings
        self.weights = weights
        self.seed = seed
        self.cache = cache
        self.device = device
        self.folder = folder

    def _fit(
        self, windows: np.ndarray, target: np.ndarray, groups: Sequence | None, classes: int, chosen_on: Sequence
    ) -> None:
        settings, device = self.settings or FineTuneSettings.free(), chosen_device(self.device)
        model = model_for(self.model, self.ch_names, self.sfreq, windows.shape[-1], self.weights, self.seed)
        decoder, trains = decoder_for(model, self.mode, classes or 1, settings, self.seed, device)
        if len(chosen_on):
            inside = np.isin(np.asarray(groups).astype(str), chosen_on)
            fit_on, val_on = np.flatnonzero(~inside), np.flatnonzero(inside)
            split = f"by group, as published: {len(chosen_on)} groups to choose the step on"
        else:
            fit_on, val_on, split = inner_split(
                target, groups, settings.val_fraction, classes=bool(classes), seed=self.seed
            )
        self.shape_, self.model_ = windows.shape[1:], model
        inputs = self._inputs(windows)
        self.network_ = StandardisedHead(decoder.head, inputs[fit_on]) if self.mode == "head" else decoder
        names = [name for name, _ in self.network_.named_parameters() if name.startswith("head.")]
        self.trained_ = train(
            self.network_, inputs, target, (fit_on, val_on), settings,
            head=names, classes=classes, seed=self.seed, device=device,
        )  # fmt: skip
        self.info_ = {
            "model": model.key, "mode": self.mode, "weights": model.weights,
            "said": list(said_of(model, windows, self)),
            "trains": trains, "split": split, "fingerprint": model.fingerprint, "seed": self.seed,
            "settings": asdict(settings), "precision": chosen_precision(device, settings.precision),
        }  # fmt: skip
        self.manifest_ = self._keep()

    def _keep(self) -> dict[str, Any]:
        trained = self.trained_
        manifest = {"path": "", "best_step": trained.best_step, "metric": "val_loss", "value": trained.best_loss}
        if self.folder is not None:
            path, weights = Path(self.folder, CHECKPOINT), trained.weights
            if self.mode == "head":
                weights = weights | {name: value.cpu() for name, value in self.network_.named_buffers()}
            manifest = write_checkpoint(path, weights, self.info_, trained.best_step, trained.best_loss)
        more = {"steps": trained.diagnostics["steps"], "split": self.info_["split"], "trains": self.info_["trains"]}
        return manifest | more

    def _inputs(self, windows: np.ndarray) -> np.ndarray:
        """Return the input of the trained network: windows, or embeddings if the backbone is frozen."""
        if self.mode != "head":
            return self.model_.prepare(windows, self.ch_names, self.sfreq).array
        settings = self.settings or FineTuneSettings.free()
        return FrozenEmbedding(
            self.model_, self.ch_names, self.sfreq, cache=self.cache, device=self.device, precision=settings.precision
        ).fit_transform(windows)

    def _outputs(self, X: np.ndarray) -> np.ndarray:
        from sklearn.utils.validation import check_is_fitted

        check_is_fitted(self, "network_")
        windows = check_windows(X, ch_names=self.ch_names)
        if windows.shape[1:] != self.shape_:
            raise ValueError(
                f"Windows have shape {windows.shape[1:]}, but the model was fitted on (channels, time) = {self.shape_}."
            )
        device, settings = chosen_device(self.device), self.settings or FineTuneSettings.free()
        precision = chosen_precision(device, settings.precision)
        return forward(self.network_, self._inputs(windows), device, precision).cpu().double().numpy()

    # -- reports on the training, see artifacts.NeuralTrainable --

    def get_training_history(self) -> list[dict[str, float]]:
        """Return a row per step with losses, gradient norm and learning rate."""
        return self.trained_.history

    def get_checkpoint_manifest(self) -> dict[str, Any]:
        """Return path, hash and best step of the checkpoint; the path is empty without ``folder``."""
        return self.manifest_

    def get_model_card_info(self) -> dict[str, Any]:
        """Return model, weights, mode, preprocessing, settings."""
        return self.info_

    def get_failure_diagnostics(self) -> dict[str, Any]:
        """Return diagnostics: steps that are not finite, gradient norms, adapters without a gradient."""
        return self.trained_.diagnostics

    def get_artifact_metadata(self) -> dict[str, Any]:
        """Return the results of all the other methods in one dict."""
        return {
            "training_history": self.get_training_history(), "checkpoints": self.get_checkpoint_manifest(),
            "model_card": self.get_model_card_info(), "diagnostics": self.get_failure_diagnostics(),
        }  # fmt: skip

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array, tags.input_tags.two_d_array = True, False
        return tags


_PARAMETERS = """

    Parameters
    ----------
    model : str or FoundationModel
        A key of `list_foundation_models`, built in `fit` for the windows given there, or a model that is already built.
    ch_names : sequence of str
        Channel names of the windows.
    sfreq : float
        Sampling frequency of the windows, in Hz.
    mode : {"head", "full", "lora", "qlora"}
    settings : FineTuneSettings, optional
        ``FineTuneSettings.free()`` by default.
    weights : "random", "hub" or path
    seed : int
        Random seed of random weights, the head, the adapters, the inner split and the batches.
    cache : EmbeddingCache, path or None
        Cache of embeddings, used in mode "head" only.
    device : {"auto", "cpu", "cuda"}
    folder : path, optional
        Where to write the checkpoint with the best step's weights.
    """


class FoundationClassifier(ClassifierMixin, _FineTuned):
    __doc__ = f"Classify windows with a foundation model and a head.{_PARAMETERS}"

    def fit(
        self, X: np.ndarray, y: Sequence, groups: Sequence | None = None, chosen_on: Sequence[str] = ()
    ) -> FoundationClassifier:
        """Train on windows and return self.

        Parameters
        ----------
        X : ndarray of shape (windows, channels, time)
            In uV.
        y : sequence of shape (windows,)
            Class labels.
        groups : sequence of shape (windows,), optional
            Group of each window; the best step is chosen on groups that are held out from training.
        chosen_on : sequence of str, optional
            Those groups; by default they are drawn.

        Raises
        ------
        ValueError
            If windows or labels are not valid for training.
        """
        windows = check_windows(X, y, groups, self.ch_names)
        self.classes_, target = np.unique(np.asarray(y), return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(f"All {len(windows)} windows are of class {self.classes_[0]}; two or more are needed.")
        self._fit(windows, target, groups, len(self.classes_), chosen_on)
        return self

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        """Return probabilities of shape (windows, classes)."""
        outputs = self._outputs(X)
        odds = np.exp(outputs - outputs.max(1, keepdims=True))
        return odds / odds.sum(1, keepdims=True)

    def predict(self, X: np.ndarray) -> np.ndarray:
        """Return the most probable class of each window, shape (windows,)."""
        likeliest = self.predict_proba(X).argmax(1)
        return self.classes_[likeliest]


class FoundationRegressor(RegressorMixin, _FineTuned):
    __doc__ = f"Predict a value of each window with a foundation model and a head.{_PARAMETERS}"

    def fit(
        self, X: np.ndarray, y: Sequence, groups: Sequence | None = None, chosen_on: Sequence[str] = ()
    ) -> FoundationRegressor:
        """Train on windows and return self, see `FoundationClassifier.fit`.

        Raises
        ------
        ValueError
            If windows or values are not valid for training.
        """
        windows, target = check_windows(X, y, groups, self.ch_names), np.asarray(y, float)
        if not np.isfinite(target).all() or not target.std() > 0:
            raise ValueError(
                f"{int((~np.isfinite(target)).sum())} of {len(target)} targets are not finite, and their deviation is "
                f"{np.nanstd(target):g}; pass finite values that differ."
            )
        self.mean_, self.deviation_ = float(target.mean()), float(target.std())
        self._fit(windows, (target - self.mean_) / self.deviation_, groups, 0, chosen_on)
        return self

    def predict(self, X: np.ndarray) -> np.ndarray:
        """Return the predicted value of each window, shape (windows,)."""
        return self._outputs(X)[:, 0] * self.deviation_ + self.mean_
