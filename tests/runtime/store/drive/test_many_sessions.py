"""What opening a session on Drive costs in requests, after hundreds of others."""

from __future__ import annotations

import time
from pathlib import Path

import nbkit
from nbkit.runtime.ledger.segments import Segment, encode_line, read_state, segment_of
from nbkit.runtime.store.drive.credential import read_credential
from nbkit.runtime.store.drive.store import DriveStore
from tests.runtime.store.drive.drive_loopback import Loopback
from tests.runtime.store.drive.drive_state import FOLDER, Plan

SESSIONS = 400


def past_session(i: int) -> tuple[Segment, bytes]:
    """Return the segment of a past session: half closed in the last day, the others killed then or weeks ago."""
    at = time.time() - (60.0 * i if i % 4 else 86400.0 * (7 + i % 60))
    records = [
        {"e": "open", "t": at, "host": "kaggle"},
        {"e": "done", "k": f"k{i}", "o": [[f"toy/items/{i}", 1, "aa"]]},
    ]
    records += [{"e": "failed", "k": "f", "err": "E", "t": at}]
    records += [{"e": "close", "t": at + 30.0, "reason": "wall"}] if i % 4 > 1 else []
    session = f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime(at))}-{i:08x}"
    return segment_of("toy", session, 1, list(map(encode_line, records)))


def make(drive: Loopback, name: str, content: bytes, folders: dict[str, str]) -> None:
    """Put a file into the Drive without a request, with the folders that it needs."""
    path, _, title = name.rpartition("/")
    parent, known = drive.drive.made_folder, ""
    for part in path.split("/"):
        known += f"/{part}"
        if known not in folders:
            meta = {"title": part, "parents": [{"id": parent}], "mimeType": FOLDER}
            folders[known] = drive.drive._add(meta, drive.drive.new_id())["id"]
        parent = folders[known]
    meta = {"title": title, "parents": [{"id": parent}], "id": drive.drive.new_id()}
    drive.drive.store(meta, None, content, len(content))


def opening(drive: Loopback, folder: Path) -> int:
    """Open a session on a fresh machine and return its requests; all past sessions must be known to it."""
    store = DriveStore(drive.drive.made_folder, read_credential(drive.credential_text(), "the test"))
    before = drive.drive.counts["all"]
    session = nbkit.open_session("toy", store, folder=folder, smoke=True)
    requests = drive.drive.counts["all"] - before
    fold = session.ledger.state
    assert {f"k{i}" for i in range(SESSIONS)} == set(fold.done) and fold.failures["f"] == SESSIONS
    assert len(fold.sessions) >= SESSIONS and not session.ledger.notes
    session.close()
    return requests


def test_opening_after_hundreds_of_sessions_takes_fewer_than_25_requests(tmp_path):
    with Loopback(Plan(retry_after="0")) as drive:
        folders: dict[str, str] = {}
        for i in range(SESSIONS):
            segment, data = past_session(i)
            make(drive, segment.name, data, folders)
        first = opening(drive, tmp_path / "first machine")  # it merges what it has read
        later = [opening(drive, tmp_path / f"machine {i}") for i in range(4)]
        print(f"requests of the opening: {first} before a merge, then {later}")
        assert first > SESSIONS, "every segment was fetched"
        assert max(later) < 25, later
        store = DriveStore(drive.drive.made_folder, read_credential(drive.credential_text(), "the test"))
        assert len(read_state(store, "toy", tmp_path / "check").sessions) == SESSIONS + 5
