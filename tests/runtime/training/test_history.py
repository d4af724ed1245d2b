"""Logged metrics survive in a checkpoint as they were."""

from __future__ import annotations

import json
import math

import torch

from nbkit.runtime.training.history import History
from nbkit.runtime.training.snapshot import Buffers


def test_rows_join_what_was_logged_together() -> None:
    history = History()
    history.log_metrics({"loss": 1.0, "epoch": 0}, 0)
    history.log_metrics({"lr": 0.1}, 0)
    history.log_metrics({"loss": 0.5}, 1)
    history.log_metrics({"loss": 0.4}, 1)
    rows = [{"step": 0, "loss": 1.0, "lr": 0.1}, {"step": 1, "loss": 0.5}, {"step": 1, "loss": 0.4}]
    assert list(history.rows()) == rows
    assert history.latest() == {"loss": 0.4, "lr": 0.1}


def test_state_goes_through_a_checkpoint_bit_for_bit(tmp_path) -> None:
    history = History()
    for step in range(100):
        history.log_metrics({"a": math.sqrt(step), "b": -step / 3}, step)
    path = tmp_path / "x.ckpt"
    torch.save(Buffers().copy(history.state_dict()), path)
    other = History()
    other.load_state_dict(torch.load(path, weights_only=True))
    assert list(other.rows()) == list(history.rows()) and len(other) == 200
    other.log_metrics({"b": 7.0, "c": 8.0}, 100)
    assert list(other.rows())[-1] == {"step": 100, "b": 7.0, "c": 8.0}
    assert len(history) == 200


def test_a_state_is_not_changed_by_later_rows() -> None:
    history = History()
    history.log_metrics({"a": 1.0}, 0)
    state = history.state_dict()
    history.log_metrics({"a": 2.0}, 1)
    assert state["value"].tolist() == [1.0]


def test_empty_history_and_numbers_that_are_none(tmp_path) -> None:
    history = History()
    history.load_state_dict(history.state_dict())
    history.log_metrics({"loss": math.nan, "other": math.inf}, 3)
    assert history.latest() == {}
    history.write(tmp_path / "metrics.jsonl")
    assert json.loads((tmp_path / "metrics.jsonl").read_text()) == {"step": 3, "loss": None, "other": None}
