"""BOLD series: constant vertices, trends, and alignment with a teacher's predictions.

Arrays are (time, outputs). Volume k is at ``k * tr`` seconds after the stimulus began. A teacher that removed the delay
(row t is BOLD at t + 5 s) is shifted back before it is compared with fMRI. Volumes that the teacher does not cover are
marked, never guessed.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field

import numpy as np

TEACHER_OFFSET_S = 5.0


@dataclass(frozen=True)
class CleanBold:
    """A cleaned series.

    Attributes
    ----------
    values : float32 array of shape (time, outputs)
        Cleaned values; zero where ``keep`` is False.
    keep : bool array of shape (outputs,)
        False for constant outputs: they have no z-score and are left out of means and scores.
    """

    values: np.ndarray = field(repr=False)
    keep: np.ndarray = field(repr=False)


def varies(values: np.ndarray) -> np.ndarray:
    """Return which outputs are not constant, bool of shape (outputs,).

    Raises
    ------
    ValueError
        If there are NaN or infinite values.
    """
    values = np.asarray(values)
    wrong = ~np.isfinite(values)
    if wrong.any():
        raise ValueError(
            f"Not finite: {int(wrong.sum())} of {values.size} BOLD values are NaN or infinite, in "
            f"{int(wrong.any(axis=0).sum())} outputs; leave those volumes or outputs out before cleaning."
        )
    spread = values.max(axis=0) - values.min(axis=0)
    return spread > 1e-6 * np.maximum(np.abs(values).max(axis=0), np.finfo(np.float32).tiny)


def clean_bold(
    values: np.ndarray,
    detrend: bool = True,
    standardize: bool = True,
    confounds: np.ndarray | None = None,
    keep: np.ndarray | None = None,
) -> CleanBold:
    """Remove a linear trend and confounds, and z-score over time.

    Parameters
    ----------
    values : ndarray of shape (time, outputs)
    detrend, standardize : bool
        Whether to remove the trend, and to z-score.
    confounds : ndarray of shape (time, confounds), optional
        Regressors to remove together with the trend.
    keep : bool array of shape (outputs,), optional
        False for outputs to leave out, whatever their values; NaN is allowed there.

    Returns
    -------
    cleaned : CleanBold

    Raises
    ------
    ValueError
        If there are NaN values, not more volumes than regressors, or confounds of another length.
    """
    values = np.asarray(values, np.float64)
    if keep is not None:
        values = np.where(keep, values, 0.0)
    changes = varies(values)
    constant = int((~changes if keep is None else ~changes & keep).sum())
    if constant:
        warnings.warn(
            f"Constant: {constant} of {len(changes)} outputs never change; they are set to zero and left out of means.",
            stacklevel=2,
        )
    keep = changes
    design = [np.ones((len(values), 1))]
    if detrend:
        design.append(np.linspace(-1, 1, len(values))[:, None])
    if confounds is not None:
        if len(confounds) != len(values):
            raise ValueError(
                f"There are {len(confounds)} rows of confounds for {len(values)} volumes; give one per volume."
            )
        design.append(np.asarray(confounds, np.float64))
    regressors = np.concatenate(design, axis=1)
    if regressors.shape[1] >= len(values):
        raise ValueError(
            f"Too many: {regressors.shape[1]} regressors leave nothing of {len(values)} volumes; use fewer."
        )
    basis, _ = np.linalg.qr(regressors)
    left = values - basis @ (basis.T @ values)
    if not detrend and confounds is None and not standardize:
        left = values.copy()
    if standardize:
        spread = left.std(axis=0)
        left = left / np.where(spread > 0, spread, 1.0)
    left[:, ~keep] = 0.0
    return CleanBold(left.astype(np.float32), keep)


def at_times(values: np.ndarray, step_s: float, times: np.ndarray, first_s: float = 0.0) -> np.ndarray:
    """Interpolate a series linearly; NaN before the first and after the last sample.

    Parameters
    ----------
    values : ndarray of shape (time, outputs)
        Sample i is at ``first_s + i * step_s`` seconds.
    times : ndarray of shape (times,)
        In s.

    Returns
    -------
    interpolated : ndarray of shape (times, outputs)
        float32, or float64 for a float64 series.
    """
    values = np.asarray(values)
    exact = (np.asarray(times, np.float64) - first_s) / step_s
    exact = np.where(
        np.abs(exact - np.round(exact)) < 1e-9, np.round(exact), exact
    )  # in floating point, 3 * 1.4 is not exactly 4.2
    below = np.clip(np.floor(exact).astype(int), 0, max(0, len(values) - 2))
    above = np.minimum(below + 1, len(values) - 1)
    part = (exact - below)[:, None]
    wide = values.astype(np.result_type(values.dtype, np.float32))
    between = ((1 - part) * wide[below] + part * wide[above]).astype(wide.dtype)
    between[(exact < 0) | (exact > len(values) - 1)] = np.nan
    return between


def teacher_on_clock(
    predictions: np.ndarray,
    tr: float,
    n_volumes: int,
    *,
    teacher_tr: float = 1.0,
    offset_s: float = TEACHER_OFFSET_S,
    first_row: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
    """Resample a teacher's predictions to the times of fMRI volumes.

    Row t of the teacher is BOLD at ``t * teacher_tr + offset_s``; volume k is BOLD at ``k * tr``.

    Parameters
    ----------
    predictions : ndarray of shape (teacher time, outputs)
    tr : float
        Repetition time of the fMRI, in s; 1.0 keeps the teacher's own grid.
    n_volumes : int
    offset_s : float
        Delay that the teacher removed, in s; 0 for values at the stimulus's own time.
    first_row : int
        Start of the predictions in the stimulus, in rows of the teacher.

    Returns
    -------
    values : ndarray of shape (volumes, outputs)
        Zero where there is no prediction: before the first row (5 s from the start) and after the last.
    known : bool array of shape (volumes,)
        False where there is no prediction; a loss must leave those volumes out.
    """
    first_s = offset_s + first_row * teacher_tr
    values = at_times(predictions, teacher_tr, np.arange(n_volumes) * tr, first_s=first_s)
    known = np.isfinite(values).all(axis=1)
    return np.where(known[:, None], values, 0).astype(values.dtype), known
