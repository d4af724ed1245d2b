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
