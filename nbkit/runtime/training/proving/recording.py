"""The recorder of a trial: what the training's state is at every batch, and the stops.

It writes one line a batch, so that those of a session that is killed are kept. It changes nothing and draws nothing.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback

from nbkit.runtime.training.proving.digests import of_tensor, tree
from nbkit.runtime.training.proving.held import held_state
from nbkit.runtime.training.proving.stops import Stop

_FULL = 1 << 28  # bytes of weights and optimizer state; with more, only some batches have their digests


class Recorder(Callback):
    """Record the state before each batch and the result after it, and ask for the stop.

    Parameters
    ----------
    path : Path
        File of JSON lines.
    budget : Budget
        Of the trial's session; a stop is requested from it.
    stop : Stop or None
        When to stop; None to train to the end.
    seconds : float or None
        Time after which the training is stopped although it is not complete.
    """

    def __init__(self, path: Path, budget: Any, stop: Stop | None, seconds: float | None) -> None:
        self._path: Path | None = path
        self._budget, self._stop, self._seconds = budget, stop, seconds
        self._began = 0.0
        self._place = (0, 0)
        self._every = 0

    def __getstate__(self) -> dict[str, Any]:
        return {"_path": None, "_stop": None, "_seconds": None, "_budget": None}  # of other ranks: one records

    def on_train_start(self, trainer: Any, module: Any) -> None:
        self._began = time.monotonic()

    def on_train_batch_start(self, trainer: Any, module: Any, batch: Any, batch_idx: int) -> None:
        if self._path is None:
            return
        self._place = (trainer.current_epoch, batch_idx)
        if not self._every:
            self._every = 1 + _bytes(trainer) // _FULL
        values = dict(state_of(trainer)) if batch_idx % self._every == 0 else {}
        values |= dict(tree("batch", batch))
        values |= {f"metric {name}": repr(value) for name, value in trainer.loggers[0].latest().items()}
        self._write("start", trainer, values=values, held=held_state(trainer))
        self._serve("start")

    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if self._path is None:
            return
        self._write("end", trainer, values=dict(tree("result of training_step", outputs)))
        self._serve("end")
        if self._seconds is not None and time.monotonic() - self._began > self._seconds:
            self._budget.request_stop("time")

    def on_validation_batch_start(self, trainer: Any, module: Any, batch: Any, batch_idx: int, *_: Any) -> None:
        if self._path is None or trainer.sanity_checking or batch_idx:
            return
        self._write("validation", trainer)
        self._serve("validation")

    def _serve(self, when: str) -> None:
        stop = self._stop
        if stop is None or self._place < stop.place or (when != stop.when and self._place == stop.place):
            return
        if stop.kill:
            os.kill(os.getpid(), signal.SIGKILL)
        self._budget.request_stop("proof")

    def _write(self, when: str, trainer: Any, **fields: Any) -> None:
        line = {"when": when, "place": self._place, "step": trainer.global_step, **fields}
        assert self._path is not None
        with open(self._path, "a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


def state_of(trainer: Any) -> Iterator[tuple[str, str]]:
    """Yield (name, digest) of everything that a resumed training must have again."""
    module = trainer.lightning_module
    names = {id(parameter): name for name, parameter in module.named_parameters()}
    yield "modules in training mode", ", ".join(name for name, part in module.named_modules() if part.training)
    yield "frozen parameters", ", ".join(n for n, parameter in module.named_parameters() if not parameter.requires_grad)
    for name, value in module.state_dict(keep_vars=True).items():
        kind = "weight" if id(value) in names else "buffer"
        yield from tree(f"{kind} {name}", value)
    for number, optimizer in enumerate(trainer.optimizers):
        for index, group in enumerate(optimizer.param_groups):
            rest = {key: value for key, value in group.items() if key != "params"}
            yield from tree(f"optimizer {number} group {index}", rest)
            yield f"optimizer {number} group {index} parameters", str(len(group["params"]))
        for parameter, state in optimizer.state.items():
            yield from tree(f"optimizer {number} state of {names.get(id(parameter), '?')}", state)
    for number, config in enumerate(trainer.lr_scheduler_configs):
        yield from tree(f"scheduler {number}", config.scheduler.state_dict())
    for callback in trainer.callbacks:
        if not type(callback).__module__.startswith("nbkit."):
            yield from tree(f"state of callback {type(callback).__name__}", callback.state_dict())


def _bytes(trainer: Any) -> int:
    weights = trainer.lightning_module.state_dict().values()
    # an Adam keeps two more tensors of the same size, which are not there before the first step
    return 3 * sum(value.numel() * value.element_size() for value in weights if hasattr(value, "numel"))


def of_checkpoint(checkpoint: dict[str, Any]) -> dict[str, str]:
    """Return the digests of the parts of a checkpoint that two equal trainings have in common."""
    found = {}
    for part, words in (
        ("state_dict", "weight"),
        ("optimizer_states", "optimizer"),
        ("lr_schedulers", "scheduler"),
        ("callbacks", "state of callback"),
    ):
        for name, digest in tree("", checkpoint.get(part, {})):
            if not name.startswith(("Checkpointing", "TrainingProgress", "Startup", "Recorder")):
                found[f"{words} {name}"] = digest
    history = checkpoint["nbkit"]["history"]
    names = history["names"]
    for number, name in enumerate(names):
        rows = history["name"] == number
        found[f"metric {name}"] = f"{of_tensor(history['value'][rows])} at {of_tensor(history['step'][rows])}"
    found["global_step"] = str(checkpoint["global_step"])
    return found
