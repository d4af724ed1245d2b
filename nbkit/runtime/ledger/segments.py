"""Segments: the ledger's records in the store.

``<slug>/ledger/<session>/<first>-<last>-<crc32>.jsonl`` holds the records numbered first to last of one session, a
JSON line each. A segment is written once. A session may merge its own into a larger one before it deletes the parts,
so records can stand in two segments; their numbers tell. Every line carries its own checksum: a torn or hurt line is
dropped, its whole neighbours are kept, and reading is never an error.
"""

from __future__ import annotations

import contextlib
import gc
import hashlib
import json
import re
import threading
import time
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nbkit.runtime.store.protocol import Store

Record = dict[str, Any]
_COUNTED = ("failed", "died")
_JSON = json.JSONEncoder(separators=(",", ":")).encode  # json.dumps would make an encoder a line
_LISTINGS = 5
_LISTING_WAIT = 0.05  # seconds, doubled each time: listings of some stores lag behind
_NAME = re.compile(r"([^/]+)/ledger/([^/]+)/(\d+)-(\d+)-([0-9a-f]{8})\.jsonl")  # slug, session, first, last, crc


def encode_line(record: Record) -> str:
    """Return a record as one JSON line whose last field is the checksum of the text before it."""
    # ASCII only: no character of a message can then be a line end, or fail to be written as UTF-8
    text = _JSON(record)[:-1]
    return f'{text},"c":"{zlib.crc32(text.encode()):08x}"}}'


def is_whole(line: object) -> bool:
    """Return whether a line is as `encode_line` gave it."""
    if not isinstance(line, str):
        return False
    text, mark, rest = line.rpartition(',"c":"')
    return bool(mark) and len(rest) == 10 and rest[8:] == '"}' and f"{zlib.crc32(text.encode()):08x}" == rest[:8]


def decode_line(line: object) -> Record | None:
    """Return the record of a line; None where the line is torn or hurt."""
    return json.loads(line.rpartition(',"c":"')[0] + "}") if is_whole(line) else None


@dataclass(frozen=True, order=True)
class Segment:
    """Name a segment by what it holds."""

    slug: str
    session: str
    first: int
    last: int
    crc: str

    @property
    def name(self) -> str:
        return f"{self.slug}/ledger/{self.session}/{self.first:09d}-{self.last:09d}-{self.crc}.jsonl"

    @staticmethod
    def parse(name: str) -> Segment | None:
        """Return the segment of a store name; None where the name is none."""
        m = _NAME.fullmatch(name)
        return Segment(m[1], m[2], int(m[3]), int(m[4]), m[5]) if m else None


def segment_of(slug: str, session: str, first: int, lines: list[str]) -> tuple[Segment, bytes]:
    """Return the segment that holds these lines, and its content."""
    data = ("\n".join(lines) + "\n").encode()
    return Segment(slug, session, first, first + len(lines) - 1, f"{zlib.crc32(data):08x}"), data


def read_segment(segment: Segment, data: bytes) -> Iterator[tuple[int | None, Record]]:
    """Return the whole records of a segment's content with their numbers; None where a number is not certain."""
    if f"{zlib.crc32(data):08x}" == segment.crc:
        # one parse for all lines: three times as fast as one a line
        return enumerate(json.loads(b"[" + data[:-1].replace(b"\n", b",") + b"]"), segment.first)
    return _whole_lines(segment, data)


def _whole_lines(segment: Segment, data: bytes) -> Iterator[tuple[int | None, Record]]:
    lines = data.decode("utf-8", "replace").removesuffix("\n").split("\n")
    # a hurt line end makes one line of two or two of one: what comes after it is not where it was
    certain, complete = True, len(lines) == segment.last - segment.first + 1
    for number, line in enumerate(lines, segment.first):
        record = decode_line(line)
        if record is None:
            certain = complete
        else:
            yield number if certain else None, record


