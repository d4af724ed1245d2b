"""Experiments: named decoders, outer folds by group, and the artifacts of each fold.

Every (decoder, fold) is a function of the task, the decoder's settings and the seed, so it can be an item that is
computed anywhere, in any order, and more than once. Each is compared with band powers on the same fold.

For users of coco-pipe: ``FrozenBackboneDecoderConfig`` corresponds to `FrozenProbe`, ``NeuralFineTuneConfig`` with its
parts for LoRA, quantisation, device and checkpoints to `FineTune`, ``CVConfig`` to `CrossValidation`, and
``ExperimentConfig`` and ``Experiment`` to `Experiment`. Channel names and sampling frequency, which every foundation
model needs, are arguments of `Experiment.run`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nbkit.ground.fields import checked
from nbkit.neuro.decoding.artifacts import artifact_table, read_records, score_table, write_record
from nbkit.neuro.decoding.cache import EmbeddingCache
from nbkit.neuro.decoding.decoders import BandPowers, Baseline, FineTune, FrozenProbe, Scratch
from nbkit.neuro.decoding.decoding_task import DecodingTask
from nbkit.neuro.decoding.folds import Fold, check_windows, outer_folds
from nbkit.neuro.decoding.judging.comparison import pair_table, subject_table
from nbkit.neuro.decoding.judging.predictions import PREDICTIONS, write_predictions
from nbkit.neuro.decoding.judging.scores import score_fold, score_names
from nbkit.neuro.signals.seen import also_seen

if TYPE_CHECKING:
    import pandas


@checked
@dataclass(frozen=True)
class CrossValidation:
    """Settings of the outer folds.

    Parameters
    ----------
    strategy, n_splits
        See `folds.outer_folds`.
    group_key : str
        Column of the metadata with the group of each window.
    """

    strategy: str = "stratified_group_kfold"
    n_splits: int = 5
    group_key: str = "Subject"


def seed_of(key: str, seed: int) -> int:
    """Return the seed of an item, derived from its key and the experiment's seed."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{key}".encode()).digest()[:4], "little")


def run_fold(
    name: str, decoder: Any, task: DecodingTask, fold: Fold, folder: Path, *, seed: int, cache: Any = None
) -> dict[str, Any]:
    """Train one decoder on one fold, score it on the held-out groups, and write its artifacts.

    Parameters
    ----------
    name : str
        The decoder's name in tables.
    decoder : Baseline, FrozenProbe, FineTune or Scratch
    task : DecodingTask
    fold : Fold
    folder : Path
        Where to write the record, the card and the checkpoint.
    seed : int
        The experiment's seed, from which the fold's seed is derived.
    cache : EmbeddingCache, optional

    Returns
    -------
    results : dict
        What an item stores: the files ``record``, ``card``, ``predictions`` and, if a network was trained,
        ``checkpoint``.
    """
    model = decoder.model if isinstance(decoder.model, str) else decoder.model.key
    its = task.cleaned_for(decoder.model) if isinstance(decoder, FrozenProbe | FineTune) else task
    estimator = decoder.build(its, seed_of(f"{name}-fold-{fold.number}", seed), cache, folder)
    if hasattr(estimator, "get_artifact_metadata"):  # a trained network, which needs groups to choose its best step
        more = np.zeros(0, int) if fold.chosen_on is None else fold.chosen_on
        rows, chosen_on = np.concatenate([fold.train, more]), np.unique(task.groups[more]).tolist()
        estimator.fit(its.windows[rows], task.target[rows], task.groups[rows], chosen_on)
    else:
        estimator.fit(its.windows[fold.train], task.target[fold.train])
    scores, predicted = _scored(estimator, its, fold)
    own = decoder == BandPowers()
    beside, _ = (scores, None) if own else _scored(_baseline(task, fold), task, fold)
    seen = getattr(decoder.model, "seen", None)
    record = {
        "name": name, "model": model, "mode": decoder.mode, "fold": fold.number, "task": task.name, "kind": task.kind,
        "data": task.data, "held_out": list(fold.held_out), "seen": also_seen(seen, task.people[fold.test]),
        "test_windows": len(fold.test),
        "train_windows": len(fold.train), "scores": scores, "beside": beside, **_told(estimator, decoder),
    }  # fmt: skip
    files = write_record(folder, record, beside)
    named = dict(zip(("record", "card", "checkpoint"), files, strict=False))
    named["predictions"] = write_predictions(
        Path(folder, PREDICTIONS), predicted=predicted, target=task.target[fold.test], windows=fold.test,
        groups=task.people[fold.test].astype(str), trained_on=np.unique(task.target[fold.train]),
    )  # fmt: skip
    return named


def _baseline(task: DecodingTask, fold: Fold) -> Any:
    baseline = BandPowers().build(task, 0, None, None)
    return baseline.fit(task.windows[fold.train], task.target[fold.train])


def _scored(estimator: Any, task: DecodingTask, fold: Fold) -> tuple[dict[str, float], np.ndarray]:
    windows = task.windows[fold.test]
    if task.kind == "regression":
        predicted = np.asarray(estimator.predict(windows), float).ravel()
    elif hasattr(estimator, "predict_proba"):
        predicted = estimator.predict_proba(windows)
    else:
        predicted = np.eye(len(np.unique(task.target)))[estimator.predict(windows)]
    return score_fold(task.kind, task.target[fold.test], predicted, task.target[fold.train]), predicted


