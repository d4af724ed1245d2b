"""The interface of coco-pipe's configs over this package's decoders: an experiment that is declared, not programmed.

Each config is a thin frozen dataclass over what stands elsewhere. What cannot work is refused in words when the config
is made. Weights are the published ones of the hub, unless ``weights`` says otherwise.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nbkit.ground.fields import checked
from nbkit.neuro.decoding.cache import EmbeddingCache
from nbkit.neuro.decoding.decoders import FineTune, FrozenProbe
from nbkit.neuro.decoding.experiment import CrossValidation, ExperimentResult
from nbkit.neuro.decoding.experiment import Experiment as _Experiment
from nbkit.neuro.decoding.models.table import spec_of
from nbkit.neuro.decoding.training import FineTuneSettings

BACKENDS = ("braindecode", "hugging_face")
TRAIN_MODES = ("head", "full", "lora", "qlora")


def _only(what: str, value: Any, allowed: Sequence[Any], why: str) -> None:
    """Raise if a value is not among the allowed ones."""
    if value not in allowed:
        raise ValueError(f"Got {what}={value!r}; it may be {', '.join(map(repr, allowed))}. {why}")


def _check_backend(backend: str, model_key: str) -> None:
    _only("backend", backend, BACKENDS, "Both are braindecode's networks with the weights of huggingface.co.")
    spec_of(model_key)


@checked
@dataclass(frozen=True)
class CVConfig:
    """Outer folds, see `outer_folds`; subjects are on one side always.

    Parameters
    ----------
    strategy : {"stratified_group_kfold", "group_kfold", "leave_one_group_out", "store"}
    n_splits : int
    group_key : str
        Column of the metadata with the subject of each window.
    """

    strategy: str = "stratified_group_kfold"
    n_splits: int = 5
    group_key: str = "Subject"

    def __post_init__(self) -> None:
        from nbkit.neuro.decoding.folds import STRATEGIES

        _only("strategy", self.strategy, STRATEGIES, "Folds that are not by group put a person on both sides.")


@checked
@dataclass(frozen=True)
class ClassicalModelConfig:
    """An estimator of scikit-learn by name, for embeddings.

    Parameters
    ----------
    estimator : str
        Such as "LogisticRegression".
    params : mapping
    """

    estimator: str = "LogisticRegression"
    params: Mapping[str, Any] = field(default_factory=dict)

    def build(self) -> Any:
        """Return the estimator, not fitted.

        Raises
        ------
        ValueError
            If there is no such estimator, or it has no such parameter.
        """
        from sklearn.utils import all_estimators

        known = dict(all_estimators(type_filter=["classifier", "regressor"]))
        if self.estimator not in known:
            near = difflib.get_close_matches(self.estimator, known, 3, 0.4)
            raise ValueError(
                f"scikit-learn has no estimator {self.estimator!r}; near it are {', '.join(near) or 'none'}."
            )
        made = known[self.estimator]()
        wrong = sorted(set(self.params) - set(made.get_params()))
        if wrong:
            raise ValueError(
                f"{self.estimator} has no {', '.join(wrong)}; it has {', '.join(sorted(made.get_params(deep=False)))}."
            )
        return made.set_params(**self.params)

    def __post_init__(self) -> None:
        self.build()


@checked
@dataclass(frozen=True)
class FoundationEmbeddingModelConfig:
    """A frozen backbone.

    Parameters
    ----------
    backend : {"braindecode", "hugging_face"}
    model_key : str
        See `list_foundation_models`.
    pooling : {"mean"}
        An embedding is the mean of a network's tokens.
    cache_embeddings : bool
        Whether to keep embeddings on disk, for all folds and further runs in the same folder.
    input_kind : {"epoched"}
    weights : "hub", "random", path or URL
    """

    backend: str = "braindecode"
    model_key: str = "labram"
    pooling: str = "mean"
    cache_embeddings: bool = True
    input_kind: str = "epoched"
    weights: str | Path = "hub"

    def __post_init__(self) -> None:
        _check_backend(self.backend, self.model_key)
        _only("pooling", self.pooling, ("mean",), "For single tokens call the backbone's tokens().")
        _only("input_kind", self.input_kind, ("epoched",), "Cut recordings into windows first (10_eeg_windows).")


@checked
@dataclass(frozen=True)
class FrozenBackboneDecoderConfig:
    """A frozen backbone and a classical estimator on its embeddings."""

    backbone: FoundationEmbeddingModelConfig = FoundationEmbeddingModelConfig()
    head: ClassicalModelConfig = field(default_factory=ClassicalModelConfig)

    @property
    def cached(self) -> bool:
        """Whether embeddings are kept on disk."""
        return self.backbone.cache_embeddings

    def decoder(self) -> FrozenProbe:
        """Return the decoder."""
        return FrozenProbe(self.backbone.model_key, self.backbone.weights, self.head.build())


@checked
@dataclass(frozen=True)
class LoRAConfig:
    """Low-rank adapters: rank, numerator of the scale alpha / r, and dropout on their input."""

    r: int = 16
    alpha: int = 32
    dropout: float = 0.0


@checked
@dataclass(frozen=True)
class QuantizationConfig:
    """Quantisation of the backbone of QLoRA to 4 bits (NF4)."""

    enabled: bool = False
    load_in_4bit: bool = True

    def __post_init__(self) -> None:
        if self.enabled and not self.load_in_4bit:
            raise ValueError("Got enabled=True with load_in_4bit=False; only 4 bits can be trained through (QLoRA).")


@checked
@dataclass(frozen=True)
class DeviceConfig:
    """Device ("auto", "cpu", "cuda") and precision ("auto", "fp32", "fp16", "bf16")."""

    device: str = "auto"
    precision: str = "auto"

    def __post_init__(self) -> None:
        _only("device", self.device, ("auto", "cpu", "cuda"), "auto is a GPU where there is one.")
        _only("precision", self.precision, ("auto", "fp32", "fp16", "bf16"), "auto is the best of the device.")


@checked
@dataclass(frozen=True)
class CheckpointConfig:
    """Which step's weights are kept and used: those of the best one, chosen on people of the training side."""

    save: str = "best"

    def __post_init__(self) -> None:
        _only("save", self.save, ("best",), "The weights of the best step are kept and used for the scores.")


