"""Linear heads in closed form: ridge regression of a behaviour on states, and discriminant analysis of classes."""

from __future__ import annotations

import numpy as np

_PENALTIES = 10.0 ** np.arange(-3.0, 5.0)  # times the mean variance of a feature


def fit_probe(
    states: np.ndarray, behaviour: np.ndarray, test: np.ndarray, truth: np.ndarray, is_classes: bool
) -> np.ndarray:
    """Fit a head to a few labelled windows and decode others.

    The ridge penalty is chosen by leaving out one labelled window at a time; with one window it is that at which states
    explain about half.

    Parameters
    ----------
    states, test : ndarray of shape (windows, bins, features)
    behaviour, truth : ndarray of shape (windows, bins, dims)
        NaN where nothing is known; of ``truth`` only the known bins are used, and only for classes.
    is_classes : bool
        Decode classes with `fit_lda` instead.

    Returns
    -------
    decoded : ndarray of shape (windows, bins, dims)
    """
    if is_classes:
        return fit_lda(states, behaviour, test, truth)
    known = np.isfinite(behaviour).all(axis=2)
    rows, windows = states[known].astype(float), np.nonzero(known)[0]
    target = behaviour[known]
    penalty = 1.0
    if len(np.unique(windows)) > 1:
        errors = np.zeros(len(_PENALTIES))
        for window in np.unique(windows):
            out = windows == window
            for place, each in enumerate(_PENALTIES):
                weights, shift = _ridge(rows[~out], target[~out], each)
                errors[place] += ((rows[out] @ weights + shift - target[out]) ** 2).sum()
        penalty = float(_PENALTIES[errors.argmin()])
    weights, shift = _ridge(rows, target, penalty)
    return test @ weights + shift


def fit_lda(counts: np.ndarray, behaviour: np.ndarray, test: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Decode classes by linear discriminant analysis with shrinkage (Ledoit-Wolf).

    Parameters
    ----------
    counts, test : ndarray of shape (windows, bins, features)
        Activity of units, or states; their mean over the labelled bins of a window is used.
    behaviour, truth : ndarray of shape (windows, bins, classes)
        1 for the class of a bin; NaN where there is no label.

    Returns
    -------
    decoded : ndarray of shape (windows, bins, classes)
    """
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    def means(part: np.ndarray, labels: np.ndarray) -> np.ndarray:
        known = np.isfinite(labels).all(axis=2)[..., None]
        return np.where(known, part, 0).sum(axis=1) / np.maximum(known.sum(axis=1), 1)

    answer = np.zeros(truth.shape)
    known = np.isfinite(behaviour).all(axis=2).any(axis=1)
    label = np.nan_to_num(behaviour).sum(axis=1).argmax(axis=1)[known]
    seen, counted = np.unique(label, return_counts=True)
    if len(seen) == 1 or counted.max() < 2:  # no spread within a class to estimate: the nearest window decides
        wanted = np.array([np.linalg.norm(means(counts, behaviour)[known] - row, axis=1).argmin()
                           for row in means(test, truth)])  # fmt: skip
        answer[np.arange(len(test)), :, label[wanted]] = 1.0
        return answer
    lda = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto").fit(means(counts, behaviour)[known], label)
    answer[:, :, lda.classes_] = lda.predict_proba(means(test, truth))[:, None]
    return answer


def _ridge(rows: np.ndarray, target: np.ndarray, penalty: float) -> tuple[np.ndarray, np.ndarray]:
    mean_in, mean_out = rows.mean(axis=0), target.mean(axis=0)
    centred = rows - mean_in
    scatter = centred.T @ centred
    scatter[np.diag_indices_from(scatter)] += penalty * max(np.trace(scatter) / len(scatter), 1e-12)
    weights = np.linalg.solve(scatter, centred.T @ (target - mean_out))
    return weights, mean_out - mean_in @ weights
