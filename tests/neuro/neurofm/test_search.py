"""The search: the seed's grid as rows, and a report that says what is missing."""

from __future__ import annotations

import pytest

from nbkit.neuro.neurofm.search import SearchSettings, report_search, search_rows
from nbkit.runtime.ledger.manifest import read_manifest


def done(row: dict, bits: float) -> dict:
    return {**row, "bits_per_spike": bits + 0.01 * (row["seed"] - 1), "compute": 1e-3 * row["dim"] * row["blocks"]}


def test_the_grid_is_the_seeds_and_a_manifest_takes_it():
    rows = search_rows(SearchSettings.free())
    assert {(r["dim"], r["blocks"]) for r in rows} == {(128, 4), (128, 8), (256, 4), (256, 8)} and len(rows) == 12
    assert {(r["dim"], r["latents"], r["heads"]) for r in rows} == {(128, 32, 4), (256, 64, 8)}
    assert [r["seed"] for r in rows[:5]] == [0, 0, 0, 0, 1], "every configuration once before any twice"
    assert len(read_manifest(rows, "neurofm_search")) == 12
    assert all(r["dim"] % r["heads"] == 0 for r in search_rows(SearchSettings.smoke()))


def test_the_report_names_the_best_and_the_one_to_take():
    rows = search_rows(SearchSettings.free())
    bits = {(128, 4): 0.10, (128, 8): 0.195, (256, 4): 0.16, (256, 8): 0.20}
    trials = [done(row, bits[row["dim"], row["blocks"]]) for row in rows]
    report = report_search(trials, len(rows))
    assert report.spot.best == "d256 b8 l64" and report.spot.name == "d128 b8 l32"
    values = {row["name"]: row for row in report.rows}
    assert values["best_bits_per_spike"]["value"] == pytest.approx(0.2)
    assert (
        values["best_bits_per_spike"]["baseline"] == 0.0 and "mean rate" in values["best_bits_per_spike"]["baseline_is"]
    )
    assert "all trials are done" in report.words and report.words.count("<- sweet spot") == 1


def test_a_part_of_the_grid_is_reported_as_a_part():
    rows = search_rows(SearchSettings.free())
    report = report_search([done(row, 0.1) for row in rows[:3]], len(rows))
    assert "9 of 12 trials are not done" in report.words and "the uncertainty is unknown" in report.words


def test_before_the_first_trial_the_report_is_empty():
    report = report_search([], 4)
    assert report.rows == [] and report.spot.configurations == () and report.words == "0 of 4 trials are done"


def test_wrong_sizes_are_refused():
    with pytest.raises(ValueError, match="judged is 5, with 3 recordings"):
        search_rows(SearchSettings(recordings=3, judged=5))
