"""Decoders by name: baselines, frozen backbones, finetuned backbones and networks from scratch.

A decoder is a description. Its ``build`` returns an estimator that is not fitted, for a task's windows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nbkit.ground.fields import checked
from nbkit.neuro.decoding.decoding_task import DecodingTask
from nbkit.neuro.decoding.finetune import FoundationClassifier, FoundationRegressor
from nbkit.neuro.decoding.frozen import FrozenEmbedding, model_for
from nbkit.neuro.decoding.rivals.bandpower import band_power_model, linear_model
from nbkit.neuro.decoding.rivals.riemann import filter_bank, xdawn
from nbkit.neuro.decoding.rivals.scratch import SCRATCH, scratch_model
from nbkit.neuro.decoding.training import FineTuneSettings

if TYPE_CHECKING:
    from nbkit.neuro.decoding.models.foundation import FoundationModel

_BASELINES: dict[str, tuple[Callable[[str, float], Any], str]] = {
    "band_power": (band_power_model, "none: a linear model on band powers"),
    "riemann": (filter_bank, "none: a linear model on covariances of bands in tangent space"),
    "xdawn": (xdawn, "none: a linear model on covariances of xDAWN-filtered responses"),
}
RIVALS = (*_BASELINES, *SCRATCH)


@checked
@dataclass(frozen=True)
class Baseline:
    """A decoder without a network: band powers, Riemannian geometry, or xDAWN.

    Parameters
    ----------
    model : {"band_power", "riemann", "xdawn"}
    """

    model: str = "band_power"
    mode = "baseline"

    @property
    def weights(self) -> str:
        """Description of what is fitted."""
        return _BASELINES[self.model][1]

    def build(self, task: DecodingTask, seed: int, cache: Any, folder: Path | None) -> Any:
        """Return the estimator, not fitted."""
        return _BASELINES[self.model][0](task.kind, task.sfreq)


def BandPowers() -> Baseline:
    """Return the band-power baseline."""
    return Baseline("band_power")


@dataclass(frozen=True)
class FrozenProbe:
    """Decoder of frozen embeddings: a frozen backbone and a scikit-learn estimator on its embeddings.

    Parameters
    ----------
    model : str or FoundationModel
    weights : "random", "hub" or path
    head : sklearn estimator, optional
        By default a linear model on standardised embeddings.
    weights_seed : int
        Random seed of random weights.
    """

    model: str | FoundationModel
    weights: str | Path = "random"
    head: Any = None
    weights_seed: int = 0
    mode = "frozen"

    def build(self, task: DecodingTask, seed: int, cache: Any, folder: Path | None) -> Any:
        """Return the estimator, not fitted."""
        from sklearn.base import clone
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        embedding = FrozenEmbedding(self.model, task.ch_names, task.sfreq, self.weights, self.weights_seed, cache)
        _embed_all(embedding, task)
        head = linear_model(task.kind) if self.head is None else clone(self.head)
        return make_pipeline(embedding, StandardScaler(), head)


@dataclass(frozen=True)
class FineTune:
    """Decoder that trains a backbone with a head: head only, full, LoRA or QLoRA.

    Parameters
    ----------
    model : str or FoundationModel
    mode : {"head", "full", "lora", "qlora"}
    settings : FineTuneSettings
        Includes rank, alpha and dropout of LoRA and the precision; always the weights of the best step are stored.
    weights : "random", "hub" or path
    weights_seed : int
        Random seed of random weights.
    device : {"auto", "cpu", "cuda"}
    """

    model: str | FoundationModel
    mode: str = "lora"
    settings: FineTuneSettings = field(default_factory=FineTuneSettings.free)
    weights: str | Path = "random"
    weights_seed: int = 0
    device: str = "auto"

    def build(self, task: DecodingTask, seed: int, cache: Any, folder: Path | None) -> Any:
        """Return the estimator, not fitted."""
        shape = (task.ch_names, task.sfreq, task.windows.shape[-1])
        model = model_for(self.model, *shape, self.weights, self.weights_seed)  # the same backbone for all folds' seeds
        if self.mode == "head":
            precision = self.settings.precision
            _embed_all(
                FrozenEmbedding(model, task.ch_names, task.sfreq, cache=cache, precision=precision, device=self.device),
                task,
            )
        kind = FoundationClassifier if task.kind == "classification" else FoundationRegressor
        return kind(
            model, task.ch_names, task.sfreq, self.mode, self.settings, seed=seed, cache=cache, folder=folder,
            device=self.device,
        )  # fmt: skip


@checked
@dataclass(frozen=True)
class Scratch:
    """Decoder that trains a small network from random weights.

    Parameters
    ----------
    model : {"eegnet", "shallow"}
    settings : FineTuneSettings
        All weights have the learning rate of the head.
    """

    model: str = "eegnet"
    settings: FineTuneSettings = field(default_factory=FineTuneSettings.free)
    mode = "scratch"

    def build(self, task: DecodingTask, seed: int, cache: Any, folder: Path | None) -> Any:
        """Return the estimator, not fitted."""
        model = scratch_model(self.model, task.ch_names, task.sfreq, task.windows.shape[-1], seed)
        settings = replace(self.settings, backbone_rate=self.settings.head_rate)
        return FineTune(model, "full", settings).build(task, seed, None, folder)


def rival(name: str, settings: FineTuneSettings) -> Baseline | Scratch:
    """Return a rival of foundation models by its name in `RIVALS`.

    Raises
    ------
    ValueError
        If the name is unknown.
    """
    if name not in RIVALS:
        raise ValueError(f"There is no rival {name!r}; there are {', '.join(RIVALS)}.")
    return Scratch(name, settings) if name in SCRATCH else Baseline(name)


def _embed_all(embedding: FrozenEmbedding, task: DecodingTask) -> None:
    """Fill the cache with all of a task's windows, in their order, whichever fold comes first.

    The last bit of an embedding may depend on the other windows in its batch. With this fixed order it depends on the
    task alone, not on a fold or a kill.
    """
    if embedding.cache is not None:
        embedding.fit_transform(task.windows)
