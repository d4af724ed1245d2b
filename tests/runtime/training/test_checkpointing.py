"""Stops, signals and failures: no step is lost or repeated where it could be saved, nothing false is written."""

from __future__ import annotations

import os
import signal
import time
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch.utils.data import DataLoader

from nbkit.runtime.budget import Budget
from nbkit.runtime.disk import DiskError
from nbkit.runtime.errors import UsageError
from nbkit.runtime.signals import ENDING
from nbkit.runtime.training import checkpointing
from nbkit.runtime.training.bounds.validation_time import ValidationTime
from nbkit.runtime.training.fit import fit
from tests.runtime.training.training_support import (
    Child,
    FakeSession,
    Points,
    Tiny,
    TinyData,
    TinySettings,
    checkpoint_of,
    digest,
    journal_of,
    run_child,
    train_tiny,
)


def reference(tmp_path: Path, **options) -> str:
    run_child(train_tiny, tmp_path / "reference", save_every=None, **options)
    return digest(checkpoint_of(tmp_path / "reference"))


@pytest.mark.parametrize("accumulate", [1, 4])
def test_planned_stops_lose_no_step_and_repeat_none(accumulate: int, tmp_path: Path) -> None:
    options = {"max_steps": 40 // accumulate, "accumulate_grad_batches": accumulate, "validation": True}
    # walls inside an epoch, at its end (of 9 or 3 steps), and a step after it
    walls = [9, 1, 7, 5, 14, None] if accumulate == 1 else [3, 1, 1, 3, None]
    steps, reasons, done = [], [], []
    for wall in walls:
        run = run_child(train_tiny, tmp_path / "a", steps=wall, **options)
        steps += [event["step"] for event in run.events if event["e"] == "step"]
        reasons.append(run.report.reason)
        done.append(run.report.steps_this_session)
    assert done[:-1] == walls[:-1] and reasons == ["wall"] * (len(walls) - 1) + ["complete"]
    assert steps == list(range(1, options["max_steps"] + 1))
    assert digest(checkpoint_of(tmp_path / "a")) == reference(tmp_path, **options)


def stop_by(number: int, folder: Path, **options):
    os.environ["NBKIT_JOURNAL"] = str(folder / "journal")
    folder.mkdir(exist_ok=True)
    try:
        child = Child(train_tiny, folder, max_steps=60, pause=0.01, save_every=None, **options)
    finally:
        del os.environ["NBKIT_JOURNAL"]
    while len(journal_of(folder / "journal")) < 4:
        time.sleep(0.002)
    os.kill(child.pid, number)
    return child.end()


@pytest.mark.parametrize("number", ENDING + (signal.SIGINT,))
@pytest.mark.parametrize("workers", [0, 2])
def test_signal_saves_at_the_next_step_and_stops(number: int, workers: int, tmp_path: Path) -> None:
    """Trap 7: Lightning's default writes nothing on SIGTERM or SIGINT."""
    outcome = stop_by(number, tmp_path / "a", workers=workers)
    report = outcome.result.report
    assert report.reason == signal.Signals(number).name and 0 < report.step < 60
    assert report.step == report.steps_this_session == checkpoint_of(tmp_path / "a")["global_step"]
    run_child(train_tiny, tmp_path / "a", max_steps=60)
    assert digest(checkpoint_of(tmp_path / "a")) == reference(tmp_path, max_steps=60)


def test_second_interrupt_is_one_at_once(tmp_path: Path) -> None:
    class Impatient(Tiny):
        def training_step(self, batch, batch_idx):
            if self.global_step == 3:
                os.kill(os.getpid(), signal.SIGINT)
                os.kill(os.getpid(), signal.SIGINT)
            return super().training_step(batch, batch_idx)

    def train() -> bool:
        before = signal.getsignal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            fit(FakeSession(tmp_path), Impatient(), TinyData(), max_steps=60)
        return signal.getsignal(signal.SIGINT) is before

    assert run_child(train)


def test_module_holds_the_trained_weights_after_a_stop_and_when_complete(tmp_path: Path) -> None:
    for wall in (12, None, None):
        run = run_child(train_tiny, tmp_path, max_steps=30, steps=wall)
        saved = checkpoint_of(tmp_path)["state_dict"]
        assert all((run.state[name] == saved[name].numpy()).all() for name in saved)
    assert run.report.complete and run.report.steps_this_session == 0
    assert "nothing was trained" in run.said[-1]


class Failing(Tiny):
    """Fails in a training step, before or after something changed that a checkpoint holds."""

    at, where = 13, "before"

    def training_step(self, batch, batch_idx):
        if self.global_step == self.at and self.where == "before":
            raise RuntimeError("planned failure")
        loss = super().training_step(batch, batch_idx)
        if self.global_step == self.at:
            raise RuntimeError("planned failure")
        return loss


class Unreadable(Points):
    def __getitem__(self, index: int):
        if self.broken and index == 5:
            raise OSError("unreadable sample")
        return super().__getitem__(index)


@pytest.mark.parametrize("where", ["before", "after the forward"])
def test_failure_in_a_step_saves_only_an_untouched_state(where: str, tmp_path: Path) -> None:
    def fail() -> list[str]:
        session, module = FakeSession(tmp_path / "a"), Failing(TinySettings())
        module.where = where
        with pytest.raises(RuntimeError, match="planned failure"):
            fit(session, module, TinyData(validation=True), max_steps=30, save_every=None)
        return session.said

    said = run_child(fail)[-1]
    saved = checkpoint_of(tmp_path / "a")["global_step"]
    if where == "before":
        assert saved == 13 and "the state before it was saved" in said
    else:  # batch norm has counted the batch, metrics hold its loss
        assert saved == 8 and "done again" in said
    run_child(train_tiny, tmp_path / "a", max_steps=30, validation=True)
    assert digest(checkpoint_of(tmp_path / "a")) == reference(tmp_path, max_steps=30, validation=True)


def test_failure_while_reading_data_saves_the_state_before(tmp_path: Path) -> None:
    def fail(broken: bool) -> list[str]:
        session, data = FakeSession(tmp_path / "a"), Unreadable(36)
        data.broken = broken
        loader = DataLoader(data, 4, shuffle=True)
        if broken:
            with pytest.raises(OSError, match="unreadable sample"):
                fit(session, Tiny(), loader, max_steps=30, save_every=None)
        else:
            fit(session, Tiny(), loader, max_steps=30, save_every=None)
        return session.said

    assert "the state before it was saved" in run_child(fail, True)[-1]
    before = checkpoint_of(tmp_path / "a")["global_step"]
    run_child(fail, False)
    assert before < 9
    assert digest(checkpoint_of(tmp_path / "a")) == reference(tmp_path, max_steps=30)


def test_best_state_is_kept_as_it_was_at_its_validation(tmp_path: Path) -> None:
    def train():
        session = FakeSession(tmp_path / "a")
        values = iter([3.0, 1.0, 2.0, 5.0, 4.0])
        kept = {}

        class Scored(Tiny):
            def on_validation_epoch_end(self) -> None:
                value = next(values)
                self.log("score", value)
                if value == 1.0:
                    kept.update({k: v.clone() for k, v in self.state_dict().items()})

        fit(session, Scored(), TinyData(validation=True), max_steps=45, monitor="score", save_each_epoch=True)
        best = torch.load(tmp_path / "a" / "checkpoints" / "step-000000018.ckpt", weights_only=True)["state_dict"]
        assert all(torch.equal(best[name], kept[name]) for name in kept)
        return sorted(path.name for path in (tmp_path / "a" / "checkpoints").glob("*.ckpt"))

    assert run_child(train) == ["step-000000018.ckpt", "step-000000036.ckpt", "step-000000045.ckpt"]


def test_first_validation_of_unknown_length_is_entered_with_a_checkpoint(tmp_path: Path) -> None:
    run = run_child(train_tiny, tmp_path, max_steps=20, validation=True, save_every=None)
    saves = [(e["step"], e["why"]) for e in run.events if e["e"] == "save"]
    assert saves == [(1, "first step"), (8, "validation of unknown length"), (20, "complete")]


def test_validation_that_does_not_fit_is_not_begun(tmp_path: Path) -> None:
    def train():
        session = FakeSession(tmp_path / "a")
        clock, skipped = [0.0], [0.0]
        checkpointing.time = SimpleNamespace(monotonic=lambda: time.monotonic() + skipped[0])
        session.budget.limit, session.budget.clock, session.budget.started = 100_000.0, lambda: clock[0], 0.0
        ran = []

        class Long(Tiny):
            def on_validation_start(self) -> None:
                skipped[0] += 1000.0  # the length of the validation, without waiting for it
                ran.append(self.global_step)
                clock[0] = 74_200.0  # the reserve begins at 75,000: 800 s, in which a step fits on any machine

        session.budget.measured("save", 1e6)
        report = fit(session, Long(), TinyData(validation=True), max_steps=60, save_every=None)
        return report.step, report.reason, ran

    # the second validation follows step 18: the batch before it is not begun, steps that fit are
    assert run_child(train) == (17, "wall", [9])


class Clocked(Tiny):
    """Advance a session's clock by `seconds` with every batch of a validation; a part of it never trains."""

    def __init__(self, clock: list[float], seconds: list[float]) -> None:
        super().__init__()
        self.clock, self.seconds, self.validated = clock, seconds, 0

    def on_train_start(self) -> None:
        self.net[2].eval()  # as a user freezes a part

    def on_validation_start(self) -> None:
        self.validated += 1

    def validation_step(self, batch, batch_idx) -> None:
        super().validation_step(batch, batch_idx)
        self.clock[0] += self.seconds[min(self.validated, len(self.seconds)) - 1]


class Signalled(Clocked):
    """Get a signal inside the second validation."""

    def __init__(self, *args, number: int) -> None:
        super().__init__(*args)
        self.number = number

    def validation_step(self, batch, batch_idx) -> None:
        super().validation_step(batch, batch_idx)
        if self.validated == 2 and batch_idx == 4:
            os.kill(os.getpid(), self.number)


def clocked_fit(folder: Path, limit: float | None, seconds: list[float], kind=Clocked, **options) -> tuple:
    clock = [0.0]
    session = FakeSession(folder, store=folder / "store")
    session.budget.limit, session.budget.clock, session.budget.started = limit, lambda: clock[0], 0.0
    module, data = kind(clock, seconds), TinyData()
    data.val_dataloader = lambda: DataLoader(Points(80), batch_size=4)  # 20 batches
    report = fit(session, module, data, max_steps=20, save_every=None, **options)
    modes = [name for name, part in module.named_modules() if not part.training]
    saves = [(event["step"], event["why"]) for event in session.events if event["e"] == "save"]
    return report.step, report.reason, clock[0], modes, saves, digest(checkpoint_of(folder))


def test_a_validation_that_would_pass_the_wall_is_left_and_the_result_is_the_same(tmp_path: Path) -> None:
    step, reason, gone, modes, saves, _ = run_child(clocked_fit, tmp_path / "a", 100.0, [10.0])
    assert (step, reason, gone) == (8, "wall", 90.0)  # the tenth batch would end at 100, and the reserve is before it
    assert saves == [(1, "first step"), (8, "validation of unknown length")]
    assert modes == ["net.2"]
    assert sorted(path.name for path in (tmp_path / "a/store/tiny/checkpoints").glob("*.json"))[-1].endswith("08.json")

    step, reason, *_, resumed = run_child(clocked_fit, tmp_path / "a", None, [10.0])
    whole = run_child(clocked_fit, tmp_path / "b", None, [10.0])
    assert (step, reason) == (20, "complete") and resumed == whole[-1]


def test_a_validation_near_the_wall_has_a_save_in_front_of_it_in_case_it_is_left(tmp_path: Path) -> None:
    # the first takes 10 s, and fewer than 30 are left then; the second becomes slower than the first told
    step, reason, gone, _, saves, _ = run_child(clocked_fit, tmp_path / "a", 35.0, [0.5, 5.0])
    assert (step, reason) == (17, "wall") and gone <= 35.0
    assert saves[-1] == (17, "validation near the wall")


def test_a_validation_with_room_behind_it_needs_no_save(tmp_path: Path) -> None:
    *_, saves, _ = run_child(clocked_fit, tmp_path / "a", 1000.0, [0.5])
    assert [why for _, why in saves] == ["first step", "validation of unknown length", "complete"]


@pytest.mark.parametrize("number", ENDING + (signal.SIGINT,))
@pytest.mark.parametrize(("seconds", "left"), [(3.0, True), (0.4, False)])
def test_a_signal_inside_a_validation_is_answered_soon(number: int, seconds: float, left: bool, tmp_path: Path) -> None:
    kind = partial(Signalled, number=number)
    step, reason, gone, modes, saves, _ = run_child(clocked_fit, tmp_path / "a", None, [seconds], kind)
    assert reason == signal.Signals(number).name and modes == ["net.2"]
    # 20 batches of the first validation, then 5 of the second, or all of it
    assert (step, gone) == (17, 25 * seconds) if left else (18, 40 * seconds)
    assert saves[-1] == ((17, "long validation") if left else (18, "stop"))
    *_, resumed = run_child(clocked_fit, tmp_path / "a", None, [seconds])
    *_, whole = run_child(clocked_fit, tmp_path / "b", None, [seconds])
    assert resumed == whole


@pytest.mark.parametrize("elapsed", [0.0, 30_000.0])
@pytest.mark.parametrize("limit", [None, 32_400.0])
@pytest.mark.parametrize(("seconds", "left"), [(0.4, False), (3.0, True)])
def test_the_age_of_a_session_plays_no_part_after_a_signal(
    elapsed: float, limit: float | None, seconds: float, left: bool
) -> None:
    now = [elapsed]
    budget = Budget(limit, 0.0, clock=lambda: now[0])
    budget.measured("save", 50.0)
    validation = ValidationTime(budget)
    validation.begin()
    for _ in range(5):
        assert not validation.must_be_left(20)
        now[0] += seconds
    budget.stop_for_signal("SIGTERM")
    assert validation.must_be_left(20) == left


def test_a_long_validation_has_a_save_in_front_of_it(tmp_path: Path) -> None:
    *_, saves, _ = run_child(clocked_fit, tmp_path / "a", None, [1.0])
    assert [why for _, why in saves] == ["first step", "validation of unknown length", "long validation", "complete"]


def test_a_full_disk_at_the_last_save_is_an_error_with_words(tmp_path: Path) -> None:
    def train() -> tuple[str, list[str]]:
        session = FakeSession(tmp_path / "a")

        def full(handle: int) -> None:
            raise OSError(28, "No space left on device")

        os.fsync = full
        with pytest.raises(DiskError) as error:
            fit(session, Tiny(), TinyData(), max_steps=12, save_every=None)
        return str(error.value), session.said

    words, said = run_child(train)
    assert "could not be written" in words and "is full" in words and "trained again" in words
    assert "MB were needed" in words and "MB are free" in words


def test_a_full_disk_in_the_middle_is_said_and_training_goes_on(tmp_path: Path) -> None:
    def train() -> list[str]:
        session = FakeSession(tmp_path / "a")
        real, failures = os.fsync, [3]

        def full(handle: int) -> None:
            if failures[0]:
                failures[0] -= 1
                raise OSError(28, "No space left on device")
            real(handle)

        os.fsync = full
        assert fit(session, Tiny(pause=0.005), TinyData(), max_steps=20, save_every=0.001).complete
        return session.said

    assert sum("Saving failed" in line for line in run_child(train)) == 3


def test_a_checkpoint_that_would_not_load_stops_at_the_first_save(tmp_path: Path) -> None:
    def train() -> str:
        class Careless(Tiny):
            def on_save_checkpoint(self, checkpoint) -> None:
                checkpoint["mine"] = {"settings": self.settings}

        session = FakeSession(tmp_path / "a")
        with pytest.raises(UsageError) as error:
            fit(session, Careless(), TinyData(), max_steps=12)
        assert session.steps_done() == [1]
        return str(error.value)

    assert "mine.settings" in run_child(train)


def test_no_worker_is_left_behind_by_a_planned_stop(tmp_path: Path) -> None:
    def train(persistent: bool) -> str:
        data = TinyData()
        data.train_dataloader = lambda: DataLoader(data.train, 4, num_workers=2, persistent_workers=persistent)
        assert fit(FakeSession(tmp_path, steps=13), Tiny(), data, max_steps=10**5).reason == "wall"
        return Path(f"/proc/self/task/{os.getpid()}/children").read_text()

    assert run_child(train, False) == "" == run_child(train, True)


def test_manual_optimization_saves_where_an_optimizer_has_stepped(tmp_path: Path) -> None:
    class Manual(Tiny):
        automatic_optimization = False

        def training_step(self, batch, batch_idx):
            loss = super().training_step(batch, batch_idx)
            optimizer = self.optimizers()
            self.manual_backward(loss / 3)
            if batch_idx % 3 == 2:
                optimizer.step()
                optimizer.zero_grad()

    def train(folder: Path, walls: list[int | None], save_every: float | None) -> str:
        for wall in walls:
            session = FakeSession(folder, steps=wall)
            report = fit(session, Manual(), TinyData(), max_steps=20, save_every=save_every)
        assert report.complete
        return digest(checkpoint_of(folder))

    whole = run_child(train, tmp_path / "a", [None], None)
    assert run_child(train, tmp_path / "b", [5, 7, None], 0.001) == whole
