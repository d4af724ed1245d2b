"""Verification of every output and checkpoint in the store against its record.

Every file is read back whole through the store's own `get`; nothing is changed or deleted. Files that no record names
are not checked.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from nbkit.ground.files import read_json, sha256_of
from nbkit.runtime.errors import DamagedError, StoreError
from nbkit.runtime.ledger.records import shortened
from nbkit.runtime.ledger.segments import read_state
from nbkit.runtime.names import check_slug
from nbkit.runtime.store.protocol import Store
from nbkit.runtime.training.newest import fetch_receipt, stored_runs
from nbkit.tools.status.listing import Listing, list_once
from nbkit.tools.table import text_table

_THREADS = 4


@dataclass(frozen=True)
class Promise:
    """What a record promises of a file: one of these (size, sha256)."""

    name: str
    contents: frozenset[tuple[int, str]]
    by: str


@dataclass
class Verified:
    """Result of a verification.

    Attributes
    ----------
    files, size : int
        Number of files that agree with their records, and their bytes.
    slugs : dict
        Slug to the number of its files that agree.
    faults : dict
        Name of a file to what is wrong with it.
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
    slugs = None if slugs is None else [check_slug(slug) for slug in slugs]
    listing = list_once(store, slugs)
    found = Verified(listing.url)
    if slugs is None:
        slugs = sorted({stat.name.split("/")[0] for stat in listing.list() if "/" in stat.name})
    with tempfile.TemporaryDirectory(prefix="nbkit-verify-") as folder:
        for slug in slugs:
            before = found.files
            _verify_phase(listing, slug, Path(folder), found)
            found.slugs[slug] = found.files - before
    return found


def _verify_phase(store: Listing, slug: str, folder: Path, found: Verified) -> None:
    state = read_state(store, slug, folder / "segments")
    found.faults |= state.damaged
    contents: dict[str, set[tuple[int, str]]] = {}
    for outputs in state.done.values():
        for name, size, sha256 in outputs:
            contents.setdefault(name, set()).add((size, sha256))
    promises = [Promise(name, frozenset(one), "the ledger") for name, one in sorted(contents.items())]
    promises += _checkpoints(store, slug, folder, found)
    with ThreadPoolExecutor(_THREADS) as pool:
        # the store itself is asked: a running session may have stored a file since it was listed
        for promise, fault in pool.map(lambda p: (p, _fault(store.connect().store, p, folder)), promises):
            if fault:
                found.faults[promise.name] = fault
            else:
                found.files += 1
                found.size += max(size for size, _ in promise.contents)
    for name in ("results.json", "rehearsal.json"):
        _verify_json(store, f"{slug}/{name}", folder, found)


def _checkpoints(store: Listing, slug: str, folder: Path, found: Verified) -> Iterator[Promise]:
    """Yield what whole receipts promise. A checkpoint without a receipt does not exist and is not checked."""
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
    return " or ".join(f"{size} bytes, SHA-256 {shortened(sha256[:12])}" for size, sha256 in sorted(promise.contents))


def _verify_json(store: Listing, name: str, folder: Path, found: Verified) -> None:
    path = folder / "papers" / name
    try:
        store.get(name, path)
        found.size += path.stat().st_size
        read_json(path)
        found.files += 1
    except FileNotFoundError:
        return
    except ValueError as error:
        found.faults[name] = f"is not a whole JSON file: {shortened(str(error))}"
    except (DamagedError, StoreError) as error:
        found.faults[name] = f"cannot be read: {error}"


def words(found: Verified) -> str:
    """Return the result as a table of phases, a line for each fault, and the next step."""
    faults = Counter(name.partition("/")[0] for name in found.faults)
    rows = [(slug, f"{files:,}", f"{faults[slug]:,}") for slug, files in found.slugs.items()]
    lines = [text_table(rows, ("phase", "files that agree", "faults"), numbers=(1, 2))] if rows else []
    lines += [f"FAULT {name} {fault}" for name, fault in sorted(found.faults.items())]
    total = f"{found.store}: {found.files} files, {found.size / 1e6:.1f} MB, agree; {len(found.faults)} do not"
    if found.faults:
        total += (
            ". Nothing was changed. Put back a whole copy of a damaged item's file, or run the phase with another "
            "store; deleting the file is not enough, because its record still says that it is done. Damaged "
            "checkpoints are skipped: training resumes from the one before."
        )
    return "\n".join([*lines, total])