def _told(estimator: Any, decoder: Any) -> dict[str, Any]:
    """Return an estimator's report on itself; without a trained network it is short."""
    if hasattr(estimator, "get_artifact_metadata"):
        told = estimator.get_artifact_metadata()
        return {
            "info": told["model_card"], "history": told["training_history"], "checkpoint": told["checkpoints"],
            "diagnostics": told["diagnostics"],
        }  # fmt: skip
    first = estimator[0]
    weights = getattr(first, "weights_", None) or decoder.weights
    info = {"model": decoder.mode, "mode": decoder.mode, "weights": weights, "said": list(getattr(first, "said_", ()))}
    return {"info": info, "history": [], "checkpoint": None, "diagnostics": {"words": []}}


@dataclass(frozen=True)
class Experiment:
    """Evaluate decoders on one task, with all folds in one call; notebooks use one item per fold, see `compare`.

    Parameters
    ----------
    models : mapping of str to FrozenProbe or FineTune
        Decoders by their names in tables.
    task : {"classification", "regression"}
    metrics : sequence of str
        Scores to report; all by default.
    cv : CrossValidation
    seed : int

    Examples
    --------
    A frozen backbone with logistic regression; no subject is on both sides of a fold::

        experiment = Experiment(
            models={"labram_probe": FrozenProbe("labram", head=LogisticRegression(max_iter=1000))},
            metrics=["balanced_accuracy"],
            cv=CrossValidation("stratified_group_kfold", n_splits=5, group_key="Subject"),
        )
        result = experiment.run(X, y, sample_metadata=meta, ch_names=names, sfreq=200.0, cache="embeddings")
    """

    models: Mapping[str, FrozenProbe | FineTune | Baseline | Scratch]
    task: str = "classification"
    metrics: Sequence[str] = ()
    cv: CrossValidation = CrossValidation()
    seed: int = 2025

    def run(
        self,
        X: np.ndarray,
        y: Sequence,
        sample_metadata: Any,
        *,
        ch_names: Sequence[str] = (),
        sfreq: float | None = None,
        cache: EmbeddingCache | str | Path | None = None,
        folder: str | Path = "experiment",
        data: str = "real",
    ) -> ExperimentResult:
        """Train and score every decoder on every fold.

        Parameters
        ----------
        X : ndarray of shape (windows, channels, time) or mne.Epochs
            Arrays in uV.
        y : sequence of shape (windows,)
        sample_metadata : DataFrame or mapping of str to sequence
            Must have the column ``cv.group_key``.
        ch_names : sequence of str
            Epochs have their own.
        sfreq : float
            In Hz; epochs have their own.
        cache : EmbeddingCache or path, optional
        folder : path
            Where to write the artifacts of the folds.
        data : str
            "real", or a description of the stand-in.

        Returns
        -------
        result : ExperimentResult

        Raises
        ------
        ValueError
            If windows, metadata, metrics or folds are not valid.
        """
        allowed = score_names(self.task)
        unknown = [name for name in self.metrics if name not in allowed]
        if unknown:
            raise ValueError(f"A {self.task} has no metrics {', '.join(unknown)}; choose from {', '.join(allowed)}.")
        if self.cv.group_key not in sample_metadata:
            raise ValueError(
                f"The sample_metadata has no column {self.cv.group_key!r}; it has {', '.join(sample_metadata)}."
            )
        groups = np.asarray(sample_metadata[self.cv.group_key]).astype(str)
        if hasattr(X, "get_data"):
            eeg = X.copy().load_data().pick("eeg")
            X, ch_names, sfreq = eeg.get_data(units="uV"), eeg.ch_names, eeg.info["sfreq"]
        if not len(ch_names) or not sfreq:
            raise ValueError(
                "An array says neither its channels nor its rate: pass ch_names= and sfreq=, or mne.Epochs."
            )
        windows = check_windows(X, y, groups, ch_names)
        names, target = (), np.asarray(y)
        if self.task == "classification":
            names, target = np.unique(target, return_inverse=True)
        task = DecodingTask(
            "experiment", self.task, windows, target, groups, float(sfreq), tuple(ch_names), tuple(map(str, names)),
            strategy=self.cv.strategy, data=data,
        )  # fmt: skip
        folds = outer_folds(target, groups, self.cv.strategy, self.cv.n_splits, task=self.task, seed=self.seed)
        cache = EmbeddingCache(cache) if isinstance(cache, str | Path) else cache
        results = [
            run_fold(name, decoder, task, fold, Path(folder, name, str(fold.number)), seed=self.seed, cache=cache)
            for name, decoder in self.models.items()
            for fold in folds
        ]
        return ExperimentResult(read_records(result["record"] for result in results), tuple(self.metrics or allowed))


@dataclass(frozen=True)
class ExperimentResult:
    """Results of an experiment.

    Attributes
    ----------
    records : list of dict
        One record per fold.
    metrics : tuple of str
    """

    records: list[dict[str, Any]]
    metrics: tuple[str, ...]

    def get_detailed_scores(self) -> pandas.DataFrame:
        """Return a table with one row per fold."""
        return score_table(self.records)

    def summary(self) -> pandas.DataFrame:
        """Return a table with one row per decoder: scores with intervals over groups, beside chance and band powers.

        See `subject_table`.
        """
        return subject_table(self.records)

    def compare_pairs(self) -> pandas.DataFrame:
        """Return a table with one row per pair of decoders, tested over groups, see `pair_table`."""
        return pair_table(self.records)

    def get_model_artifacts(self, artifact_type: str | None = None) -> pandas.DataFrame:
        """Return all artifacts of the folds as a long table, see `artifact_table`."""
        return artifact_table(self.records, artifact_type)
