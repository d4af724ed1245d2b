"""Kill processes while they save checkpoints, at every instant that matters.

Every system call that changes the disk is a place to die, before and after it; so is every block of bytes.
"""

from __future__ import annotations

import os
import random
import signal
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from nbkit.ground import files
from nbkit.ground.files import TEMP_SUFFIX
from nbkit.runtime.ledger.receipts import step_of
from nbkit.runtime.store.folder import FolderStore
from nbkit.runtime.training.checkpoint_io import load_checkpoint
from nbkit.runtime.training.generations import Generations
from tests.runtime.training.training_support import Child, DirectOutbox, run_child


def tree_of(step: int, size: int = 20_000) -> dict[str, Any]:
    """Return a checkpoint whose content says its step."""
    return {"step": step, "weights": [torch.full((size,), float(step)) for _ in range(3)]}


def fields_of(step: int, **other: Any) -> dict[str, Any]:
    return {"step": step, "epoch": 0, "batch": step, **other}


def opened(folder: Path, store: Path | None, said: list[str] | None = None) -> Generations:
    """Open generations with a store that is written at once."""
    keep = FolderStore(store) if store else None
    outbox = DirectOutbox(keep) if keep else None
    say = said.append if said is not None else (lambda text: None)
    return Generations("tiny", folder, keep, outbox, say).open()


def save(folder: Path, store: Path | None, step: int, size: int = 20_000) -> None:
    """Save one generation as a session does."""
    generations = opened(folder, store)
    generations.newest()
    receipt = generations.write(tree_of(step, size), fields_of(step, best=step % 5 == 0))
    generations.send(receipt)


def _counted(die_at: int | None, counter: list[int]) -> None:
    """Make every change of the disk count, and die at one."""

    def tick() -> None:
        counter[0] += 1
        if counter[0] == die_at:
            os.kill(os.getpid(), signal.SIGKILL)

    def around(function: Any) -> Any:
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            tick()
            result = function(*args, **kwargs)
            tick()
            return result

        return wrapped

    for name in ("fsync", "replace", "rename", "link", "unlink", "mkdir"):
        setattr(os, name, around(getattr(os, name)))
    files._Hashing.write = around(files._Hashing.write)


def save_and_die(folder: Path, store: Path | None, step: int, die_at: int | None, tmpdir: Path | None = None) -> int:
    """Save one generation and die at a place; gives the number of places where it lived."""
    if tmpdir is not None:
        tempfile.tempdir = os.environ["TMPDIR"] = str(tmpdir)
    counter = [0]
    _counted(die_at, counter)
    save(folder, store, step)
    return counter[0]


def stray(folder: Path) -> list[str]:
    """Return the files that belong to no generation: half-written ones, and checkpoints without a receipt."""
    found = []
    for path in Path(folder).rglob("*"):
        lonely = step_of(path.name) is not None and path.suffix == ".ckpt" and not path.with_suffix(".json").exists()
        if path.is_file() and (lonely or path.name.startswith(".") or path.name.endswith(TEMP_SUFFIX)):
            found.append(path.name)
    return found


def newest_of(folder: Path, store: Path | None) -> tuple[int, list[str]]:
    """Return the step of the newest whole generation, read to the last number, and what was said."""
    said: list[str] = []
    found = opened(folder, store, said).newest()
    assert found is not None
    receipt, path = found
    tree = load_checkpoint(path)
    assert tree["step"] == receipt.step and all((w == receipt.step).all() for w in tree["weights"])
    return receipt.step, said


@dataclass
class Storm:
    """What became of many kills."""

    kills: int = 0
    unloadable: int = 0
    went_back: int = 0
    most_stray: int = 0
    left_after_opening: int = 0
    most_generations: int = 0
    said: list[str] = field(default_factory=list)


def storm(root: Path, kills: int, rng: random.Random, tmpdir: Path | None = None, with_store: bool = True) -> Storm:
    """Kill so many saves, at places spread over the whole save, and look at the disk after each."""
    folder, store = root / "session", root / "store" if with_store else None
    for step in (1, 2):
        run_child(save, folder, store, step)
    dry = root / "dry"
    for step in (1, 2, 3):
        run_child(save, dry / "session", dry / "store" if with_store else None, step)
    places = run_child(save_and_die, dry / "session", dry / "store" if with_store else None, 4, None)
    result, newest = Storm(), 2
    for number in range(kills):
        # every place once, then at random
        die_at = number + 1 if number < places else rng.randint(1, places)
        outcome = Child(save_and_die, folder, store, newest + 1, die_at, tmpdir).end()
        assert outcome.error is None, outcome.error
        result.kills += outcome.signal == signal.SIGKILL
        if len(left := stray(folder)) > max(1, result.most_stray):
            result.said.append(f"stray after place {die_at}: {left}")
        result.most_stray = max(result.most_stray, len(left))
        try:
            step, said = run_child(newest_of, folder, store)
        except AssertionError as error:
            result.unloadable += 1
            result.said.append(str(error))
            break
        result.went_back += step < newest
        result.said += said
        result.left_after_opening = max(result.left_after_opening, len(stray(folder)))
        if step == newest and number % 2:
            run_child(save, folder, store, newest + 1)
            step += 1
        newest = step
        result.most_generations = max(result.most_generations, len(list(folder.rglob("*.ckpt"))))
    return result
