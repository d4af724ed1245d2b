"""Segments: the ledger's records in the store.

``<slug>/ledger/<session>/<first>-<last>-<crc32>.jsonl`` holds the records numbered first to last of one session, a
JSON line each. A segment is written once. A session may merge its own into a larger one before it deletes the parts,
so records can stand in two segments; their numbers show which are the same. Every line carries its own checksum: a
torn or damaged line is dropped, its intact neighbours are kept, and reading is never an error.

``<slug>/ledger/merged/...`` holds copies of the records of many finished sessions, see `nbkit.runtime.ledger.merging`:
whoever has read it need not read their folders.
"""

from __future__ import annotations

import json
import threading
import time
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeGuard

from nbkit.runtime.ledger.claims import Claims
from nbkit.runtime.ledger.ranges import include
from nbkit.runtime.ledger.records import REFUSED, Record, fault_of, from_json, no_collection, parse_records, version_of
from nbkit.runtime.ledger.rounds import Rounds
from nbkit.runtime.ledger.rows import Made, Rows
from nbkit.runtime.ledger.stored.segment import MERGED, Segment, content_of, listed
from nbkit.runtime.ledger.stored.segment import local_copy as local_copy
from nbkit.runtime.ledger.stored.segment import segment_of as segment_of
from nbkit.runtime.store.protocol import Store
from nbkit.runtime.words import counted

_COUNTED, _FACTS = ("failed", "died"), ("done", "settings", "lost", "kept")
_JSON = json.JSONEncoder(separators=(",", ":")).encode  # json.dumps would create an encoder for each line
_LISTINGS = 5
_LISTING_WAIT = 0.05  # seconds, doubled each time: the listings of some stores lag
_LATE = "~late"  # folders of sessions that lasted for days, as earlier versions wrote them


def encode_line(record: Record) -> str:
    """Return a record as one JSON line whose last field is the checksum of the text before it."""
    # in ASCII, no character of a message can be a line end or fail to be encoded
    text = _JSON(record)[:-1]
    return f'{text},"c":"{zlib.crc32(text.encode()):08x}"}}'


def is_whole(line: object) -> TypeGuard[str]:
    """Return whether a line is as `encode_line` wrote it."""
    if not isinstance(line, str):
        return False
    text, mark, rest = line.rpartition(',"c":"')
    return bool(mark) and len(rest) == 10 and rest[8:] == '"}' and f"{zlib.crc32(text.encode()):08x}" == rest[:8]


def decode_line(line: object) -> Record | None:
    """Return what a line holds; None if the line is torn or damaged, or is no JSON object."""
    if not is_whole(line):
        return None
    try:
        found = from_json(line.rpartition(',"c":"')[0] + "}")
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def read_segment(segment: Segment, data: bytes, odd: list[str] | None = None) -> Iterator[tuple[int | None, Record]]:
    """Return a segment's records with their numbers, None for a number that is not certain.

    Parameters
    ----------
    segment : Segment
    data : bytes
        Its content, which may be damaged.
    odd : list of str or None
        Gets a sentence on each whole line that is no record, such as one of a newer nbkit. These are left out.
    """
    merged = segment.session == MERGED
    intact = segment.is_intact(data)
    records = parse_records(data.removesuffix(b"\n"), segment.slug, merged) if intact else None
    if records is not None:
        return enumerate(records, segment.first)
    return _line_by_line(segment, data, intact, merged, [] if odd is None else odd)


def _line_by_line(
    segment: Segment, data: bytes, intact: bool, merged: bool, odd: list[str]
) -> Iterator[tuple[int | None, Record]]:
    lines = data.decode("utf-8", "replace").removesuffix("\n").split("\n")
    # a damaged line end joins or splits lines: the numbers after it are uncertain
    certain, complete = True, len(lines) == segment.count
    for number, line in enumerate(lines, segment.first):
        if not intact and not is_whole(line):
            certain = complete
            continue
        try:
            record = from_json(line)
            fault = fault_of(record, segment.slug, merged)
        except ValueError as error:
            fault = f"is no JSON: {error}"
        if fault is None:
            record.pop("c", None)
            yield number if certain else None, record
        else:
            odd.append(f"line {number - segment.first + 1}: {fault}")


