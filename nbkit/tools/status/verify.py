"""Verify: every output and checkpoint in the store against what was recorded of it.

Everything is read back, as a whole, through the store's own `get`; nothing is changed or deleted. What no record
names is not judged.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from nbkit.ground.files import read_json, sha256_of
from nbkit.runtime.errors import DamagedError, StoreError
from nbkit.runtime.ledger.segments import fold_store
from nbkit.runtime.names import check_slug
from nbkit.runtime.store.opening import open_store, store_address
from nbkit.runtime.store.protocol import Store
from nbkit.runtime.store.retried import Retried
from nbkit.runtime.training.newest import fetch_receipt, stored_runs

_THREADS = 4


@dataclass(frozen=True)
class Promise:
    """Say what a record promises of a name: one of these (size, sha256)."""

    name: str
    contents: frozenset[tuple[int, str]]
    by: str


@dataclass
class Verified:
    """Collect what was found.

    Attributes
    ----------
    files, size : int
        Files that were read and agree, and their bytes.
    faults : dict
        Name to what is wrong with it.
    """

    store: str
    files: int = 0
    size: int = 0
    slugs: dict[str, int] = field(default_factory=dict)
    faults: dict[str, str] = field(default_factory=dict)

    def row(self) -> dict[str, Any]:
        """Return it as plain values."""
        return asdict(self)


def verify_store(store: str | Store | None = None, slugs: list[str] | None = None) -> Verified:
    """Compare a store with its records.

    Parameters
    ----------
    store : str, Store or None
        Folder or URL; None takes NBKIT_STORE, then ``./nbkit-store``.
    slugs : list of str or None
        Phases; all that the store holds by default.
    """
    opened = Retried(open_store(store_address(store) if store is None or isinstance(store, str) else store))
    found = Verified(opened.url)
    if slugs is None:
        slugs = sorted({stat.name.split("/")[0] for stat in opened.list() if "/" in stat.name})
    else:
        slugs = [check_slug(slug) for slug in slugs]
    with tempfile.TemporaryDirectory(prefix="nbkit-verify-") as folder:
        for slug in slugs:
            before = found.files
            _verify_phase(opened, slug, Path(folder), found)
            found.slugs[slug] = found.files - before
    return found


def _verify_phase(store: Store, slug: str, folder: Path, found: Verified) -> None:
    fold = fold_store(store, slug, folder / "segments")
    found.faults |= fold.damaged
    contents: dict[str, set[tuple[int, str]]] = {}
    for outputs in fold.done.values():
        for name, size, sha256 in outputs:
            contents.setdefault(name, set()).add((size, sha256))
    promises = [Promise(name, frozenset(one), "the ledger") for name, one in sorted(contents.items())]
    promises += _checkpoints(store, slug, folder, found)
    with ThreadPoolExecutor(_THREADS) as pool:
        for promise, fault in pool.map(lambda p: (p, _fault(store.connect(), p, folder)), promises):
            if fault:
                found.faults[promise.name] = fault
            else:
                found.files += 1
                found.size += max(size for size, _ in promise.contents)
    for name in ("results.json", "rehearsal.json"):
        _verify_json(store, f"{slug}/{name}", folder, found)


def _checkpoints(store: Store, slug: str, folder: Path, found: Verified) -> Iterator[Promise]:
    """Yield what whole receipts promise; a checkpoint without receipt does not exist and is not judged."""
    stats = [stat for run in stored_runs(store, slug).values() for stat in run if stat.name.endswith(".json")]
    for stat in stats:
        try:
            receipt = fetch_receipt(store, stat.name, folder / "receipt.json")
        except FileNotFoundError:
            continue  # pruned since the listing
        except (DamagedError, StoreError) as error:
            found.faults[stat.name] = str(error)
            continue
        found.files += 1
        found.size += stat.size
        content = frozenset([(receipt.size, receipt.sha256)])
        yield Promise(stat.name.removesuffix(".json") + ".ckpt", content, "its receipt")


def _fault(store: Store, promise: Promise, folder: Path) -> str | None:
    path = folder / "content" / promise.name
    try:
        store.get(promise.name, path)
        content = path.stat().st_size, sha256_of(path)
    except FileNotFoundError:
        return f"is not in the store; {promise.by} promises {_shown(promise)}"
    except (DamagedError, StoreError) as error:
        return f"cannot be read: {error}"
    finally:
        path.unlink(missing_ok=True)
    if content in promise.contents:
        return None
    return f"has {content[0]} bytes, SHA-256 {content[1][:12]}; {promise.by} promises {_shown(promise)}"


def _shown(promise: Promise) -> str:
    return " or ".join(f"{size} bytes, SHA-256 {sha256[:12]}" for size, sha256 in sorted(promise.contents))


def _verify_json(store: Store, name: str, folder: Path, found: Verified) -> None:
    path = folder / "papers" / name
    try:
        store.get(name, path)
        found.size += path.stat().st_size
        read_json(path)
        found.files += 1
    except FileNotFoundError:
        return
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        found.faults[name] = f"is no whole JSON file: {error}"
    except (DamagedError, StoreError) as error:
        found.faults[name] = f"cannot be read: {error}"


def words(found: Verified) -> str:
    """Say what was found, for reading."""
    lines = [f"{slug}: {files} files agree with their records" for slug, files in found.slugs.items()]
    lines += [f"FAULT {name} {fault}" for name, fault in sorted(found.faults.items())]
    total = f"{found.store}: {found.files} files, {found.size / 1e6:.1f} MB, agree; {len(found.faults)} do not"
    if found.faults:
        total += (
            ". Nothing was changed. Delete a damaged item's file and its phase's next session does not notice; put a "
            "whole copy back, or run the phase with another store. A damaged checkpoint is passed over by itself."
        )
    return "\n".join([*lines, total])
