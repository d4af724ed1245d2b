"""Repair of what `verify` found: items become pending again, damaged checkpoints are set aside.

A record in the ledger cancels what was done; the next session does the item again. A damaged generation and damaged
results move to a folder ``damaged`` beside them, so that nothing is thrown away.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from nbkit.ground.files import write_atomically
from nbkit.runtime.errors import NbkitError
from nbkit.runtime.ledger.rounds import repair_session
from nbkit.runtime.ledger.segments import LedgerState, encode_line, segment_of
from nbkit.runtime.store.protocol import Store
from nbkit.runtime.training.newest import newest_receipt
from nbkit.tools.status.listing import Listing

_ASIDE = "damaged"


@dataclass
class Damage:
    """What is certainly lost or damaged in one phase.

    Attributes
    ----------
    slug : str
    state : LedgerState
    items : dict
        Key of an item to the name of its lost file.
    checkpoints, others : list of str
        Names in the store.
    """

    slug: str
    state: LedgerState
    items: dict[str, str] = field(default_factory=dict)
    checkpoints: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)


def mend(listing: Listing, damage: Damage, folder: Path) -> dict[str, str]:
    """Make items pending again and set damaged files aside; return what was done by the name of the file."""
    store, done = listing.connect().store, {}
    if damage.items:
        records = [encode_line(record) for record in damage.state.rounds.next_lost(sorted(damage.items))]
        segment, data = segment_of(damage.slug, repair_session(), 1, records)
        path = folder / "repair" / segment.name
        write_atomically(path, lambda file: file.write(data))
        store.put(path, segment.name)
        for key, name in damage.items.items():
            done[name] = f"the item {key} is pending again, and the next session does it"
    for name in damage.checkpoints:
        moved = [part for part in _parts(name) if set_aside(store, part, folder)]
        # the receipt of a lost checkpoint is set aside, too
        for part in {name, *moved}:
            done[part] = f"set aside in {_aside(name).rpartition('/')[0]}/"
    if damage.checkpoints:
        words = _resumes_from(store, damage.slug)
        for name in damage.checkpoints:
            done[name] += f"; {words}"
    for name in damage.others:
        if set_aside(store, name, folder):
            done[name] = f"set aside as {_aside(name)}; the next session writes it anew"
    return done


def _parts(name: str) -> Iterator[str]:
    # the receipt first: without it the checkpoint does not count
    yield name.removesuffix(".ckpt") + ".json"
    yield name


def _aside(name: str) -> str:
    folder, _, file = name.rpartition("/")
    return f"{folder}/{_ASIDE}/{file}"


def set_aside(store: Store, name: str, folder: Path) -> bool:
    """Move a stored file into a folder beside it; return False where there is none."""
    path = folder / "aside" / name
    try:
        store.get(name, path)
    except FileNotFoundError:
        return False
    store.put(path, _aside(name))
    path.unlink(missing_ok=True)
    store.delete(name)
    return True


def _resumes_from(store: Store, slug: str) -> str:
    try:
        receipt, _ = newest_receipt(store, slug)
    except NbkitError:
        return "which checkpoint is the newest now is not known"
    return f"training resumes from step {receipt.step}" if receipt else "no other is in the store: training begins anew"
