"""The ledger: what happened to each item.

On the machine, a SQLite database holds what is not yet in the store. In the store, segments hold the rest. The state is
computed from both. An item is *done here* once its outputs are on disk and recorded, and *done* once the store holds
them, verified; only then does its record go into a segment.
"""

from __future__ import annotations

import contextlib
import math
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nbkit.ground.files import fsync_folder, make_folder, write_atomically
from nbkit.runtime.errors import DamagedError
from nbkit.runtime.ledger.claims import BETWEEN, OUTSIDE, Blame, blame
from nbkit.runtime.ledger.database import NumberedRow, Row, is_record_id, not_recorded, open_database
from nbkit.runtime.ledger.in_work import InWork
from nbkit.runtime.ledger.merging import adjacent, merge_finished, smallest_of_a_size
from nbkit.runtime.ledger.ranges import split_where
from nbkit.runtime.ledger.records import Record, fault_of, version_of
from nbkit.runtime.ledger.segments import (
    MERGED,
    Segment,
    decode_line,
    encode_line,
    is_whole,
    local_copy,
    read_state,
    segment_of,
)
from nbkit.runtime.store.address import hide_in, presentable
from nbkit.runtime.store.protocol import Store

MERGE = 16  # own segments of about one size that are merged into one
_FEW = 1000  # records of a session that are joined at each sign of life
_NEWEST = 2  # segments that are not joined yet, because a listing that lags shows them and not the joined one


@dataclass(frozen=True)
class Output:
    """One file that an item produced.

    Attributes
    ----------
    name : str
        Name in the store.
    size : int
        Bytes.
    sha256 : str
    """

    name: str
    size: int
    sha256: str


