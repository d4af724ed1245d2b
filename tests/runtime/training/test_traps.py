"""The eight traps of resuming with Lightning, each with what falls into it where that costs nothing to show."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import lightning
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint, Timer
from packaging.version import Version

from nbkit.runtime.training.fit import fit
from tests.runtime.training.training_support import (
    BATCHES,
    Child,
    FakeSession,
    Tiny,
    TinyData,
    checkpoint_of,
    digest,
    journal_of,
    run_child,
    train_tiny,
)


def samples(log: Path) -> list[int]:
    return [int(line) for line in log.read_text().split()]


def stopped_after_epoch(folder: Path, log: Path, **options) -> None:
    """Train, and die as soon as the checkpoint that follows an epoch's last batch is on disk."""
    journal = folder / "journal.jsonl"
    folder.mkdir(parents=True, exist_ok=True)
    before = len(journal_of(journal))
    os.environ["NBKIT_JOURNAL"] = str(journal)
    child = Child(train_tiny, folder, save_every=None, save_each_epoch=True, pause=0.02, log=str(log), **options)
    del os.environ["NBKIT_JOURNAL"]

    def saved() -> bool:
        return any(e["e"] == "saved" and e["step"] % BATCHES == 0 for e in journal_of(journal)[before:])

    while not saved():
        assert child.alive()
        time.sleep(0.001)
    child.kill()
    child.end()


def plain_trainer(folder: Path, steps: int = -1, callbacks=(), **options) -> lightning.Trainer:
    return lightning.Trainer(
        max_steps=steps, accelerator="cpu", logger=False, default_root_dir=folder, callbacks=list(callbacks),
        enable_progress_bar=False, enable_model_summary=False, enable_checkpointing=bool(callbacks), **options,
    )  # fmt: skip


def test_trap_1_checkpoint_on_the_last_batch_drops_no_epoch(tmp_path: Path) -> None:
    log = tmp_path / "samples"
    stopped_after_epoch(tmp_path / "a", log, max_steps=3 * BATCHES)
    run = run_child(train_tiny, tmp_path / "a", max_steps=3 * BATCHES, log=str(log))
    assert run.report.resumed_from == BATCHES and run.report.steps_this_session == 2 * BATCHES
    read = samples(log)
    # the first session may have read a batch or two of epoch 1 before it died
    assert sorted(read[:36]) == list(range(36)) == sorted(read[-72:-36]) == sorted(read[-36:])


def test_trap_2_checkpoints_once_an_epoch_do_not_replay_the_first_order(tmp_path: Path) -> None:
    log = tmp_path / "samples"
    for _ in range(2):
        stopped_after_epoch(tmp_path / "a", log, max_steps=3 * BATCHES)
    run_child(train_tiny, tmp_path / "a", max_steps=3 * BATCHES, log=str(log))
    whole = tmp_path / "whole"
    run_child(train_tiny, tmp_path / "b", max_steps=3 * BATCHES, log=str(whole))
    epochs = [samples(whole)[i : i + 36] for i in (0, 36, 72)]
    assert epochs[0] != epochs[1] != epochs[2] != epochs[0]
    assert samples(log)[-36:] == epochs[2]


@pytest.mark.skipif(
    Version(lightning.__version__) < Version("2.5.3"), reason="plain Lightning fell into this trap from 2.5.3 on"
)
def test_trap_2_lightning_and_a_seed_do_replay_it(tmp_path: Path) -> None:
    def session(log: Path, last: str | None) -> str:
        lightning.seed_everything(1, verbose=False)
        trainer = plain_trainer(tmp_path, callbacks=[ModelCheckpoint(tmp_path)], max_epochs=1 if last is None else 2)
        trainer.fit(Tiny(), TinyData(log=str(log)), ckpt_path=last)
        return str(next(tmp_path.glob("*.ckpt")))

    last = run_child(session, tmp_path / "first", None)
    run_child(session, tmp_path / "second", last)
    assert samples(tmp_path / "first") == samples(tmp_path / "second")


def test_trap_3_the_number_of_workers_may_change(tmp_path: Path) -> None:
    for workers in (2, 0, 1):
        run_child(train_tiny, tmp_path / "a", max_steps=60, augment=True, workers=workers, steps=13)
    run_child(train_tiny, tmp_path / "a", max_steps=60, augment=True, workers=2)
    run_child(train_tiny, tmp_path / "b", max_steps=60, augment=True, save_every=None)
    assert digest(checkpoint_of(tmp_path / "a")) == digest(checkpoint_of(tmp_path / "b"))


