"""Scores with uncertainty: intervals over people, ceilings, circular-shift nulls, and false discovery rates.

All of them are computed from the predictions that the folds stored (see `encode_fold`). A person's r is computed over
all held-out steps, with every run z-scored first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from nbkit.neuro.tribe.scoring.frame import z_over_time


@dataclass(frozen=True)
class Interval:
    """A mean over people (or runs) with its interval.

    Attributes
    ----------
    mean, low, high : float
    n : int
        Number of people or runs; with one, the interval is NaN.
    t : float
        The mean divided by its standard error.
    """

    mean: float
    low: float
    high: float
    n: int
    t: float

    def __str__(self) -> str:
        return f"{self.mean:+.3f} [{self.low:+.3f}, {self.high:+.3f}]"


@dataclass(frozen=True)
class Encoding:
    """Held-out predictions of several models, and the responses.

    Attributes
    ----------
    arrays : mapping
        See `join_folds`.
    step_s : float
        Length of a step, in s.
    """

    arrays: Mapping[str, np.ndarray] = field(repr=False)
    step_s: float

    @property
    def models(self) -> tuple[str, ...]:
        """Names of the models, in the order in which they were fitted."""
        return tuple(name.removeprefix("model:") for name in self.arrays if name.startswith("model:"))

    @cached_property
    def people(self) -> tuple[int, ...]:
        """Numbers of the people, in order."""
        return tuple(sorted(set(self.arrays["subjects"].tolist())))

    def rows(self, person: int) -> np.ndarray:
        """Return the rows of a person's runs, in the order of the stimuli's names."""
        own = np.flatnonzero(self.arrays["subjects"] == person)
        own = own[np.argsort(self.arrays["names"][own], kind="stable")]
        return np.concatenate([np.flatnonzero(self.arrays["run"] == run) for run in own])

    def kept(self, person: int) -> np.ndarray:
        """Return which outputs have a signal in all runs of a person, bool of shape (outputs,)."""
        return self.arrays["keep"][self.arrays["subjects"] == person].all(0)

    def r(self, model: str) -> np.ndarray:
        """Return the correlations of a model, shape (people, outputs); NaN for outputs without signal.

        A constant prediction counts as 0.
        """
        made = []
        for person in self.people:
            rows = self.rows(person)
            said, true = self.arrays[f"model:{model}"][rows], self.arrays["truth"][rows]
            r = (z_over_time(said) * z_over_time(true)).mean(0)
            made.append(np.where(self.kept(person), r, np.nan))
        return np.stack(made)

    @property
    def unit(self) -> str:
        """What intervals are over: "people", or "runs" if there are fewer than three people."""
        return "people" if len(self.people) >= 3 else "runs"

    def unit_r(self, model: str) -> np.ndarray:
        """Return the correlations of a model by person or by run (see `unit`), shape (units, outputs)."""
        if self.unit == "people":
            return self.r(model)
        made = []
        for run, keep in enumerate(self.arrays["keep"]):
            rows = self.arrays["run"] == run
            said, true = self.arrays[f"model:{model}"][rows], self.arrays["truth"][rows]
            made.append(np.where(keep, (z_over_time(said) * z_over_time(true)).mean(0), np.nan))
        return np.stack(made)

    def ceiling(self) -> np.ndarray | None:
        """Return each person's correlation with the mean of all others, shape (people, outputs).

        This inter-subject correlation is what the response to the stimulus alone could reach if all people responded
        alike (Nastase et al., 2019). None with fewer than three people who saw the same stimuli.
        """
        names = [tuple(sorted(self.arrays["names"][self.arrays["subjects"] == person])) for person in self.people]
        if len(self.people) < 3 or len(set(names)) > 1:
            return None
        rows = [self.rows(person) for person in self.people]
        if len(set(map(len, rows))) > 1:
            return None
        truth = np.stack([z_over_time(self.arrays["truth"][one]) for one in rows])
        total = truth.sum(0)
        made = [(own * z_over_time(total - own)).mean(0) for own in truth]
        return np.where(np.stack([self.kept(p) for p in self.people]), np.stack(made), np.nan)

    def null(self, model: str, least_shift_s: float) -> np.ndarray:
        """Return the correlations after every circular shift of the prediction, mean over people.

        Returns
        -------
        null : ndarray of shape (shifts, outputs)
            Shifts of at least ``least_shift_s`` in either direction, the same for all people.

        Raises
        ------
        ValueError
            If there are too few held-out steps for a shift of this length.
        """
        length = min(len(self.rows(person)) for person in self.people)
        least = int(np.ceil(least_shift_s / self.step_s))
        if length < 2 * least + 2:
            raise ValueError(
                f"{length} held-out steps allow no shift of {least_shift_s:g} s; hold out more, or lower least_shift_s."
            )
        total = 0.0
        for person in self.people:
            rows = self.rows(person)[:length]
            said, true = (
                np.fft.rfft(z_over_time(self.arrays[key][rows]), axis=0) for key in (f"model:{model}", "truth")
            )
            total = total + np.fft.irfft(np.conj(said) * true, n=length, axis=0) / length
        return (total / len(self.people))[least : length - least + 1]


def interval_over(values: Sequence[float] | np.ndarray, confidence: float = 0.95) -> Interval:
    """Return the mean of values of independent people, with Student's interval."""
    from scipy.stats import t as student_t

    values = np.asarray(values, float)
    values = values[np.isfinite(values)]
    n, mean = len(values), float(values.mean()) if len(values) else float("nan")
    if n < 2:
        return Interval(mean, float("nan"), float("nan"), n, float("nan"))
    error = float(values.std(ddof=1) / np.sqrt(n))
    half = float(student_t.ppf(0.5 + confidence / 2, n - 1)) * error
    return Interval(mean, mean - half, mean + half, n, mean / error if error > 0 else float("inf"))


def shift_p(observed: np.ndarray, null: np.ndarray) -> np.ndarray:
    """Return the one-sided p of each observed value under its null: (1 + shifts as high) / (1 + shifts)."""
    return (1 + (null >= observed).sum(0)) / (1 + len(null))


def discovered(p: np.ndarray, rate: float = 0.05) -> np.ndarray:
    """Return which outputs are above chance at a false discovery rate (Benjamini and Hochberg, 1995)."""
    from scipy.stats import false_discovery_control

    made = np.zeros(len(p), bool)
    known = np.isfinite(p)
    if known.any():
        made[known] = false_discovery_control(p[known]) <= rate
    return made
