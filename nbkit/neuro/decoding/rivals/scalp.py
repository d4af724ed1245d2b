"""Where on the head a score comes from: the score of each channel alone, in all bands and in each of them.

Every channel gets a linear model of its own on its log band powers, with the folds of the other decoders, so its score
is of people (or runs) that it was not fitted on. It tells where a difference can be measured, not which part of the
brain makes it: neighbouring electrodes see the same sources. The reference is that of the windows, because an average
reference would spread a strong source over all channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from nbkit.neuro.decoding.folds import outer_folds
from nbkit.neuro.decoding.judging.predictions import Predictions
from nbkit.neuro.decoding.judging.scores import MAIN, UNITS
from nbkit.neuro.decoding.judging.statistics import best_by_chance, interval
from nbkit.neuro.decoding.rivals.bandpower import BandPower, linear_model
from nbkit.neuro.signals.bands import DEFAULT_BANDS, Band, band_names, effective_bands
from nbkit.neuro.training.power_ridge import log_band_powers

if TYPE_CHECKING:
    from nbkit.neuro.decoding.decoding_task import DecodingTask

_NYQUIST_ROOM = 0.49  # of the sampling frequency, as in `effective_bands`


@dataclass(frozen=True)
class ScalpScores:
    """Scores of single channels on windows that were held out.

    Attributes
    ----------
    score_name : {"balanced_accuracy", "r2"}
    ch_names : tuple of str
    bands : tuple of str
        "all", then each band alone.
    score, low, high : ndarray of shape (bands, channels)
        Score of all held-out windows, and its 95 % interval over people.
    trivial : float
        Chance, or 0 for R2, the mean of the training side.
    reached : float
        Score that the best of all channels and bands exceeds by chance in 5 % of draws.
    people : int
    """

    score_name: str
    ch_names: tuple[str, ...]
    bands: tuple[str, ...]
    score: np.ndarray
    low: np.ndarray
    high: np.ndarray
    trivial: float
    reached: float
    people: int

    @property
    def unit(self) -> str:
        """Unit of the score."""
        return UNITS[self.score_name]

    @property
    def best(self) -> list[tuple[int, int]]:
        """Band and channel numbers, best score first."""
        order = np.argsort(-self.score, axis=None, kind="stable")
        return [divmod(int(place), len(self.ch_names)) for place in order]

    def words(self, most: int = 5) -> list[str]:
        """Return a line for each of the best channels, and one that states what chance reaches."""
        lines = [
            f"{self.ch_names[channel]}, {self.bands[band]}: {self.score[band, channel]:.3f} "
            f"[{self.low[band, channel]:.3f}, {self.high[band, channel]:.3f}]"
            for band, channel in self.best[:most]
        ]
        above = int((self.score[0] > self.reached).sum())
        return [
            *lines,
            f"the best of {self.score.size} channels and bands exceeds {self.reached:.3f} by chance in 5 % of draws; "
            f"{above} of {len(self.ch_names)} channels are above it with all bands ({self.people} people or groups)",
        ]


def scalp_scores(
    task: DecodingTask, n_splits: int = 5, *, bands: Sequence[Band] = DEFAULT_BANDS, seed: int = 2025
) -> ScalpScores:
    """Return what each channel of a task decodes alone.

    Parameters
    ----------
    task : DecodingTask
    n_splits : int
        Number of outer folds; at most the number of groups.
    bands : sequence of (l_freq, h_freq)
        In Hz; bands above the Nyquist frequency are left out.
    seed : int
    """
    reachable = [band for band in bands if band[0] < _NYQUIST_ROOM * task.sfreq]
    names = band_names(effective_bands(reachable, task.sfreq))
    powers = BandPower(task.sfreq, reachable, reference=None).fit_transform(task.windows)  # an average would spread it
    powers = powers.reshape(len(task.windows), len(task.ch_names), len(reachable))
    count = max(2, min(n_splits, len(np.unique(task.groups))))
    folds = outer_folds(task.target, task.groups, task.strategy, count, task=task.kind, seed=seed)
    parts = [slice(None), *(slice(number, number + 1) for number in range(len(reachable)))]
    found = [
        _held_out(powers[:, channel, part], task, folds) for part in parts for channel in range(len(task.ch_names))
    ]
    return _scores(found, task.kind, len(task.classes), task.ch_names, names, seed)


def scalp_of_split(data: Any, *, bands: Sequence[Band] = DEFAULT_BANDS, seed: int = 2025) -> ScalpScores:
    """Return what each channel decodes alone on the test subjects of a finetuning, by models of its training subjects.

    Parameters
    ----------
    data : WindowData
        The windows are cropped as the networks get them.
    bands : sequence of (l_freq, h_freq)
        In Hz; bands above the Nyquist frequency are left out.
    seed : int
    """
    from torch.utils.data import DataLoader

    reachable = [band for band in bands if band[0] < _NYQUIST_ROOM * data.sfreq]
    sides, classes = (data.train_dataset, data.test_dataset), len(data.classes)
    loaders = (DataLoader(data.batched(side), 256) for side in sides)
    train, test = (
        np.concatenate([log_band_powers(batch["window"].numpy(), data.sfreq, reachable) for batch in loader])
        for loader in loaders
    )
    learned, target = (side.column("target").astype(int if classes else float) for side in sides)
    train, test = (side.reshape(len(side), len(data.ch_names), len(reachable)) for side in (train, test))
    kind, people = "classification" if classes else "regression", data.test_dataset.subjects.astype(str)
    of, every = np.zeros(len(target), int), np.arange(len(target))
    found = []
    for part in (slice(None), *(slice(number, number + 1) for number in range(len(reachable)))):
        for channel in range(len(data.ch_names)):
            model = _model(classes).fit(train[:, channel, part], learned)
            predicted = (model.predict_proba if classes else model.predict)(test[:, channel, part])
            found.append(Predictions(kind, predicted, target, people, of, every))
    names = band_names(effective_bands(reachable, data.sfreq))
    return _scores(found, kind, classes, tuple(data.ch_names), names, seed)


def _scores(
    found: Sequence[Predictions], kind: str, classes: int, ch_names: tuple[str, ...], names: Sequence[str], seed: int
) -> ScalpScores:
    """Return the scores of the predictions of each band (all of them first) and channel."""
    shape = (1 + len(names), len(ch_names))
    ends = [interval(one, seed=seed) for one in found]
    return ScalpScores(
        MAIN[kind], ch_names, ("all", *names), *(
            np.array([getattr(one, name) for one in ends]).reshape(shape) for name in ("value", "low", "high")
        ), 1 / classes if classes else 0.0, best_by_chance(found, seed=seed), len(found[0].names),
    )  # fmt: skip


def _model(classes: int) -> Any:
    """Return a linear model on standardised features: with equal priors one weak feature can vote for each class."""
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    last = LinearDiscriminantAnalysis(priors=[1 / classes] * classes) if classes else linear_model("regression")
    return make_pipeline(StandardScaler(), last)


def _held_out(features: np.ndarray, task: DecodingTask, folds: Sequence[Any]) -> Predictions:
    """Return the predictions of one linear model for every window, each by a model fitted without its group."""
    classes, count = len(task.classes), len(task.windows)
    predicted = np.zeros((count, classes) if classes else count)
    of = np.zeros(count, int)
    for fold in folds:
        model = _model(classes).fit(features[fold.train], task.target[fold.train])
        predicted[fold.test] = (model.predict_proba if classes else model.predict)(features[fold.test])
        of[fold.test] = fold.number
    return Predictions(task.kind, predicted, task.target, task.people, of, np.arange(count))
