"""How a loss falls with the amount of data: a power law with intervals, and a verdict that may be "inconclusive".

``loss = a * size**-alpha + c`` (Hestness et al. 2017, https://arxiv.org/abs/1712.00409; the irreducible ``c`` as in
Hoffmann et al. 2022, https://arxiv.org/abs/2203.15556). Four sizes and three numbers leave next to nothing to judge a
fit by, so the noise is taken from runs of several seeds at the same size, and a verdict is only given where the whole
interval of the gain at the next size stands on one side of what is worth having.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

STEEPEST = 4.0  # above it only the smallest size would differ from the rest
_GRID = 96  # exponents that are tried; two finer grids follow around the best
HELPS, CAPACITY, INCONCLUSIVE = "more data helps", "at capacity", "inconclusive"
LEAST_SIZES = 3
LEAST_FREEDOM = 3


@dataclass(frozen=True)
class PowerLaw:
    """Hold a fitted ``loss = a * size**-alpha + c`` and the fits to its bootstrap draws.

    Attributes
    ----------
    sizes, losses : ndarray of shape (runs,)
        What was fitted; several runs of one size differ in their seed.
    alpha, a, c : float
        ``alpha`` is 0 where the loss does not fall at all.
    draws : ndarray of shape (draws, 3)
        alpha, a, c of every bootstrap draw.
    noise : float
        Standard deviation of single runs, in the loss's unit.
    freedom : int
        Degrees of freedom that the noise was estimated with.
    noise_from : str
        "seeds" or "residuals".
    level : float
        Of all its intervals.
    """

    sizes: np.ndarray
    losses: np.ndarray
    alpha: float
    a: float
    c: float
    draws: np.ndarray = field(repr=False)
    noise: float
    freedom: int
    noise_from: str
    level: float

    def interval(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the lower and upper end of the central interval of draws, along their first axis."""
        low, high = np.quantile(values, [(1 - self.level) / 2, (1 + self.level) / 2], axis=0)
        return low, high

    @property
    def alpha_interval(self) -> tuple[float, float]:
        """The exponent's interval."""
        low, high = self.interval(self.draws[:, 0])
        return float(low), float(high)

    def predict(self, sizes: Sequence[float]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the expected loss at other sizes, and its interval.

        Parameters
        ----------
        sizes : sequence of float

        Returns
        -------
        loss, low, high : ndarray of shape (sizes,)
            Of the mean over seeds; one run differs from it by `noise`.
        """
        sizes = np.asarray(sizes, dtype=float)
        loss = self.a * sizes**-self.alpha + self.c
        alpha, a, c = self.draws.T[..., None]
        low, high = self.interval(a * sizes**-alpha + c)
        return loss, low, high

    def gain(self, now: float, then: float) -> tuple[float, float, float]:
        """Return by how much the loss falls from one size to another, and the interval of that."""
        alpha, a, _ = self.draws.T
        low, high = self.interval(a * (now**-alpha - then**-alpha))
        return self.a * (now**-self.alpha - then**-self.alpha), float(low), float(high)


@dataclass(frozen=True)
class Verdict:
    """Say whether more data helps, by which rule, and what the next size would bring.

    Attributes
    ----------
    verdict : {"more data helps", "at capacity", "inconclusive"}
    reason : str
        The rule with its numbers.
    fit : PowerLaw or None
        None where there are too few runs for one.
    next_size, worth : float
        The size that is asked about, and the fall in loss that makes it worth while.
    gain, gain_low, gain_high : float
        By how much the loss falls there, with its interval; not a number without a fit.
    """

    verdict: str
    reason: str
    fit: PowerLaw | None
    next_size: float
    worth: float
    gain: float = float("nan")
    gain_low: float = float("nan")
    gain_high: float = float("nan")

    @property
    def words(self) -> str:
        """Verdict and reason in a line."""
        return f"{self.verdict}: {self.reason}"


def fit_power_law(
    sizes: Sequence[float],
    losses: Sequence[float],
    *,
    floor: float = 0.0,
    level: float = 0.9,
    draws: int = 1000,
    seed: int = 0,
) -> PowerLaw:
    """Fit a power law to runs of several sizes and seeds, with bootstrap intervals.

    For every exponent the best ``a >= 0`` and ``c >= floor`` are known in closed form, so only the exponent is searched
    (variable projection, Golub and Pereyra 1973): there is no start value and no local minimum to fall into. Deviations
    of runs from the mean of their size are pooled, scaled to be unbiased, drawn with replacement and added to the
    means; each draw's scale is drawn too (by the chi-square law of its degrees of freedom), since a noise known from
    few seeds is known badly. Where no size has two seeds, the residuals of the fit take the place of the deviations.

    A 90 % interval holds the truth in about 90 % of the cases, and in about 80 % where the true ``c`` is the floor
    itself: draws cannot fall below it, so the gain is then given too small rather than too large.

    Parameters
    ----------
    sizes, losses : sequence of float of shape (runs,)
        One a run; the same size once a seed.
    floor : float
        Below it no loss can fall; 0 for a deviance or a squared error.
    level : float
        Of the intervals.
    draws : int
        Bootstrap draws.
    seed : int
        Of the draws.

    Returns
    -------
    fit : PowerLaw

    Raises
    ------
    ValueError
        For other than finite numbers, losses below the floor, fewer than 3 sizes, or too few runs to know the noise by.
    """
    sizes, losses = _checked(sizes, losses, floor)
    places, where, counts = np.unique(sizes, return_inverse=True, return_counts=True)
    too_few = _too_few(places, counts)
    if too_few:
        raise ValueError(f"no power law can be fitted: {too_few}. Run more sizes or seeds.")
    means = np.bincount(where, losses) / counts
    alpha, a, c = (float(found[0]) for found in _solve(places, means[None], counts, floor))

    freedom = int((counts - 1).sum())
    if freedom >= LEAST_FREEDOM:
        several = counts[where] > 1
        deviations = ((losses - means[where]) * np.sqrt(counts / np.maximum(counts - 1, 1))[where])[several]
        noise, noise_from = float(np.sqrt(((losses - means[where]) ** 2).sum() / freedom)), "seeds"
    else:
        freedom, noise_from = len(losses) - 3, "residuals"
        residuals = losses - (a * sizes**-alpha + c)
        deviations = (residuals - residuals.mean()) * np.sqrt(len(losses) / freedom)
        noise = float(np.sqrt((residuals**2).sum() / freedom))
    random = np.random.default_rng(seed)
    picked = deviations[random.integers(len(deviations), size=(draws, len(losses)))]
    shifts = np.stack([picked[:, where == i].mean(axis=1) for i in range(len(places))], axis=1)
    scale = np.sqrt(freedom / random.chisquare(freedom, size=(draws, 1)))
    found = np.stack(_solve(places, means + scale * shifts, counts, floor), axis=1)
    return PowerLaw(sizes, losses, alpha, a, c, found, noise, freedom, noise_from, level)


def judge(
    sizes: Sequence[float],
    losses: Sequence[float],
    *,
    next_size: float | None = None,
    worth: float | None = None,
    floor: float = 0.0,
    level: float = 0.9,
    draws: int = 1000,
    seed: int = 0,
) -> Verdict:
    """Return whether more data helps, from the runs that there are so far.

    The rule: "more data helps" where the whole interval of the gain at the next size lies at or above what is worth
    having and the losses fall with log size beyond their noise (a one-sided t-test of the slope), "at capacity" where
    all of the interval lies below, else "inconclusive"; and "inconclusive" where there are too few runs for a fit. Each
    of the first two is then wrong in about half of ``1 - level`` of the cases at most. The t-test is needed since a
    fitted curve never rises: noise alone would often seem to bring a very small gain.

    Parameters
    ----------
    sizes, losses : sequence of float of shape (runs,)
    next_size : float, optional
        Twice the largest by default.
    worth : float, optional
        Fall in loss that makes the next size worth while; 1 % of the mean loss at the largest size by default.
    floor, level, draws, seed
        As in `fit_power_law`.

    Returns
    -------
    verdict : Verdict
    """
    sizes, losses = _checked(sizes, losses, floor)
    if len(sizes) == 0:
        return Verdict(INCONCLUSIVE, "no run is done yet", None, float("nan"), float("nan"))
    now = float(sizes.max())
    next_size = 2 * now if next_size is None else float(next_size)
    if next_size <= now:
        raise ValueError(f"next_size is {next_size:g}, and runs of {now:g} are there already; give a larger one.")
    here = float(losses[sizes == now].mean())
    worth = 0.01 * abs(here) if worth is None else float(worth)
    too_few = _too_few(*np.unique(sizes, return_counts=True))
    if too_few:
        return Verdict(INCONCLUSIVE, too_few, None, next_size, worth)
    fit = fit_power_law(sizes, losses, floor=floor, level=level, draws=draws, seed=seed)
    gain, low, high = fit.gain(now, next_size)
    between = f"from {now:g} to {next_size:g} the loss falls by {low:.3g} to {high:.3g} ({level:.0%} interval)"
    falls = _falls(fit)
    if low >= worth and falls:
        verdict, reason = HELPS, f"{between}, at least the {worth:.3g} that is worth having"
    elif low >= worth:
        verdict, reason = INCONCLUSIVE, f"{between}, but over all sizes it does not fall beyond its noise"
    elif high < worth:
        verdict, reason = CAPACITY, f"{between}, less than the {worth:.3g} that is worth having"
    else:
        verdict, reason = INCONCLUSIVE, f"{between}, on both sides of the {worth:.3g} that is worth having"
    return Verdict(verdict, reason, fit, next_size, worth, gain, low, high)


def _falls(fit: PowerLaw) -> bool:
    """Return whether the losses fall with log size beyond their noise."""
    from scipy.stats import t

    log_size = np.log(fit.sizes) - np.log(fit.sizes).mean()
    spread = np.sqrt((log_size**2).sum())
    fall = -(log_size * fit.losses).sum() / spread
    return bool(fall > fit.noise * t.ppf((1 + fit.level) / 2, fit.freedom))


def _checked(sizes: Sequence[float], losses: Sequence[float], floor: float) -> tuple[np.ndarray, np.ndarray]:
    sizes, losses = np.asarray(sizes, dtype=float), np.asarray(losses, dtype=float)
    if sizes.ndim != 1 or sizes.shape != losses.shape:
        raise ValueError(f"sizes have shape {sizes.shape}, losses {losses.shape}; give one of each a run.")
    if not (np.isfinite(sizes).all() and np.isfinite(losses).all()):
        bad = np.flatnonzero(~(np.isfinite(sizes) & np.isfinite(losses)))
        raise ValueError(f"runs {bad.tolist()} have no finite size or loss; leave them out, and say so.")
    if len(sizes) and sizes.min() <= 0:
        raise ValueError(f"the smallest size is {sizes.min():g}; a power law needs sizes above 0.")
    if len(losses) and losses.min() < floor:
        raise ValueError(
            f"a loss is {losses.min():.4g}, below the floor {floor:g}. Give a loss that cannot fall below a known "
            "floor, such as a Poisson deviance, or the floor with floor=."
        )
    return sizes, losses


def _too_few(places: np.ndarray, counts: np.ndarray) -> str:
    """Say why there is no fit; nothing where there can be one."""
    if len(places) < LEAST_SIZES:
        there = ", ".join(f"{place:g}" for place in places)
        return f"runs of {len(places)} size{'s' * (len(places) != 1)} ({there}); three numbers need {LEAST_SIZES}"
    freedom = max(int((counts - 1).sum()), int(counts.sum()) - 3)
    if freedom < LEAST_FREEDOM:
        return (
            f"{int(counts.sum())} runs and three numbers to fit leave {freedom} to know the noise by; at least "
            f"{LEAST_FREEDOM} are needed: run more seeds"
        )
    return ""


def _solve(
    places: np.ndarray, means: np.ndarray, counts: np.ndarray, floor: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return alpha, a and c for many sets of means at once.

    Parameters
    ----------
    places : ndarray of shape (sizes,)
    means : ndarray of shape (sets, sizes)
    counts : ndarray of shape (sizes,)
        Runs a size, the weights.
    floor : float
        Of c.
    """
    first = places[0]
    relative = np.log(places / first)
    grid = np.linspace(0.0, 1.0, _GRID + 1)[1:] ** 2 * STEEPEST  # as fine as exponents are told apart
    best, a, c = _best(grid[None], relative, means, counts, floor)
    for width in (0.02, 0.0005):
        around = best[:, None] + width * np.linspace(-1, 1, 33) * np.sqrt(best * STEEPEST)[:, None]
        best, a, c = _best(np.clip(around, 1e-6, STEEPEST), relative, means, counts, floor)
    alpha = np.where(a > 0, best, 0.0)  # a constant has every exponent; 0 says that size does not matter
    return alpha, a * first**alpha, c


def _best(
    alphas: np.ndarray, relative: np.ndarray, means: np.ndarray, counts: np.ndarray, floor: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the exponent of least squared error for each set (rows of `alphas`, or one for all), with its a and c."""
    weight = counts / counts.sum()
    curve = np.exp(-alphas[..., None] * relative)  # (sets, exponents, sizes)
    means = means[:, None, :]
    curve_mean, mean = curve @ weight, means @ weight
    centred = curve - curve_mean[..., None]
    a = (centred * (means - mean[..., None])) @ weight / (centred**2 @ weight)
    c = mean - a * curve_mean
    held = (curve * (means - floor)) @ weight / (curve**2 @ weight)  # with c at its floor
    a, c = np.where(c < floor, held, a), np.maximum(c, floor)
    flat = a <= 0
    a, c = np.where(flat, 0.0, a), np.where(flat, mean, c)
    squares = ((means - a[..., None] * curve - c[..., None]) ** 2) @ weight
    row, column = np.arange(len(squares)), squares.argmin(axis=1)
    return np.broadcast_to(alphas, squares.shape)[row, column], a[row, column], c[row, column]
