"""The progress of every phase, read from the store alone.

Nothing is written. What the store does not show is reported as unknown, not guessed. The work of a running session is
counted up to its last flushed segment or checkpoint.
"""

from __future__ import annotations

import math
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from nbkit.ground.files import read_json
from nbkit.runtime.beside.living import open_sessions
from nbkit.runtime.errors import DamagedError, UsageError
from nbkit.runtime.items.work import TRIES
from nbkit.runtime.ledger.claims import aside_words, blame
from nbkit.runtime.ledger.manifest import (
    manifest_folder,
    parse_shard,
    read_manifest,
    shard_of,
    write_seed_manifest,
)
from nbkit.runtime.ledger.receipts import Receipt
from nbkit.runtime.ledger.records import Record, shortened
from nbkit.runtime.ledger.segments import LedgerState, read_state
from nbkit.runtime.names import check_slug
from nbkit.runtime.store.protocol import Store
from nbkit.runtime.training.newest import newest_receipts
from nbkit.runtime.words import last_line
from nbkit.tools.output import check_output, output_file
from nbkit.tools.phases import Phase, load_phases
from nbkit.tools.status.listing import Listing, list_once
from nbkit.tools.status.past_sessions import LONGEST, CountedState, PastSession, goodput_of, past_sessions

QUOTA_HOURS = 30.0  # GPU hours that Kaggle gives a week
_SESSION_HOURS = 9.0
_AHEAD = 86400.0  # seconds that a clock may be ahead of this machine's
_SLOWEST = 20.0  # times that a training may be slower between two saves than between others, as where it validates
_LOOKS = 3  # at receipts, where a running session deletes old ones meanwhile


@dataclass(frozen=True)
class ShardStatus:
    """Progress of one part of a manifest that parallel sessions share.

    Attributes
    ----------
    shard : str
        Such as ``2/5``.
    done, failed : int
        Items; `failed` counts those that were not done later.
    left : int or None
        Items; None where no session of this shard has closed yet.
    """

    shard: str
    done: int
    left: int | None
    failed: int


@dataclass(frozen=True)
class PhaseStatus:
    """Progress of a phase.

    Attributes
    ----------
    state : str
        ``not begun``, ``complete``, ``complete, some failed`` or ``work left``.
    done, failed : int
        Items; `failed` counts those that were not done later.
    left : int or None
        Items; None where neither a closed session nor a manifest shows it.
    step, max_steps : int
        Training steps; 0 where nothing is trained.
    rate : float or None
        Items or steps per hour of work.
    sessions, killed : int
        Sessions so far, and those that ended without a closing record.
    open_now : tuple of str
        Sessions that are open by their last sign of life, each as words.
    hours_left, sessions_left, quota_weeks : float or None
        What the remaining work takes at this rate.
    checkpoint : str or None
        Name of the newest checkpoint, `checkpoint_age` seconds old.
    error : str or None
        Newest failure of an item that was not done later, as ``key: message``, `error_age` seconds old.
    set_aside : str or None
        Items that are not tried again, because too many sessions died in them.
    shards : tuple of ShardStatus
        Set where the newest session worked on a part of the manifest.
    past : tuple of PastSession
        Sessions, oldest first.
    goodput : float or None
        Part of the sessions' time, 0 to 1, that was useful work.
    notes : tuple of str
        Damaged files.
    """

    slug: str
    title: str
    state: str
    done: int = 0
    left: int | None = None
    failed: int = 0
    step: int = 0
    max_steps: int = 0
    rate: float | None = None
    sessions: int = 0
    killed: int = 0
    open_now: tuple[str, ...] = ()
    hours_left: float | None = None
    sessions_left: int | None = None
    quota_weeks: float | None = None
    checkpoint: str | None = None
    checkpoint_age: float | None = None
    error: str | None = None
    error_age: float | None = None
    set_aside: str | None = None
    shards: tuple[ShardStatus, ...] = ()
    past: tuple[PastSession, ...] = ()
    goodput: float | None = None
    notes: tuple[str, ...] = ()

    def row(self) -> dict[str, Any]:
        """Return it as plain values."""
        return asdict(self)


def read_status(
    store: str | Store | Listing | None = None, slugs: list[str] | None = None, cache: Path | None = None
) -> list[PhaseStatus]:
    """Read the progress of phases.

    Parameters
    ----------
    store : str, Store, Listing or None
        Folder or URL; None takes NBKIT_STORE, then ``./nbkit-store``. A listing is used as it is.
    slugs : list of str or None
        Phases; all phases of the map by default. Slugs that are not on the map are read, too.
    cache : Path or None
        Folder that keeps fetched segments for the next look; None keeps nothing.

    Returns
    -------
    rows : list of PhaseStatus
    """
    known = {phase.slug: phase for phase in load_phases()}
    wanted = [check_slug(slug) for slug in slugs] if slugs else list(known)
    listing = list_once(store, slugs and wanted)
    with tempfile.TemporaryDirectory(prefix="nbkit-status-") as folder:
        return [read_phase(listing, slug, known.get(slug), cache or Path(folder)) for slug in wanted]