def version_of(settings: Record) -> str:
    """Return a short name of settings that is the same wherever they are the same."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:12]


@dataclass
class Fold:
    """Keep the state that a set of records adds up to.

    The order of records and the clocks of their writers do not matter: done wins, failures add up, a record that
    comes twice counts once.
    """

    done: dict[str, list[list[Any]]] = field(default_factory=dict)
    """Key to outputs [name, size, sha256, ...]: all that any session stored under the names."""
    failures: dict[str, int] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)
    deaths: dict[str, int] = field(default_factory=dict)
    sessions: dict[str, Record] = field(default_factory=dict)
    settings: dict[str, Record] = field(default_factory=dict)
    """Version to the settings it stands for."""
    made_with: set[str] = field(default_factory=set)
    """Versions of the settings that done items were made with."""
    damaged: dict[str, str] = field(default_factory=dict)
    _numbers: dict[str, list[tuple[int, int]]] = field(default_factory=dict)
    _lock: threading.RLock = field(default_factory=threading.RLock, repr=False)

    def add(self, session: str, numbered: Iterable[tuple[int | None, Record]]) -> None:
        """Take in records of one session, given with their numbers; those already taken in are passed over."""
        with self._lock:
            taken, done = self._numbers.setdefault(session, []), self.done
            new: list[int] = []
            for number, record in numbered:
                if number is None:
                    if record["e"] not in _COUNTED:  # what is not counted may come twice
                        self._take(session, record)
                    continue
                if taken and any(first <= number <= last for first, last in taken):
                    continue
                new.append(number)
                if record["e"] == "done" and record["k"] not in done:
                    done[record["k"]] = record["o"]
                    if "v" in record:
                        self.made_with.add(record["v"])
                else:
                    self._take(session, record)
            _include(taken, new)

    def add_segment(self, segment: Segment, data: bytes) -> None:
        """Take in a segment's content, and note where it is hurt."""
        if self.covers(segment):
            return
        self.add(segment.session, read_segment(segment, data))
        if f"{zlib.crc32(data):08x}" != segment.crc:
            kept = sum(1 for _ in read_segment(segment, data))
            self.damaged[segment.name] = f"{kept} of {segment.last - segment.first + 1} records could be read"

    def covers(self, segment: Segment) -> bool:
        """Return whether every record of the segment has been taken in."""
        return any(a <= segment.first and segment.last <= b for a, b in self._numbers.get(segment.session, []))

    def _take(self, session: str, record: Record) -> None:
        kind, key = record["e"], record.get("k", "")
        record.pop("c", None)
        if kind == "done":
            outputs = record.get("o", [])
            known = self.done.get(key, [])
            self.done[key] = known + [o for o in outputs if o not in known]
            self.made_with |= {record["v"]} if "v" in record else set()
        elif kind == "failed":
            self.failures[key] = self.failures.get(key, 0) + 1
            self.errors[key] = max(self.errors.get(key, ""), str(record.get("err", "")))
        elif kind == "died":
            self.deaths[key] = self.deaths.get(key, 0) + 1
        elif kind in ("open", "close"):
            self.sessions.setdefault(session, {})[kind] = record
        elif kind == "settings":
            self.settings[version_of(record["settings"])] = record["settings"]


def _include(taken: list[tuple[int, int]], numbers: list[int]) -> None:
    """Merge numbers into sorted, disjoint ranges."""
    if not numbers:
        return
    ranges = sorted(taken + _ranges(sorted(numbers)))
    taken.clear()
    for first, last in ranges:
        if taken and first <= taken[-1][1] + 1:
            taken[-1] = (taken[-1][0], max(last, taken[-1][1]))
        else:
            taken.append((first, last))


def _ranges(numbers: list[int]) -> list[tuple[int, int]]:
    if numbers[-1] - numbers[0] == len(numbers) - 1:
        return [(numbers[0], numbers[-1])]
    found: list[tuple[int, int]] = []
    for n in numbers:
        if found and n == found[-1][1] + 1:
            found[-1] = (found[-1][0], n)
        else:
            found.append((n, n))
    return found


def fold_store(store: Store, slug: str, cache: Path, fold: Fold | None = None) -> Fold:
    """Return the state of a phase from all segments in the store.

    Parameters
    ----------
    store : Store
    slug : str
    cache : Path
        Folder of fetched segments; their names hold their checksums, so a hurt copy is noticed and fetched again.
    fold : Fold or None
        State to go on from: only segments that it does not cover are read.

    Returns
    -------
    fold : Fold
    """
    from concurrent.futures import ThreadPoolExecutor

    fold = Fold() if fold is None else fold
    own = threading.local()  # a connection a thread: opening one may mean a handshake

    def content(segment: Segment) -> bytes | None:
        if not hasattr(own, "store"):
            own.store = store.connect()
        return _content(own.store, segment, cache)

    for attempt in range(_LISTINGS):
        if attempt:
            time.sleep(_LISTING_WAIT * 2**attempt)
        listed = (Segment.parse(stat.name) for stat in store.list(f"{slug}/ledger/"))
        wanted = sorted((s for s in listed if s and not fold.covers(s)), key=lambda s: (s.session, s.first, -s.last))
        with ThreadPoolExecutor(4) as pool:
            contents = list(pool.map(content, wanted))
        with _no_collection():
            for segment, data in zip(wanted, contents, strict=True):
                if data is not None:
                    fold.add_segment(segment, data)
        if None not in contents:
            break  # else one was merged away since it was listed: its records stand in a newer listing
    return fold


@contextlib.contextmanager
def _no_collection() -> Iterator[None]:
    """Hold back garbage collection, which would walk millions of new records again and again (half the time)."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _content(store: Store, segment: Segment, cache: Path) -> bytes | None:
    local = cache / segment.name
    if local.is_file():
        data = local.read_bytes()
        if f"{zlib.crc32(data):08x}" == segment.crc:
            return data
    try:
        store.get(segment.name, local)
    except FileNotFoundError:
        return None  # merged into a larger one by its own session since we listed
    return local.read_bytes()
