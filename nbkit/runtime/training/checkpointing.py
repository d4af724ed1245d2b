"""Saving a training, always between two batches.

All saves happen before a batch is fetched: after the previous batch, its validation and the end of its epoch, and with
the gradients that are pending then. So no checkpoint is ever taken "on the last batch of an epoch", none holds what
fetching or moving a batch has changed, and every checkpoint is a state that an uninterrupted run passes through.
Requests to save (the clock, an epoch, a best score, a signal, the wall) only set a flag, which is handled there.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback

from nbkit.runtime.budget import Budget
from nbkit.runtime.errors import NbkitError, UsageError
from nbkit.runtime.signals import StopSignals
from nbkit.runtime.training import loop_state
from nbkit.runtime.training.bounds.validation_share import ValidationBound
from nbkit.runtime.training.bounds.validation_time import BatchTime, ValidationTime
from nbkit.runtime.training.draws import seed_epoch, seed_step, seed_validation
from nbkit.runtime.training.exact.exact_state import ExactState
from nbkit.runtime.training.exact.gradients import at_boundary, check_shared, clears_next
from nbkit.runtime.training.exact.notices import Notices
from nbkit.runtime.training.exact.untouched import Untouched
from nbkit.runtime.training.generations import Generations
from nbkit.runtime.training.held.covered import leave_out_covered
from nbkit.runtime.training.history import History
from nbkit.runtime.training.ranks.ranks import Ranks
from nbkit.runtime.training.snapshot import Buffers, Writer
from nbkit.runtime.words import show_duration

_PATIENCE = 32  # batches that a save waits at most for the end of an accumulation


class PlannedStop(Exception):
    """Raised to leave Lightning's loops directly after a save, so that no later hook changes the state."""