def test_trap_4_the_validation_of_an_epoch_is_not_skipped(tmp_path: Path) -> None:
    log, options = tmp_path / "samples", {"max_steps": 3 * BATCHES, "validation": True}
    stopped_after_epoch(tmp_path / "a", log, **options)
    run_child(train_tiny, tmp_path / "a", **options)
    history = checkpoint_of(tmp_path / "a")["nbkit"]["history"]
    which = history["names"].index("val_loss")
    steps = [int(step) for step, name in zip(history["step"], history["name"], strict=True) if name == which]
    # Lightning counts the step in which it validates from 0
    assert steps == [BATCHES - 1, 2 * BATCHES - 1, 3 * BATCHES - 1]


def test_trap_5_every_session_has_its_own_time(tmp_path: Path) -> None:
    done = [run_child(train_tiny, tmp_path, max_steps=500, steps=12).report.steps_this_session for _ in range(3)]
    assert done == [12, 12, 12]


def test_trap_5_lightnings_timer_trains_nothing_the_second_time(tmp_path: Path) -> None:
    def session(last: str | None) -> tuple[str, int]:
        saver = ModelCheckpoint(tmp_path, save_on_train_epoch_end=True)
        trainer = plain_trainer(tmp_path, 10_000, [saver, Timer(duration={"milliseconds": 500})])
        module = Tiny(pause=0.01)
        before = torch.load(last, weights_only=False)["global_step"] if last else 0
        trainer.fit(module, TinyData(), ckpt_path=last)
        return saver.best_model_path or last, trainer.global_step - before

    last, first = run_child(session, None)
    _, second = run_child(session, last)
    assert first > 0 and second == 0


@pytest.mark.parametrize("fault", ["truncated", "missing"])
def test_trap_6_truncated_or_missing_last_falls_back_with_words(fault: str, tmp_path: Path) -> None:
    run_child(train_tiny, tmp_path, max_steps=30, save_every=0.001)
    older, last = sorted((tmp_path / "checkpoints").glob("*.ckpt"))
    if fault == "truncated":
        os.truncate(last, 1000)
    else:
        last.unlink()
    run = run_child(train_tiny, tmp_path, max_steps=31)
    assert f"step-{run.report.resumed_from:09d}.ckpt" == older.name
    assert last.name in run.said[0] and "Nothing was deleted" in run.said[0]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_trap_7_a_signal_leaves_a_checkpoint(number: int, tmp_path: Path) -> None:
    def ours() -> int:
        class Signalled(Tiny):
            def on_train_batch_end(self, *args) -> None:
                if self.global_step == 5:
                    os.kill(os.getpid(), number)

        return fit(FakeSession(tmp_path / "a"), Signalled(), TinyData(), max_steps=30, save_every=None).step

    def lightnings() -> None:
        class Signalled(Tiny):
            def on_train_batch_end(self, *args) -> None:
                if self.global_step == 5:
                    os.kill(os.getpid(), number)

        try:
            plain_trainer(tmp_path, 30, [ModelCheckpoint(tmp_path / "b")]).fit(Signalled(), TinyData())
        except SystemExit:
            pass

    assert run_child(ours) == 5 == checkpoint_of(tmp_path / "a")["global_step"]
    run_child(lightnings)
    assert not list((tmp_path / "b").glob("*"))


def test_trap_8_nothing_is_written_to_tmpdir(tmp_path: Path) -> None:
    """A TMPDIR on another file system made Lightning's move a copy that a kill tears; ours is never used at all."""

    def train() -> list[str]:
        import sys
        import tempfile

        tempfile.tempdir = os.environ["TMPDIR"] = str(tmp_path / "not there")
        written: list[str] = []

        def note(event: str, arguments: tuple) -> None:
            if event == "open" and isinstance(arguments[0], str) and arguments[2] & (os.O_WRONLY | os.O_RDWR):
                written.append(arguments[0])

        sys.addaudithook(note)
        assert fit(FakeSession(tmp_path / "a", tmp_path / "s"), Tiny(), TinyData(), max_steps=12).complete
        return [path for path in written if not path.startswith(str(tmp_path)) and path != os.devnull]

    assert run_child(train) == []
