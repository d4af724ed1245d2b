"""Power laws: the planted exponent within its interval as often as promised, and no verdict that runs do not bear."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from scipy.optimize import least_squares

from nbkit.neuro.neurofm.scaling_laws.power_law import CAPACITY, HELPS, INCONCLUSIVE, Verdict, fit_power_law, judge

SIZES = np.array([5, 10, 20, 40])
SETS = 200


def runs(alpha: float, a: float, c: float, noise: float, seed: int, seeds: int = 3, sizes=SIZES) -> tuple:
    sizes = np.repeat(sizes, seeds).astype(float)
    return sizes, a * sizes**-alpha + c + noise * np.random.default_rng(seed).normal(size=len(sizes))


@cache
def verdicts(alpha: float, a: float, c: float, noise: float, worth: float) -> tuple[Verdict, ...]:
    return tuple(judge(*runs(alpha, a, c, noise, k), worth=worth, draws=150, seed=k) for k in range(SETS))


def share(found: tuple[Verdict, ...], verdict: str) -> float:
    return sum(v.verdict == verdict for v in found) / len(found)


@pytest.mark.parametrize(("alpha", "a", "c"), [(0.3, 1.0, 0.3), (1.0, 2.0, 0.3)])
@pytest.mark.parametrize("noise", [0.005, 0.02])
def test_intervals_hold_the_planted_truth_as_often_as_they_say(alpha, a, c, noise):
    found = verdicts(alpha, a, c, noise, 0.01)
    gain = a * (40.0**-alpha - 80.0**-alpha)
    exponents = np.array([v.fit.alpha_interval for v in found])
    gains = np.array([(v.gain_low, v.gain_high) for v in found])
    losses = np.array([[float(x[0]) for x in v.fit.predict([80])[1:]] for v in found])
    for intervals, truth in ((exponents, alpha), (gains, gain), (losses, a * 80.0**-alpha + c)):
        covered = np.mean((intervals[:, 0] <= truth) & (truth <= intervals[:, 1]))
        assert 0.8 <= covered <= 0.98, "a 90 % interval"


def test_where_the_truth_is_the_floor_the_gain_is_rather_given_too_small():
    found = verdicts(0.5, 1.0, 0.0, 0.01, 0.01)
    gain = 40.0**-0.5 - 80.0**-0.5
    assert np.mean([v.gain_low > gain for v in found]) <= 0.05
    assert np.mean([v.gain_high < gain for v in found]) <= 0.3


def test_more_seeds_make_the_interval_narrower():
    widths = []
    for seeds in (2, 4):
        found = [fit_power_law(*runs(0.5, 1.0, 0.3, 0.02, k, seeds), draws=150, seed=k) for k in range(40)]
        widths.append(np.median([high - low for low, high in (fit.alpha_interval for fit in found)]))
    assert widths[1] < 0.8 * widths[0]


def test_a_clear_power_law_says_that_more_data_helps():
    assert share(verdicts(0.5, 1.0, 0.3, 0.005, 0.01), HELPS) >= 0.95


def test_flat_losses_say_that_capacity_is_reached():
    found = verdicts(0.0, 0.0, 0.6, 0.004, 0.01)
    assert share(found, CAPACITY) >= 0.95 and share(found, HELPS) == 0


def test_points_that_cannot_tell_are_inconclusive():
    assert share(verdicts(0.5, 1.0, 0.3, 0.1, 0.046), INCONCLUSIVE) >= 0.8


@pytest.mark.parametrize("worth", [0.01, 0.0])
def test_pure_noise_seldom_says_that_more_data_helps(worth):
    found = verdicts(0.0, 0.0, 0.6, 0.05, worth)
    assert share(found, HELPS) <= 0.08, "half of 1 - level, and what 200 sets leave to chance"


def test_at_the_border_each_verdict_is_wrong_as_seldom_as_the_rule_says():
    border = 40.0**-0.5 - 80.0**-0.5
    found = verdicts(0.5, 1.0, 0.3, 0.01, border)
    assert share(found, HELPS) <= 0.09 and share(found, CAPACITY) <= 0.09


def test_the_fit_is_no_worse_than_a_general_solver_from_many_starts():
    for k in range(5):
        sizes, losses = runs(0.6, 1.0, 0.2, 0.03, k)
        fit = fit_power_law(sizes, losses, draws=2)
        ours = np.sum((fit.predict(sizes)[0] - losses) ** 2)
        theirs = min(
            2 * least_squares(
                lambda p, x=sizes, y=losses: p[1] * x ** -p[0] + p[2] - y, (start, 1.0, 0.1),
                bounds=([1e-6, 0, 0], [4, 1e4, 10]), xtol=1e-12, ftol=1e-12,
            ).cost
            for start in (0.1, 0.5, 1.5, 3.0)
        )  # fmt: skip
        assert ours <= theirs * (1 + 1e-5)


def test_without_noise_the_numbers_come_back():
    fit = fit_power_law(*runs(0.42, 1.5, 0.25, 0.0, 0), draws=10)
    assert [fit.alpha, fit.a, fit.c] == pytest.approx([0.42, 1.5, 0.25], rel=1e-3)


def test_the_order_of_runs_and_unequal_seeds_change_nothing():
    sizes, losses = runs(0.5, 1.0, 0.3, 0.01, 3)
    order = np.random.default_rng(0).permutation(len(sizes))
    one, other = fit_power_law(sizes, losses, draws=5), fit_power_law(sizes[order], losses[order], draws=5)
    assert one.alpha == pytest.approx(other.alpha, rel=1e-6)
    assert fit_power_law(sizes[:-1], losses[:-1], draws=5).freedom == 7


def test_one_seed_at_many_sizes_takes_the_noise_from_the_residuals():
    sizes = np.array([2, 4, 8, 16, 32, 64, 128])
    found = [fit_power_law(*runs(0.5, 1.0, 0.3, 0.01, k, 1, sizes), draws=200, seed=k) for k in range(100)]
    assert {fit.noise_from for fit in found} == {"residuals"} and found[0].freedom == 4
    covered = np.mean([fit.alpha_interval[0] <= 0.5 <= fit.alpha_interval[1] for fit in found])
    assert 0.8 <= covered <= 0.98


@pytest.mark.parametrize(
    ("sizes", "words"),
    [([], "no run"), ([4, 8, 8], "2 sizes"), ([5, 10, 20, 40], "leave 1 degrees of freedom for the noise")],
)
def test_too_few_runs_are_inconclusive_and_say_what_is_missing(sizes, words):
    verdict = judge(sizes, [1.0 / n for n in sizes])
    assert verdict.verdict == INCONCLUSIVE and verdict.fit is None and words in verdict.reason


def test_a_verdict_holds_its_rule_and_its_numbers():
    verdict = judge(*runs(0.5, 1.0, 0.3, 0.005, 0), worth=0.01)
    assert verdict.next_size == 80 and verdict.words.startswith("more data helps: from 40 to 80")
    assert "worthwhile gain of 0.01" in verdict.reason and verdict.gain_low < verdict.gain < verdict.gain_high


@pytest.mark.parametrize(
    ("sizes", "losses", "options", "words"),
    [
        ([1, 2], [1.0], {}, "one size and one loss for each run"),
        ([1, 2, 4], [1.0, np.nan, 0.5], {}, r"Runs \[1\] have a size or loss that is not finite"),
        ([0, 2, 4], [1.0, 0.8, 0.5], {}, "above 0"),
        ([1, 2, 4], [1.0, 0.8, -0.5], {}, "below the floor 0"),
        ([1, 2, 4], [1.0, 0.8, 0.5], {"next_size": 4}, "give a larger one"),
    ],
)
def test_wrong_values_are_refused(sizes, losses, options, words):
    with pytest.raises(ValueError, match=words):
        judge(sizes, losses, **options)


def test_a_fit_that_cannot_be_made_is_refused():
    with pytest.raises(ValueError, match="a fit needs 3 sizes"):
        fit_power_law([4, 8], [1.0, 0.5])


def test_a_fit_at_its_own_bound_is_withheld():
    sizes = np.repeat([2.0, 4.0, 8.0, 16.0], 3)
    losses = np.where(sizes == 2, 1.0, 0.5) + 0.002 * np.random.default_rng(0).normal(size=12)
    found = judge(sizes, losses, worth=0.01)
    assert found.verdict == INCONCLUSIVE and "at its bound of 4" in found.reason
    assert found.fit.at_bound and found.law is None
    clear = judge(*runs(0.5, 1.0, 0.3, 0.005, 0), worth=0.01)
    assert not clear.fit.at_bound and clear.law is clear.fit
