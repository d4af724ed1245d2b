"""The name of a segment, which tells what it holds, and its content in the store and on this machine.

A file whose name has the form of a segment's and yet can be none is left out of every listing, and is named: what its
records would count as is not certain, and a merged copy of them could not be read.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import zlib
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from nbkit.runtime.disk import on_disk
from nbkit.runtime.errors import UsageError
from nbkit.runtime.ledger.records import shortened
from nbkit.runtime.names import are_plain, check_name
from nbkit.runtime.store.protocol import Store

MERGED = "merged"  # stands where a session's name stands
HIGHEST = 2**60  # number of a record of a session; merged segments have numbers of their own
_LATE = "~late"  # folders of sessions that lasted for days, as earlier versions wrote them
_LONGEST = 200  # characters of a name on this machine: file systems end at 255, and a temporary name is longer
# slug, session, whether late, first, last, crc
_NAME = re.compile(r"([^/]+)/ledger/([\w.-]{1,200})(~late)?/(\d{1,30})-(\d{1,30})-([0-9a-f]{8})\.jsonl", re.ASCII)


@dataclass(frozen=True, order=True)
class Segment:
    """Name of a segment, which tells what it holds."""

    slug: str
    session: str
    first: int
    last: int
    crc: str
    late: bool = False

    @property
    def folder(self) -> str:
        return f"{self.slug}/ledger/{self.session}{_LATE if self.late else ''}"

    @property
    def name(self) -> str:
        return f"{self.folder}/{self.first:09d}-{self.last:09d}-{self.crc}.jsonl"

    @property
    def cached(self) -> str:
        """Its name on this machine, in one folder: a thousand folders take seconds to make and to remove."""
        name = self.name.replace("/", ",")
        if len(name) <= _LONGEST:
            return name
        return f"{hashlib.sha256(name.encode()).hexdigest()}-{self.crc}.jsonl"

    @property
    def count(self) -> int:
        return self.last - self.first + 1

    @staticmethod
    def parse(name: str) -> Segment | None:
        """Return the segment of a store name; None if it is not the name of one."""
        found = _parsed(name)
        return found if found is not None and _fault(found, name) is None else None

    def is_intact(self, data: bytes) -> bool:
        """Return whether this is the content as it was written."""
        return f"{zlib.crc32(data):08x}" == self.crc


def _parsed(name: str) -> Segment | None:
    m = _NAME.fullmatch(name)
    return Segment(m[1], m[2], int(m[4]), int(m[5]), m[6], bool(m[3])) if m else None


def _fault(segment: Segment, name: str) -> str | None:
    """Return why a name of a segment's form is that of none."""
    if not are_plain(name.split("/")):
        try:
            check_name(name)
        except UsageError as error:
            return shortened(str(error))
    highest = 10**30 if segment.session == MERGED else HIGHEST
    if not 1 <= segment.first <= segment.last <= highest:
        shown = f"{segment.first:.3g} to {segment.last:.3g}"
        return f"its name says that it holds the records {shown}, and records are numbered from 1 to {highest:.3g}"
    return None if name == segment.name else f"nbkit would call it {segment.name.rpartition('/')[2]}"


def segment_of(slug: str, session: str, first: int, lines: list[str]) -> tuple[Segment, bytes]:
    """Return the segment that holds these lines, and its content."""
    data = ("\n".join(lines) + "\n").encode()
    return Segment(slug, session, first, first + len(lines) - 1, f"{zlib.crc32(data):08x}"), data


def listed(store: Store, prefix: str, without: Collection[str] = ()) -> tuple[list[Segment], dict[str, str]]:
    """Return the segments below a prefix, and by name what is wrong with files of which only the form is right.

    Parameters
    ----------
    store : Store
    prefix : str
    without : collection of str
        Folders that are left out.
    """
    outside = getattr(store, "list_outside", None)  # on Drive, 50 folders cost a request
    segments, odd = list[Segment](), dict[str, str]()
    for stat in outside(prefix, without) if outside and without else store.list(prefix):
        found = _parsed(stat.name)
        if found is None or found.folder in without:
            continue
        fault = _fault(found, stat.name)
        if fault is None:
            segments.append(found)
        else:
            odd[stat.name] = f"skipped: {fault}"
    return segments, odd


def content_of(store: Store, segment: Segment, cache: Path) -> bytes | None:
    """Return a segment's content, and keep a copy; None where it was merged into a larger one since it was listed.

    Raises
    ------
    StoreError
        If the store cannot be read.
    DiskError
        If this machine's disk fails.
    """
    with on_disk(f"The copy of {segment.name} was not kept", cache):
        data = local_copy(segment, cache)
        if data is not None:
            return data
        local, in_place = cache / segment.cached, getattr(store, "in_place", lambda name: None)(segment.name)
        if in_place is not None:  # copied without a sync, three times as fast; a torn copy is seen by its checksum
            with contextlib.suppress(OSError):  # the store's own verb tells what is wrong
                data = in_place.read_bytes()
        if data is not None:
            local.parent.mkdir(parents=True, exist_ok=True)
            local.write_bytes(data)
            return data
        try:
            store.get(segment.name, local)
        except FileNotFoundError:
            return None
        return local.read_bytes()


def local_copy(segment: Segment, cache: Path) -> bytes | None:
    """Return a segment's content from the folder of fetched ones; None where it is not there or damaged."""
    local = cache / segment.cached
    data = local.read_bytes() if local.is_file() else b""
    return data if segment.is_intact(data) else None
