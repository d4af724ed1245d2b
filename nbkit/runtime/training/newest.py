"""The newest checkpoint of a phase in the store, for everyone who asks: the card, status, rehearsals and training.

A phase's checkpoints lie in runs: the first directly in ``<slug>/checkpoints/``, each ``fresh=True`` after it in
``run-2/``, ``run-3/`` and so on. The newest run counts, even where an older one got further, and in it the newest
checkpoint whose receipt is whole. Only receipts are read here, so this is quick and needs no torch; whether the bytes
of the checkpoint agree with its receipt is seen when it is loaded.
"""

from __future__ import annotations

import contextlib
import re
import tempfile
from collections.abc import Generator, Iterable
from pathlib import Path

from nbkit.runtime.errors import DamagedError
from nbkit.runtime.ledger.receipts import Receipt, read_receipt, step_of
from nbkit.runtime.store.protocol import Stat, Store

_RUN = re.compile(r"run-([2-9]|[1-9]\d+)")  # run 1 has no folder of its own


def checkpoints_of(slug: str, run: int = 1) -> str:
    """Return the beginning of the names of a run's checkpoints and receipts in the store."""
    return f"{slug}/checkpoints/" if run == 1 else f"{slug}/checkpoints/run-{run}/"


def run_of(folder: str) -> int | None:
    """Return the run that a folder below ``checkpoints/`` holds, 1 for ``""``; None for any other folder."""
    found = _RUN.fullmatch(folder)
    return int(found[1]) if found else None if folder else 1


def stored_runs(store: Store, slug: str) -> dict[int, list[Stat]]:
    """Return the checkpoints and receipts of each run in the store."""
    base = checkpoints_of(slug)
    runs: dict[int, list[Stat]] = {}
    for stat in store.list(base):
        folder, _, name = stat.name[len(base) :].rpartition("/")
        run = run_of(folder)
        if run is not None and step_of(name) is not None:
            runs.setdefault(run, []).append(stat)
    return runs


def fetch_receipt(store: Store, name: str, path: Path) -> Receipt:
    """Fetch a receipt and check it; the file at `path` is removed again.

    Raises
    ------
    FileNotFoundError
        If the store does not hold it (any more).
    DamagedError
        If any byte of it differs from what was written.
    """
    try:
        store.get(name, path)
        return read_receipt(path, name.rpartition("/")[2])
    except DamagedError as error:
        raise DamagedError(str(error).replace(str(path), name)) from error
    finally:
        path.unlink(missing_ok=True)


def newest_receipts(store: Store, slug: str) -> tuple[list[Receipt], list[str]]:
    """Return the whole receipts of a phase's newest run, newest first, and notes on the damaged ones."""
    notes: list[str] = []
    return list(_newest_first(store, slug, notes)), notes


def newest_receipt(store: Store, slug: str) -> tuple[Receipt | None, list[str]]:
    """Return the newest whole receipt of a phase's newest run, and notes on newer ones that are damaged."""
    notes: list[str] = []
    with contextlib.closing(_newest_first(store, slug, notes)) as receipts:
        return next(receipts, None), notes


def newest_step(store: Store, slug: str) -> int:
    """Return the step of a phase's newest checkpoint in the store; 0 where there is none."""
    found, _ = newest_receipt(store, slug)
    return found.step if found else 0


def _newest_first(store: Store, slug: str, notes: list[str]) -> Generator[Receipt, None, None]:
    runs = stored_runs(store, slug)
    names = _receipts_of(runs[max(runs)]) if runs else []
    with tempfile.TemporaryDirectory(prefix="nbkit-receipts-") as folder:
        for name in names:
            try:
                yield fetch_receipt(store, name, Path(folder, "receipt.json"))
            except FileNotFoundError:
                continue  # pruned between listing and reading
            except DamagedError as error:
                notes.append(str(error))


def _receipts_of(stats: Iterable[Stat]) -> list[str]:
    """Return the names of receipts, newest first: by number, as a billion steps need a tenth digit."""
    steps = {stat.name: step_of(stat.name.rpartition("/")[2]) for stat in stats if stat.name.endswith(".json")}
    return sorted(steps, key=lambda name: steps[name] or 0, reverse=True)
