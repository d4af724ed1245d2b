"""Verification of every output and checkpoint in the store against its record.

Every file is read back whole through the store's own `get`; nothing is changed or deleted, unless a repair is asked
for. Files that no record names are not checked.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from nbkit.ground.files import read_json, sha256_of
from nbkit.runtime.errors import DamagedError, StoreError
from nbkit.runtime.ledger.records import shortened
from nbkit.runtime.ledger.segments import read_state
from nbkit.runtime.names import check_slug
from nbkit.runtime.results.results import read_results
from nbkit.runtime.store.protocol import Store
from nbkit.runtime.training.newest import fetch_receipt, stored_runs
from nbkit.runtime.words import printable
from nbkit.tools.status.listing import Listing, held_phases, list_once, refuse_unknown
from nbkit.tools.status.repair import Damage, mend
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
    repaired : dict
        Name of a file to what was done about it.
    damage : list of Damage
        What a repair can mend, a phase each.
    """

    store: str
    files: int = 0
    size: int = 0
    slugs: dict[str, int] = field(default_factory=dict)
    faults: dict[str, str] = field(default_factory=dict)
    repaired: dict[str, str] = field(default_factory=dict)
    damage: list[Damage] = field(default_factory=list)

    def row(self) -> dict[str, Any]:
        """Return it as plain values."""
        return {one.name: getattr(self, one.name) for one in fields(self) if one.name != "damage"}


def verify_store(store: str | Store | None = None, slugs: list[str] | None = None, repair: bool = False) -> Verified:
    """Compare a store with its records.

    Parameters
    ----------
    store : str, Store or None
        Folder or URL; None takes NBKIT_STORE, then ``./nbkit-store``.
    slugs : list of str or None
        Phases; all that the store holds by default.
    repair : bool
        Make what is lost or damaged pending again, so that the next sessions do it.

    Raises
    ------
    UsageError
        If the store does not exist, or holds nothing of nbkit or of a phase that was asked for.
    """
    slugs = None if slugs is None else [check_slug(slug) for slug in slugs]
    listing = list_once(store, slugs)
    found = Verified(listing.url)
    if slugs is None:
        slugs = held_phases(listing)
        found.faults |= {
            link: words for slug in listing.linked_phases() for link, words in listing.links_out(slug).items()
        }
    else:
        refuse_unknown(listing, slugs)
    with tempfile.TemporaryDirectory(prefix="nbkit-verify-") as folder:
        for slug in slugs:
            before = found.files
            _verify_phase(listing, slug, Path(folder), found)
            found.slugs[slug] = found.files - before
        if repair:
            for damage in found.damage:
                found.repaired |= mend(listing, damage, Path(folder))
    return found


def _verify_phase(store: Listing, slug: str, folder: Path, found: Verified) -> None:
    state = read_state(store, slug, folder / "segments")
    found.faults |= state.damaged | store.links_out(slug)
    damage = Damage(slug, state)
    found.damage.append(damage)
    contents: dict[str, set[tuple[int, str]]] = {}
    keys: dict[str, list[str]] = {}
    for key, outputs in state.done.items():
        for name, size, sha256, *_ in outputs:
            contents.setdefault(name, set()).add((size, sha256))
            keys.setdefault(name, []).append(key)
    promises = [Promise(name, frozenset(one), "the ledger") for name, one in sorted(contents.items())]
    promises += _checkpoints(store, slug, folder, found, damage)
    with ThreadPoolExecutor(_THREADS) as pool:
        # the store itself is asked: a running session may have stored a file since it was listed
        for promise, (fault, certain) in pool.map(lambda p: (p, _fault(store.connect().store, p, folder)), promises):
            owners = sorted(set(keys.get(promise.name, ())))
            if not fault and len(owners) > 1 and len(promise.contents) > 1:
                # versions before 0.2.0 let two items write one name
                fault, certain = f"is an output of the items {' and '.join(owners)}; the last one replaced it", True
            if fault:
                found.faults[promise.name] = fault
                if certain and promise.name in keys:
                    damage.items.update(dict.fromkeys(keys[promise.name], promise.name))
                elif certain:
                    damage.checkpoints.append(promise.name)
            else:
                found.files += 1
                found.size += max(size for size, _ in promise.contents)
    for name in ("results.json", "rehearsal.json"):
        _verify_json(store, f"{slug}/{name}", folder, found, damage)


