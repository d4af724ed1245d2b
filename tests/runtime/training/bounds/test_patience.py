"""A training that its patience ends is complete: for the closing card, the exit code and `nbkit status`."""

from __future__ import annotations

from pathlib import Path

from lightning.pytorch import Callback

import nbkit
from nbkit.runtime.store.folder import FolderStore
from nbkit.tools.status.status import read_phase
from tests.runtime.training.training_support import Tiny, TinyData


def test_a_training_that_its_patience_ends_is_complete_for_close_and_status(tmp_path: Path, capsys) -> None:
    store = FolderStore(tmp_path / "store")

    class Enough(Callback):
        def on_validation_end(self, trainer, module) -> None:
            trainer.should_stop = trainer.global_step >= 18

    for trained in (18, 0):
        session = nbkit.open_session("toy", store=store, accelerator="cpu", folder=tmp_path / "work")
        options = {"max_steps": 60, "monitor": "val_loss", "callbacks": [Enough()]}
        report = session.fit(Tiny(), TinyData(validation=True), **options)
        best = session.checkpoint()
        summary = session.close()
        assert (report.step, report.steps_this_session) == (18, trained) and best.is_file()
        assert summary["complete"] and summary["exit"] == 0 and summary["reason"] == "complete"
    said = capsys.readouterr().out
    assert "18 of 60, ended by its patience" in said and "run this notebook again" not in said
    row = read_phase(store, "toy", None, tmp_path / "cache")
    assert row.state == "complete" and row.step == 18