def read_phase(
    store: Store | Listing, slug: str, phase: Phase | None, cache: Path, state: CountedState | None = None
) -> PhaseStatus:
    """Read the progress of one phase.

    Parameters
    ----------
    store : Store or Listing
    slug : str
    phase : Phase or None
        Its row of the map; None for a slug that is not on it.
    cache : Path
        Folder for what is fetched.
    state : CountedState or None
        State of the phase's ledger, where it has been read already.
    """
    listing = list_once(store, [slug])
    if state is None:
        state = read_state(listing, slug, cache, CountedState())
    for _ in range(_LOOKS):
        receipts, notes = newest_receipts(listing, slug)
        if not listing.has_lost(f"{slug}/checkpoints/"):
            break
    rehearsal, rehearsal_note = read_document(listing, f"{slug}/rehearsal.json", cache)
    newest = receipts[0] if receipts else None
    last: Record = max(_closed(state), key=_order(state, "close"), default={}).get("close", {})
    aside = blame(state.claims, state.done.__contains__, "", time.time()).aside
    failed = len({key for key in state.failures if key not in state.done} | aside.keys())
    shards = _shards(state)
    left = _items_left(state, last, shards, slug, phase, failed)
    step, max_steps = (newest.step, newest.max_steps) if newest else (0, 0)
    others = open_sessions(state)
    living = {other.session for other in others}
    past = past_sessions(state, newest.step if newest else None, rehearsal, living)
    useful = sum(one.work for one in past)
    hours, rate = _outlook(state, left, receipts, useful)
    session_hours = phase.session_hours if phase else _SESSION_HOURS
    on_gpu = phase is not None and phase.accelerator == "gpu"
    error = state.last_error()
    if max_steps:
        useful = 3600.0 * step / rate if rate else None
    notes += [f"{link} {words}." for link, words in listing.links_out(slug).items()]
    notes += [*rehearsal_note, *(f"{name}: {fault}" for name, fault in state.damaged.items())]
    return PhaseStatus(
        slug=slug,
        title=phase.title if phase else "",
        state=_state(state, left, failed, newest, last, shards),
        done=len(state.done),
        left=left,
        failed=failed,
        step=step,
        max_steps=max_steps,
        rate=rate,
        sessions=len(state.sessions),
        killed=sum("close" not in record for name, record in state.sessions.items() if name not in living),
        open_now=tuple(other.words() for other in others),
        hours_left=hours,
        sessions_left=None if hours is None else math.ceil(hours / session_hours),
        quota_weeks=hours / QUOTA_HOURS if hours is not None and on_gpu else None,
        checkpoint=newest.file if newest else None,
        checkpoint_age=max(0.0, time.time() - newest.time) if newest else None,
        error=f"{error[0]}: {last_line(error[2])}" if error else None,
        error_age=max(0.0, time.time() - error[1]) if error else None,
        set_aside=aside_words(aside) if aside else None,
        shards=shards,
        past=past,
        goodput=goodput_of(past, useful, rehearsal),
        notes=tuple(notes),
    )


def read_document(store: Store | Listing, name: str, cache: Path) -> tuple[dict[str, Any] | None, list[str]]:
    """Return a JSON object of the store and a list of its faults; (None, []) where there is none."""
    path = cache / "documents" / name
    try:
        store.get(name, path)
        found = read_json(path)
    except FileNotFoundError:
        return None, []
    except ValueError as error:
        return None, [f"{name} is not a whole JSON file ({shortened(str(error))})"]
    except DamagedError as error:
        return None, [f"{name} cannot be read: {error}"]
    return (found, []) if isinstance(found, dict) else (None, [f"{name} does not hold a JSON object"])


def _closed(state: LedgerState) -> list[dict[str, Record]]:
    return [records for records in state.sessions.values() if "close" in records]


def _order(state: LedgerState, kind: str) -> Callable[[dict[str, Record]], tuple[float, ...]]:
    """Return a key that sorts sessions by their closing or opening, the newest last.

    Clocks are wrong by years at times, and the number of done items only grows. So the clocks speak where that number
    is equal, or where it has fallen, because the store lost outputs; one that is ahead of this machine's speaks last.
    """
    now = time.time()

    def key(records: dict[str, Record]) -> tuple[float, ...]:
        began, at = records.get("open", {}), float(records[kind].get("t", 0.0))
        grown = (0, 0) if state.rounds.lost else (records[kind].get("done", 0), began.get("done", 0))
        return (*grown, at < now + _AHEAD, at)

    return key