def _checkpoints(store: Listing, slug: str, folder: Path, found: Verified, damage: Damage) -> Iterator[Promise]:
    """Yield what whole receipts promise. A checkpoint without a receipt does not exist and is not checked."""
    stats = [stat for run in stored_runs(store, slug).values() for stat in run if stat.name.endswith(".json")]
    for stat in stats:
        try:
            receipt = fetch_receipt(store, stat.name, folder / "receipt.json")
        except FileNotFoundError:
            continue  # pruned since the listing
        except (DamagedError, StoreError) as error:
            found.faults[stat.name] = str(error)
            if isinstance(error, DamagedError):
                damage.checkpoints.append(stat.name.removesuffix(".json") + ".ckpt")
            continue
        found.files += 1
        found.size += stat.size
        content = frozenset([(receipt.size, receipt.sha256)])
        yield Promise(stat.name.removesuffix(".json") + ".ckpt", content, "its receipt")


def _fault(store: Store, promise: Promise, folder: Path) -> tuple[str | None, bool]:
    """Return what is wrong with a file, and whether that is certain; a store that fails now may answer later."""
    path = folder / "content" / promise.name
    try:
        store.get(promise.name, path)
        content = path.stat().st_size, sha256_of(path)
    except FileNotFoundError:
        return f"is not in the store; {promise.by} promises {_shown(promise)}", True
    except (DamagedError, StoreError) as error:
        return f"cannot be read: {error}", isinstance(error, DamagedError)
    finally:
        path.unlink(missing_ok=True)
    if content in promise.contents:
        return None, True
    return f"has {content[0]} bytes, SHA-256 {content[1][:12]}; {promise.by} promises {_shown(promise)}", True


def _shown(promise: Promise) -> str:
    return " or ".join(f"{size} bytes, SHA-256 {shortened(sha256[:12])}" for size, sha256 in sorted(promise.contents))


def _verify_json(store: Listing, name: str, folder: Path, found: Verified, damage: Damage) -> None:
    path = folder / "papers" / name
    try:
        store.get(name, path)
        found.size += path.stat().st_size
        read_results(path) if name.endswith("/results.json") else read_json(path)
        found.files += 1
    except FileNotFoundError:
        return
    except ValueError as error:
        found.faults[name] = f"is not a valid {name.rpartition('/')[2]}: {shortened(str(error))}"
        damage.others.append(name)
    except (DamagedError, StoreError) as error:
        found.faults[name] = f"cannot be read: {error}"


def words(found: Verified, repair: bool = False) -> str:
    """Return the result as a table of phases, a line for each fault, and the next step.

    Parameters
    ----------
    repair : bool
        Whether a repair was asked for.
    """
    faults = Counter(name.partition("/")[0] for name in found.faults)
    rows = [(slug, f"{files:,}", f"{faults[slug]:,}") for slug, files in found.slugs.items()]
    lines = [text_table(rows, ("phase", "files that agree", "faults"), numbers=(1, 2))] if rows else []
    lines += [f"FAULT {name} {fault}" for name, fault in sorted(found.faults.items())]
    total = f"{found.store}: {found.files} files, {found.size / 1e6:.1f} MB, agree; {len(found.faults)} do not"
    lines += [f"REPAIRED {name}: {done}" for name, done in sorted(found.repaired.items())]
    if found.repaired:
        rest = len(found.faults.keys() - found.repaired.keys())
        total += f". {len(found.repaired)} were dealt with, {rest} could not be. Run the phase's notebook again."
    elif found.faults and repair:
        total += (
            ". None of them could be dealt with: a repair makes items pending and sets checkpoints and results aside, "
            "where it is certain that they are damaged. Nothing was changed. Look at the files named above; where the "
            "store could not be read, run it again later."
        )
    elif found.faults:
        total += (
            ". Nothing was changed. 'nbkit verify --repair' makes the items of lost and damaged files pending, so that "
            "the next session does them again, and sets damaged checkpoints aside, so that training resumes from the "
            "one before."
        )
    return printable("\n".join([*lines, total]))
