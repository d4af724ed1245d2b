"""Progress of a training for the user: start-up time, steps, loss, and remaining time."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable
from typing import Any

from lightning.pytorch import Callback

from nbkit.runtime.budget import Budget, process_age
from nbkit.runtime.cells.lines import Lines, seconds_between_lines
from nbkit.runtime.cells.shown import is_watched
from nbkit.runtime.words import show_duration

_PLAIN_INTERVAL = 20.0  # seconds between lines where the output is a log file


class TrainingProgress(Callback):
    """Show a tqdm bar over all steps of the training, including those of earlier sessions, or a line a minute.

    Parameters
    ----------
    slug : str
    max_steps : int
    budget : Budget
    saving : object
        `Checkpointing`, which knows the last checkpoint.
    say : callable
        Prints one line.
    """

    def __init__(self, slug: str, max_steps: int, budget: Budget, saving: Any, say: Callable[[str], None]) -> None:
        self.slug, self.max_steps, self.budget, self.saving, self.say = slug, max_steps, budget, saving, say
        self._bar: Any = None
        self._beside: dict[str, str] = {}
        self._lines: Lines | None = None

    def on_train_start(self, trainer: Any, module: Any) -> None:
        every = seconds_between_lines()
        if every is not None:
            self._lines = Lines(every)
            return
        from tqdm.auto import tqdm

        lively = sys.stderr.isatty() or "ipykernel" in sys.modules
        self._bar = tqdm(
            total=self.max_steps,
            initial=trainer.global_step,
            desc=self.slug,
            unit="step",
            mininterval=0.5 if lively else _PLAIN_INTERVAL,
            dynamic_ncols=lively,
        )

    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        # reading the loss makes the CPU wait for the GPU, so it is read only when it is shown
        if self._lines is not None:
            if self._lines.due():
                shown = self._shown(trainer, outputs)
                parts = [f"step {trainer.global_step} of {self.max_steps}", *(f"{k} {v}" for k, v in shown.items())]
                self.say(", ".join([f"{self.slug}: {parts[0]}", *parts[1:], self._saved()]))
            return
        new = trainer.global_step - self._bar.n
        if new and (self._bar.update(new) or trainer.global_step >= self.max_steps):
            self._beside = self._shown(trainer, outputs)
            self._bar.set_postfix(self._beside, refresh=False)

    def on_train_end(self, trainer: Any, module: Any) -> None:
        # What remains on the screen; the last validation comes after the last batch. Nothing is asked of Lightning: it
        # would compute the means of the epoch over all ranks, and this callback is on rank 0 alone.
        if self._bar is not None:
            score = {} if self.saving.score is None else {self.saving.monitor: f"{self.saving.score:.4g}"}
            self._bar.set_postfix({**self._beside, **score})

    def _shown(self, trainer: Any, outputs: Any) -> dict[str, str]:
        shown = {name: f"{float(value):.4g}" for name, value in list(trainer.progress_bar_metrics.items())[:4]}
        if "loss" not in " ".join(shown) and isinstance(outputs, dict) and "loss" in outputs:
            shown["loss"] = f"{float(outputs['loss']):.4g}"
        # a bar shows the score of the last validation, too; Lightning forgets it in a resumed session
        for name, value in trainer.callback_metrics.items():
            if name == self.saving.monitor and name not in shown:
                shown[name] = f"{float(value):.4g}"
        wall = self.budget.wall()
        if not math.isinf(wall):
            shown["time left"] = show_duration(max(0.0, wall))
        return shown

    def _saved(self) -> str:
        if not self.saving.saves:
            return "no checkpoint of this session yet"
        ago = show_duration(time.monotonic() - self.saving.last_save)
        return f"last checkpoint at step {self.saving.saved_step}, {ago} ago"

    def close(self) -> None:
        """Close the bar; what it shows remains on the screen."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None


class Startup(Callback):
    """Print once how long it took from the start of the process to the first step, and each part of it.

    Parameters
    ----------
    marks : dict
        Times of the monotonic clock at ``setup`` and ``train_start``, filled by `Checkpointing`.
    before : dict
        Times of the monotonic clock at the start of ``fit``, after ``lightning`` was imported, and after the ``state``
        was found.
    say : callable
        Prints one line.
    """

    def __init__(self, marks: dict[str, float], before: dict[str, float], say: Callable[[str], None]) -> None:
        self.marks, self.before, self.say = marks, before, say
        self.parts: dict[str, float] = {}

    def on_train_batch_start(self, trainer: Any, module: Any, batch: Any, batch_idx: int) -> None:
        if self.parts:
            return
        now, marks, before = time.monotonic(), self.marks, self.before
        # a kernel that a person works in has also waited for that person
        earlier = {} if is_watched() else {"imports and cells before": max(0.0, process_age() - (now - before["fit"]))}
        self.parts = {
            **earlier,
            "lightning": before["lightning"] - before["fit"],
            "state": before["state"] - before["lightning"],
            "data": marks["setup"] - before["state"],
            "model": marks["train_start"] - marks["setup"],
            "first batch": now - marks["train_start"],
        }
        shown = ", ".join(f"{name} {seconds:.1f}" for name, seconds in self.parts.items())
        what = f"Resumed at step {trainer.global_step}" if trainer.global_step else "First step"
        since = "process" if earlier else "cell"
        self.say(f"{what}, {sum(self.parts.values()):.1f} s after the {since} began ({shown}, in s)")
