"""Foundation models trained on a task, as scikit-learn estimators: head, full, LoRA, QLoRA.

The best step is chosen on groups held out of the training side and is what predicts; the test side of an outer fold is
never looked at. A fit is a function of its data, settings and seed: on a CPU it gives the same bits every time.
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
    """Return a copy of a model with a head, with that to be trained which a mode trains.

    Parameters
    ----------
    model : FoundationModel
    mode : {"head", "full", "lora", "qlora"}
    n_outputs : int
    settings : FineTuneSettings
    seed : int
        Of the head and the adapters.
    device : str

    Returns
    -------
    decoder : Decoder
    said : str
        What is trained, for the model card.

    Raises
    ------
    ValueError
        For an unknown mode.
    """
    if mode not in MODES:
        raise ValueError(f"mode {mode!r} is none of {', '.join(MODES)}; frozen embeddings are `FrozenEmbedding`'s.")
    decoder = model.with_head(n_outputs, seed=seed).to(device)
    if mode == "full":
        return decoder, "all weights are trained"
    if mode == "head":
        decoder.backbone.requires_grad_(False)
        return decoder, "the head alone is trained, on standardised embeddings of the frozen backbone"
    from nbkit.neuro.nn.lora import add_lora, quantise_4bit

    said = ""
    if mode == "qlora":
        compute = PRECISIONS[chosen_precision(device, settings.precision)]
        said = f"{quantise_4bit(decoder, **({} if compute is None else {'compute': compute}))}; "
    report = add_lora(decoder, model.lora_targets(), settings.r, settings.alpha, settings.dropout, seed)
    decoder.head.requires_grad_(True)
    return decoder, f"{said}{report} of rank {settings.r}, and the head"


class StandardisedHead(nn.Module):
    """A head on embeddings whose numbers are brought to mean 0 and deviation 1.

    A frozen backbone's embeddings differ little from window to window beside what they have in common; a head that is
    given them as they are learns slowly. The means and deviations are the training side's.

    Parameters
    ----------
    head : torch.nn.Module
    embeddings : ndarray of shape (windows, dim)
        Of the windows that are trained on.
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
    """What the classifier and the regressor share."""

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

    def _fit(self, windows: np.ndarray, target: np.ndarray, groups: Sequence | None, classes: int) -> None:
        settings, device = self.settings or FineTuneSettings.free(), chosen_device(self.device)
        model = model_for(self.model, self.ch_names, self.sfreq, windows.shape[-1], self.weights, self.seed)
        decoder, trains = decoder_for(model, self.mode, classes or 1, settings, self.seed, device)
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
        """What the network that is trained is given: windows, or embeddings where the backbone is frozen."""
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
            raise ValueError(f"windows of shape {windows.shape[1:]}; fitted on (channels, time) = {self.shape_}.")
        device, settings = chosen_device(self.device), self.settings or FineTuneSettings.free()
        precision = chosen_precision(device, settings.precision)
        return forward(self.network_, self._inputs(windows), device, precision).cpu().double().numpy()

    # -- what a training tells of itself: artifacts.NeuralTrainable --

    def get_training_history(self) -> list[dict[str, float]]:
        """Return a row a step: losses, gradient norm, rate."""
        return self.trained_.history

    def get_checkpoint_manifest(self) -> dict[str, Any]:
        """Return path, hash and best step of what was kept; the path is empty without ``folder``."""
        return self.manifest_

    def get_model_card_info(self) -> dict[str, Any]:
        """Return model, weights, mode, preprocessing, settings."""
        return self.info_

    def get_failure_diagnostics(self) -> dict[str, Any]:
        """Return what went wrong: steps that are not finite, gradient norms, adapters without a gradient."""
        return self.trained_.diagnostics

    def get_artifact_metadata(self) -> dict[str, Any]:
        """Return all of these together."""
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
        A key of `list_foundation_models`, built for the windows that it is fitted on, or a model that is built.
    ch_names : sequence of str
        Of the windows.
    sfreq : float
        Of the windows, in Hz.
    mode : {"head", "full", "lora", "qlora"}
    settings : FineTuneSettings, optional
        Those of ``free()`` without it.
    weights : "random", "hub" or path
    seed : int
        Of random weights, the head, the adapters, the inner split and the batches.
    cache : EmbeddingCache, path or None
        Of embeddings, in mode head.
    device : {"auto", "cpu", "cuda"}
    folder : path, optional
        Where the best step's weights are kept.
    """


class FoundationClassifier(ClassifierMixin, _FineTuned):
    __doc__ = f"Tell classes with a foundation model and a head.{_PARAMETERS}"

    def fit(self, X: np.ndarray, y: Sequence, groups: Sequence | None = None) -> FoundationClassifier:
        """Train on windows.

        Parameters
        ----------
        X : ndarray of shape (windows, channels, time)
            In uV.
        y : sequence of shape (windows,)
            Classes.
        groups : sequence of shape (windows,), optional
            Whose windows they are; the best step is chosen on groups that are not trained on.

        Raises
        ------
        ValueError
            For windows or labels that cannot be learned from.
        """
        windows = check_windows(X, y, groups, self.ch_names)
        self.classes_, target = np.unique(np.asarray(y), return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(f"all {len(windows)} windows are of class {self.classes_[0]}; two or more are needed.")
        self._fit(windows, target, groups, len(self.classes_))
        return self

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        """Return probabilities of shape (windows, classes)."""
        outputs = self._outputs(X)
        odds = np.exp(outputs - outputs.max(1, keepdims=True))
        return odds / odds.sum(1, keepdims=True)

    def predict(self, X: np.ndarray) -> np.ndarray:
        """Return the likeliest class of each window."""
        likeliest = self.predict_proba(X).argmax(1)
        return self.classes_[likeliest]


class FoundationRegressor(RegressorMixin, _FineTuned):
    __doc__ = f"Predict a value with a foundation model and a head.{_PARAMETERS}"

    def fit(self, X: np.ndarray, y: Sequence, groups: Sequence | None = None) -> FoundationRegressor:
        """Train on windows; see `FoundationClassifier.fit`.

        Raises
        ------
        ValueError
            For windows or values that cannot be learned from.
        """
        windows, target = check_windows(X, y, groups, self.ch_names), np.asarray(y, float)
        if not np.isfinite(target).all() or not target.std() > 0:
            raise ValueError(
                f"{int((~np.isfinite(target)).sum())} of {len(target)} targets are not finite, their deviation is "
                f"{np.nanstd(target):g}; finite values that differ are needed."
            )
        self.mean_, self.deviation_ = float(target.mean()), float(target.std())
        self._fit(windows, (target - self.mean_) / self.deviation_, groups, 0)
        return self

    def predict(self, X: np.ndarray) -> np.ndarray:
        """Return a value for each window."""
        return self._outputs(X)[:, 0] * self.deviation_ + self.mean_