def _shards(state: CountedState) -> tuple[ShardStatus, ...]:
    """Return the shards as the newest session counts them; none where it took the whole manifest."""
    begun = [records for records in state.sessions.values() if "open" in records]
    newest: Record = max(begun, key=_order(state, "open"), default={}).get("open", {})
    if not newest.get("shard"):
        return ()
    _, count = parse_shard(newest["shard"])
    done, failed, dropped = Counter(), Counter(), Counter()
    for key in state.done:
        done[shard_of(key, count)] += 1
    for key, times in state.failures.items():
        if key not in state.done:
            failed[shard_of(key, count)] += 1
            dropped[shard_of(key, count)] += times >= TRIES
    rows: dict[str, Record] = {}
    for record in sorted(_closed(state), key=_order(state, "close")):
        if "of" in record["close"]:
            rows[record.get("open", {}).get("shard")] = record["close"]
    found = []
    for which in range(1, count + 1):
        of = rows.get(f"{which}/{count}", {}).get("of")
        left = None if of is None else max(0, of - done[which] - dropped[which])
        found.append(ShardStatus(f"{which}/{count}", done[which], left, failed[which]))
    return tuple(found)


def _items_left(
    state: LedgerState, last: Record, shards: tuple[ShardStatus, ...], slug: str, phase: Phase | None, failed: int
) -> int | None:
    if shards and all(shard.left is not None for shard in shards):
        return sum(shard.left for shard in shards)
    if last and not shards:
        return max(0, int(last.get("left", 0)) - (len(state.done) - int(last.get("done", 0))))
    path = manifest_folder() / f"{slug}.tsv"
    if path.is_file():
        keys = read_manifest(path).keys
        return sum(key not in state.done for key in keys) - failed
    return None if shards or phase is None or phase.items else 0


def _outlook(
    state: CountedState, left: int | None, receipts: list[Receipt], work: float
) -> tuple[float | None, float | None]:
    """Return the hours that the rest takes, and the items or steps per hour; `work` is the seconds spent on items."""
    if receipts and receipts[0].max_steps:
        newest = receipts[0]
        rate = _steps_an_hour(state, [one for one in receipts if one.session == newest.session])
        rest = 0 if newest.complete else max(0, newest.max_steps - newest.step)
        return (0.0 if not rest else rest / rate if rate else None), rate
    timed = sum(tally.timed for tally in state.tallies.values())
    if timed and work > 0:
        rate = 3600.0 * timed / work
        return (None if left is None else left / rate), rate
    return (0.0 if left == 0 and state.done else None), None


def _steps_an_hour(state: LedgerState, receipts: list[Receipt]) -> float | None:
    """Return the pace of one session's checkpoints, newest first; None where their times tell nothing.

    Left out is the time between two of them in which a clock was set or the machine slept: it is longer than the
    session lasted, or the pace is a small part of that between the others.
    """
    records = state.sessions.get(receipts[0].session, {})
    known = records.get("open", {}).get("limit"), records.get("close", {}).get("lasted")
    longest = min([LONGEST, *(float(one) for one in known if one is not None)])
    spans = [(new.step - old.step, new.time - old.time) for new, old in pairwise(receipts)]
    spans = [(steps, seconds) for steps, seconds in spans if steps > 0 and 0 < seconds <= longest]
    quickest = max((steps / seconds for steps, seconds in spans), default=0.0)
    spans = [(steps, seconds) for steps, seconds in spans if _SLOWEST * steps / seconds >= quickest]
    return 3600.0 * sum(steps for steps, _ in spans) / sum(seconds for _, seconds in spans) if spans else None


def _state(
    state: LedgerState,
    left: int | None,
    failed: int,
    newest: Receipt | None,
    last: Record,
    shards: tuple[ShardStatus, ...],
) -> str:
    if not state.sessions and not state.done and newest is None:
        return "not begun"
    if newest is not None and newest.max_steps:
        return "complete" if newest.complete or newest.step >= newest.max_steps else "work left"
    if left == 0 and (last.get("complete", False) or shards):
        return "complete, some failed" if failed else "complete"
    return "work left"


def write_done(listing: Listing, slugs: Sequence[str] | None, path: Path, cache: Path) -> str:
    """Write the done items of one phase as a ``{"key": "done"}`` manifest.json and return a line about it.

    Raises
    ------
    UsageError
        If not exactly one phase is given, or the file cannot be written.
    """
    if not slugs or len(slugs) != 1:
        raise UsageError(f"--done writes the items of one phase, and {len(slugs or [])} were named. Name one.")
    check_output(path, "--done")
    done = read_state(listing, check_slug(slugs[0]), cache).done
    with output_file(path, "--done") as target:
        write_seed_manifest(target, done)
    return f"{path}: {len(done)} done items of {slugs[0]}"
