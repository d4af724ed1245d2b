"""Reports of transfer: a verdict only where the interval over recordings allows one, and parts called parts."""

from __future__ import annotations

import numpy as np
import pytest

from nbkit.neuro.neurofm.scaling_laws.ladder import gate_of
from nbkit.neuro.neurofm.transfer import HELD_OUT, OTHER
from nbkit.neuro.neurofm.transfer_report import few_shot_advantage, read_cases, report_transfer, shots_table


def cases(gap: float, spread: float = 0.0, recordings: int = 5, seeds: int = 2) -> list[dict]:
    random = np.random.default_rng(0)
    made = []
    for number in range(recordings):
        own = gap + spread * random.normal()
        for seed in range(seeds):
            made.append({
                "key": f"{number}-{seed}", "kind": HELD_OUT, "recording": f"r{number}", "seed": seed,
                "shots": np.array([1, 5]), "score_identified": np.full(2, 0.3 + own), "score_scratch": np.full(2, 0.3),
                "score_finetuned": np.full(2, 0.4), "score_Wiener": np.full(2, 0.35), "score_is": "R2",
                "unit": "bit/spike", "bits_identified": 0.2, "bits_finetuned": 0.25, "bits_scratch": 0.1,
                "bits_untouched": -0.01, "nlb_identified": 0.1, "nlb_untouched": -0.1, "possible": 0.9,
            })  # fmt: skip
    return made


@pytest.mark.parametrize(
    ("gap", "spread", "words"),
    [
        (0.2, 0.02, "better than scratch"),
        (-0.2, 0.02, "worse than scratch"),
        (0.02, 0.3, "not clearly different from scratch"),
    ],
)
def test_the_verdict_follows_the_interval_over_recordings(gap, spread, words):
    assert words in few_shot_advantage(cases(gap, spread)).words


def test_the_interval_holds_the_truth_as_often_as_it_says():
    covered = 0
    for k in range(300):
        random = np.random.default_rng(k)
        made = [{"kind": HELD_OUT, "shots": 1, "recording": str(i), "score_identified": 0.1 + 0.2 * random.normal(),
                 "score_scratch": 0.0, "score_is": "R2"} for i in range(5)]  # fmt: skip
        found = few_shot_advantage(made, level=0.9)
        covered += found.low <= 0.1 <= found.high
    assert 0.86 <= covered / 300 <= 0.94


def test_one_recording_has_no_interval_and_opens_no_gate():
    report = report_transfer(cases(0.3, recordings=1), 12)
    assert "no interval, so no conclusion" in report.words and "2 of 12 cases" in report.words
    assert "few_shot_advantage_low" not in [row["name"] for row in report.rows]


def test_untouched_and_adapted_have_their_own_names_and_the_gates_take_the_right_one():
    other = [{**case, "kind": OTHER, "recording": "o"} for case in cases(0.2, recordings=1)]
    report = report_transfer(cases(0.2, 0.02) + other, 36)
    rows = {row["name"]: row for row in report.rows}
    assert rows["untouched_bits_per_spike"]["value"] == pytest.approx(-0.01)
    assert rows["adapted_bits_per_spike"]["value"] == pytest.approx(0.2)
    assert rows["adapted_bits_per_spike_nlb"]["value"] == pytest.approx(0.1)
    assert rows["cross_modal_untouched_bits_per_spike"]["value"] == pytest.approx(-0.01)
    assert not any("zero_shot" in name for name in rows)
    assert "untouched -0.010, unsupervised adaptation +0.200, scratch +0.100 bit/spike" in report.words
    states = {a.check.metric: a.state for a in gate_of(100, {"neurofm_transfer": {"metrics": rows}}).answers}
    assert states["adapted_bits_per_spike"] == states["few_shot_advantage_low"] == "passed"
    assert states["untouched_bits_per_spike"] == states["cross_modal_untouched_bits_per_spike"] == "failed"


def test_rows_stand_beside_scratch_and_rivals_and_curves_have_all_ways():
    report = report_transfer(cases(0.2, 0.02), 36)
    rows = {row["name"]: row for row in report.rows}
    assert rows["r2_at_5_windows"]["baseline"] == pytest.approx(0.3) and rows["r2_at_5_windows"]["value"] > 0.4
    assert rows["r2_at_1_windows_beside_wiener"]["baseline"] == pytest.approx(0.35)
    shots, scores = report.curves["from scratch"]
    assert shots == [1, 5] and scores.shape == (10, 2) and report.levels["best possible"] == pytest.approx(0.9)
    assert set(report.zero) == {HELD_OUT} and len(report.zero[HELD_OUT]["untouched"]) == 10
    assert "from scratch   0.300   0.300" in shots_table(cases(0.1))


def test_without_cases_nothing_is_claimed():
    assert report_transfer([], 9).curves == {} and "no few-shot case" in report_transfer([], 9).words


def test_cases_are_read_as_they_were_saved(tmp_path):
    case = cases(0.1)[0]
    np.savez(tmp_path / "a.npz", **case)
    assert str(read_cases([tmp_path / "a.npz"])) == str([case])
