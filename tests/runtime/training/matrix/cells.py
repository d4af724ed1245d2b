"""One cell of the matrix: a training in one go, the same in short sessions, and what the two differ in.

A cell is exact, or refused in words before the first step. Everything else is a fault: other bits, a refusal after work
was done, a traceback of someone else, a hang. What plain Lightning refuses by itself is no training and counts apart.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch

from nbkit.runtime.errors import UsageError
from nbkit.runtime.training.fit import fit
from nbkit.runtime.training.history import History
from tests.runtime.training.matrix.datas import DATAS, Data, data_class, train_loader
from tests.runtime.training.matrix.factors import (
    CALLBACKS,
    HOOKS,
    INTERVALS,
    SCHEDULERS,
    make_callback,
)
from tests.runtime.training.matrix.states import first_difference, state_of
from tests.runtime.training.matrix.subject import MODULES, OPTIMIZATIONS, OPTIONS, VALIDATIONS, Subject
from tests.runtime.training.training_support import Child, FakeSession

WAYS = ("request", "SIGTERM", "exception")  # how a session is made to end within a hook
SECONDS = 60.0  # a cell that takes longer hangs
SESSIONS = 12
STOPS = 2  # of a cell, before it is left alone
_OF_FIXED_GROUPS = (  # torch cannot step them after a group was added
    "LambdaLR", "MultiplicativeLR", "OneCycleLR", "CyclicLR", "SWALR", "CosineAnnealingLR",
    "CosineAnnealingWarmRestarts",
)  # fmt: skip
_BATCHES = 18  # four epochs and a half

FACTORS: dict[str, tuple[Any, ...]] = {
    "module": MODULES,
    "optimization": OPTIMIZATIONS,
    "scheduler": SCHEDULERS,
    "interval": INTERVALS,
    "callback": CALLBACKS,
    "data": DATAS,
    "validation": VALIDATIONS,
    "option": tuple(OPTIONS),
    "hook": HOOKS,
    "way": WAYS,
    "saves": (None, 1e-9),
}


def allowed(row: dict[str, Any]) -> bool:
    """Return whether a cell, or a part of one, can be."""
    get = row.get
    if get("interval") == "metric" and get("scheduler") not in (None, "ReduceLROnPlateau"):
        return False
    if get("scheduler") == "none" and get("interval") not in (None, "step"):
        return False
    adds = get("module") == "adds a group" or str(get("callback")).endswith("Finetuning")
    if adds and get("scheduler") in _OF_FIXED_GROUPS:
        return False
    if get("optimization") == "accumulated by a schedule" and get("callback") == "GradientAccumulationScheduler":
        return False
    if get("optimization") == "manual, accumulated" and get("option") == "half an epoch":
        return False  # never comes to the third batch, at which it steps
    no_validation = get("validation") == "none" or get("data") == "plain loader"
    if get("option") == "best" and no_validation:
        return False
    if str(get("hook")).startswith("data.") and get("data") == "plain loader":
        return False
    return not ("val" in str(get("hook")) and no_validation)


@dataclass(frozen=True)
class Cell:
    """One training and one way of stopping it."""

    module: str = "plain"
    optimization: str = "automatic"
    scheduler: str = "none"
    interval: str = "step"
    callback: str = "none"
    data: str = "shuffled"
    validation: str = "each epoch"
    option: str = "none"
    hook: str = "callback.on_train_batch_start"
    way: str = "request"
    saves: float | None = None

    @property
    def unit(self) -> str:
        """Lightning's interval."""
        return "epoch" if self.interval == "metric" or self.interval.startswith("epoch") else "step"

    @property
    def max_steps(self) -> int:
        """Optimizer steps of all sessions together."""
        each = {"accumulated": 3, "accumulated by a schedule": 2, "manual, accumulated": 3}.get(self.optimization, 1)
        return _BATCHES // each + (6 if self.optimization == "manual, two of different rhythm" else 0)

    def words(self) -> str:
        """Return the cell as what it differs in from the plainest one."""
        plain = Cell()
        named = [f"{k}={v!r}" for k, v in vars(self).items() if v != getattr(plain, k)]
        return f"Cell({', '.join(named)})"

    __str__ = words


@dataclass
class Found:
    """What a cell came to: ``exact``, ``refused``, ``not of Lightning`` or ``fault``, and the words for it."""

    outcome: str
    words: str = ""
    sessions: int = 0
    stops: int = 0


class Thrown(Exception):
    """Raised within a hook, as an error of the user's."""


# -- a session -------------------------------------------------------------------------------------------------------


