"""The newest checkpoints of a phase, as the store lists them."""

from __future__ import annotations

import re
from pathlib import Path

from nbkit.runtime.errors import DamagedError
from nbkit.runtime.ledger.receipts import Receipt, read_receipt, step_of
from nbkit.runtime.store.protocol import Store

_RUN = re.compile(r"run-(\d+)/")


def newest_receipts(store: Store, slug: str, cache: Path) -> tuple[list[Receipt], list[str]]:
    """Return the receipts of a phase's newest run, newest first, and words on those that are damaged."""
    names = newest_run(store, slug)
    receipts, notes = [], []
    for name in sorted((n for n in names if n.endswith(".json")), reverse=True):
        path = cache / "receipts" / name
        try:
            store.get(name, path)
            receipts.append(read_receipt(path))
        except FileNotFoundError:
            continue  # pruned between listing and reading
        except DamagedError as error:
            notes.append(str(error).replace(str(path), name))
    return receipts, notes


def newest_run(store: Store, slug: str) -> list[str]:
    """Return the names of checkpoints and receipts of a phase's newest run."""
    prefix = f"{slug}/checkpoints/"
    runs: dict[int, list[str]] = {}
    for stat in store.list(prefix):
        run = _RUN.match(stat.name, len(prefix))
        if step_of(stat.name.rpartition("/")[2]) is not None:
            runs.setdefault(int(run[1]) if run else 1, []).append(stat.name)
    return runs[max(runs)] if runs else []


def newest_step(store: Store, slug: str) -> int:
    """Return the step of the newest checkpoint whose receipt is in the store; 0 where there is none."""
    steps = [step_of(name.rpartition("/")[2]) for name in newest_run(store, slug) if name.endswith(".json")]
    return max(filter(None, steps), default=0)
