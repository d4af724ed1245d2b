"""Outputs of other phases, fetched from the store and checked against the records."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec

from nbkit.ground.files import sha256_of
from nbkit.runtime.errors import DamagedError, StoreError, UsageError
from nbkit.runtime.ledger.records import shortened
from nbkit.runtime.ledger.segments import read_state
from nbkit.runtime.store.folder import FolderStore
from nbkit.runtime.store.protocol import Store
from nbkit.runtime.store.retried import Retried
from nbkit.runtime.words import counted, last_line

_AT_ONCE = 4  # downloads at a time
_LAST_STEP = 2**60  # more than any training takes, and less than an axis can be drawn for


def fetch_outputs(raw: Store, store: Store, slug: str, folder: Path) -> list[Path]:
    """Return the verified local paths of all outputs of a phase's items, by name.

    Parameters
    ----------
    raw : Store
        The store itself; a folder is read in place.
    store : Store
        The same with retries.
    slug : str
    folder : Path
        This session's own folder.

    Raises
    ------
    UsageError
        If the store has none.
    DamagedError
        If a file does not have the recorded content.
    """
    accepted: dict[str, set[str]] = {}
    state = read_state(store, slug, folder / "segments")
    for outputs in state.done.values():
        for name, _, sha256 in outputs:
            accepted.setdefault(name, set()).add(sha256)
    if not accepted and state.errors:
        key, error = min(state.errors.items())
        last = last_line(error, 500)
        raise UsageError(
            f"{store.url} has no outputs of {slug}: all of {counted(len(state.errors), 'item')} that were begun "
            f"failed. {key}: {last}"
        )
    if not accepted:
        raise UsageError(
            f"{store.url} has no outputs of {slug}, which this phase needs. Run the notebook of {slug} first, with the "
            "same store."
        )
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        names = sorted(accepted)
        return list(pool.map(lambda name: _fetch(raw, store, name, accepted[name], folder / "inputs"), names))


def fetch_elsewhere(other: Store, slug: str, folder: Path, time_left: Callable[[], float]) -> list[Path]:
    """Return the outputs of a phase in another store than the session's, each store in a folder of its own."""
    place = folder / "elsewhere" / hashlib.sha256(other.url.encode()).hexdigest()[:12]
    place.mkdir(parents=True, exist_ok=True)
    return fetch_outputs(other, Retried(other, time_left=time_left), slug, place)


def _fetch(raw: Store, store: Store, name: str, accepted: set[str], cache: Path) -> Path:
    if isinstance(raw, FolderStore):
        path = raw.path(name)
    else:
        path = cache / name
        if not path.is_file() or sha256_of(path) not in accepted:
            store.connect().get(name, path)
    try:
        found = sha256_of(path) if path.is_file() else "nothing"
    except OSError as error:
        raise StoreError(
            f"{name} in {store.url} could not be read ({error.strerror or error}). Nothing was changed. Run "
            "again; where it stays so, the disk or its permissions are at fault."
        ) from error
    if found not in accepted:
        raise DamagedError(
            f"{name} in {store.url} is not what was recorded: SHA-256 {found[:12]}, recorded "
            f"{', '.join(h[:12] for h in sorted(accepted))}. Nothing was deleted; 'nbkit verify' lists all such files."
        )
    return path


def fetch_history(store: Store, slug: str, folder: Path, say: Callable[[str], object] = print) -> list[dict[str, Any]]:
    """Return the metric rows that a training phase has logged; `say` gets a line on those that are damaged.

    Raises
    ------
    UsageError
        If the phase was not trained with this store.
    """
    name = f"{slug}/metrics.jsonl"
    path = folder / "inputs" / name
    try:
        store.get(name, path)
    except FileNotFoundError:
        raise UsageError(f"{store.url} has no {name}. Train {slug} with this store first.") from None
    rows, faults = read_rows(path.read_bytes())
    if faults:
        say(f"{counted(len(faults), 'line')} of {name} left out, which no logged values are: {shortened(faults[0])}")
    return rows


def read_rows(data: bytes) -> tuple[list[dict[str, Any]], list[str]]:
    """Return the logged rows, and a sentence on each line that is none.

    Parameters
    ----------
    data : bytes
        Lines ``{"step": step, name: value, ...}``; a value is null where it was not finite.
    """
    rows, faults = [], []
    for number, line in enumerate(data.splitlines(), 1):
        try:
            row = msgspec.json.decode(line, type=dict[str, int | float | None])
            values = [value for value in row.values() if value is not None]
            step = row.get("step")
            known = type(step) is int and abs(step) <= _LAST_STEP
            if not known or not all(abs(v) < 1e300 and math.isfinite(v) for v in values):
                raise ValueError("no step, or a value that is too large")
            rows.append(row)
        except (ValueError, RecursionError) as error:  # msgspec's errors are ValueErrors
            faults.append(f"line {number}: {error}")
    return rows, faults