class Ledger:
    """Record of what happens to each item; a kill at any instruction loses at most the item in work.

    Parameters
    ----------
    folder : Path
        This session's own folder on the machine's disk, not on a mounted Drive.
    slug : str
        The phase.
    session : str
        Name of this session, unique among all.
    store : Store
    """

    def __init__(self, folder: Path, slug: str, session: str, store: Store) -> None:
        self.folder, self.slug, self.session, self.store = folder, slug, session, store
        make_folder(folder)
        self.notes: list[str] = []
        self.here: dict[str, int] = {}
        self.settings: str | None = None
        self.time_left: Callable[[], float] = lambda: math.inf
        self.released = self._ended = False
        self._put_seconds = 0.0
        self._lock = threading.RLock()
        self._flushing = threading.Lock()
        self._number = 0
        self.own: list[Segment] = []
        self._db, rows = open_database(folder, self.notes.append)
        self.state = read_state(store, slug, folder / "segments")
        self._merge_finished_sessions()
        for name, words in self.state.damaged.items():
            self.notes.append(f"Segment {name}: {words}. Items of lost records are done again.")
        self._in_work = InWork(folder)
        self._recover(rows)

    # -- opening --

    def _recover(self, rows: list[Row]) -> None:
        """Take over what an earlier, killed session of this folder recorded and had not yet brought to the store."""
        for row, session, number, line in rows:
            record = decode_line(line)
            if record is None or fault_of(record, self.slug) or not is_record_id(session, number):
                self._write("DELETE FROM records WHERE id=?", (row,))
                self.notes.append("A damaged record of an earlier session was dropped; its item is done again.")
            elif number is None and record["e"] == "done":
                if record["k"] in self.here or self._known(record) or not self._outputs_whole(record):
                    self._write("DELETE FROM records WHERE id=?", (row,))
                else:
                    self.here[record["k"]] = row
                    self.state.rows.take(record, counts=True, newer=False)
                    self.state.made.take(record, counts=True, newer=False)
            elif number is not None:
                # its segment may already be in the store; the number prevents that it counts twice
                self.state.add(session, [(number, record)])
        key, of = self._in_work.read()
        if key and not self.is_done(key) and of not in self.state.claims.closed:
            self.note({"e": "died", "k": key, "of": of} if of else {"e": "died", "k": key})
        elif of in self.state.claims.newest and of not in self.state.claims.closed:
            self.note({"e": "ended", "of": of, "how": BETWEEN})
        self.rest()

    def _known(self, record: Record) -> bool:
        """Return whether the store's records have this very result; another session's result may differ."""
        known = self.state.done.get(record["k"])
        return self.state.rounds.is_past(record) or (known is not None and all(o in known for o in record["o"]))

    def _outputs_whole(self, record: Record) -> bool:
        from nbkit.ground.files import sha256_of

        for name, size, sha256 in record["o"]:
            path = self.local(name)
            if not (path.is_file() and path.stat().st_size == size and sha256_of(path) == sha256):
                return False
        return True

    def local(self, name: str) -> Path:
        """Return the path of an output on this machine until the store has it."""
        return self.folder / "outputs" / name

    # -- recording --

    def use_settings(self, settings: Record, beside: Sequence[str] = ()) -> None:
        """Record the settings that the results depend on from now on, and versions of others that are kept beside."""
        self.settings = version_of(settings)
        if self.settings not in self.state.settings or beside:
            self.note({"e": "settings", "settings": settings} | ({"beside": list(beside)} if beside else {}))

    def begin(self, key: str) -> None:
        """Record which item is in work, so that the next session knows which one a kill interrupted."""
        self._in_work.write(key, self.session)

    def rest(self) -> None:
        """Record that no item is in work."""
        self.begin("")

    def done(self, key: str, outputs: Iterable[Output], seconds: float = 0.0, **more: Any) -> None:
        """Record that an item's outputs are whole on this machine's disk."""
        record = {"e": "done", "k": key, "o": [[o.name, o.size, o.sha256] for o in outputs], "s": round(seconds, 4)}
        if self.settings is not None:
            record["v"] = self.settings
            self.state.made.add(self.settings, key)
        line = encode_line(record | more | self.state.rounds.mark(key))
        with self._lock:
            self.here[key] = self._insert(None, line)

    def failed(self, key: str, error: str) -> None:
        """Record that an item raised an error."""
        claim = self.state.claims.newest.get(self.session, (0,))[0]
        self.note({"e": "failed", "k": key, "err": presentable(error), "n": claim})
        self.rest()

    def interrupted(self) -> None:
        """Record that this session ends without closing, and that no item is to blame."""
        self.note({"e": "ended", "of": self.session, "how": OUTSIDE})
        self.rest()

    def blame(self) -> Blame:
        """Return which items earlier sessions may have died in."""
        return blame(self.state.claims, self.is_done, self.session, time.time())

    def note(self, record: Record) -> None:
        """Record an event without outputs; it goes to the store with the next segment."""
        shown = hide_in(record, "") if "://" in repr(record) else record  # no secret is recorded
        record = {**shown, "t": round(time.time(), 3)}
        with self._lock:
            self._number += 1
            self._ended |= record["e"] == "close"
            self._insert(self._number, encode_line(record))
            self.state.add(self.session, [(self._number, record)])

    def _insert(self, number: int | None, line: str) -> int:
        return self._insert_row("INSERT INTO records(session,number,line) VALUES(?,?,?)", (self.session, number, line))

    def _insert_row(self, sql: str, values: tuple[Any, ...]) -> int:
        return int(self._write(sql, values).lastrowid or 0)  # an INSERT always has one, from 1

    def _write(self, sql: str, values: tuple[Any, ...]) -> sqlite3.Cursor:
        try:
            return self._db.execute(sql, values)
        except sqlite3.Error as error:
            raise not_recorded(self.folder, error) from error

    def stored(self, key: str) -> bool:
        """Record that the store holds an item's outputs, verified; return False once the closing record is made.

        None may follow that one: whoever reads it looks for no more. The next session sends the outputs again.
        """
        with self._lock:
            row = self.here.get(key)
            if row is None or self._ended:
                return row is None
            record = self._record(row)
            number = self._number + 1
            marked = "UPDATE records SET session=?, number=? WHERE id=?"
            if self._write(marked, (self.session, number, row)).rowcount != 1:
                raise DamagedError(f"The record of {key} in {self.folder} is gone; the item is done again")
            self._number = number
            self.state.add(self.session, [(number, record)])
            del self.here[key]
            return True

    def forget(self, key: str) -> None:
        """Make an item pending again whose outputs vanished from this machine before the store had them."""
        with self._lock:
            row = self.here.pop(key, None)
            if key not in self.state.done:
                self.state.made.drop(key)
            if row is not None:
                self._write("DELETE FROM records WHERE id=?", (row,))

    def outputs(self, key: str) -> list[Output]:
        """Return the outputs of an item that is done here and not yet in the store."""
        with self._lock:
            row = self.here.get(key)
            return [] if row is None else [Output(*o[:3]) for o in self._record(row)["o"]]

    def _record(self, row: int) -> Record:
        found = self._db.execute("SELECT line FROM records WHERE id=?", (row,)).fetchone()
        record = decode_line(found[0]) if found else None
        if record is None:
            raise DamagedError(f"A record in {self.folder} is damaged; its item is done again")
        return record

    def is_done(self, key: str) -> bool:
        """Return whether an item is done, here or in the store."""
        return key in self.state.done or key in self.here

    # -- uploads: other files on their way to the store --

    def add_upload(self, label: str, files: list[tuple[str, str]]) -> int:
        """Record files [(path, name)] that must reach the store in this order; the record survives a kill."""
        with self._lock:
            line = encode_line({"label": label, "files": files})
            return self._insert_row("INSERT INTO parcels(line) VALUES(?)", (line,))

    def uploads(self) -> dict[int, Record]:
        """Return the uploads that are not yet in the store."""
        with self._lock:
            rows = self._db.execute("SELECT id, line FROM parcels ORDER BY id").fetchall()
        return {row: record for row, line in rows if (record := decode_line(line)) is not None}

    def remove_upload(self, row: int) -> None:
        """Record that an upload has arrived."""
        with self._lock:
            self._write("DELETE FROM parcels WHERE id=?", (row,))

    # -- segments --

    def flush(self, store: Store | None = None, merge: bool = True, beat: bool = False) -> int:
        """Write the records of everything that is in the store as one segment per session; return their count.

        A sign of life, `beat`, joins the session's few segments into one, so that hours of them cost no one a request.
        """
        store = store or self.store
        with self._flushing:
            with self._lock:
                rows: list[NumberedRow] = self._db.execute(
                    "SELECT id, session, number, line FROM records WHERE number IS NOT NULL ORDER BY session, number"
                ).fetchall()
            damaged = [row[0] for row in rows if not is_whole(row[3])]
            if damaged:
                self.notes.append(f"{len(damaged)} records were damaged on disk; their items are done again.")
                self._remove(damaged)
            intact = [row for row in rows if row[0] not in damaged]
            for run in split_where(intact, lambda one, other: (one[1], one[2] + 1) != (other[1], other[2])):
                segment = self._put(store, run[0][1], run[0][2], [row[3] for row in run])
                self._remove([row[0] for row in run])
                if segment.session == self.session:
                    self.own.append(segment)
            if merge:
                few = beat and self._is_one_run() and sum(s.count for s in self.own) <= _FEW
                self._merge(store, _NEWEST if few else None)
            return len(rows)

    def _remove(self, rows: list[int]) -> None:
        with self._lock:
            try:
                self._db.execute("BEGIN")
                self._db.executemany("DELETE FROM records WHERE id=?", [(row,) for row in rows])
                self._db.execute("COMMIT")
            except sqlite3.Error as error:
                if self._db.in_transaction:
                    # an open transaction would include everything recorded from now on, and lose it at a kill
                    self._db.execute("ROLLBACK")
                raise not_recorded(self.folder, error) from error

    def _put(self, store: Store, session: str, first: int, lines: list[str]) -> Segment:
        """Bring lines to the store as a segment."""
        segment, data = segment_of(self.slug, session, first, lines)
        began = time.monotonic()
        self._put_content(store, segment, data)
        self._put_seconds = time.monotonic() - began
        return segment

    def _put_content(self, store: Store, segment: Segment, data: bytes) -> None:
        local = self.folder / "segments" / segment.cached
        write_atomically(local, lambda file: file.write(data))
        store.put(local, segment.name)

    def _merge(self, store: Store, but: int | None = None) -> None:
        """Merge segments of this session, all `but` some or many of a size; the parts are deleted last.

        If the store refuses, the parts stay, which hold the same records.
        """
        while len(group := self._to_merge(but)) > 1:
            if 2 * (len(group) + 1) * self._put_seconds > self.time_left():
                return  # near the wall, fewer segments are not worth the seconds
            lines: list[str] = []
            for part in group:
                found = self._lines_of(part)
                if not found:
                    return  # this machine's copy is damaged; the parts in the store stay as they are
                lines += found
            try:
                merged = self._put(store, self.session, group[0].first, lines)
                self.own = [s for s in self.own if s not in group] + [merged]
                for part in group:
                    store.delete(part.name)
                    (self.folder / "segments" / part.cached).unlink(missing_ok=True)
            except OSError as error:
                self.notes.append(f"This session's segments were not merged, and all of them are still there: {error}")
                return

    def _lines_of(self, segment: Segment) -> list[str]:
        """Return the lines of a segment from this machine's copy; none where it is gone or damaged."""
        data = local_copy(segment, self.folder / "segments")
        return [] if data is None else data.decode().removesuffix("\n").split("\n")

    def _merge_finished_sessions(self) -> None:
        """Merge what finished sessions left in the store, so that the next session opens with few requests."""
        try:
            found = merge_finished(self.slug, self.folder / "segments", self.state)
            if found is None:
                return
            self._put_content(self.store, *found)
            self.state.add_segment(*found)
            for segment in self.state.listed:
                if segment.session == MERGED and segment.name in self.state.replaced:
                    self.store.delete(segment.name)
        except OSError as error:
            self.notes.append(f"The ledger's segments were not merged, and all of them are still there: {error}")

    def _to_merge(self, but: int | None) -> list[Segment]:
        return smallest_of_a_size(self.own, MERGE) if but is None else sorted(self.own)[: len(self.own) - but]

    def _is_one_run(self) -> bool:
        return len(adjacent(self.own)) == 1

    def refresh(self, store: Store | None = None) -> None:
        """Add what other sessions have stored since."""
        read_state(store or self.store, self.slug, self.folder / "segments", self.state)

    def close(self, store: Store | None = None) -> None:
        """Flush, merge this session's segments into one, and close the database."""
        try:
            self.flush(store)
            with self._flushing:
                self._merge(store or self.store, 0 if self._is_one_run() else None)
        finally:
            self.release()

    def release(self) -> None:
        """Close files without touching the store."""
        with self._lock:
            self._db.close()
            self._in_work.close()
            self.released = True
        with contextlib.suppress(OSError):  # all records were synced when they were written
            fsync_folder(self.folder)

    def counts(self) -> dict[str, int]:
        """Return how many items are in the store, done here only, and waiting as records."""
        with self._lock:
            unsent = self._db.execute("SELECT count(*) FROM records WHERE number IS NOT NULL").fetchone()[0]
        return {"stored": len(self.state.done), "here": len(self.here), "unsent_records": unsent}
