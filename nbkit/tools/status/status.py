"""Status: what every phase has done, what is left, and what that still takes, read from the store alone.

Nothing is written. What the store cannot tell is shown as unknown, not guessed: work of a session that runs now counts
from its last flushed segment or checkpoint.
"""

from __future__ import annotations

import math
import tempfile
import time
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nbkit.ground.files import read_json
from nbkit.runtime.errors import DamagedError
from nbkit.runtime.items.work import TRIES
from nbkit.runtime.ledger.manifest import manifest_folder, parse_shard, read_manifest, shard_of
from nbkit.runtime.ledger.receipts import Receipt
from nbkit.runtime.ledger.segments import Fold, Record, fold_store
from nbkit.runtime.names import check_slug
from nbkit.runtime.store.opening import open_store, store_address
from nbkit.runtime.store.protocol import Store
from nbkit.runtime.store.retried import Retried
from nbkit.runtime.training.newest import newest_receipts
from nbkit.tools.phases import Phase, load_phases
from nbkit.tools.status.past_sessions import CountedFold, PastSession, goodput_of, past_sessions

QUOTA_HOURS = 30.0  # GPU hours that Kaggle gives a week
_SESSION_HOURS = 9.0


@dataclass(frozen=True)
class ShardStatus:
    """Say where one part of a manifest stands that parallel sessions share.

    Attributes
    ----------
    shard : str
        Such as ``2/5``.
    done, failed : int
        Items; those that failed and were not done since.
    left : int or None
        Items; None where no session of this shard has closed yet.
    """

    shard: str
    done: int
    left: int | None
    failed: int


