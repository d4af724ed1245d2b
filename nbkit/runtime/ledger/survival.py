"""Whether the store still has at a session's end what it confirmed during the session.

A store may be deleted, emptied or replaced by an older copy while a session runs. What is still on this machine's disk
is brought there again; an item whose outputs are gone is pending again. So a session never ends as complete because of
what is no longer there. Usually this costs one listing of the session's own folder and a look at the last uploads; only
where something is missing, the whole phase is listed.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from pathlib import Path

from nbkit.runtime.ledger.ledger import Ledger
from nbkit.runtime.store.protocol import Store

_LAST = 2  # uploads that are looked at each time
_ASKED = 20  # outputs that a listing lacks and that are asked for by name


def bring_back(ledger: Ledger, store: Store, sent: Mapping[str, Path], say: Callable[[str], None]) -> list[str]:
    """Bring back what the store has lost since it confirmed it.

    Parameters
    ----------
    ledger : Ledger
    store : Store
    sent : mapping
        Name in the store to local path of files that were sent, in the order of their sending.
    say : callable
        Prints one line.

    Returns
    -------
    lost : list of str
        Names of outputs that are gone; their items are pending again.

    Raises
    ------
    StoreError
        If the store cannot be asked.
    """
    own = list(ledger.own)
    here = {name: path for name, path in sent.items() if path.is_file()}
    folders = {segment.folder for segment in own}
    listed = {stat.name for folder in folders for stat in store.list(f"{folder}/")}
    # some stores' listings lag, so what one lacks is asked for by its name
    unlisted = [segment.name for segment in own if segment.name not in listed]
    gone = [name for name in unlisted if store.stat(name) is None]
    gone += [name for name in [*here][-_LAST:] if store.stat(name) is None]
    if not gone:
        return []
    sizes = {stat.name: stat.size for stat in store.list(f"{ledger.slug}/")}
    again = []
    segments = {segment.name: ledger.folder / "segments" / segment.cached for segment in own}
    for name, path in [*here.items(), *((name, path) for name, path in segments.items() if path.is_file())]:
        if sizes.get(name) != path.stat().st_size:
            store.put(path, name)
            again.append(name)
    done = list(ledger.state.done.items())  # uploads of other threads may still add to it
    missing = {o[0] for _, outputs in done for o in outputs} - sizes.keys()
    missing = {name for name in missing if name not in sent or store.stat(name) is None}
    lost = {key: [o[0] for o in outputs if o[0] in missing] for key, outputs in done}
    lost = {key: names for key, names in lost.items() if names}
    for record in ledger.state.rounds.next_lost(sorted(lost)):
        ledger.note(record)
    names = [name for of_key in lost.values() for name in of_key]
    say(
        f"{store.url} was changed while this session ran: {gone[0]}, which it had confirmed, is gone. From this "
        f"machine's disk {len(again)} files were brought there again; {len(lost)} items whose outputs are gone "
        f"{f'({names[0]}, ...) ' if names else ''}are pending again, and the next session does them."
    )
    return names


def lose_outputs(ledger: Ledger, store: Store, confirmed: Collection[str], say: Callable[[str], None]) -> list[str]:
    """Make items pending again whose outputs the store confirmed in this session and no longer has.

    Parameters
    ----------
    ledger, store, say
        As in `bring_back`.
    confirmed : collection of str
        Keys of these items. Others are for `nbkit verify`: what another session has just stored may not be listed yet.

    Returns
    -------
    lost : list of str
        Names of the outputs.
    """
    listed = {stat.name for stat in store.list(f"{ledger.slug}/items/")}
    done = ledger.state.done
    lost: dict[str, list[str]] = {}
    asked = 0
    for key in sorted(key for key in confirmed if key in done):
        missing = [output[0] for output in done[key] if output[0] not in listed]
        # a listing that lags is not believed, unless all that were asked for by name are gone
        if missing and (asked >= _ASKED and asked == len(lost) or any(store.stat(name) is None for name in missing)):
            lost[key] = missing
        asked += bool(missing)
    if lost:
        for record in ledger.state.rounds.next_lost(sorted(lost)):
            ledger.note(record)
        first = next(iter(lost.values()))[0]
        say(
            f"{store.url} was changed while this session ran: {first}, which it had confirmed, is gone. {len(lost)} "
            "items whose outputs are gone are pending again, and the next session does them."
        )
    return [name for names in lost.values() for name in names]