def parts_of(cell: Cell, folder: Path, fire: Callable[[], None] | None) -> tuple[Any, Any, dict[str, Any]]:
    """Return module, data and options; `fire` is called in the cell's hook before anything else."""
    owner, _, hook = cell.hook.partition(".")
    module_class, of_data, callbacks = Subject, data_class(cell), []
    if fire is not None and owner == "module":
        module_class = _firing(Subject, hook, fire)
    if fire is not None and owner == "data":
        of_data = _firing(of_data, hook, fire)
    metric = "loss" if cell.validation == "none" or cell.data == "plain loader" else "val_loss"
    if cell.callback != "none":
        callbacks.append(make_callback(cell.callback, folder, metric))
    if cell.optimization == "accumulated by a schedule":
        callbacks.append(lightning.pytorch.callbacks.GradientAccumulationScheduler({0: 2, 1: 1, 3: 3}))
    if fire is not None and owner == "callback":
        callbacks.append(_firing(lightning.Callback, hook, fire)())
    data = train_loader(cell.data) if cell.data == "plain loader" else of_data(cell)
    options: dict[str, Any] = {"callbacks": callbacks, "log_every_n_steps": 2}
    if cell.optimization == "accumulated":
        options["accumulate_grad_batches"] = 3
    options |= OPTIONS[cell.option]
    if cell.module == "clips":
        options["gradient_clip_val"] = 0.5
    every = {"within an epoch": 0.5, "every 3 batches": 3}.get(cell.validation)
    if every:
        options["val_check_interval"] = every
    if cell.validation == "every 2nd epoch":
        options["check_val_every_n_epoch"] = 2
    return module_class(cell), data, options


def _firing(kind: type, hook: str, fire: Callable[[], None]) -> type:
    """Return a class whose hook calls `fire` and then what it was."""
    before = getattr(kind, hook)

    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        fire()
        return before(self, *args, **kwargs)

    method.__name__ = hook
    members = {hook: method, "__module__": kind.__module__}
    if hook == "load_state_dict" and kind is lightning.Callback:
        members["state_dict"] = lambda self: {"some": 1}  # without a state it is not called
    return type(kind.__name__, (kind,), members)


def session(cell: Cell, root: Path, number: int, at: int | None, steps: int | None, way: str) -> Any:
    """Train in one session that ends at the `at`-th call of the hook, after so many steps, or at the end.

    Returns the report, the module, and how often the hook was called.
    """
    # nothing of this process may count: each session finds other generators
    torch.manual_seed(1000 + number)
    random.seed(number)
    np.random.seed(number)
    own = FakeSession(root / "machine", root / "store", steps=steps, slug="cell")
    calls = 0

    def fire() -> None:
        nonlocal calls
        calls += 1
        if calls != at:
            return
        if way == "request":
            own.budget.request_stop("wall")
        elif way == "SIGTERM":
            os.kill(os.getpid(), signal.SIGTERM)
        elif way == "SIGKILL":
            os.kill(os.getpid(), signal.SIGKILL)
        else:
            raise Thrown

    module, data, options = parts_of(cell, root, fire)
    report = fit(own, module, data, max_steps=cell.max_steps, save_every=cell.saves, **options)
    return report, module, calls


# -- a cell ----------------------------------------------------------------------------------------------------------


def once(cell: Cell, root: Path) -> tuple[str, Any, int]:
    """Train without a stop; returns ``trained`` and the state, or ``refused`` or ``error`` and the words, and calls."""
    try:
        report, module, calls = session(replace(cell, saves=None), root, 0, None, None, "none")
    except UsageError as error:
        return "refused", str(error), 0
    except Exception as error:
        return "error", _told(error), 0
    if not report.complete:
        return "error", f"the training in one go ended with {report.reason}", 0
    return "trained", state_of(cell, root / "machine", module), calls


def in_sessions(cell: Cell, root: Path, rng: random.Random, calls: int, most: int) -> tuple[Any, int, int]:
    """Train in sessions that end by turns within the hook and after some steps, and the last ones at the end.

    Parameters
    ----------
    cell, root, rng
    calls : int
        How often a training without a stop calls the hook.
    most : int
        Stops, before it is left alone.

    Returns
    -------
    state, sessions, stops
    """
    for first in (0, 1) if calls else (1,):
        stops, folder = 0, root / f"first-{first}"
        for number in range(SESSIONS):
            calm, hooked = stops >= most, (number + first) % 2 == 0
            at = rng.randint(1, max(1, min(7, calls))) if hooked and not calm else None
            steps = rng.randint(1, 5) if not hooked and not calm else None
            try:
                report, module, _ = session(cell, folder, number + 1, at, steps, cell.way)
            except Thrown:
                stops += 1
                continue
            if report.complete:
                break
            stops += 1
        else:
            raise AssertionError(f"not complete after {SESSIONS} sessions")
        if stops:
            break  # else the hook came when all was trained, and a session must end after some steps before it
    return state_of(cell, folder / "machine", module), number + 1, stops