@dataclass(frozen=True)
class PhaseStatus:
    """Say where a phase stands.

    Attributes
    ----------
    state : str
        ``not begun``, ``complete``, ``complete, some failed`` or ``work left``.
    done, failed : int
        Items; those that failed and were not done since.
    left : int or None
        Items; None where no session and no manifest tells.
    step, max_steps : int
        Of training; 0 where there is none.
    rate : float or None
        Items or steps an hour of work.
    sessions, killed : int
        Sessions so far, and those of them without a close: killed, or running now.
    hours_left, sessions_left, quota_weeks : float or None
        What the rest takes at this rate.
    checkpoint : str or None
        Name of the newest checkpoint, `checkpoint_age` seconds old.
    error : str or None
        The newest failure of an item that was not done since, ``key: words``, `error_age` seconds old.
    shards : tuple of ShardStatus
        Where the newest session worked on a part of the manifest.
    past : tuple of PastSession
        Its sessions, oldest first.
    goodput : float or None
        Part of the time in sessions that was work which counts, 0 to 1.
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
    hours_left: float | None = None
    sessions_left: int | None = None
    quota_weeks: float | None = None
    checkpoint: str | None = None
    checkpoint_age: float | None = None
    error: str | None = None
    error_age: float | None = None
    shards: tuple[ShardStatus, ...] = ()
    past: tuple[PastSession, ...] = ()
    goodput: float | None = None
    notes: tuple[str, ...] = ()

    def row(self) -> dict[str, Any]:
        """Return it as plain values."""
        return asdict(self)


def read_status(
    store: str | Store | None = None, slugs: list[str] | None = None, cache: Path | None = None
) -> list[PhaseStatus]:
    """Read where phases stand.

    Parameters
    ----------
    store : str, Store or None
        Folder or URL; None takes NBKIT_STORE, then ``./nbkit-store``.
    slugs : list of str or None
        Phases; all of the map by default. A slug beside the map is read too.
    cache : Path or None
        Folder in which what was read once stays for the next look; None keeps nothing.

    Returns
    -------
    rows : list of PhaseStatus
    """
    known = {phase.slug: phase for phase in load_phases()}
    wanted = [check_slug(slug) for slug in slugs] if slugs else list(known)
    opened = store_of(store)
    with tempfile.TemporaryDirectory(prefix="nbkit-status-") as folder:
        return [read_phase(opened, slug, known.get(slug), cache or Path(folder)) for slug in wanted]


def store_of(store: str | Store | None) -> Store:
    """Return the store, with retries, of an address that a user wrote, or one that is open already."""
    if store is None or isinstance(store, str):
        return Retried(open_store(store_address(store)))
    return store if isinstance(store, Retried) else Retried(store)


def read_phase(store: Store, slug: str, phase: Phase | None, cache: Path) -> PhaseStatus:
    """Read where one phase stands."""
    fold = fold_store(store, slug, cache, CountedFold())
    receipts, notes = newest_receipts(store, slug)
    rehearsal, rehearsal_note = read_document(store, f"{slug}/rehearsal.json", cache)
    newest = receipts[0] if receipts else None
    closes = [record["close"] for record in fold.sessions.values() if "close" in record]
    last: Record = max(closes, key=lambda record: record.get("t", 0.0), default={})
    failed = sum(key not in fold.done for key in fold.failures)
    shards = _shards(fold)
    left = _items_left(fold, last, shards, slug, phase, failed)
    step, max_steps = (newest.step, newest.max_steps) if newest else (0, 0)
    past = past_sessions(fold, newest.step if newest else None, rehearsal)
    useful = sum(one.work for one in past)
    hours, rate = _outlook(fold, left, receipts, useful)
    session_hours = phase.session_hours if phase else _SESSION_HOURS
    on_gpu = phase is not None and phase.accelerator == "gpu"
    error = fold.last_error()
    if max_steps:
        useful = 3600.0 * step / rate if rate else None
    notes += [*rehearsal_note, *(f"{name}: {words}" for name, words in fold.damaged.items())]
    return PhaseStatus(
        slug=slug,
        title=phase.title if phase else "",
        state=_state(fold, left, failed, newest, last, shards),
        done=len(fold.done),
        left=left,
        failed=failed,
        step=step,
        max_steps=max_steps,
        rate=rate,
        sessions=len(fold.sessions),
        killed=sum("close" not in record for record in fold.sessions.values()),
        hours_left=hours,
        sessions_left=None if hours is None else math.ceil(hours / session_hours),
        quota_weeks=hours / QUOTA_HOURS if hours is not None and on_gpu else None,
        checkpoint=newest.file if newest else None,
        checkpoint_age=time.time() - newest.time if newest else None,
        error=f"{error[0]}: {last_line(error[2])}" if error else None,
        error_age=time.time() - error[1] if error else None,
        shards=shards,
        past=past,
        goodput=goodput_of(past, useful, rehearsal),
        notes=tuple(notes),
    )


def read_document(store: Store, name: str, cache: Path) -> tuple[dict[str, Any] | None, list[str]]:
    """Return a JSON object of the store, and words where it is not whole; (None, []) where there is none."""
    path = cache / "documents" / name
    try:
        store.get(name, path)
        found = read_json(path)
    except FileNotFoundError:
        return None, []
    except (ValueError, RecursionError) as error:
        return None, [f"{name} is no whole JSON file ({error})"]
    except DamagedError as error:
        return None, [f"{name} cannot be read: {error}"]
    return (found, []) if isinstance(found, dict) else (None, [f"{name} holds no JSON object"])


def last_line(error: str, width: int = 200) -> str:
    """Return the last line of a traceback, without what a terminal would take for commands."""
    lines = [line for line in error.strip().splitlines() if line.strip()]
    text = "".join(c if c.isprintable() else "?" for c in lines[-1].strip()) if lines else "no words"
    return text if len(text) <= width else text[: width - 3] + "..."


def _shards(fold: CountedFold) -> tuple[ShardStatus, ...]:
    """Return the parts that sessions share, as the newest session counts them; none where it took the whole."""
    begins = [record["open"] for record in fold.sessions.values() if "open" in record]
    newest: Record = max(begins, key=lambda record: record.get("t", 0.0), default={})
    if not newest.get("shard"):
        return ()
    _, count = parse_shard(newest["shard"])
    done, failed, dropped = Counter(), Counter(), Counter()
    for key in fold.done:
        done[shard_of(key, count)] += 1
    for key, times in fold.failures.items():
        if key not in fold.done:
            failed[shard_of(key, count)] += 1
            dropped[shard_of(key, count)] += times >= TRIES
    rows: dict[str, Record] = {}
    for record in sorted(fold.sessions.values(), key=lambda record: record.get("close", {}).get("t", 0.0)):
        if "close" in record and "of" in record["close"]:
            rows[record.get("open", {}).get("shard")] = record["close"]
    found = []
    for which in range(1, count + 1):
        of = rows.get(f"{which}/{count}", {}).get("of")
        left = None if of is None else max(0, of - done[which] - dropped[which])
        found.append(ShardStatus(f"{which}/{count}", done[which], left, failed[which]))
    return tuple(found)


def _items_left(
    fold: Fold, last: Record, shards: tuple[ShardStatus, ...], slug: str, phase: Phase | None, failed: int
) -> int | None:
    if shards and all(shard.left is not None for shard in shards):
        return sum(shard.left for shard in shards)
    if last and not shards:
        return max(0, int(last.get("left", 0)) - (len(fold.done) - int(last.get("done", 0))))
    path = manifest_folder() / f"{slug}.tsv"
    if path.is_file():
        keys = read_manifest(path).keys
        return sum(key not in fold.done for key in keys) - failed
    return None if shards or phase is None or phase.items else 0


def _outlook(
    fold: CountedFold, left: int | None, receipts: list[Receipt], work: float
) -> tuple[float | None, float | None]:
    """Return the hours that the rest takes, and items or steps an hour; `work` is the seconds of items in work."""
    if receipts and receipts[0].max_steps:
        newest = receipts[0]
        pairs = [(newest.step - r.step, newest.time - r.time) for r in receipts[1:] if r.session == newest.session]
        steps, seconds = max(pairs, key=lambda pair: pair[1], default=(0, 0.0))
        rate = 3600.0 * steps / seconds if steps > 0 and seconds > 0 else None
        rest = 0 if newest.complete else max(0, newest.max_steps - newest.step)
        return (0.0 if not rest else rest / rate if rate else None), rate
    timed = sum(tally.timed for tally in fold.tallies.values())
    if timed and work > 0:
        rate = 3600.0 * timed / work
        return (None if left is None else left / rate), rate
    return (0.0 if left == 0 and fold.done else None), None


def _state(
    fold: Fold, left: int | None, failed: int, newest: Receipt | None, last: Record, shards: tuple[ShardStatus, ...]
) -> str:
    if not fold.sessions and not fold.done and newest is None:
        return "not begun"
    if newest is not None and newest.max_steps:
        return "complete" if newest.complete or newest.step >= newest.max_steps else "work left"
    if left == 0 and (last.get("complete", False) or shards):
        return "complete, some failed" if failed else "complete"
    return "work left"
