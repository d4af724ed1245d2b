"""What a training shows: a bar where a person looks, lines in a log."""

from __future__ import annotations

import re

from nbkit.runtime.cells.lines import VARIABLE
from tests.runtime.training.training_support import run_child, train_tiny


def test_a_line_tells_step_loss_validation_wall_and_checkpoint(tmp_path, monkeypatch):
    monkeypatch.setenv(VARIABLE, "0")
    done = run_child(
        train_tiny, tmp_path / "here", tmp_path / "store",
        max_steps=12, validation=True, monitor="val_loss", val_check_interval=4, save_every=0.001, limit=600.0,
    )  # fmt: skip
    lines = [line for line in done.said if line.startswith("tiny: step ")]
    assert len(lines) == 12, "one after each batch where no time lies between two lines"
    form = (
        r"tiny: step 12 of 12, loss_step [\d.]+, .*val_loss [\d.]+, time left [^,]+, "
        r"last checkpoint at step \d+, \S.* ago"
    )
    assert re.fullmatch(form, lines[-1]), lines[-1]
    assert "val_loss" not in lines[0] and "no checkpoint of this session yet" in lines[0]


def test_between_two_lines_lies_the_time_that_is_set(tmp_path, monkeypatch):
    monkeypatch.setenv(VARIABLE, "3600")
    done = run_child(train_tiny, tmp_path, max_steps=5)
    assert not [line for line in done.said if line.startswith("tiny: step ")]


def test_what_remains_of_the_bar_tells_the_last_validation(tmp_path):
    shown, last = run_child(postfix_at_the_end, tmp_path / "here", tmp_path / "store")
    assert shown["val_loss"] == f"{last:.4g}" and float(shown["loss_step"]) > 0


def postfix_at_the_end(folder, store):
    """Train with a bar; return its postfix at the end, and the score of the last validation."""
    import tqdm.auto

    class Bar(tqdm.auto.tqdm):
        beside: dict[str, str] = {}

        def set_postfix(self, values, **more):
            type(self).beside = values
            super().set_postfix(values, **more)

    tqdm.auto.tqdm = Bar
    done = train_tiny(folder, store, max_steps=8, validation=True, monitor="val_loss", val_check_interval=4)
    scores = [row["val_loss"] for row in done.report.history if row.get("val_loss") is not None]
    assert len(scores) == 2 and scores[0] != scores[1]
    return Bar.beside, scores[-1]
