"""A training session over surroundings that fail at their n-th operation, and what must hold after it."""

from __future__ import annotations

import contextlib
import errno
import io
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nbkit.ground.files import sha256_of
from nbkit.runtime.errors import DamagedError, NbkitError
from nbkit.runtime.ledger.receipts import read_receipt, step_of
from nbkit.runtime.session import open_session
from nbkit.runtime.store.folder import FolderStore
from nbkit.runtime.training.checkpoint_io import load_checkpoint
from tests.runtime.items.nth_fault_items import STORE, Outcome, traceback_in
from tests.runtime.store.nth_fault import Strike, StrikingStore, striking_disk, striking_memory, temporary_files_in
from tests.runtime.training.training_support import Tiny, TinyData, digest

_DISKS = [f"{where} {number}" for where in ("work", "store-disk") for number in ("ENOSPC", "EIO", "EROFS", "EDQUOT")]
_STORES = [f"store {how} {kind}" for how in ("before", "after", "half") for kind in ("passing", "permanent")]
KINDS = [*_DISKS, *_STORES, "memory"]
SLUG, STEPS = "tiny", 20  # 4 steps an epoch, a validation and a save after each


@dataclass
class Told:
    """What a session said that it has: the newest step saved here, and the newest that the store confirmed."""

    saved: int = 0
    stored: int = 0
    resumed: int = 0


def session_once(store: Any, folder: Path, told: Told, event: Callable[[str, int], None] | None = None) -> Any:
    """Train in one session, and leave it as a process does that ends by an error."""
    session = open_session(SLUG, store, folder=folder, accelerator="cpu")
    journal = session.journal

    def tell(kind: str, **fields: Any) -> None:
        if kind == "saved":
            told.saved = fields["step"]
        elif kind == "stored":
            told.stored = max(told.stored, fields["step"])
        if event is not None and kind in ("saved", "stored"):
            event(kind, fields["step"])
        journal(kind, **fields)

    session.journal = tell  # type: ignore[method-assign]
    try:
        report = session.fit(
            Tiny(), TinyData(n=16, validation=True), max_steps=STEPS, save_every=None, save_each_epoch=True,
            monitor="val_loss",
        )  # fmt: skip
        told.resumed = report.resumed_from or 0
        return session.close()
    except BaseException:
        session._leave()
        raise


def uninterrupted(root: Path) -> str:
    """Return the digest of a run in one session."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        session_once(FolderStore(root / "store"), root / "work", Told())
    return end_of(root)


def end_of(root: Path) -> str:
    """Return the digest of the last checkpoint in the store."""
    return digest(load_checkpoint(max((root / "store" / SLUG / "checkpoints").glob("step-*.ckpt"))))


def unreadable(folder: Path) -> list[str]:
    """Return what is wrong with the checkpoints that have a receipt."""
    faults = []
    for path in sorted(folder.rglob("step-*.json")):
        if step_of(path.name) is None:
            continue
        try:
            receipt = read_receipt(path)
        except DamagedError as error:
            faults.append(str(error))
            continue
        whole = path.with_name(receipt.file)
        if not whole.is_file() or whole.stat().st_size != receipt.size or sha256_of(whole) != receipt.sha256:
            faults.append(f"{whole} is not what its receipt records")
    return faults


@contextlib.contextmanager
def _surroundings(kind: str, root: Path, n: int | None, lasting: bool) -> Iterator[tuple[Any, Strike]]:
    first, *rest = kind.split()
    plain = FolderStore(root / "store")
    if first == "store":
        strike = Strike(n, STORE[rest[1]], lasting)
        yield StrikingStore(root / "store", strike, rest[0]), strike
    elif first == "memory":
        with striking_memory(n) as strike:
            yield plain, strike
    else:
        folders = [root / "work", root / "tmp"] if first == "work" else [root / "store"]
        with striking_disk(folders, getattr(errno, rest[0]), n, lasting, buffer=io.DEFAULT_BUFFER_SIZE) as strike:
            yield plain, strike


def faulty_session(
    root: Path, kind: str, n: int | None, lasting: bool, expected: str, longest: float = 15.0
) -> Outcome:
    """Run a session with a fault at the n-th operation, a healthy one, and give what is wrong."""
    found, said, told, again = Outcome(n or 0), io.StringIO(), Told(), Told()
    began = time.monotonic()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said), temporary_files_in(root / "tmp"):
        with _surroundings(kind, root, n, lasting) as (store, strike):
            try:
                session_once(store, root / "work", told)
            except NbkitError as error:
                found.error = f"{type(error).__name__}: {error}"
            except MemoryError as error:
                found.error = repr(error)
                if kind != "memory":
                    found.faults.append(f"raised {error!r}")
            except BaseException as error:
                found.faults.append(f"raised {type(error).__name__}: {error}")
        found.operations, found.struck, found.said = strike.count, strike.struck, said.getvalue()
        if time.monotonic() - began > longest:
            found.faults.append(f"took {time.monotonic() - began:.1f} s")
        if trace := traceback_in(found.said):
            found.faults.append(f"a traceback: {trace}")
        found.faults += unreadable(root / "store") + unreadable(root / "work")
        promised = told.saved
        if wiped := n is not None and n % 2 == 1:
            shutil.rmtree(root / "work", ignore_errors=True)
            promised = told.stored
        try:
            summary = session_once(FolderStore(root / "store"), root / "work", again)
        except BaseException as error:
            found.faults.append(f"the next session raised {type(error).__name__}: {error}")
            return found
    if not (summary["complete"] and summary["exit"] == 0):
        found.faults.append(f"the next session ended with {summary}")
    if max(again.resumed, STEPS * (promised == STEPS)) < promised:
        found.faults.append(f"step {promised} was acknowledged, and training went on from {again.resumed} ({wiped=})")
    found.faults += unreadable(root / "store") + unreadable(root / "work")
    if end_of(root) != expected:
        found.faults.append("the end differs from that of an uninterrupted run")
    freed = not any(what.startswith(("unlink", "remove")) for what in found.struck)
    if freed and (strays := [str(p) for p in root.rglob("*.part")]):
        found.faults.append(f"temporary files are left: {strays}")
    return found


def sweep(
    root: Path, kind: str, lasting: bool, chosen: Callable[[int], bool], expected: str, most: int = 20_000
) -> list[Outcome]:
    """Run a faulty session at each chosen n until a session has no n-th operation."""
    outcomes: list[Outcome] = []
    for n in filter(chosen, range(1, most)):
        outcome = faulty_session(root / f"{n}", kind, n, lasting, expected)
        shutil.rmtree(root / f"{n}", ignore_errors=True)
        if not outcome.struck:
            break
        outcomes.append(outcome)
    return outcomes