@dataclass
class LedgerState:
    """State of a phase, computed from records.

    The order of the records and the clocks of their writers do not matter: done wins, failures add up, and a record
    that comes twice counts once.
    """

    done: dict[str, list[list[Any]]] = field(default_factory=dict)
    """Key to outputs [name, size, sha256, ...], of all sessions that did the item."""
    failures: dict[str, int] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)
    deaths: dict[str, int] = field(default_factory=dict)
    claims: Claims = field(default_factory=Claims)
    rounds: Rounds = field(default_factory=Rounds)
    rows: Rows = field(default_factory=Rows)
    sessions: dict[str, Record] = field(default_factory=dict)
    refused: set[str] = field(default_factory=set)
    """Sessions that a mistake ended before their work; they are not among `sessions`."""
    settings: dict[str, Record] = field(default_factory=dict)
    """Version to settings."""
    beside: dict[str, set[str]] = field(default_factory=dict)
    """Version of settings to those whose outputs a user keeps beside its own."""
    made: Made = field(default_factory=Made)
    damaged: dict[str, str] = field(default_factory=dict)
    listed: list[Segment] = field(default_factory=list)
    """Segments in the last listing of the store, without those in `sealed` folders."""
    merged: set[Segment] = field(default_factory=set)
    """Merged segments that were added intact."""
    sealed: set[str] = field(default_factory=set)
    """Folders of finished sessions whose records are all in a merged segment that was added."""
    replaced: set[str] = field(default_factory=set)
    """Names of merged segments whose records a larger one holds."""
    held: dict[str, list[tuple[int, int]]] = field(default_factory=dict)
    """Session to the numbers of its records in merged segments that were added."""
    odd: set[Segment] = field(default_factory=set)
    """Segments of which whole lines were skipped, because they are no records."""
    _named: set[str] = field(default_factory=set)
    """Folders that merged segments name as finished."""
    _closed: dict[str, int] = field(default_factory=dict)
    _numbers: dict[str, list[tuple[int, int]]] = field(default_factory=dict)
    _lock: threading.RLock = field(default_factory=threading.RLock, repr=False)

    @property
    def made_with(self) -> set[str]:
        """Versions of the settings that done items were computed with."""
        return self.made.versions()

    def add(self, session: str, numbered: Iterable[tuple[int | None, Record]]) -> None:
        """Add numbered records of one session; those added before are skipped."""
        with self._lock:
            taken, done = self._numbers.setdefault(session, []), self.done
            new: list[int] = []
            for number, record in numbered:
                if number is None:
                    if record["e"] not in _COUNTED:  # a record that is not counted may come twice
                        self._take(session, record)
                    continue
                if taken and any(first <= number <= last for first, last in taken):
                    continue
                new.append(number)
                if record["e"] == "close":
                    self._closed[session] = number
                if record["e"] == "done" and record["k"] not in done and "r" not in record and not self.rounds.lost:
                    done[record["k"]] = record["o"]
                    if "row" in record:
                        self.rows.made[record["k"]] = record["row"]
                    if "v" in record:
                        self.made.add(record["v"], record["k"])
                else:
                    self._take(session, record)
            include(taken, new)

    def add_segment(self, segment: Segment, data: bytes) -> None:
        """Add a segment's records, and note what in it is damaged or is no record."""
        if self.covers(segment):
            return
        odd: list[str] = []
        found, intact = read_segment(segment, data, odd), segment.is_intact(data)
        if segment.session == MERGED:
            self._add_merged(segment, [record for _, record in found], intact and not odd)
        else:
            self.add(segment.session, found)
        if not intact:
            kept = sum(1 for _ in read_segment(segment, data))
            self.damaged[segment.name] = f"damaged: {kept} of {segment.count} records could be read"
        elif odd:
            # its numbers are not taken, because they may be those of records in another segment
            self.odd.add(segment)
            self.damaged[segment.name] = f"{counted(len(odd), 'line')} skipped, which no record is: {odd[0]}"

    def _add_merged(self, segment: Segment, records: list[Record], whole: bool) -> None:
        runs: list[tuple[str, int, list[Record]]] = []
        for record in records:
            if record["e"] == "from":
                runs.append((record["of"], record["n"], []))
            elif record["e"] != "merged" and runs:
                runs[-1][2].append(record["r"] if record["e"] == "was" else record)
            elif record["e"] != "merged":
                whole = False
        if not whole:
            # whose the records are is not certain, so only facts are taken; the sessions' own folders have the rest
            self.add(MERGED, ((None, record) for record in records if record["e"] in _FACTS))
            return
        with self._lock:
            for session, first, run in runs:
                self.add(session, enumerate(run, first))
                include(self.held.setdefault(session, []), list(range(first, first + len(run))))
            for record in records:
                if record["e"] == "merged":
                    self._named |= set(record["sealed"])
                    self.replaced |= set(record["replaces"])
            # all other folders must be read, whatever it says: earlier versions named those of old sessions, too
            self.sealed |= {f for f in self._named if self._is_complete(self.held, f.rpartition("/")[2])}
            self.merged.add(segment)

    def covers(self, segment: Segment) -> bool:
        """Return whether all records of the segment have been added."""
        if segment.session == MERGED:
            return segment in self.merged or segment.name in self.replaced
        taken = self._numbers.get(segment.session, [])
        return segment in self.odd or any(a <= segment.first and segment.last <= b for a, b in taken)

    def is_held(self, segment: Segment) -> bool:
        """Return whether merged segments have all records of a session's segment."""
        return any(a <= segment.first and segment.last <= b for a, b in self.held.get(segment.session, []))

    def is_finished(self, segment: Segment) -> bool:
        """Return whether nothing new can come to a segment's folder.

        That is so once all records of the session up to its closing one are known. Its age says nothing, because
        clocks may be days or years off: what a session that lives has just recorded would be missed.
        """
        return self._is_complete(self._numbers, segment.session)

    def _is_complete(self, numbers: dict[str, list[tuple[int, int]]], session: str) -> bool:
        session = session.removesuffix(_LATE)
        return numbers.get(session) == [(1, self._closed.get(session, 0))]

    def _take(self, session: str, record: Record) -> None:
        kind, key = record["e"], record.get("k", "")
        record.pop("c", None)
        if kind in ("done", "lost"):
            counts = kind == "done" and not self.rounds.is_past(record)
            newer = self.rounds.is_newer(record)
            self.rows.take(record, counts, newer)
            self.made.take(record, counts, newer)
            self.rounds.take(record, self.done)
            return
        new = self.claims.take(session, record)
        if kind == "failed":
            self.failures[key] = self.failures.get(key, 0) + 1
            self.errors[key] = max(self.errors.get(key, ""), str(record.get("err", "")))
        elif kind == "died" and new:
            self.deaths[key] = self.deaths.get(key, 0) + 1
        elif kind == "close" and record.get("reason") == REFUSED:
            self.refused.add(session)
            self.sessions.pop(session, None)
        elif kind in ("open", "close") and session not in self.refused:
            self.sessions.setdefault(session, {})[kind] = record
        elif kind == "kept":
            self.rows.keep(record["rows"])
        elif kind == "settings":
            version = version_of(record["settings"])
            self.settings[version] = record["settings"]
            if "beside" in record:
                self.beside.setdefault(version, set()).update(record["beside"])