def run_cell(cell: Cell, root: Path, seed: int = 0, stops: int = STOPS) -> Found:
    """Run a cell and say what it came to."""
    with _alarm(SECONDS):
        return _run(cell, root, seed, stops)


def _run(cell: Cell, root: Path, seed: int, most: int) -> Found:
    kind, there, calls = once(cell, root / "once")
    if kind == "refused":
        return _refused(cell, there, root / "once")
    if kind == "error":
        with _alarm(SECONDS):
            plain = plain_lightning(cell, root / "plain")
        if plain is not None and same_error(plain, there):
            return Found("not of Lightning", plain)
        return Found("fault", f"in one go: {there}")
    try:
        here, sessions, stops = in_sessions(cell, root / "many", random.Random(f"{cell}{seed}"), calls, most)
    except UsageError as error:
        return Found("fault", f"refused late: {error}")
    except Exception as error:
        return Found("fault", f"in sessions: {_told(error)}")
    differs = first_difference(there, here)
    if differs is None:
        return Found("exact", "", sessions, stops)
    again = once(cell, root / "again")[1]
    if first_difference(there, again) is not None:
        return Found("fault", f"not even two uninterrupted ones agree: {first_difference(there, again)}")
    return Found("fault", f"other bits: {differs}", sessions, stops)


def _refused(cell: Cell, words: str, folder: Path) -> Found:
    """Judge a refusal: nothing is trained, it names what it refuses, and it says what to do."""
    left = [*folder.rglob("*.ckpt")]
    if left:
        return Found("fault", f"refused after a checkpoint was written: {words}")
    if "othing was trained" not in words or len(words) < 60:
        return Found("fault", f"refused in words that help little: {words}")
    return Found("refused", words)


def plain_lightning(cell: Cell, root: Path) -> str | None:
    """Return the words in which Lightning itself refuses the same training; None if it trains."""
    root.mkdir(parents=True, exist_ok=True)
    try:
        module, data, options = parts_of(cell, root, None)
        if isinstance(options.get("val_check_interval"), int):
            options["check_val_every_n_epoch"] = None
        for name in ("save_each_epoch", "monitor"):
            options.pop(name, None)
        options = {"num_sanity_val_steps": 0, "max_steps": cell.max_steps, "max_epochs": -1, **options}
        trainer = lightning.Trainer(
            logger=[History()], default_root_dir=str(root), accelerator="cpu", enable_model_summary=False, **options
        )
        if isinstance(data, Data):
            trainer.fit(module, datamodule=data)
        else:
            trainer.fit(module, data)
    except Exception as error:
        return _told(error)
    return None


def _told(error: BaseException) -> str:
    where = error.__traceback__
    while where is not None and where.tb_next is not None:
        where = where.tb_next
    name = f"{where.tb_frame.f_code.co_filename.rpartition('site-packages/')[2]}:{where.tb_lineno}" if where else "?"
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:300]} ({name})"


def same_error(one: str, other: str) -> bool:
    """Return whether two errors, as `_told` tells them, are of one class and raised at one place; not if they hang."""
    kinds, places = (
        {told.partition(":")[0] for told in (one, other)},
        {told.rpartition(" (")[2] for told in (one, other)},
    )
    return len(kinds) == 1 and len(places) == 1 and kinds != {"TimeoutError"}


@contextlib.contextmanager
def _alarm(seconds: float) -> Any:
    def over(*_: Any) -> None:
        raise TimeoutError(f"hangs: not through after {seconds:g} s")

    before = signal.signal(signal.SIGALRM, over)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def isolated(cell: Cell, root: Path, seed: int = 0, stops: int = STOPS) -> Found:
    """Run a cell in a forked process, so that none leaves anything to another."""
    began = time.monotonic()
    outcome = Child(run_cell, cell, root, seed, stops).end()
    shutil.rmtree(root, ignore_errors=True)
    if outcome.signal is not None:
        return Found("fault", f"the process was ended by signal {outcome.signal}")
    if outcome.error is not None:
        seconds = time.monotonic() - began
        return Found("fault", f"{outcome.error.splitlines()[0]} ({seconds:.0f} s)")
    return outcome.result
