"""The sweet spot: the cheapest within one standard error of the best, and the front that a brute search finds."""

from __future__ import annotations

import numpy as np
import pytest

from nbkit.neuro.neurofm.scaling_laws.sweet_spot import find_sweet_spot


def runs(table: dict[str, tuple[float, float]], spread: float, seeds: int = 3) -> list[dict]:
    steps = np.linspace(-1, 1, seeds) * spread if seeds > 1 else [0.0]
    return [{"name": n, "compute": c, "score": s + d} for n, (c, s) in table.items() for d in steps]


TABLE = {"64/16": (1.0, 0.10), "128/32": (4.0, 0.19), "256/64": (16.0, 0.20), "512/128": (64.0, 0.195)}


def test_the_cheapest_within_one_standard_error_is_taken():
    spot = find_sweet_spot(runs(TABLE, 0.03))
    assert (spot.name, spot.best) == ("128/32", "256/64")
    assert "25% of the compute" in spot.reason and "one standard error" in spot.reason
    best = next(one for one in spot.configurations if one.name == "256/64")
    assert best.error == pytest.approx(np.std([-0.03, 0, 0.03], ddof=1) / 3**0.5) and best.seeds == 3


def test_with_less_noise_the_best_itself_is_worth_its_price():
    assert find_sweet_spot(runs(TABLE, 0.001)).name == "256/64"


def test_one_seed_names_the_best_and_says_what_is_not_known():
    spot = find_sweet_spot(runs(TABLE, 0.0, seeds=1))
    assert spot.name == "256/64" and "the uncertainty is unknown" in spot.reason


def test_the_front_holds_what_nothing_cheaper_beats():
    random = np.random.default_rng(0)
    table = {str(i): (float(c), float(s)) for i, (c, s) in enumerate(random.uniform(1, 9, (30, 2)))}
    found = {one.name for one in find_sweet_spot(runs(table, 0.0, 1)).configurations if one.on_front}
    best, expected = -np.inf, set()
    for name, (_, score) in sorted(table.items(), key=lambda item: item[1]):
        if score > best:
            best, expected = score, expected | {name}
    assert found == expected and 1 < len(found) < 30


@pytest.mark.parametrize(
    ("given", "words"),
    [([], "0 completed runs"), ([{"name": "a", "compute": 0, "score": 1}], "must be finite, and compute above 0"),
     ([{"name": "a", "compute": 1, "score": np.nan}], "a has compute 1 and score nan")],
)  # fmt: skip
def test_wrong_values_are_refused(given, words):
    with pytest.raises(ValueError, match=words):
        find_sweet_spot(given)
