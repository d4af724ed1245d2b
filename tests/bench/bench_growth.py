"""Growth: opening, status and report after 1, 100 and 1,000 past sessions and with 1k and 100k items

Requests are counted at a Drive on the loopback. The seconds are those of a folder on this machine's disk, without the
time that an answer of the real Drive takes, about 0.3 s each.
"""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

import nbkit
from nbkit.runtime.ledger.segments import encode_line, read_state, segment_of
from nbkit.runtime.store.drive.credential import read_credential
from nbkit.runtime.store.drive.store import DriveStore
from nbkit.runtime.store.folder import FolderStore
from nbkit.runtime.store.retried import Retried
from nbkit.tools.report.page import write_report
from nbkit.tools.status.listing import list_once
from nbkit.tools.status.status import read_status
from tests.bench.rows import Row
from tests.runtime.store.drive.drive_loopback import Loopback
from tests.runtime.store.drive.drive_state import Plan
from tests.runtime.store.drive.test_many_sessions import make

_SLUG = "eeg_windows"  # a phase of the map
_HASH = "0123456789abcdef" * 4
_OPENING, _STATUS, _SECONDS = 25, 5, 2.0


def run(quick: bool) -> list[Row]:
    """Return the requests and seconds of opening, status and report by the size of a store."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for sessions in (1, 100) if quick else (1, 100, 1000):
            rows += _of_drive(Path(folder, f"drive-{sessions}"), sessions, every=3)
        rows += _of_drive(Path(folder, "drive-killed"), 100 if quick else 1000, every=1)
        for items in (1_000,) if quick else (1_000, 100_000):
            rows += _of_folder(Path(folder, f"folder-{items}"), items)
    return rows


def past(session: int, first: int, items: int, closed: bool) -> list[tuple[str, bytes]]:
    """Return the name and content of the segment of a session that did some items and perhaps was killed."""
    at = time.time() - 60.0 * session - 300
    names = [f"k{i:07d}" for i in range(first, first + items)]
    records = [{"e": "open", "t": at, "host": "kaggle", "done": first, "step": 0}]
    records += [{"e": "done", "k": key, "o": [[f"{_SLUG}/items/{key}.npz", 7, _HASH]], "s": 1.0} for key in names]
    records += [{"e": "close", "t": at + 30, "reason": "wall", "done": first + items, "left": 1}] if closed else []
    name = f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime(at))}-{session:08x}"
    segment, data = segment_of(_SLUG, name, 1, [encode_line(record) for record in records])
    return [(segment.name, data)]


def _of_drive(folder: Path, sessions: int, every: int) -> list[Row]:
    """Measure a Drive in which every third session, or every one, was killed, all within the last day."""
    with Loopback(Plan(retry_after="0")) as drive:
        folders: dict[str, str] = {}
        for session in range(sessions):
            for name, data in past(session, session, 1, closed=session % every != 0):
                make(drive, name, data, folders)

        def store() -> DriveStore:
            return DriveStore(drive.drive.made_folder, read_credential(drive.credential_text(), "the bench"))

        def requests_of(what) -> int:
            before = drive.drive.counts["all"]
            what()
            return drive.drive.counts["all"] - before

        def opening(number: int) -> tuple[int, float]:
            before, began = drive.drive.counts["all"], time.perf_counter()
            session = nbkit.open_session(_SLUG, store(), folder=folder / f"machine-{number}", smoke=True)
            took = drive.drive.counts["all"] - before, time.perf_counter() - began
            assert len(session.ledger.state.done) == sessions
            session.close()
            return took

        first, _ = opening(0)  # it copies what it has read for those that follow, as every fourth of them does
        later = [opening(number)[0] for number in range(1, 5)]
        cache = folder / "cache"
        fresh = requests_of(lambda: read_status(list_once(store(), cache=cache)))
        again = requests_of(lambda: read_status(list_once(store(), cache=cache)))
        page = requests_of(lambda: write_report(list_once(store(), cache=cache), folder / "report.html"))
    name = f"{sessions:,} past sessions" + (", all killed" if every == 1 else "")
    return [
        Row(f"open on Drive after {name}", max(later), "requests", "before the records were copied", first,
            f"<= {_OPENING}", max(later) <= _OPENING),
        Row("  status of all phases, again on this machine", again, "requests", "for the first time", fresh,
            f"<= {_STATUS}", again <= _STATUS),
        Row("  report, after a status", page, "requests"),
    ]  # fmt: skip


def _of_folder(folder: Path, items: int) -> list[Row]:
    """Measure a folder with 1,000 segments of as many sessions."""
    store = FolderStore(folder / "store")
    for session in range(1000):
        for name, data in past(session, session * items // 1000, items // 1000, closed=session % 3 != 0):
            path = store.path(name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
    seconds = {}
    read_state(Retried(store), _SLUG, folder / "warm")
    for what, call in {
        "read": lambda: read_state(Retried(store), _SLUG, folder / "cache"),
        "status": lambda: read_status(store),
        "report": lambda: write_report(store, folder / "report.html"),
    }.items():
        began = time.perf_counter()
        call()
        seconds[what] = time.perf_counter() - began
    for what in ("open", "open again"):
        began = time.perf_counter()
        session = nbkit.open_session(_SLUG, str(store.root), folder=folder / what, smoke=True)
        seconds[what] = time.perf_counter() - began
        assert len(session.ledger.state.done) == items
        session.close()
    name = f"{items:,} items of 1,000 sessions"
    asked = f"<= {_SECONDS:g} s" if items <= 1_000 else ""
    met = {what: s <= _SECONDS if asked else None for what, s in seconds.items()}
    return [
        Row(f"read 1,000 segments, {name}", seconds["read"], "s", target=asked, met=met["read"]),
        Row("  open a session on a fresh machine", seconds["open again"], "s", "before the records were copied",
            seconds["open"], asked, met["open again"]),
        Row("  status of all phases", seconds["status"], "s", target=asked, met=met["status"]),
        Row("  report", seconds["report"], "s"),
    ]  # fmt: skip


if __name__ == "__main__":
    os.environ.setdefault("NBKIT_STORE", "unused")
    for row in run(quick=False):
        print(row.what, row.ours(), row.target, row.met, row.beside(row.alternative, row.alternative_value))
