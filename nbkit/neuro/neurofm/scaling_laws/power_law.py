"""Power law of a loss over the amount of data, with intervals and a verdict that may be "inconclusive".

The model is ``loss = a * size**-alpha + c`` (Hestness et al. 2017, https://arxiv.org/abs/1712.00409; the irreducible
``c`` as in Hoffmann et al. 2022, https://arxiv.org/abs/2203.15556). With four sizes and three parameters, the residuals
say little about the fit. The noise is therefore estimated from several seeds at the same size, and a verdict is given
only if the whole interval of the gain at the next size is on one side of the worthwhile gain.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

STEEPEST = 4.0  # largest exponent; with a larger one only the smallest size would differ from the rest
_GRID = 96  # exponents of the first grid; two finer grids follow around the best
HELPS, CAPACITY, INCONCLUSIVE = "more data helps", "at capacity", "inconclusive"
LEAST_SIZES = 3
LEAST_FREEDOM = 3


@dataclass(frozen=True)
class PowerLaw:
    """A fitted ``loss = a * size**-alpha + c`` with bootstrap draws.

    Attributes
    ----------
    sizes, losses : ndarray of shape (runs,)
        Fitted data; runs of the same size differ in their seed.
    alpha, a, c : float
        Fitted parameters; ``alpha`` is 0 if the loss does not fall.
    draws : ndarray of shape (draws, 3)
        alpha, a, c of every bootstrap draw.
    noise : float
        Standard deviation of single runs, in the unit of the loss.
    freedom : int
        Degrees of freedom of the noise estimate.
    noise_from : str
        "seeds" or "residuals".
    level : float
        Confidence level of all intervals.
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
        """Return the lower and upper end of the central interval of draws along their first axis."""
        low, high = np.quantile(values, [(1 - self.level) / 2, (1 + self.level) / 2], axis=0)
        return low, high

    @property
    def at_bound(self) -> bool:
        """True if the exponent is at the end of the searched range, so that the data do not determine the curve."""
        return self.alpha >= 0.99 * STEEPEST

    @property
    def alpha_interval(self) -> tuple[float, float]:
        """Lower and upper end of the interval of the exponent."""
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
            Mean over seeds and ends of its interval; a single run deviates from the mean by ``noise``.
        """
        sizes = np.asarray(sizes, dtype=float)
        loss = self.a * sizes**-self.alpha + self.c
        alpha, a, c = self.draws.T[..., None]
        low, high = self.interval(a * sizes**-alpha + c)
        return loss, low, high

    def gain(self, now: float, then: float) -> tuple[float, float, float]:
        """Return the decrease of the loss from size ``now`` to size ``then``, and the ends of its interval."""
        alpha, a, _ = self.draws.T
        low, high = self.interval(a * (now**-alpha - then**-alpha))
        return self.a * (now**-self.alpha - then**-self.alpha), float(low), float(high)


@dataclass(frozen=True)
class Verdict:
    """Whether more data helps, the reason, and the expected gain at the next size.

    Attributes
    ----------
    verdict : {"more data helps", "at capacity", "inconclusive"}
    reason : str
        The rule with its numbers.
    fit : PowerLaw or None
        None with too few runs for a fit.
    next_size, worth : float
        The next size, and the decrease of the loss that makes it worthwhile.
    gain, gain_low, gain_high : float
        Expected decrease of the loss at the next size and its interval; NaN without a fit.
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
        """Verdict and reason in one line."""
        return f"{self.verdict}: {self.reason}"

    @property
    def law(self) -> PowerLaw | None:
        """The fit, or None if none was possible or it is at its bound and therefore withheld."""
        return None if self.fit is None or self.fit.at_bound else self.fit


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

    For a given exponent, the optimal ``a >= 0`` and ``c >= floor`` have a closed form, so only the exponent is searched
    (variable projection, Golub and Pereyra 1973): no start value is needed, and there are no local minima. For the
    bootstrap, the deviations of runs from the mean of their size are pooled, scaled to be unbiased, drawn with
    replacement and added to the means. The scale of each draw is random as well (chi-square with the degrees of
    freedom), because few seeds give an uncertain noise estimate. If no size has two seeds, the residuals of the fit
    replace the deviations.

    A 90 % interval contains the true value in about 90 % of the cases. If the true ``c`` is at the floor, the coverage
    is about 80 %: draws cannot be below the floor, so the gain is then estimated too small rather than too large.

    Parameters
    ----------
    sizes, losses : sequence of float of shape (runs,)
        Size and loss of each run; runs with several seeds have the same size.
    floor : float
        Lower bound of the loss; 0 for a deviance or a squared error.
    level : float
        Confidence level of the intervals.
    draws : int
        Number of bootstrap draws.
    seed : int
        Seed of the draws.

    Returns
    -------
    fit : PowerLaw

    Raises
    ------
    ValueError
        If a number is not finite, a loss is below the floor, or there are too few sizes (fewer than 3) or runs.
    """
    sizes, losses = _checked(sizes, losses, floor)
    places, where, counts = np.unique(sizes, return_inverse=True, return_counts=True)
    too_few = _too_few(places, counts)
    if too_few:
        raise ValueError(f"A power law cannot be fitted: {too_few}. Run more sizes or seeds.")
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
    """Decide from the completed runs whether more data helps.

    The verdict is "more data helps" if the whole interval of the gain at the next size is at or above the worthwhile
    gain and the losses fall significantly with log size (one-sided t-test of the slope). It is "at capacity" if the
    whole interval is below the worthwhile gain, and otherwise, or with too few runs for a fit, "inconclusive". Each of
    the first two is wrong in at most about half of ``1 - level`` of the cases. The t-test is needed because a fitted
    curve never rises, so that noise alone often gives a small positive gain.

    Parameters
    ----------
    sizes, losses : sequence of float of shape (runs,)
        Size and loss of each run.
    next_size : float, optional
        By default twice the largest size.
    worth : float, optional
        Decrease of the loss that makes the next size worthwhile; by default 1 % of the mean loss at the largest size.
    floor, level, draws, seed
        As in `fit_power_law`.

    Returns
    -------
    verdict : Verdict

    Raises
    ------
    ValueError
        If a number is not finite, a loss is below the floor, or ``next_size`` is not above the largest size.
    """
    sizes, losses = _checked(sizes, losses, floor)
    if len(sizes) == 0:
        return Verdict(INCONCLUSIVE, "no run is done yet", None, float("nan"), float("nan"))
    now = float(sizes.max())
    next_size = 2 * now if next_size is None else float(next_size)
    if next_size <= now:
        raise ValueError(f"next_size is {next_size:g}, but there are runs of size {now:g} already; give a larger one.")
    here = float(losses[sizes == now].mean())
    worth = 0.01 * abs(here) if worth is None else float(worth)
    too_few = _too_few(*np.unique(sizes, return_counts=True))
    if too_few:
        return Verdict(INCONCLUSIVE, too_few, None, next_size, worth)
    fit = fit_power_law(sizes, losses, floor=floor, level=level, draws=draws, seed=seed)
    gain, low, high = fit.gain(now, next_size)
    between = f"from {now:g} to {next_size:g} the loss falls by {low:.3g} to {high:.3g} ({level:.0%} interval)"
    falls = _falls(fit)
    if fit.at_bound and falls:
        verdict = INCONCLUSIVE
        reason = (
            f"the fitted exponent is at its bound of {STEEPEST:g}, so only the smallest size differs from the rest; "
            "the fit is withheld: run more sizes, or leave the smallest out"
        )
    elif low >= worth and falls:
        verdict, reason = HELPS, f"{between}, at or above the worthwhile gain of {worth:.3g}"
    elif low >= worth:
        verdict, reason = INCONCLUSIVE, f"{between}, but over all sizes its decrease is not significant"
    elif high < worth:
        verdict, reason = CAPACITY, f"{between}, below the worthwhile gain of {worth:.3g}"
    else:
        verdict, reason = INCONCLUSIVE, f"{between}, partly above and partly below the worthwhile gain of {worth:.3g}"
    return Verdict(verdict, reason, fit, next_size, worth, gain, low, high)


def _falls(fit: PowerLaw) -> bool:
    """Return whether the losses fall significantly with log size (one-sided t-test of the slope)."""
    from scipy.stats import t

    log_size = np.log(fit.sizes) - np.log(fit.sizes).mean()
    spread = np.sqrt((log_size**2).sum())
    fall = -(log_size * fit.losses).sum() / spread
    return bool(fall > fit.noise * t.ppf((1 + fit.level) / 2, fit.freedom))


def _checked(sizes: Sequence[float], losses: Sequence[float], floor: float) -> tuple[np.ndarray, np.ndarray]:
    sizes, losses = np.asarray(sizes, dtype=float), np.asarray(losses, dtype=float)
    if sizes.ndim != 1 or sizes.shape != losses.shape:
        raise ValueError(
            f"Sizes have shape {sizes.shape}, losses {losses.shape}; give one size and one loss for each run."
        )
    if not (np.isfinite(sizes).all() and np.isfinite(losses).all()):
        bad = np.flatnonzero(~(np.isfinite(sizes) & np.isfinite(losses)))
        raise ValueError(
            f"Runs {bad.tolist()} have a size or loss that is not finite; repeat them, or leave them out and report it."
        )
    if len(sizes) and sizes.min() <= 0:
        raise ValueError(f"The smallest size is {sizes.min():g}; a power law needs sizes above 0.")
    if len(losses) and losses.min() < floor:
        raise ValueError(
            f"The lowest loss is {losses.min():.4g}, below the floor {floor:g}. Give a loss with a known lower bound, "
            "such as a Poisson deviance, or set its lower bound with floor=."
        )
    return sizes, losses


def _too_few(places: np.ndarray, counts: np.ndarray) -> str:
    """Return the reason why a fit is not possible, or "" if it is possible."""
    if len(places) < LEAST_SIZES:
        there = ", ".join(f"{place:g}" for place in places)
        return f"runs of {len(places)} size{'s' * (len(places) != 1)} ({there}); a fit needs {LEAST_SIZES} sizes"
    freedom = max(int((counts - 1).sum()), int(counts.sum()) - 3)
    if freedom < LEAST_FREEDOM:
        return (
            f"{int(counts.sum())} runs and three parameters leave {freedom} degrees of freedom for the noise; at least "
            f"{LEAST_FREEDOM} are needed: run more seeds"
        )
    return ""


def _solve(
    places: np.ndarray, means: np.ndarray, counts: np.ndarray, floor: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Fit many sets of means at once.

    Parameters
    ----------
    places : ndarray of shape (sizes,)
        Sizes.
    means : ndarray of shape (sets, sizes)
        Mean losses.
    counts : ndarray of shape (sizes,)
        Number of runs of each size, used as weights.
    floor : float
        Lower bound of c.

    Returns
    -------
    alpha, a, c : ndarray of shape (sets,)
    """
    first = places[0]
    relative = np.log(places / first)
    grid = np.linspace(0.0, 1.0, _GRID + 1)[1:] ** 2 * STEEPEST  # finer at small exponents, where curves differ more
    best, a, c = _best(grid[None], relative, means, counts, floor)
    for width in (0.02, 0.0005):
        around = best[:, None] + width * np.linspace(-1, 1, 33) * np.sqrt(best * STEEPEST)[:, None]
        best, a, c = _best(np.clip(around, 1e-6, STEEPEST), relative, means, counts, floor)
    alpha = np.where(a > 0, best, 0.0)  # a constant fits any exponent; 0 means no effect of size
    return alpha, a * first**alpha, c


def _best(
    alphas: np.ndarray, relative: np.ndarray, means: np.ndarray, counts: np.ndarray, floor: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the exponent with the lowest squared error for each set, with its a and c.

    ``alphas`` has one row of candidates for each set, or one row for all sets.
    """
    weight = counts / counts.sum()
    curve = np.exp(-alphas[..., None] * relative)  # (sets, exponents, sizes)
    means = means[:, None, :]
    curve_mean, mean = curve @ weight, means @ weight
    centred = curve - curve_mean[..., None]
    a = (centred * (means - mean[..., None])) @ weight / (centred**2 @ weight)
    c = mean - a * curve_mean
    held = (curve * (means - floor)) @ weight / (curve**2 @ weight)  # optimal a if c is at its floor
    a, c = np.where(c < floor, held, a), np.maximum(c, floor)
    flat = a <= 0
    a, c = np.where(flat, 0.0, a), np.where(flat, mean, c)
    squares = ((means - a[..., None] * curve - c[..., None]) ** 2) @ weight
    row, column = np.arange(len(squares)), squares.argmin(axis=1)
    return np.broadcast_to(alphas, squares.shape)[row, column], a[row, column], c[row, column]
