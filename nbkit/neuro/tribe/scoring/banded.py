"""Banded ridge regression on delayed features: the encoding model that the field would choose.

Each band of features (words, sound, frames, low-level regressors, a teacher's predictions) has a regularisation of its
own (Nunez-Elizalde et al., 2019; Dupre la Tour et al., 2022, himalaya), found by random search with cross-validation
over blocks of time within the training runs. Delays replace an assumed haemodynamic response (FIR).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from nbkit.neuro.tribe.runs.runs import StimulusRun
from nbkit.neuro.tribe.scoring.evaluate import Predictor
from nbkit.neuro.tribe.scoring.settings import FrameSettings
from nbkit.neuro.tribe.student.fusion import MODALITIES

TEACHER, LOW, RESPONSE, GIVEN, STUDENT_BAND = "teacher", "low", "response", "given", "student"
BANDS = (*MODALITIES, LOW, RESPONSE, GIVEN, TEACHER, STUDENT_BAND)
_DELAYED = (*MODALITIES, LOW)


def banded_predictor(
    runs: Sequence[StimulusRun],
    bands: Sequence[str],
    settings: FrameSettings | None = None,
    target: str = "bold",
    student: Predictor | None = None,
) -> Predictor:
    """Fit banded ridge regression to runs.

    Parameters
    ----------
    runs : sequence of StimulusRun
        Training runs, of one subject or of the mean subject.
    bands : sequence of str
        Bands of features, from `BANDS`; one that no run has is left out.
    settings : FrameSettings, optional
    target : {"bold", "teacher"}
    student : callable, optional
        Maps a run to a student's features (steps, dim), under its haemodynamic response: the band "student".

    Returns
    -------
    predictor : callable
        Maps a run to predictions of shape (steps, outputs).

    Raises
    ------
    ValueError
        If no band exists, or there are too few steps.
    """
    from himalaya.kernel_ridge import MultipleKernelRidgeCV
    from sklearn.model_selection import PredefinedSplit

    settings = settings or FrameSettings()
    design = Design(runs, bands, settings, student)
    valid = [run.teacher_valid if target == "teacher" else run.scored for run in runs]
    x = {name: np.concatenate([design(run)[name][ok] for run, ok in zip(runs, valid, strict=True)])
         for name in design.names}  # fmt: skip
    y = np.concatenate([getattr(run, target)[ok] for run, ok in zip(runs, valid, strict=True)]).astype(np.float64)
    if len(y) < 4 * settings.inner_blocks:
        raise ValueError(
            f"{len(y)} steps are too few for {settings.inner_blocks} blocks of cross-validation; give more."
        )
    centre, scale = {}, {}
    for name, values in x.items():
        centre[name], scale[name] = values.mean(0), values.std(0) * np.sqrt(values.shape[1])
        scale[name] = np.where(scale[name] > 1e-9, scale[name], np.inf)  # a constant column has no part in anything
        x[name] = (values - centre[name]) / scale[name]
    mean, spread = y.mean(0), y.std(0)
    moves = spread > 1e-9
    blocks = time_blocks(runs, valid, settings.inner_blocks)
    model = MultipleKernelRidgeCV(
        kernels="precomputed", solver="random_search", cv=PredefinedSplit(blocks),
        random_state=settings.seed,
        solver_params={
            "n_iter": settings.search if len(x) > 1 else 1, "progress_bar": False,
            "alphas": np.logspace(settings.least_alpha, settings.most_alpha, 15),
        },
    )  # fmt: skip
    kernels = np.stack([values @ values.T for values in x.values()])
    model.fit(kernels, ((y - mean) / np.where(moves, spread, 1.0))[:, moves])

    def predict(run: StimulusRun) -> np.ndarray:
        own = design(run)
        across = np.stack([((own[name] - centre[name]) / scale[name]) @ x[name].T for name in x])
        made = np.tile(mean, (len(run), 1))
        made[:, moves] += np.asarray(model.predict(across)) * spread[moves]
        return made.astype(np.float32)

    return predict


def one_a_subject(fit: Callable[[list[StimulusRun]], Predictor], runs: Sequence[StimulusRun]) -> Predictor:
    """Fit one model for each subject, and return a predictor that takes the model of a run's subject.

    Raises
    ------
    ValueError
        When a run of a subject without training runs is predicted.
    """
    people = sorted({run.subject for run in runs})
    fitted = {one: fit([run for run in runs if run.subject == one]) for one in people}

    def predict(run: StimulusRun) -> np.ndarray:
        if run.subject not in fitted:
            raise ValueError(
                f"Subject {run.subject} has no training run (there are subjects {people}); a model for new people is "
                "fitted to mean_subject(runs)."
            )
        return fitted[run.subject](run)

    return predict


def time_blocks(runs: Sequence[StimulusRun], valid: Sequence[np.ndarray], blocks: int) -> np.ndarray:
    """Return the number of the block of time of each valid step, over all runs one after another.

    Whole runs make a block if there are as many; else each run is cut. Subjects that share a stimulus share the block.
    """
    names = list(dict.fromkeys(run.name for run in runs))
    made = []
    for run, ok in zip(runs, valid, strict=True):
        if len(names) >= blocks:
            made.append(np.full(int(ok.sum()), names.index(run.name) % blocks))
        else:
            made.append(np.arange(int(ok.sum())) * blocks // max(1, int(ok.sum())))
    return np.concatenate(made)


class Design:
    """Delayed columns of each band; principal components and the bands that exist come from the training runs.

    Parameters
    ----------
    runs : sequence of StimulusRun
        Training runs.
    bands : sequence of str
    settings : FrameSettings
    student : callable, optional
        See `banded_predictor`.

    Raises
    ------
    ValueError
        If a band is unknown, or none exists.
    """

    def __init__(
        self,
        runs: Sequence[StimulusRun],
        bands: Sequence[str],
        settings: FrameSettings,
        student: Predictor | None = None,
    ) -> None:
        unknown = sorted(set(bands) - set(BANDS))
        if unknown:
            raise ValueError(f"There is no band {', '.join(unknown)}; there are {', '.join(BANDS)}.")
        self.lags = max(1, round(settings.delay_s / runs[0].step_s) + 1)
        self._student = student
        self._axes: dict[str, tuple[np.ndarray, np.ndarray] | None] = {}
        for name in bands:
            values = [self._columns(run, name) for run in runs]
            if any(one is None for one in values):
                continue
            wide = values[0].shape[1] > settings.components
            self._axes[name] = _axes(np.concatenate(values), settings.components) if wide else None
        if not self._axes:
            raise ValueError(f"No run has one of the bands {', '.join(bands)}; there is nothing to predict from.")

    def __call__(self, run: StimulusRun) -> dict[str, np.ndarray]:
        """Return the columns of each band, shape (steps, columns)."""
        made = {}
        for name, axes in self._axes.items():
            values = self._columns(run, name)
            if values is None:
                raise ValueError(f"Run {run.name} lacks the band {name!r}, which the training runs had.")
            values = np.asarray(values, np.float64)
            if axes is not None:
                values = (values - axes[0]) @ axes[1]
            made[name] = lagged(values, self.lags) if name in _DELAYED else values  # others are under a response
        return made

    def _columns(self, run: StimulusRun, band: str) -> np.ndarray | None:
        """Return the values of a band over a run, shape (steps, columns); None if the run does not have it."""
        if band in MODALITIES:
            return run.features[band] if run.present[MODALITIES.index(band)] else None
        if band == STUDENT_BAND:
            return None if self._student is None else self._student(run)
        return getattr(run, band)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the bands that exist."""
        return tuple(self._axes)


def lagged(features: np.ndarray, lags: int) -> np.ndarray:
    """Concatenate the features of the current and previous steps; before the start they are zero.

    Parameters
    ----------
    features : ndarray of shape (steps, dim)
    lags : int
        Number of steps; 1 means only the current one.

    Returns
    -------
    wide : ndarray of shape (steps, lags * dim)
        Lag 0 comes first.
    """
    return np.concatenate([np.pad(features, ((lag, 0), (0, 0)))[: len(features)] for lag in range(lags)], axis=1)


def _axes(values: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean and the first principal axes of rows."""
    from sklearn.decomposition import PCA

    fitted = PCA(min(count, *values.shape), random_state=0).fit(values.astype(np.float64))
    return fitted.mean_, fitted.components_.T
