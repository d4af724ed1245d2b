"""Scores of next-band predictors by subject, band and channel, with intervals over subjects.

The skill is one minus the squared error over that of persistence. The headline is the *excess*: the skill of the model
on recordings minus that of the model trained alike on their surrogates, which have the same spectra and
cross-spectra.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from nbkit.neuro.bandvar.baselines import stage_pairs
from nbkit.neuro.bandvar.controls.heartbeat import Heartbeat, skill_by_heartbeat
from nbkit.neuro.bandvar.controls.linear import Autoregression, LinearPredictor, WienerFilter
from nbkit.neuro.bandvar.controls.paired import PairedBandVAR
from nbkit.neuro.bandvar.data import BandData, EEGFrequencyDataset
from nbkit.neuro.bandvar.training import BandVAR
from nbkit.neuro.signals.bands import band_names

Predictor = Callable[[np.ndarray], np.ndarray]
MODEL, SURROGATE = "model", "model on surrogates"
WIENER, WIENER_SURROGATE, AR = "Wiener filter", "Wiener filter on surrogates", "AR"
_AT_ONCE = 64


@dataclass(frozen=True)
class Errors:
    """Mean squared errors of predictors on held-out windows.

    Attributes
    ----------
    subjects : tuple of str
        Held-out subjects (runs, if there is one subject).
    bands : tuple of str
        Names of the bands that are predicted from another, so without the first.
    mse : dict of str to array of shape (subjects, bands, channels)
        In uV^2, by predictor; ``persistence`` and ``persistence on surrogates`` are among them.
    windows : array of shape (subjects,)
        Number of windows of each.
    whose : str
        "subjects" or "runs".
    heartbeat : Heartbeat or None
        The skill of the model near heartbeats and away from them.
    """

    subjects: tuple[str, ...]
    bands: tuple[str, ...]
    mse: dict[str, np.ndarray]
    windows: np.ndarray
    whose: str = "subjects"
    heartbeat: Heartbeat | None = None

    def skill(self, name: str, band: int | None = None) -> np.ndarray:
        """Return the skill over persistence of each subject, (subjects,), in one band or over all."""
        mse, copied = self.mse[name], self.mse[persistence_of(name)]
        if band is not None:
            mse, copied = mse[:, band : band + 1], copied[:, band : band + 1]
        return 1 - mse.mean(axis=(1, 2)) / copied.mean(axis=(1, 2))

    @property
    def controlled(self) -> bool:
        """Whether a model was trained on surrogates, too."""
        return SURROGATE in self.mse

    def excess(self, band: int | None = None) -> np.ndarray:
        """Return the skill on recordings minus that on surrogates, by subject."""
        return self.skill(MODEL, band) - self.skill(SURROGATE, band)

    def excess_by_channel(self) -> np.ndarray:
        """Return the excess by band and channel, (bands, channels), the mean over subjects."""
        skills = [1 - self.mse[name] / self.mse[persistence_of(name)] for name in (MODEL, SURROGATE)]
        return (skills[0] - skills[1]).mean(axis=0)


def persistence_of(name: str) -> str:
    """Return the name of the persistence that a predictor is scored beside: that of its own data."""
    return "persistence on surrogates" if name.endswith("on surrogates") else "persistence"


def measure_errors(module: BandVAR | PairedBandVAR, data: BandData, limit: int = 2000) -> Errors:
    """Fit the linear predictors to training windows, and score all predictors on the held-out ones.

    Parameters
    ----------
    module : BandVAR or PairedBandVAR
        With the weights of its last step, so that none is chosen by the held-out windows. A module without surrogates
        is scored beside the linear predictors only.
    data : BandData
    limit : int
        Most training windows that the linear predictors are fitted to, evenly spaced.
    """
    true = data.train_dataset.stack(limit)
    linear, past = linear_predictors(true, data.bands, data.sfreq)
    groups, names, whose = groups_of(data.val_dataset)
    real = module.real if isinstance(module, PairedBandVAR) else module
    on_true: dict[str, Predictor] = {MODEL: predictor_of(real), WIENER: linear.predict, AR: past.predict}
    mse = _errors(data.val_dataset, on_true, groups, "persistence")
    if isinstance(module, PairedBandVAR):
        shuffled = WienerFilter(data.bands, data.sfreq).fit(data.twins[0].stack(limit))
        on_twin: dict[str, Predictor] = {SURROGATE: predictor_of(module.surrogate), WIENER_SURROGATE: shuffled.predict}
        mse |= _errors(data.twins[1], on_twin, groups, "persistence on surrogates")
    beats = skill_by_heartbeat(on_true[MODEL], data.val_dataset)
    return Errors(names, band_names(data.bands)[1:], mse, np.bincount(groups), whose, beats)


def linear_predictors(true: np.ndarray, bands: Any, sfreq: float) -> tuple[LinearPredictor, LinearPredictor]:
    """Return the Wiener filter and the autoregression, fitted to cumulative bands of training windows, in uV."""
    return WienerFilter(bands, sfreq).fit(true), Autoregression(bands, sfreq).fit(true)


def predictor_of(module: Any) -> Predictor:
    """Return the one-step predictions of a `BandVAR` as a function of arrays."""

    @torch.no_grad()
    def predict(levels: np.ndarray) -> np.ndarray:
        was_training = module.training
        module.eval()
        made = module.one_step(torch.from_numpy(levels).to(module.scale.device)).float().cpu().numpy()
        module.train(was_training)
        return made

    return predict


def groups_of(dataset: EEGFrequencyDataset) -> tuple[np.ndarray, tuple[str, ...], str]:
    """Return the number of each window's subject, their names, and what they are: runs, if there is one subject."""
    what, whose = "subjects", dataset.column("subject")
    if len(set(whose)) < 2:
        what = "runs"
        whose = [f"{subject} {run}" for subject, run in zip(whose, dataset.column("run"), strict=True)]
    names, groups = np.unique(whose, return_inverse=True)
    return groups, tuple(str(name) for name in names), what


def _errors(
    dataset: EEGFrequencyDataset, predictors: dict[str, Predictor], groups: np.ndarray, persistence: str
) -> dict[str, np.ndarray]:
    """Return the mean squared error of each predictor, (subjects, bands, channels)."""
    count, shape = np.bincount(groups), (dataset.num_stages - 1, dataset.input_shape[0])
    sums = {name: np.zeros((len(count), *shape)) for name in (*predictors, persistence)}
    for at, levels in _batches(dataset):
        inputs, targets = stage_pairs(levels)
        made = {name: predict(levels) for name, predict in predictors.items()} | {persistence: inputs}
        for name, prediction in made.items():
            error = np.square(prediction[:, 1:].astype(np.float64) - targets[:, 1:]).mean(axis=-1)
            np.add.at(sums[name], groups[at], error)
    return {name: total / count[:, None, None] for name, total in sums.items()}


def _batches(dataset: EEGFrequencyDataset) -> Iterator[tuple[slice, np.ndarray]]:
    for start in range(0, len(dataset), _AT_ONCE):
        stop = min(start + _AT_ONCE, len(dataset))
        yield slice(start, stop), np.stack([dataset[index].numpy() for index in range(start, stop)])
