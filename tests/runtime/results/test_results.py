"""No score without its baseline, none lost between sessions, none that is no number."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from nbkit.ground.files import read_json
from nbkit.runtime.errors import StoreError, UsageError
from nbkit.runtime.results.results import Results
from nbkit.runtime.store.folder import FolderStore
from tests.runtime.store.faulty_store import FaultyStore, on, permanent

MSE = {"value": 0.21, "unit": "uV^2", "baseline": 0.34, "baseline_is": "persistence"}


@pytest.fixture
def store(tmp_path):
    return FolderStore(tmp_path / "store")


def add(results: Results, name: str = "val_mse", **changed) -> None:
    results.metric(name, **(MSE | changed))


def test_scores_of_all_sessions_stand_in_one_file(tmp_path, store):
    first = Results("p", store, tmp_path / "one")
    add(first)
    first.note({"data": "synthetic stand-in"})
    store.put(first.path, first.name)
    second = Results("p", store, tmp_path / "two")
    add(second, "r2", value=0.5)
    add(second, "val_mse", value=0.1)
    content = read_json(second.path)
    assert content["metrics"]["val_mse"] == MSE | {"value": 0.1} and set(content["metrics"]) == {"val_mse", "r2"}
    assert content["data"] == "synthetic stand-in"


def test_scores_that_a_kill_kept_from_the_store_are_not_lost(tmp_path, store):
    stored = Results("p", store, tmp_path / "one")
    add(stored, "old")
    store.put(stored.path, stored.name)
    add(Results("p", store, tmp_path / "two"), "fresh")
    again = Results("p", store, tmp_path / "two", unsent=True)
    assert set(again.content["metrics"]) == {"old", "fresh"}
    assert set(Results("p", store, tmp_path / "two").content["metrics"]) == {"old"}, "else the store's is the newest"


@pytest.mark.parametrize("number", [np.float32(0.5), np.float64(0.5), np.array(0.5), 0.5, np.int64(1), 1])
def test_numbers_of_numpy_are_numbers(tmp_path, store, number):
    results = Results("p", store, tmp_path)
    add(results, value=number, baseline=number)
    assert read_json(results.path)["metrics"]["val_mse"]["value"] == float(number)


def test_a_tensor_of_one_number_is_a_number(tmp_path, store):
    import torch

    results = Results("p", store, tmp_path)
    add(results, value=torch.tensor(0.5))
    assert results.content["metrics"]["val_mse"]["value"] == 0.5


@pytest.mark.parametrize("number", [math.nan, math.inf, "0.5", None, True, np.array([0.5, 1.0]), np.nan, [1]])
@pytest.mark.parametrize("which", ["value", "baseline"])
def test_what_is_no_finite_number_is_refused(tmp_path, store, which, number):
    results = Results("p", store, tmp_path)
    with pytest.raises(UsageError, match=f"{which} of 'val_mse' is .*finite number. Nothing was written"):
        add(results, **{which: number})
    assert not results.path.exists()


@pytest.mark.parametrize("missing", [{"unit": ""}, {"baseline_is": ""}, {"unit": None}, {"baseline_is": 3}])
def test_no_score_without_unit_and_baseline(tmp_path, store, missing):
    with pytest.raises(UsageError, match=f"needs {next(iter(missing))}="):
        add(Results("p", store, tmp_path), **missing)


@pytest.mark.parametrize("facts", [{"metrics": "x"}, {"data": 3}, {"weights": None}])
def test_notes_are_text_and_cannot_replace_the_scores(tmp_path, store, facts):
    with pytest.raises(UsageError, match="A note is text"):
        Results("p", store, tmp_path).note(facts)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"metrics": 3}', "\xff"])
def test_a_hurt_file_in_the_store_is_said_and_left_alone(tmp_path, store, content):
    path = tmp_path / "store" / "p" / "results.json"
    path.parent.mkdir(parents=True)
    path.write_bytes(content.encode("latin-1"))
    with pytest.raises(UsageError, match="(?s)p/results.json in .*Move it away and run again. Nothing was written"):
        Results("p", store, tmp_path / "here")
    assert path.read_bytes() == content.encode("latin-1")


def test_a_store_that_refuses_is_not_taken_for_an_empty_one(tmp_path, store):
    with pytest.raises(StoreError, match="forbidden"):
        Results("p", FaultyStore(store, on("get", permanent)), tmp_path)


def test_without_metrics_the_file_of_another_tool_is_kept(tmp_path, store):
    path = tmp_path / "store" / "p" / "results.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"data": "real"}))
    assert Results("p", store, tmp_path / "here").content == {"data": "real", "metrics": {}}


def test_a_published_score_stands_with_its_source(tmp_path, store):
    results = Results("p", store, tmp_path)
    add(results, anchor=0.18, anchor_is="Somebody 2024, Table 2")
    published = {"anchor": 0.18, "anchor_is": "Somebody 2024, Table 2"}
    assert read_json(results.path)["metrics"]["val_mse"] == MSE | published
    add(results)
    assert read_json(results.path)["metrics"]["val_mse"] == MSE


@pytest.mark.parametrize("missing", [{"anchor": 0.1}, {"anchor_is": "x"}, {"anchor": math.nan, "anchor_is": "x"}])
def test_no_published_score_without_its_source(tmp_path, store, missing):
    results = Results("p", store, tmp_path)
    with pytest.raises(UsageError, match="(?s)anchor.*Nothing was written"):
        add(results, **missing)
    assert not results.path.exists()


@pytest.mark.parametrize("name", [5, b"a", None, "", ("a",)])
def test_what_is_no_name_is_refused_and_spoils_no_later_score(tmp_path, store, name):
    results = Results("p", store, tmp_path)
    add(results, "before")
    with pytest.raises(UsageError, match="name of a score is .*must be text. Nothing was written"):
        add(results, name)
    with pytest.raises(UsageError, match="A note is text"):
        results.note({name: "x"} if name else {"metrics": "x"})
    add(results, "after")
    results.note({"data": "real"})
    content = read_json(results.path)
    assert set(content["metrics"]) == {"before", "after"} and content["data"] == "real"


HUGE = 10**400
RIVAL = {"name": "csp", "value": 0.3, "difference": -0.09}
WRONG = [
    ({"low": 3, "high": 1}, "low=3.0, which is above high=1.0"),
    ({"low": "a", "high": 1}, "low of 'val_mse' is 'a'"),
    ({"low": 0.1, "high": [1]}, "high of 'val_mse' is .1."),
    ({"low": True, "high": 1}, "low of 'val_mse' is True"),
    ({"low": 0.1, "high": math.inf}, "high of 'val_mse' is inf"),
    ({"low": 0.1}, "low=0.1 and high=None: one end"),
    ({"high": 0.1}, "low=None and high=0.1: one end"),
    ({"low": math.nan, "high": 0.3}, "low=nan and high=0.3: one end"),
    ({"value": 9.0, "low": 1, "high": 2}, "9.0, which is far outside"),
    ({"value": 65.0, "low": 0.6, "high": 0.7}, "65.0, which is far outside"),
    ({"low": 0.1, "high": 0.3, "over": 5}, "without over= in words.*is 5"),
    ({"low": 0.1, "high": 0.3, "over": ["a"]}, "without over= in words.*is .'a'."),
    ({"low": 0.1, "high": 0.3, "over": ""}, "without over= in words.*is ''"),
    ({"value": HUGE}, "value of 'val_mse' is 1000*[.]{3};"),
    ({"baseline": -HUGE}, "baseline of 'val_mse' is -1000*[.]{3};"),
    ({"anchor": HUGE, "anchor_is": "x"}, "anchor of 'val_mse' is 1000*"),
    ({"low": 0.1, "high": HUGE}, "high of 'val_mse' is 1000*"),
    ({"rivals": 5}, "rivals of 'val_mse' are 5"),
    ({"rivals": RIVAL}, "rivals of 'val_mse' are {"),
    ({"rivals": "csp"}, "rivals of 'val_mse' are 'csp'"),
    ({"rivals": [5]}, "rivals of 'val_mse' are .5."),
    ({"rivals": [RIVAL | {"p": "small"}]}, "p of the rival 'csp' is 'small'"),
    ({"rivals": [RIVAL | {"value": HUGE}]}, "value of the rival 'csp' is 1000*"),
    ({"rivals": [RIVAL | {5: 1, "x": 2}]}, "A rival of 'val_mse' is"),
]


@pytest.mark.parametrize(("given", "words"), WRONG, ids=[words for _, words in WRONG])
def test_what_is_no_score_is_refused_in_words_and_nothing_of_it_stays(tmp_path, store, given, words):
    results = Results("p", store, tmp_path)
    add(results)
    before = read_json(results.path)
    with pytest.raises(UsageError, match=f"{words}.*Nothing was written") as caught:
        add(results, **({"over": "36 people"} | given))
    assert len(str(caught.value)) < 400
    assert results.content == before == read_json(results.path)
    add(results, "after")
    assert set(read_json(results.path)["metrics"]) == {"val_mse", "after"}


@pytest.mark.parametrize(
    "ends",
    [
        {"low": None, "high": None}, {"low": math.nan, "high": np.nan}, {"low": np.float32("nan"), "high": None},
        {"low": 0.2, "high": 0.3}, {"low": np.float32(0.21), "high": np.array(0.21)},
        {"low": 0.215, "high": 0.3},  # an interval by resampling may leave out the score of all
    ],
    ids=str,
)  # fmt: skip
def test_an_interval_is_kept_where_both_of_its_ends_are_known(tmp_path, store, ends):
    results = Results("p", store, tmp_path)
    add(results, **ends, over="36 people")
    known = ends["low"] is not None and math.isfinite(ends["low"])
    assert ("low" in read_json(results.path)["metrics"]["val_mse"]) == known
