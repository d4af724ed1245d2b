"""Sessions of items and of training whose machine loses its power, and what must hold after it."""

from __future__ import annotations

import contextlib
import hashlib
import io
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from nbkit.ground.files import sha256_of
from nbkit.runtime.ledger.segments import read_state
from nbkit.runtime.store.folder import FolderStore
from nbkit.runtime.store.protocol import Stat
from tests.runtime.items import nth_fault_items
from tests.runtime.items.storm import check_store
from tests.runtime.store.nth_fault import temporary_files_in
from tests.runtime.store.power_loss import MODES, Recording, State, recorded, survivors
from tests.runtime.training.faults import nth_fault_training


class TellingStore(FolderStore):
    """A folder store that records what it confirmed."""

    def __init__(self, root: Path, recording: Recording) -> None:
        super().__init__(root)
        self.recording = recording

    def put(self, path: Path, name: str) -> Stat:
        stat = super().put(path, name)
        self.recording.tell("put", (name, sha256_of(self.path(name))))
        return stat

    def delete(self, name: str) -> None:
        self.recording.tell("put", (name, None))  # from now on it may be gone
        super().delete(name)


@dataclass
class Outcome:
    """What was found at the losses of power of one session: states looked at, sessions after them, what is wrong."""

    operations: int = 0
    states: int = 0
    sessions: int = 0
    faults: list[str] = field(default_factory=list)


@contextlib.contextmanager
def _quiet(folder: Path) -> Iterator[io.StringIO]:
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said), temporary_files_in(folder):
        yield said


def _missing(state: State, history: dict[str, list[str | None]]) -> list[str]:
    """Return what the store had confirmed and does not have, or has in an older content."""
    faults, confirmed = [], Counter(name for name, _ in state.told.get("put", ()))
    for name, times in confirmed.items():
        if None in (allowed := history[name][times - 1 :]):
            continue
        content = state.files.get(f"store/{name}")
        if content is None or hashlib.sha256(content).hexdigest() not in allowed:
            faults.append(f"{name} was confirmed and is {'gone' if content is None else 'other bytes'}")
    return faults


def _lose(
    root: Path,
    run: Callable[[Any, Recording], object],
    check: Callable[[Path, State, bool], list[str]],
    go_on: Callable[[Path, State, bool], list[str]],
    chosen: Callable[[int], bool],
) -> Outcome:
    """Record a session, lose the power after each operation, look at all states and go on from the chosen ones."""
    found = Outcome()
    (root / "first").mkdir(parents=True)
    with _quiet(root / "tmp"), recorded(root / "first") as recording:
        run(TellingStore(root / "first" / "store", recording), recording)
    found.operations = sum(event[0] != "told" for event in recording.events)
    history: dict[str, list[str | None]] = {}
    for event in recording.events:
        if event[:2] == ("told", "put"):
            history.setdefault(event[2][0], []).append(event[2][1])
    for mode in MODES:
        for state in survivors(recording, mode):
            found.states += 1
            wiped = state.at % 2 == 1
            place = root / "first"  # a workspace knows its store's address
            shutil.rmtree(place)
            place.mkdir()
            state.build(place, without=("work",) if wiped else ())
            wrong = _missing(state, history) + check(place, state, wiped)
            if chosen(found.states):
                found.sessions += 1
                with _quiet(root / "tmp"):
                    wrong += go_on(place, state, wiped)
            found.faults += [f"{mode}, after operation {state.at}: {words}" for words in wrong]
    return found


def lose_items(root: Path, chosen: Callable[[int], bool]) -> Outcome:
    """Lose the power in a session of the item loop."""

    def run(store: Any, recording: Recording) -> None:
        nth_fault_items.session_once(store, root / "first" / "work", Counter())

    def check(place: Path, state: State, wiped: bool) -> list[str]:
        return check_store(place, set())

    def go_on(place: Path, state: State, wiped: bool) -> list[str]:
        store, again, wrong = FolderStore(place / "store"), Counter(), []
        had = set(read_state(store, nth_fault_items.SLUG, place / "cache").done)
        summary = nth_fault_items.session_once(store, place / "work", again)
        if not (summary["complete"] and summary["done"] == len(nth_fault_items.ROWS) and summary["exit"] == 0):
            wrong.append(f"the next session ended with {summary}")
        if twice := had & set(again):
            wrong.append(f"done again though the store had it: {sorted(twice)}")
        for row in nth_fault_items.ROWS:
            with np.load(place / "store" / nth_fault_items.SLUG / "items" / f"{row['key']}.npz") as arrays:
                if not (arrays["x"] == int(row["seed"])).all():
                    wrong.append(f"{row['key']} holds other numbers")
        return wrong + check_store(place, set())

    return _lose(root, run, check, go_on, chosen)


def lose_training(root: Path, chosen: Callable[[int], bool], expected: str) -> Outcome:
    """Lose the power in a session of a training; `expected` is the digest of an uninterrupted one."""

    def run(store: Any, recording: Recording) -> None:
        told = nth_fault_training.Told()
        nth_fault_training.session_once(store, root / "first" / "work", told, recording.tell)

    def check(place: Path, state: State, wiped: bool) -> list[str]:
        return nth_fault_training.unreadable(place)

    def go_on(place: Path, state: State, wiped: bool) -> list[str]:
        told = nth_fault_training.Told()
        summary = nth_fault_training.session_once(FolderStore(place / "store"), place / "work", told)
        promised = max(state.told.get("stored" if wiped else "saved", [0]))
        wrong = []
        if told.resumed < promised:
            wrong.append(f"step {promised} was acknowledged, and training went on from {told.resumed} ({wiped=})")
        if not (summary["complete"] and summary["exit"] == 0):
            wrong.append(f"the next session ended with {summary}")
        if nth_fault_training.end_of(place) != expected:
            wrong.append("the end differs from that of an uninterrupted run")
        return wrong + nth_fault_training.unreadable(place)

    return _lose(root, run, check, go_on, chosen)