class Checkpointing(Callback):
    """Save, stop and resume a training, and seed every step.

    Parameters
    ----------
    generations : Generations or None
        None on every rank except 0, the only one that writes.
    history : History
    budget : Budget
    signals : StopSignals
    seed : int
    save_every : float or None
        Seconds between saves.
    save_each_epoch : bool
        Also save when an epoch ends.
    monitor, mode : str
        Validation metric whose best checkpoint is kept, and whether ``min`` or ``max`` is best.
    facts : dict
        Written into every receipt (settings, versions, precision, ...).
    exact : ExactState or None
        What Lightning's checkpoint leaves out of the model and its optimizers.
    ranks : Ranks or None
        The processes that train together; None for a single process.
    bound : ValidationBound or None
    say, journal : callable
    """

    def __init__(
        self,
        generations: Generations | None,
        history: History,
        budget: Budget,
        signals: StopSignals,
        seed: int,
        *,
        save_every: float | None,
        save_each_epoch: bool = False,
        monitor: str | None = None,
        mode: str = "min",
        facts: dict[str, Any] | None = None,
        exact: ExactState | None = None,
        ranks: Ranks | None = None,
        bound: ValidationBound | None = None,
        say: Callable[[str], None] = print,
        journal: Callable[..., None] | None = None,
    ) -> None:
        self.generations, self.history, self.budget, self.signals = generations, history, budget, signals
        self.seed, self.save_every, self.save_each_epoch = seed, save_every, save_each_epoch
        self.monitor, self.mode, self.facts = monitor, mode, facts or {}
        self.say, self.journal = say, journal or (lambda event, **fields: None)
        self.exact, self.ranks, self.bound = exact or ExactState(), ranks or Ranks(), bound
        self._notices = Notices(self.ranks.size, say)
        self.writer, self.buffers = Writer(say, budget.measured), Buffers()
        self.loader: Any = None  # the ResumableLoader, once Lightning has asked for it
        self.steps_this_session, self.saves, self.stalled, self.completed = 0, 0, 0.0, False
        self.marks: dict[str, float] = {}
        self.best: float | None = None
        self.score: float | None = None  # of the last validation in this session
        self.first_step: int | None = None
        self._validation = ValidationTime(budget)
        self.time = BatchTime(budget, self._validation)
        self.stopped_at: int | None = None  # the step that was saved last, where a validation was left
        self._write_metrics: Callable[[Path], None] | None = None
        self.last_save, self.saved_step, self._last_step, self._begun_at = time.monotonic(), 0, 0, (0, 0)
        self._due: set[str] = set()
        self._untouched: Untouched | None = None

    # -- resuming -----------------------------------------------------------------------------------------------------

    def on_load_checkpoint(self, trainer: Any, module: Any, checkpoint: dict[str, Any]) -> None:
        ours = checkpoint.get("nbkit")
        if ours is None:
            raise UsageError("The checkpoint was not written by nbkit, so its position in the data is not known.")
        self.history.load_state_dict(ours["history"])
        self.best = ours["best"]
        self.exact.on_load_checkpoint(checkpoint, self.ranks.rank, self.ranks.size)

    # -- where everything happens -------------------------------------------------------------------------------------

    def setup(self, trainer: Any, module: Any, stage: str) -> None:
        self.marks.setdefault("setup", time.monotonic())
        self.exact.setup(trainer)

    def on_fit_start(self, trainer: Any, module: Any) -> None:
        self.exact.on_fit_start(trainer)

    def on_sanity_check_start(self, trainer: Any, module: Any) -> None:
        self.exact.sanity.begin(trainer)

    def on_train_start(self, trainer: Any, module: Any) -> None:
        self.exact.on_train_start(trainer)
        self.signals.install()  # again: Lightning has replaced the handlers
        self.marks.setdefault("train_start", time.monotonic())
        self._untouched = Untouched(trainer, self.history)
        self.loader.before_batch = partial(self.before_batch, trainer)
        self.last_save = time.monotonic()
        if self.monitor and not trainer.enable_validation:
            raise UsageError(
                f"monitor={self.monitor!r} names a validation metric, and this training has no validation (a "
                "validation_step and a val_dataloader). Leave monitor out or add them. Nothing was trained."
            )

    def on_train_epoch_start(self, trainer: Any, module: Any) -> None:
        self.exact.put_back(trainer, self.loader, begun=False)  # before other hooks change it for this epoch
        seed_epoch(self.seed, trainer.current_epoch, self.ranks.rank)

    def before_batch(self, trainer: Any, batch: int) -> None:
        """Save or stop if it is time to; the loader calls this before it fetches a batch."""
        self.exact.put_back(trainer, self.loader, begun=True)
        # Lightning's counters of the first batch of a resume can be put back only once it has counted that batch
        if not self.exact.loops_wait:
            self._enter(trainer, batch)

    def _enter(self, trainer: Any, batch: int) -> None:
        if self.first_step is None:
            self.first_step = self._last_step = self.saved_step = trainer.global_step
            self._begun_at = loop_state.place(trainer)
            self.journal("ready", step=self.first_step)
        self.time.end()
        self._serve(trainer, batch)
        self.time.begin()
        assert self._untouched is not None  # since on_train_start
        self._untouched.mark(trainer, batch)
        self.exact.held.mark()

    def on_train_batch_start(self, trainer: Any, module: Any, batch: Any, batch_idx: int) -> None:
        if self.exact.loops_wait:
            self.exact.put_back_loops(trainer)
            self._enter(trainer, batch_idx)
        self.marks.setdefault("first_batch", time.monotonic())
        seed_step(self.seed, trainer.current_epoch, batch_idx, self.ranks.rank)

    def _serve(self, trainer: Any, batch_idx: int) -> None:
        clean = at_boundary(trainer, batch_idx)
        if self.ranks.size > 1 and not clean:
            return  # every process holds the sum over its own share
        window = trainer.accumulate_grad_batches
        ahead = window if clean and (self.ranks.size > 1 or window <= _PATIENCE) else 1
        validates = loop_state.validation_ahead(trainer, batch_idx, ahead)
        estimate = self.time.next() * ahead + ((self._validation.seconds or 0.0) if validates else 0.0)
        stop = not self.budget.fits(estimate)
        # for a state without pending gradients, but the best one is that of its validation
        waits = not clean and window <= _PATIENCE and "best" not in self._due
        due = "" if stop or waits or not self.ranks.first else self._what_is_due(trainer, validates)
        stop, save = self.ranks.any(stop, bool(due))
        if stop:
            reason = self.ranks.first_of(self.budget.stop_reason)
            self.budget.request_stop(reason or "wall")
            self._save(trainer, "stop", wait=True)
            raise PlannedStop(self.budget.stop_reason)
        if save:
            self._save(trainer, due)

    def _what_is_due(self, trainer: Any, validates: bool) -> str:
        """Return the reasons to save before this batch, separated by commas; empty for none."""
        if loop_state.place(trainer) == self._begun_at:
            return ""  # this state was just loaded, or is the untrained start
        if self.first_step == 0 and not self.saves:
            # save once at the start: a state or folder that cannot be saved then fails in the first second
            self._due.add("first step")
        if validates and (why := self._validation.why_save()):
            self._due.add(why)  # it may have to be left
        if self.save_every is not None and time.monotonic() - self.last_save >= self.save_every:
            self._due.add("clock")
        # the clock can wait until the writer is free; the other reasons need exactly this state, so training waits
        serve = self._due - {"clock"} or (self._due and not self.writer.busy)
        return ", ".join(sorted(self._due)) if serve else ""

    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if trainer.global_step != self._last_step:
            self.steps_this_session += trainer.global_step - self._last_step
            self._last_step = trainer.global_step
            self.journal("step", step=trainer.global_step)
        self._notices.batch_ended(trainer)

    # -- validation ---------------------------------------------------------------------------------------------------

    def on_validation_start(self, trainer: Any, module: Any) -> None:
        self._validation.begin()
        if self.bound is not None and not trainer.sanity_checking:
            self.bound.begin(self.time.typical(), loop_state.batches_between_validations(trainer))

    def on_validation_batch_start(
        self, trainer: Any, module: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        batches = sum(trainer.num_val_batches)
        if not trainer.sanity_checking and self.ranks.any(self._validation.must_be_left(batches))[0]:
            self._leave_validation(trainer)
        seed_validation(self.seed, dataloader_idx, batch_idx)

    def _leave_validation(self, trainer: Any) -> None:
        """Stop inside a validation; the steps since the last save will be done again."""
        loop_state.leave_validation(trainer)
        reason = self.ranks.first_of(self.budget.stop_reason) or "wall"
        self.budget.request_stop(reason)
        self.stopped_at = self.saved_step
        self.writer.finish()
        if self.generations is not None:
            self.generations.send_left_over(self._write_metrics, final=True)
        why = "the wall is near" if reason == "wall" else f"{reason} asks for the end"
        self.say(
            f"the validation after step {trainer.global_step} was left after {self._validation.batches - 1} batches: "
            f"{why}. The state of step {self.saved_step} is saved and goes on from there. If it never "
            "ends in time, give longer sessions or fewer batches (limit_val_batches)."
        )
        raise PlannedStop(reason)

    def on_validation_end(self, trainer: Any, module: Any) -> None:
        if trainer.sanity_checking:
            return
        self._validation.end()
        if self.bound is not None:
            self.bound.end(sum(trainer.num_val_batches))
        if self.monitor is None:
            return
        if self.monitor not in trainer.callback_metrics:
            known = ", ".join(sorted(trainer.callback_metrics)) or "none"
            raise UsageError(
                f"monitor={self.monitor!r} was not logged by the validation; logged are: {known}. Checkpoints so far "
                "are untouched. Give one of those names."
            )
        self.score = value = float(trainer.callback_metrics[self.monitor])
        better = self.best is None or (value < self.best if self.mode == "min" else value > self.best)
        if better and not math.isnan(value):
            self.best = value
            self._due.add("best")

    # -- ends ---------------------------------------------------------------------------------------------------------

    def on_train_epoch_end(self, trainer: Any, module: Any) -> None:
        if loop_state.epoch_is_over(trainer):
            if trainer.global_step >= trainer.max_steps:
                self.time.end()
            if self.save_each_epoch:
                self._due.add("epoch")
            return
        # max_steps was reached inside the epoch: means over a part of an epoch must not be logged as those of an epoch
        self.time.end()
        epoch, batch = loop_state.place(trainer)
        self._save(trainer, "complete", wait=True, complete=True, place=(epoch - 1, batch))
        raise StopIteration

    def on_train_end(self, trainer: Any, module: Any) -> None:
        if not self.completed:
            epoch, _ = loop_state.place(trainer)
            self._save(trainer, "complete", wait=True, complete=True, place=(epoch, 0), begun=False)

    def on_exception(self, trainer: Any, module: Any, exception: BaseException) -> None:
        if isinstance(exception, PlannedStop | NbkitError) or self._untouched is None:
            return
        name = type(exception).__name__
        try:
            # the state of the other processes is not known here, and a save would wait for them
            if self.ranks.size == 1 and self._clean_after(trainer):
                self._save(trainer, name, wait=True)
                self.say(f"{name} before step {trainer.global_step + 1}: the state before it was saved.")
                return
        except Exception as error:  # the training's own error, which is raised, tells more
            self.say(f"the state before the {name} could not be saved: {error}")
        since = show_duration(time.monotonic() - self.last_save)
        self.say(f"{name} inside a step: the last checkpoint stands; up to {since} of training are done again.")

    def _clean_after(self, trainer: Any) -> bool:
        """Return whether the state is still that of the moment before the batch that failed."""
        if trainer.validating or trainer.sanity_checking or not trainer.training:
            return False
        batch, in_hand = loop_state.place(trainer)[1], loop_state.batch_in_hand(trainer)
        if not clears_next(trainer, batch) or not self.exact.held.unchanged(trainer, self.loader, in_hand):
            return False
        if self._untouched is not None and in_hand:
            return self._untouched.since(trainer, batch)
        return self.loader is not None and self.loader.failed and not self.exact.loops_wait

    # -- saving -------------------------------------------------------------------------------------------------------

    def _save(
        self,
        trainer: Any,
        why: str,
        *,
        wait: bool = False,
        complete: bool = False,
        place: tuple[int, int] | None = None,
        begun: bool = True,
    ) -> None:
        epoch, batch = place or loop_state.place(trainer)
        self.completed |= complete
        step, best = trainer.global_step, "best" in self._due
        self._due.clear()
        self.saved_step = step
        held = self.generations is not None and self.generations.holds(step, epoch, batch, complete)
        if self.generations is not None and not complete and not best and step > (self.first_step or 0):
            held |= self.generations.holds_step(step)  # at an earlier batch: it is not replaced for so little
        if self.ranks.any(held)[0]:
            if wait:
                self.writer.finish()
            return
        if wait:
            self.writer.wait()
        began = time.monotonic()
        metrics = self.exact.of_this_process(trainer, self.loader, batch, begun)
        state = self.exact.state(trainer, batch, None if complete else self.loader)
        check_shared(state["gradients"], self.ranks)
        # running means differ between processes; everything else is the same on all ranks
        of_ranks = self.ranks.gather(metrics if self.ranks.first else loop_state.on_cpu(metrics))
        receipt_fields = {
            "step": step,
            "epoch": epoch,
            "batch": batch,
            "complete": complete,
            "best": best,
            "monitor": {"name": self.monitor, "mode": self.mode, "best": self.best} if self.monitor else None,
            "reason": loop_state.why_done(trainer) if complete else why,
        }

        def receive(checkpoint: dict[str, Any]) -> None:
            loop_state.in_front_of_batch(checkpoint["loops"]["fit_loop"], epoch, batch, begun)
            checkpoint["epoch"] = epoch
            leave_out_covered(of_ranks or [metrics], trainer, checkpoint)
            ours = {"history": self.history.state_dict(), "metrics": metrics, "best": self.best, "exact": state}
            checkpoint["nbkit"] = ours
            if of_ranks and len(of_ranks) > 1:
                checkpoint["nbkit"]["metrics_of_others"] = of_ranks[1:]
            self._write(checkpoint, receipt_fields, final=wait)

        folder = self.generations.folder if self.generations else Path()
        trainer.save_checkpoint(folder / f"step-{step:09d}.ckpt", storage_options=receive)  # SnapshotIO calls it
        stall = time.monotonic() - began
        self.saves, self.stalled, self.last_save = self.saves + 1, self.stalled + stall, time.monotonic()
        self.journal("save", step=step, stall_s=round(stall, 6), why=why)
        if wait:
            self.writer.finish()

    def _write(self, checkpoint: dict[str, Any], fields: dict[str, Any], final: bool) -> None:
        """Copy a checkpoint, and let the writer thread write the copy."""
        generations = self.generations
        assert generations is not None  # SnapshotIO writes on rank 0 only
        if self.writer.busy:
            self.writer.wait()
        tree = self.buffers.copy(checkpoint)
        joined = self.loader.global_batch if self.loader is not None else 0
        fields = {**fields, "metrics": self.history.latest(), "global_batch": joined, **self.facts}

        def write_metrics(path: Path) -> None:
            history = History()
            history.load_state_dict(tree["nbkit"]["history"])
            history.write(path)

        self._write_metrics = write_metrics

        def job() -> None:
            receipt = generations.write(tree, fields)
            generations.send(receipt, write_metrics, final=final)

        self.writer.begin(job, hurry=final)