@checked
@dataclass(frozen=True)
class NeuralFineTuneConfig:
    """A backbone that is trained with a head.

    Parameters
    ----------
    backend, model_key, input_kind, weights
        See `FoundationEmbeddingModelConfig`.
    train_mode : {"head", "full", "lora", "qlora"}
    lora : LoRAConfig, optional
        For lora and qlora only.
    quantization : QuantizationConfig
        Enabled for qlora, and for nothing else.
    device : DeviceConfig
    checkpoints : CheckpointConfig
    training : FineTuneSettings
        Steps, batches and learning rates; its LoRA and precision are those of the parts above.
    """

    backend: str = "braindecode"
    model_key: str = "labram"
    input_kind: str = "epoched"
    train_mode: str = "lora"
    lora: LoRAConfig | None = None
    quantization: QuantizationConfig | None = None
    device: DeviceConfig = DeviceConfig()
    checkpoints: CheckpointConfig = CheckpointConfig()
    training: FineTuneSettings = field(default_factory=FineTuneSettings.free)
    weights: str | Path = "hub"
    cached = False

    def __post_init__(self) -> None:
        _check_backend(self.backend, self.model_key)
        _only("input_kind", self.input_kind, ("epoched",), "Cut recordings into windows first (10_eeg_windows).")
        _only("train_mode", self.train_mode, TRAIN_MODES, "For frozen embeddings take FrozenBackboneDecoderConfig.")
        adapted, quantised = self.train_mode in ("lora", "qlora"), self.quantization is not None
        if self.lora is not None and not adapted:
            raise ValueError(f"Got lora= with train_mode={self.train_mode!r}; adapters belong to lora and qlora.")
        if quantised and self.quantization.enabled != (self.train_mode == "qlora"):  # type: ignore[union-attr]
            raise ValueError(
                f"Got train_mode={self.train_mode!r} with quantization.enabled="
                f"{self.quantization.enabled}; qlora is quantised, and the others are not."  # type: ignore[union-attr]
            )

    def decoder(self) -> FineTune:
        """Return the decoder."""
        from dataclasses import replace

        lora = self.lora or LoRAConfig()
        settings = replace(
            self.training, r=lora.r, alpha=lora.alpha, dropout=lora.dropout, precision=self.device.precision
        )  # fmt: skip
        return FineTune(self.model_key, self.train_mode, settings, self.weights, device=self.device.device)


@checked
@dataclass(frozen=True)
class ExperimentConfig:
    """An experiment: decoders by name, scores and folds.

    Parameters
    ----------
    task : {"classification", "regression"}
    models : mapping of str to FrozenBackboneDecoderConfig or NeuralFineTuneConfig
    metrics : sequence of str
    cv : CVConfig
    seed : int
    """

    models: Mapping[str, FrozenBackboneDecoderConfig | NeuralFineTuneConfig]
    task: str = "classification"
    metrics: Sequence[str] = ()
    cv: CVConfig = CVConfig()
    seed: int = 2025

    def __post_init__(self) -> None:
        _only("task", self.task, ("classification", "regression"), "")
        for name, model in self.models.items():
            if not isinstance(model, FrozenBackboneDecoderConfig | NeuralFineTuneConfig):
                raise ValueError(
                    f"The model {name!r} is a {type(model).__name__}, which decodes nothing by itself. Put a backbone "
                    "and a head into FrozenBackboneDecoderConfig, or take NeuralFineTuneConfig. Band powers, Riemann "
                    "and networks from scratch are in nbkit.neuro.decoding.decoders."
                )


@dataclass(frozen=True)
class Experiment:
    """An experiment that a config declares; ``run`` is that of `experiment.Experiment`."""

    config: ExperimentConfig

    def run(self, X: Any, y: Sequence, sample_metadata: Any, **more: Any) -> ExperimentResult:
        """Train and score every decoder on every fold, see `experiment.Experiment.run`.

        Embeddings are kept in ``<folder>/embeddings`` if a model asks for it and no ``cache`` is given.
        """
        of, cv = self.config, self.config.cv
        if "cache" not in more and any(model.cached for model in of.models.values()):
            more["cache"] = EmbeddingCache(Path(more.get("folder", "experiment"), "embeddings"))
        models = {name: model.decoder() for name, model in of.models.items()}
        folds = CrossValidation(cv.strategy, cv.n_splits, cv.group_key)
        return _Experiment(models, of.task, tuple(of.metrics), folds, of.seed).run(X, y, sample_metadata, **more)
