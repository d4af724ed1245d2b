"""A decoding task: windows with a target and a group each.

A task states whether its data are real or a stand-in, and which groups split them.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

import numpy as np

from nbkit.neuro.decoding.models.foundation import PREPARATION, FoundationModel
from nbkit.neuro.decoding.models.table import spec_of
from nbkit.neuro.decoding.recorded import RecordedWindows
from nbkit.neuro.signals.intake.cleaning import Cleaning
from nbkit.neuro.signals.intake.recording import Recording


@dataclass(frozen=True)
class DecodingTask:
    """Windows with their targets and groups.

    Attributes
    ----------
    name : str
    kind : {"classification", "regression"}
    windows : ndarray of shape (windows, channels, time)
        In uV, float32.
    target : ndarray of shape (windows,)
        Class numbers from 0, or the value in ``unit``.
    groups : ndarray of shape (windows,)
        Group of each window, as text; no group is on both sides of a fold.
    sfreq : float
        Sampling frequency, in Hz.
    ch_names : tuple of str
    classes : tuple of str
        Class names by number; empty for a regression.
    unit : str
        Unit of the target of a regression.
    strategy : str
        Strategy of the outer folds, see `folds.outer_folds`.
    data : str
        "real", or a description of the stand-in.
    event_related : bool
        Whether windows begin at a fixed time from an event.
    subjects : ndarray of shape (windows,), optional
        Subject of each window, if the groups are something else.
    recorded : RecordedWindows, optional
        The recordings of the windows, from which each model gets windows of its own cleaning.
    mains : float, optional
        Frequency of the mains in the recordings, in Hz; None if unknown, or removed already.
    cleaning : Cleaning, optional
        The model's cleaning that the windows went through, see `cleaned_for`.
    """

    name: str
    kind: str
    windows: np.ndarray
    target: np.ndarray
    groups: np.ndarray
    sfreq: float
    ch_names: tuple[str, ...]
    classes: tuple[str, ...] = ()
    unit: str = ""
    strategy: str = "stratified_group_kfold"
    data: str = "real"
    event_related: bool = False
    subjects: np.ndarray | None = None
    recorded: RecordedWindows | None = None
    mains: float | None = None
    cleaning: Cleaning | None = None

    @property
    def people(self) -> np.ndarray:
        """What intervals and tests are over: the subjects if there are several, else the groups."""
        several = self.subjects is not None and len(np.unique(self.subjects)) > 1
        return np.asarray(self.subjects if several else self.groups).astype(str)

    @property
    def seconds(self) -> float:
        """Length of a window, in s."""
        return self.windows.shape[-1] / self.sfreq

    @property
    def content(self) -> str:
        """Hash of windows, targets, groups and what models get removed, 12 hexadecimal digits."""
        form = (self.windows.shape, self.sfreq, self.ch_names, self.classes)
        digest = hashlib.sha256(str(form if self.mains is None else (*form, self.mains)).encode())
        for part in (self.windows, self.target):
            digest.update(np.ascontiguousarray(part).data)
        digest.update("\n".join(self.groups.astype(str).tolist()).encode())
        return digest.hexdigest()[:12]

    @property
    def made_of(self) -> dict[str, object]:
        """What an item of any phase on this task depends on besides its row: plain values for its settings."""
        return {"task": self.name, "preparation": PREPARATION, "mains": self.mains}

    def cleaned_for(self, model: str | FoundationModel) -> DecodingTask:
        """Return the task with its recordings cleaned as a model's authors cleaned theirs, and windows at its rate.

        A task without recordings is returned as it is: the model then centres its windows, and nothing else.

        Parameters
        ----------
        model : str or FoundationModel
            A key of the table, or a model; one that was pretrained with nbkit takes the windows as they are.
        """
        cleaning = spec_of(model).cleaning(self.mains) if isinstance(model, str) else model.cleaning
        if self.recorded is None or cleaning is None or self.cleaning == cleaning:
            return self
        windows = self.recorded.cleaned(cleaning)
        return replace(self, windows=windows, sfreq=float(cleaning.sfreq or self.sfreq), cleaning=cleaning)

    def subset(self, rows: np.ndarray) -> DecodingTask:
        """Return the task with some of its windows, by their indices or by a bool for each."""
        recorded = None if self.recorded is None else self.recorded.subset(rows)
        subjects = None if self.subjects is None else self.subjects[rows]
        parts = dict(windows=self.windows[rows], target=self.target[rows], groups=self.groups[rows])
        return replace(self, recorded=recorded, subjects=subjects, **parts)

    def permuted(self, seed: int) -> DecodingTask:
        """Return the task with targets shuffled within each group, a control that no model should decode."""
        rng, target = np.random.default_rng(seed), self.target.copy()
        for group in np.unique(self.groups):
            inside = np.flatnonzero(self.groups == group)
            target[inside] = target[rng.permutation(inside)]
        return replace(self, target=target, data=f"{self.data}; targets shuffled")

    def as_recording(self) -> Recording:
        """Return the windows joined to one recording, to try functions that take a recording."""
        signal = np.concatenate(list(self.windows), axis=1).astype(np.float64)
        return Recording(signal, self.sfreq, self.ch_names, data=f"{self.data}; windows joined")

    def describe(self) -> str:
        """Return a description of the task in one line."""
        what = "classes " + ", ".join(
            f"{name}: {int((self.target == i).sum())}" for i, name in enumerate(self.classes)
        ) if self.classes else f"target {self.target.mean():.3g} +- {self.target.std():.3g} {self.unit}"  # fmt: skip
        return (
            f"{self.name}: (windows, channels, time) = {self.windows.shape} at {self.sfreq:g} Hz; {what}; "
            f"{len(np.unique(self.groups))} groups; {self.data}"
        )
