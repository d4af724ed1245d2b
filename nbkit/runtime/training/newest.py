"""Newest checkpoint of a phase in the store, as used by the card, status, rehearsals and training.

The checkpoints of a phase are grouped in runs: the first run is in ``<slug>/checkpoints/``, and each training with
``fresh=True`` starts another one in ``run-2/``, ``run-3/`` and so on. The newest run counts, even if an older one has
more steps, and in it the newest checkpoint with an intact receipt. Only receipts are read here, which is quick and
needs no torch. Whether the checkpoint's bytes agree with its receipt is checked when it is loaded.
"""

from __future__ import annotations

import contextlib
import re
import tempfile
from collections.abc import Generator, Iterable
from pathlib import Path

from nbkit.runtime.disk import on_disk
from nbkit.runtime.errors import DamagedError, StoreError
from nbkit.runtime.ledger.receipts import Receipt, read_receipt, step_of
from nbkit.runtime.store.protocol import Stat, Store

KEPT = 2
_RUN = re.compile(r"run-([2-9]|[1-9]\d+)")  # run 1 has no folder of its own


def checkpoints_of(slug: str, run: int = 1) -> str:
    """Return the prefix of the names of a run's checkpoints and receipts in the store."""
    return f"{slug}/checkpoints/" if run == 1 else f"{slug}/checkpoints/run-{run}/"


def run_of(folder: str) -> int | None:
    """Return the number of the run in a folder below ``checkpoints/``, 1 for ``""``; None for other folders."""
    found = _RUN.fullmatch(folder)
    return int(found[1]) if found else None if folder else 1


def run_to_train(newest: int, fresh: bool | int, something: bool) -> int:
    """Return the number of the run that a training goes on with, or starts.

    Parameters
    ----------
    newest : int
        Run that counts now, 1 if there is none.
    fresh : bool or int
        True starts another run. A number is that of a start, which is made once: 1 starts run 2, unless that or a later
        one was begun already.
    something : bool
        Whether there is any checkpoint.
    """
    if isinstance(fresh, bool):
        return newest + (1 if fresh and something else 0)
    return max(newest, fresh + 1)


def metrics_name(step: int) -> str:
    """Return the name of the metrics of a checkpoint while they wait for their upload."""
    return f"metrics-{step:09d}.jsonl"


def to_keep(known: dict[int, Receipt]) -> set[int]:
    """Return the steps of the newest checkpoints and of the best one."""
    kept = set(sorted(known)[-KEPT:])
    return kept | set([step for step in sorted(known) if known[step].best][-1:])


def stored_runs(store: Store, slug: str) -> dict[int, list[Stat]]:
    """Return the checkpoints and receipts in the store by the number of their run."""
    base = checkpoints_of(slug)
    runs: dict[int, list[Stat]] = {}
    for stat in store.list(base):
        folder, _, name = stat.name[len(base) :].rpartition("/")
        run = run_of(folder)
        if run is not None and step_of(name) is not None:
            runs.setdefault(run, []).append(stat)
    return runs


def fetch_receipt(store: Store, name: str, path: Path) -> Receipt:
    """Download a receipt to `path`, check it, delete the file, and return the receipt.

    Raises
    ------
    FileNotFoundError
        If the store does not have it (any more).
    DamagedError
        If any of its bytes has changed.
    """
    try:
        store.get(name, path)
        return read_receipt(path, name.rpartition("/")[2], name.partition("/")[0])
    except DamagedError as error:
        raise DamagedError(str(error).replace(str(path), name)) from error
    finally:
        path.unlink(missing_ok=True)


def newest_receipts(store: Store, slug: str) -> tuple[list[Receipt], list[str]]:
    """Return the intact receipts of a phase's newest run, newest first, and notes on the damaged ones."""
    notes: list[str] = []
    return list(_newest_first(store, slug, notes)), notes


def newest_receipt(store: Store, slug: str) -> tuple[Receipt | None, list[str]]:
    """Return the newest intact receipt of a phase's newest run, and notes on newer ones that are damaged."""
    notes: list[str] = []
    with contextlib.closing(_newest_first(store, slug, notes)) as receipts:
        return next(receipts, None), notes


def newest_step(store: Store, slug: str) -> int:
    """Return the step of a phase's newest checkpoint in the store; 0 if there is none."""
    found, _ = newest_receipt(store, slug)
    return found.step if found else 0


def stored_by_another(store: Store, prefix: str, receipt: Receipt) -> bool:
    """Return whether the store has a whole checkpoint of this step by another session.

    It must stay: of two sessions that train one phase, the second would replace it by its own, and if it died half-way,
    neither would be whole. A store that does not answer has none.
    """
    with contextlib.suppress(DamagedError, FileNotFoundError, StoreError):
        with tempfile.TemporaryDirectory(prefix="nbkit-receipts-", ignore_cleanup_errors=True) as folder:
            there = fetch_receipt(store, prefix + receipt.name, Path(folder, "receipt.json"))
        found = store.stat(prefix + there.file)
        return found is not None and there.session != receipt.session and found.size == there.size
    return False


def _newest_first(store: Store, slug: str, notes: list[str]) -> Generator[Receipt, None, None]:
    runs = stored_runs(store, slug)
    names = _receipts_of(runs[max(runs)]) if runs else []
    with (
        on_disk("The newest checkpoint is not known", Path(tempfile.gettempdir())),
        tempfile.TemporaryDirectory(prefix="nbkit-receipts-", ignore_cleanup_errors=True) as folder,
    ):
        for name in names:
            try:
                yield fetch_receipt(store, name, Path(folder, "receipt.json"))
            except FileNotFoundError:
                continue  # deleted by pruning after it was listed
            except DamagedError as error:
                notes.append(str(error))


def _receipts_of(stats: Iterable[Stat]) -> list[str]:
    """Return the names of receipts, newest first, sorted by number because steps may have more than nine digits."""
    steps = {stat.name: step_of(stat.name.rpartition("/")[2]) for stat in stats if stat.name.endswith(".json")}
    return sorted(steps, key=lambda name: steps[name] or 0, reverse=True)
