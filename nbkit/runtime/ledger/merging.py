"""Merged segments: one file that holds the records of many sessions.

A store that is slow to ask, as Drive is, makes an opening session pay for every past one. So a session that opens
copies the records of past sessions into one segment ``<slug>/ledger/merged/<first>-<last>-<crc32>.jsonl``. It
names the folders that it stands for; readers do not look into those any more.

- Records of all sessions are merged, those of killed and of running ones, too: whoever has read the copy need not fetch
  the segments. Only folders to which nothing can come any more are named, so that they need not be listed either: of
  sessions whose records are complete up to the closing one. Folders of killed sessions stay listed for ever, which on
  Drive costs a request for 50 of them: no clock tells a session that was killed from one that lives.
- The sessions' own segments are neither changed nor deleted. Where a merged segment is damaged, its readers do as if it
  were not there. Only merged segments that a larger one replaces are deleted, after that one was verified.
- Records keep their session and number, and so count once, however many merged segments hold them. Sessions that merge
  at the same moment do no harm.
- Earlier versions of nbkit take it for the segment of a session called "merged". They find what is done and the
  settings in it as usual, and pass over the rest, which they still have in the sessions' own folders.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from nbkit.runtime.ledger.ranges import split_where
from nbkit.runtime.ledger.segments import (
    MERGED,
    LedgerState,
    Segment,
    decode_line,
    encode_line,
    local_copy,
    segment_of,
)

ENOUGH = 3  # segments to fetch, or finished folders to list, that are worth a merge
_LARGE = 4 << 20  # bytes of a session whose transfer costs more than its request
_LARGEST = 32 << 20  # bytes that one session merges at most
_SMALL = 1 << 20  # bytes of a merged segment that is always merged again
_ROOM = 10**7  # numbers that a merged segment has for its lines
_SAME_FOR_ALL = ('{"e":"done"', '{"e":"settings"')  # records that mean the same whichever session wrote them


@dataclass
class _Collected:
    """Records by session and number, and what the segment of them stands for."""

    lines: dict[str, dict[int, str]] = field(default_factory=dict)
    sealed: set[str] = field(default_factory=set)
    replaces: set[str] = field(default_factory=set)
    size: int = 0


def merge_finished(slug: str, cache: Path, state: LedgerState) -> tuple[Segment, bytes] | None:
    """Return a merged segment of past sessions and its content; None where a merge is not worth it yet.

    Parameters
    ----------
    slug : str
    cache : Path
        Folder where `read_state` keeps what it fetched.
    state : LedgerState
        State of the store, as `read_state` returned it.
    """
    found, sessions = _Collected(), dict[str, list[Segment]]()
    for segment in state.listed:
        if segment.session != MERGED:
            sessions.setdefault(segment.session, []).append(segment)
    loose = [s for own in sessions.values() for s in own if not state.is_held(s)]
    finished = {name for name, own in sessions.items() if all(map(state.is_finished, own))}
    if len(loose) < ENOUGH and len(finished) < ENOUGH:
        return None
    merged = {s: data for s in state.merged if (data := local_copy(s, cache)) is not None}
    before = _Collected()
    for segment, data in merged.items():
        _include(before, segment, data)
    copied = 0
    for session, segments in sorted(sessions.items()):
        new = sum(not state.is_held(segment) for segment in segments)
        if session not in finished and not new:
            continue
        known = before.lines.get(session, {})
        paths = [cache / segment.cached for segment in segments]
        size = sum(path.stat().st_size for path in paths if path.is_file())
        fits = size <= _LARGE and found.size + size <= _LARGEST and state.odd.isdisjoint(segments)
        if fits and (lines := _lines_of(segments, cache, known)):
            found.lines[session] = lines
            found.size += size
            copied += new
            if session in finished:
                found.sealed |= {segment.folder for segment in segments}
    if copied < ENOUGH and len(found.sealed) < ENOUGH:
        return None
    for segment, data in sorted(merged.items(), key=lambda one: one[0].count):
        # large ones wait until as much is new, so that a record is copied a few times and not at every merge
        if len(data) <= max(_SMALL, 2 * found.size) and found.size + len(data) <= _LARGEST:
            _include(found, segment, data)
    found.replaces |= {s.name for s in state.listed if s.name in state.replaced}
    content = [encode_line({"e": "merged", "sealed": sorted(found.sealed), "replaces": sorted(found.replaces)})]
    for session, numbered in sorted(found.lines.items()):
        content += _runs(session, numbered)
    # no two merged segments share a number, so that those who take them for a session's see each record as a new one
    mark = int(hashlib.sha256("\n".join(content).encode()).hexdigest()[:11], 16)
    return segment_of(slug, MERGED, mark * _ROOM + 1, content) if len(content) < _ROOM else None


def _lines_of(segments: Iterable[Segment], cache: Path, known: dict[int, str]) -> dict[int, str]:
    """Return the lines of one session's segments by number; none where one is damaged, not here, or not certain.

    `known` are lines of the session from merged segments, whose parts were not fetched.
    """
    lines = dict(known)
    for segment in sorted(segments, key=lambda s: (s.first, -s.last)):
        if all(number in lines for number in range(segment.first, segment.last + 1)):
            continue
        data = local_copy(segment, cache)
        if data is None:
            return {}
        found = dict(enumerate(data.decode().removesuffix("\n").split("\n"), segment.first))
        if any(not _same(lines[number], found[number]) for number in lines.keys() & found.keys()):
            return {}
        lines |= found
    return lines


def _same(one: str, other: str) -> bool:
    return one == other or decode_line(one) == decode_line(other)


def _include(found: _Collected, segment: Segment, data: bytes) -> None:
    """Add what a merged segment holds."""
    session, number = "", 0
    for line in data.decode().removesuffix("\n").split("\n"):
        if line.startswith(_SAME_FOR_ALL):
            found.lines[session][number] = line
            number += 1
            continue
        record = decode_line(line) or {}
        if record["e"] == "merged":
            found.sealed |= set(record["sealed"])
        elif record["e"] == "from":
            session, number = record["of"], record["n"]
            found.lines.setdefault(session, {})
        else:
            found.lines[session][number] = encode_line(record["r"])
            number += 1
    found.replaces.add(segment.name)
    found.size += len(data)


def _runs(session: str, numbered: dict[int, str]) -> Iterator[str]:
    """Yield the lines of one session, before each run of consecutive numbers a line that names session and number."""
    for run in split_where(sorted(numbered), lambda one, other: one + 1 != other):
        yield encode_line({"e": "from", "of": session, "n": run[0]})
        for line in (numbered[number] for number in run):
            yield line if line.startswith(_SAME_FOR_ALL) else encode_line({"e": "was", "r": decode_line(line)})


def adjacent(segments: Iterable[Segment]) -> list[list[Segment]]:
    """Return one session's segments as runs without a gap in their numbers."""
    return split_where(sorted(segments), lambda one, other: one.last + 1 != other.first)


def smallest_of_a_size(segments: Iterable[Segment], least: int) -> list[Segment]:
    """Return the smallest segments of about one size of which at least so many follow one another."""
    by_size: dict[int, list[Segment]] = {}
    for segment in segments:
        by_size.setdefault(segment.count.bit_length() // 4, []).append(segment)
    for _, group in sorted(by_size.items()):
        longest = max(adjacent(group), key=len)
        if len(longest) >= least:
            return longest
    return []
