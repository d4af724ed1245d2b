"""SIGKILL at every hook by name, and at every instant of a save and of the closing, in real sessions of a training.

Each session is a process of its own with a real `Session` and store. After a kill the machine's folder may be wiped, so
that only the store is left. The training that comes out must be the one that nobody killed.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import nbkit
from nbkit.ground import files
from nbkit.runtime.closing import Closing
from nbkit.runtime.ledger.ledger import Ledger
from nbkit.runtime.ledger.outbox import Outbox
from nbkit.runtime.ledger.receipts import Receipt
from nbkit.runtime.ledger.workspace import Workspace
from nbkit.runtime.store.folder import FolderStore
from nbkit.runtime.training.generations import Generations
from tests.runtime.training.matrix.cells import Cell, parts_of
from tests.runtime.training.matrix.factors import HOOKS
from tests.runtime.training.matrix.states import first_difference, state_of
from tests.runtime.training.matrix.subject import Subject
from tests.runtime.training.training_support import Child

_KILLS = 3  # of one place, before a session that is left alone
_STEP = "any step"
_CHECKPOINT, _RECEIPT = (lambda *args: str(args).find(".ckpt") >= 0), (lambda *args: str(args).find("step-") >= 0)


@dataclass(frozen=True)
class Moment:
    """One call in the library, and whether the kill comes in front of it or after it."""

    owner: Any
    call: str
    after: bool = False
    of: Callable[..., bool] = lambda *args: True  # which of the calls count

    def arm(self, fire: Callable[[], None]) -> None:
        before = getattr(self.owner, self.call)

        def wrapped(*args: Any, **kwargs: Any) -> Any:
            counts = self.of(*args)
            if counts and not self.after:
                fire()
            result = before(*args, **kwargs)
            if counts and self.after:
                fire()
            return result

        setattr(self.owner, self.call, wrapped)


MOMENTS: dict[str, Moment] = {
    "save: in front": Moment(Generations, "write"),
    "save: within the temporary file": Moment(files._Hashing, "write"),
    "save: between the sync and the new name": Moment(os, "replace", of=_CHECKPOINT),
    "save: between file and receipt": Moment(Receipt, "write"),
    "save: after the receipt": Moment(Receipt, "write", after=True),
    "save: in front of the deleting": Moment(Generations, "_prune_local"),
    "save: after the deleting": Moment(Generations, "_prune_local", after=True),
    "save: handed to the outbox": Moment(Outbox, "send", after=True),
    "save: in front of an upload": Moment(FolderStore, "put", of=_CHECKPOINT),
    "save: between the uploads of file and receipt": Moment(FolderStore, "put", after=True, of=_CHECKPOINT),
    "save: after the upload of the receipt": Moment(FolderStore, "put", after=True, of=_RECEIPT),
    "save: deleting in the store": Moment(FolderStore, "delete"),
    "close: in front": Moment(Closing, "close"),
    "close: in front of the last uploads": Moment(Outbox, "drain"),
    "close: after the last uploads": Moment(Outbox, "close", after=True),
    "close: in front of the last records": Moment(Ledger, "close"),
    "close: after the last records": Moment(Ledger, "close", after=True),
    "close: after the workspace": Moment(Workspace, "release", after=True),
    "close: after all": Moment(Closing, "close", after=True),
}
PLACES = (*HOOKS, *MOMENTS)


def _life(cell: Cell, root: Path, place: str, at: int | None) -> bool:
    """Train in a real session; dies at the `at`-th call at the place. Returns whether it is complete."""
    calls = 0

    def fire() -> None:
        nonlocal calls
        calls += 1
        if calls == at:
            os.kill(os.getpid(), signal.SIGKILL)

    moment = {**MOMENTS, _STEP: Moment(Subject, "training_step")}.get(place)
    if moment is not None and at is not None:
        moment.arm(fire)
    session = nbkit.open_session("cell", store=root / "store", folder=root / "machine", accelerator="cpu", smoke=True)
    module, data, options = parts_of(cell, root, fire if moment is None else lambda: None)
    session.fit(module, data, max_steps=cell.max_steps, save_every=1e-9, **options)
    return session.close()["complete"]


def _state(cell: Cell, root: Path) -> Any:
    state = state_of(cell, root / "store" / "cell", None)
    # used up, and kept only where a module has an optimizer_zero_grad of its own, as the one that is killed there has
    state["nbkit"].get("exact", {}).pop("gradients", None)
    state["callbacks"].pop("Callback", None)  # the one that kills
    return state


@dataclass
class Killed:
    """What became of one place: the kills that came about, and what differs at the end."""

    place: str
    kills: int
    wiped: int
    fault: str | None


def undisturbed(cell: Cell, root: Path) -> Any:
    """Return the state of the training that nobody kills."""
    outcome = Child(_life, replace(cell, hook="callback.setup"), root, "callback.setup", None).end()
    assert outcome.error is None and outcome.result, outcome
    return _state(cell, root)


def kill_at(place: str, cell: Cell, there: Any, root: Path, seed: int, kills: int = _KILLS) -> Killed:
    """Kill some sessions at a place, wipe the machine after every other kill, and compare the end.

    Parameters
    ----------
    place : str
        One of `PLACES`.
    cell : Cell
    there : state
        Of the training that nobody killed.
    """
    if place in HOOKS:
        cell = replace(cell, hook=place)
    for latest in (6, 3, 1):  # what is called rarely in a session must be met early
        found = _kill_at(place, cell, there, root / f"by-{latest}", random.Random(f"{place}{seed}"), kills, latest)
        if found.fault or found.kills == kills:
            break
    return found


def _kill_at(place: str, cell: Cell, there: Any, root: Path, rng: random.Random, kills: int, latest: int) -> Killed:
    done = wiped = 0
    first_wiped = rng.randrange(2)
    if latest == 1:  # what is called on resuming alone needs something to resume
        Child(_life, cell, root, _STEP, 6).end()
    for number in range(kills + 1):
        at = rng.randint(1, latest) if number < kills else None
        outcome = Child(_life, cell, root, place, at).end()
        if outcome.error is not None:
            return Killed(place, done, wiped, f"session {number + 1}: {outcome.error[-600:]}")
        if outcome.signal is None:
            break
        done += 1
        if done % 2 == first_wiped:
            wiped += 1
            shutil.rmtree(root / "machine", ignore_errors=True)
    if outcome.signal is not None or not outcome.result:
        return Killed(place, done, wiped, f"not complete: {outcome}")
    return Killed(place, done, wiped, first_difference(there, _state(cell, root)))
