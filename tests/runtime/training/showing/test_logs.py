"""One log over all sessions in the formats of others: no step is lost, and none stands there twice."""

from __future__ import annotations

import csv
import pickle
from pathlib import Path

import pytest
from lightning.pytorch import Callback

from nbkit.runtime.errors import UsageError
from nbkit.runtime.training.showing.logs import SavedLog, with_log
from tests.runtime.training.training_support import Child, FakeSession, Tiny, TinyData, run_child

STEPS = 24
OPTIONS = {"max_steps": STEPS, "log_every_n_steps": 1, "save_every": 0.001}


def train(folder: Path, store: Path, name: str, steps: int | None = None, die_at: int | None = None) -> list[dict]:
    """Train in one session that ends after some steps, or dies after a batch; give the rows of the history."""
    from nbkit.runtime.training.fit import fit

    class Dies(Callback):
        def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
            if trainer.global_step == die_at:
                import os
                import signal

                os.kill(os.getpid(), signal.SIGKILL)

    session = FakeSession(folder, store, steps=steps)
    options = with_log(session, {**OPTIONS, "loggers": name})
    options["callbacks"] = [Dies(), *options["callbacks"]]  # dies before the log of that batch is written
    return fit(session, Tiny(), TinyData(), **options).history


def in_sessions(tmp_path: Path, name: str) -> list[dict]:
    """Train with a stop, a kill and a wiped machine between sessions."""
    store = tmp_path / "store"
    run_child(train, tmp_path / "one", store, name, steps=5)
    killed = Child(train, tmp_path / "two", store, name, die_at=13).end()
    assert killed.signal == 9
    return run_child(train, tmp_path / "three", store, name)


def test_a_csv_is_the_history_of_all_sessions(tmp_path):
    history = in_sessions(tmp_path, "csv")
    with open(tmp_path / "store/tiny/logs/csv/metrics.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    kept = [{k: float(v) for k, v in row.items() if v != ""} for row in rows]
    assert kept == [{k: float(v) for k, v in row.items()} for row in history]
    steps = [row["step"] for row in kept if "loss_step" in row]
    assert len(steps) == len(set(steps)) == STEPS


def test_tensorboard_shows_every_step_once(tmp_path):
    reading = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    history = in_sessions(tmp_path, "tensorboard")
    events = reading.EventAccumulator(str(tmp_path / "store/tiny/logs/tensorboard"))
    events.Reload()
    shown = {event.step: event.value for event in events.Scalars("loss_step")}
    wanted = {row["step"]: row["loss_step"] for row in history if "loss_step" in row}
    assert len(events.Scalars("loss_step")) == len(wanted) == STEPS
    assert shown == pytest.approx(wanted)


def test_wandb_keeps_one_offline_run(tmp_path, monkeypatch):
    pytest.importorskip("wandb", reason="wandb is not installed")
    monkeypatch.setenv("WANDB_MODE", "offline")
    in_sessions(tmp_path, "wandb")
    runs = {path.name.rpartition("-")[2] for path in (tmp_path / "store/tiny/logs/wandb").rglob("offline-run-*")}
    assert len(runs) == 1, "an id for each session would show a run for each"


def test_a_wrong_name_and_a_missing_package_are_refused_in_words(tmp_path, monkeypatch):
    with pytest.raises(UsageError, match="LOGGER='comet' is unknown; allowed are None, csv, tensorboard, wandb"):
        with_log(FakeSession(tmp_path), {"loggers": "comet"})
    monkeypatch.setitem(__import__("sys").modules, "wandb", None)
    with pytest.raises(UsageError, match="nbkit install wandb"):
        with_log(FakeSession(tmp_path), {"loggers": "wandb"})


def test_lightnings_own_loggers_and_none_are_left_as_they_are(tmp_path):
    own = [object()]
    assert with_log(FakeSession(tmp_path), {"loggers": own})["loggers"] is own
    assert with_log(FakeSession(tmp_path), {"loggers": None}) == {}


def test_other_processes_of_a_training_get_nothing_of_it(tmp_path):
    assert type(pickle.loads(pickle.dumps(SavedLog("csv", FakeSession(tmp_path))))) is Callback
