"""Verdicts of scores beside rivals, by a table written out by hand, and what is stored of them."""

from __future__ import annotations

import json

import pytest

import nbkit
from nbkit.runtime.errors import UsageError
from nbkit.runtime.results.rivals import judged, verdict

# difference, its interval, p, whether the score is an error; what is to be said
TABLE = [
    (0.1, 0.02, 0.18, 0.01, False, "better"),
    (-0.1, -0.18, -0.02, 0.01, False, "worse"),
    (-0.1, -0.18, -0.02, 0.01, True, "better"),
    (0.1, 0.02, 0.18, 0.051, False, "not distinguishable"),  # the corrected p decides, whatever the interval
    (0.1, -0.02, 0.22, 0.05, False, "better"),
    (0.1, 0.02, 0.18, None, False, "better"),
    (0.1, -0.02, 0.22, None, False, "not distinguishable"),
    (0.1, None, None, None, False, "too few to tell"),
    (0.0, 0.0, 0.0, 0.01, False, "not distinguishable"),
]


@pytest.mark.parametrize("difference,low,high,p,error,said", TABLE)
def test_what_is_said_of_a_difference(difference, low, high, p, error, said):
    assert verdict(difference, low, high, p, error) == said
    rival = {"name": "it", "value": 0.5, "difference": difference, "difference_low": low, "difference_high": high,
             "p": p if p is not None else float("nan")}  # fmt: skip
    (stored,) = judged("score", [rival], error)
    assert stored["said"] == said and ("p" in stored) == (p is not None)


@pytest.mark.parametrize("rival", [{"value": 1.0, "difference": 0.0}, {"name": "x", "value": 1.0},
                                   {"name": "x", "value": 1.0, "difference": 0.0, "pp": 1.0}])  # fmt: skip
def test_a_rival_that_lacks_something_is_refused(rival):
    with pytest.raises(UsageError, match="of 'score'"):
        judged("score", [rival])


def test_a_session_stores_interval_and_rivals_and_prints_them(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    session = nbkit.open_session("toy", store=tmp_path / "store")
    rivals = [{"name": "ridge", "value": 0.4, "low": 0.3, "high": 0.5, "difference": 0.2, "difference_low": 0.1,
               "difference_high": 0.3, "p": 0.004}]  # fmt: skip
    about = {"unit": "1", "baseline": 0.5, "baseline_is": "chance"}
    session.result("accuracy", 0.6, **about, low=0.5, high=0.7, over="12 people", rivals=rivals)
    session.result("loss", 0.25, unit="nat", baseline=0.69, baseline_is="chance")
    session.result("alone", 0.6, **about, low=float("nan"), high=float("nan"))
    with pytest.raises(UsageError, match="without over="):
        session.result("whose", 0.6, **about, low=0.5, high=0.7)
    session.close()
    stored = json.loads((tmp_path / "store/toy/results.json").read_text())["metrics"]
    assert stored["accuracy"] == {"value": 0.6, **about, "low": 0.5, "high": 0.7, "over": "12 people",
                                  "rivals": [rivals[0] | {"said": "better"}]}  # fmt: skip
    assert stored["alone"] == {"value": 0.6, **about} and "whose" not in stored
    said = capsys.readouterr().out
    assert "accuracy = 0.6   (baseline 0.5: chance)\n" in said and "loss = 0.25 nat   (baseline 0.69: chance)\n" in said
    assert (
        "0.600 [0.500, 0.700] over 12 people" in said and "beside ridge, 0.400: better (0.200 [0.100, 0.300])" in said
    )