def read_state(store: Store, slug: str, cache: Path, state: LedgerState | None = None) -> LedgerState:
    """Return the state of a phase from all segments in the store.

    Parameters
    ----------
    store : Store
    slug : str
    cache : Path
        Folder for fetched segments; their names have checksums, so a damaged copy is detected and fetched again.
    state : LedgerState or None
        Earlier state: only segments that it does not cover are read.

    Returns
    -------
    state : LedgerState
    """
    from concurrent.futures import ThreadPoolExecutor

    state = LedgerState() if state is None else state
    own = threading.local()  # one connection per thread: opening one may take a handshake

    def content(segment: Segment) -> bytes | None:
        if not hasattr(own, "store"):
            own.store = store.connect()
        return content_of(own.store, segment, cache)

    for attempt in range(_LISTINGS):
        if attempt:
            time.sleep(_LISTING_WAIT * 2**attempt)
        missing = False
        merged, odd = listed(store, f"{slug}/ledger/{MERGED}/")
        state.damaged |= odd
        for segment in sorted(merged, key=lambda s: -s.count):  # the larger ones may replace the smaller
            if not state.covers(segment):
                data = content(segment)
                missing |= data is None
                if data is not None:
                    state.add_segment(segment, data)
        skipped = state.sealed | {f"{slug}/ledger/{MERGED}"}
        others, odd = listed(store, f"{slug}/ledger/", skipped)
        state.damaged |= odd
        state.listed = merged + others
        wanted = sorted((s for s in others if not state.covers(s)), key=lambda s: (s.session, s.first, -s.last))
        with ThreadPoolExecutor(4) as pool:
            contents = list(pool.map(content, wanted))
        with no_collection():
            for segment, data in zip(wanted, contents, strict=True):
                if data is not None:
                    state.add_segment(segment, data)
        if not missing and None not in contents:
            break  # else a segment was merged since the listing; a new listing shows the merged one
    return state
