"""The wall under a store that is slow or hangs: the session ends in time, and what is not stored is named and kept."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nbkit.runtime import budget, closing
from nbkit.runtime.card import next_notebooks
from nbkit.runtime.errors import NbkitError, StoreError
from nbkit.runtime.session import open_session
from nbkit.runtime.store import bounded
from nbkit.runtime.store.bounded import Bounded, OutOfTime
from nbkit.runtime.store.folder import FolderStore

ROWS = [{"key": f"item-{i}"} for i in range(5)]
SLOWNESS = 8.0  # seconds; much more than all sessions here have


class HangingStore(FolderStore):
    """A folder store in which some verbs hang from a moment on, until the test ends."""

    def __init__(self, root: Path, verbs: str, over: threading.Event, of: str = "") -> None:
        super().__init__(root)
        self.verbs, self.over, self.of, self.hung = verbs.split(), over, of, 0

    def _hang(self, verb: str, name: str) -> None:
        if verb in self.verbs and self.of in name and not self.over.is_set():
            self.hung += 1
            if self.over.wait(SLOWNESS):
                raise StoreError(f"{verb} {name}: the test is over", passing=True)

    def put(self, path: Path, name: str) -> Any:
        self._hang("put", name)
        return super().put(path, name)

    def get(self, name: str, path: Path, sha256: str | None = None) -> Any:
        self._hang("get", name)
        return super().get(name, path, sha256)

    def stat(self, name: str) -> Any:
        self._hang("stat", name)
        return super().stat(name)

    def list(self, prefix: str = "") -> Any:
        self._hang("list", prefix)
        return super().list(prefix)

    def delete(self, name: str) -> None:
        self._hang("delete", name)
        super().delete(name)


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounded, "LEAST", 0.2)
    monkeypatch.setattr(budget, "_GRACE", 1.0)
    monkeypatch.setattr(closing, "_LEAVING", 1.0)


@pytest.fixture
def over() -> Iterator[threading.Event]:
    event = threading.Event()
    yield event
    event.set()


def work(session: Any) -> None:
    for item in session.work(ROWS):
        with item:
            item.save(x=np.arange(4))


def healthy(tmp_path: Path) -> dict[str, Any]:
    session = open_session("slow", FolderStore(tmp_path / "store"), folder=tmp_path / "work")
    work(session)
    return session.close()


@pytest.mark.parametrize(
    ("verbs", "of"), [("put", ""), ("put", "/ledger/"), ("put", "/items/"), ("put get stat list delete", "/nothing/")]
)
def test_session_ends_at_its_wall_though_uploads_hang(tmp_path, capsys, over, verbs, of) -> None:
    store = HangingStore(tmp_path / "store", verbs, over, of)
    began = time.monotonic()
    session = open_session("slow", store, limit=1.5, folder=tmp_path / "work")
    work(session)
    summary = session.close()
    assert time.monotonic() - began < 1.5 + 3, "the wall counts for the closing, too"
    said = capsys.readouterr().out
    assert "Traceback" not in said
    if store.hung:
        assert summary["exit"] == 3 and not summary["complete"]
        assert all(name in said for name in summary["not_stored"][:1])
        assert "time was up" in said, said
    else:
        assert summary["complete"]
    over.set()
    again = healthy(tmp_path)
    assert again["complete"] and again["done"] == len(ROWS) and not again["not_stored"]


@pytest.mark.parametrize("verb", ["list", "get"])
def test_store_that_hangs_at_the_opening_ends_the_session_in_words(tmp_path, over, verb) -> None:
    healthy(tmp_path)
    began = time.monotonic()
    with pytest.raises(OutOfTime, match=f"{verb} slow/.* when the session's time was up"):
        open_session(
            "slow", HangingStore(tmp_path / "store", verb, over), limit=0.8, folder=tmp_path / "another machine"
        )
    assert time.monotonic() - began < 0.8 + 2
    over.set()
    assert healthy(tmp_path)["complete"]


@pytest.mark.parametrize("verb", ["list", "get"])
def test_inputs_at_the_end_do_not_pass_the_wall(tmp_path, over, verb) -> None:
    healthy(tmp_path)
    began = time.monotonic()
    store = HangingStore(tmp_path / "store", verb, over, "slow/")
    session = open_session("other", store, limit=1.0, folder=tmp_path / "work")
    with pytest.raises(OutOfTime):
        session.inputs("slow") if verb == "list" else session.history("slow")
    session._leave()
    assert time.monotonic() - began < 1.0 + 2


_CELLS = """
import sys, time, nbkit
from nbkit.runtime import budget
budget._GRACE = 3.0
where, root, limit = sys.argv[1], sys.argv[2], float(sys.argv[3]) or None
session = nbkit.open_session("toy", root + "/store", folder=root + "/work", limit=limit)
print("open", flush=True)
if where == "before":
    time.sleep(60)
for item in session.work([{"key": "a"}, {"key": "b"}]):
    with item:
        item.save(x=[1])
    if where == "break":
        break
print("worked", flush=True)
time.sleep(60)
"""


@pytest.mark.kill
@pytest.mark.parametrize("limit", [0, 3600])
@pytest.mark.parametrize("where", ["before", "after", "break"])
def test_signal_in_a_cell_outside_of_the_work_ends_it(tmp_path, where, limit) -> None:
    command = [sys.executable, "-c", _CELLS, where, str(tmp_path), str(limit)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    for line in process.stdout:
        if line.strip() == ("open" if where == "before" else "worked"):
            break
    time.sleep(0.5)  # Python sees a signal that comes directly before a sleep only after it, with nbkit or without
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    said, _ = process.communicate(timeout=40)
    assert time.monotonic() - began < 8, said
    assert "SIGTERM" in said and "Traceback" not in said
    with open_session("toy", tmp_path / "store", folder=tmp_path / "again") as session:
        assert len(session.ledger.state.done) == {"before": 0, "break": 1, "after": 2}[where]


def test_signal_ends_a_session_without_a_limit_though_uploads_hang(tmp_path, over) -> None:
    store = HangingStore(tmp_path / "store", "put", over, "/items/")
    session = open_session("slow", store, folder=tmp_path / "work")
    work(session)
    threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGTERM)).start()
    began = time.monotonic()
    summary = session.close()  # waits for the uploads when the signal comes
    assert time.monotonic() - began < 0.3 + 1.0 + 3 and summary["exit"] == 3 and summary["not_stored"]
    over.set()
    assert healthy(tmp_path)["complete"]


def test_leaving_ends_though_uploads_hang(tmp_path, over) -> None:
    session = open_session("slow", HangingStore(tmp_path / "store", "put", over, "/items/"), folder=tmp_path / "work")
    work(session)
    began = time.monotonic()
    session._leave()
    assert time.monotonic() - began < 1.0 + 3
    over.set()
    assert healthy(tmp_path)["complete"]


def test_process_does_not_wait_for_a_hanging_call(tmp_path) -> None:
    script = (
        "import time, numpy as np\n"
        "from nbkit.runtime.session import open_session\n"
        "from nbkit.runtime.store.folder import FolderStore\n"
        "class Hanging(FolderStore):\n"
        "    def put(self, path, name): time.sleep(600)\n"
        f"session = open_session('slow', Hanging({str(tmp_path / 'store')!r}), limit=2.5, "
        f"folder={str(tmp_path / 'work')!r})\n"
        "for item in session.work([{'key': 'a'}]):\n"
        "    with item:\n"
        "        item.save(x=np.arange(3))\n"
        "raise SystemExit(session.close()['exit'])\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 3, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr


def test_call_that_ends_in_time_gives_its_result_or_its_error() -> None:
    calls = Bounded(lambda: 5.0)
    assert calls.call(lambda: 7, "seven") == 7
    with pytest.raises(KeyError):
        calls.call(lambda: {}["x"], "nothing")
    names = {calls.call(lambda: threading.current_thread().ident, "thread") for _ in range(3)}
    assert len(names) == 1 and threading.get_ident() not in names, "one connection for all calls of a thread"


class TwinStore(FolderStore):
    """A folder store that counts how often its twins are removed, and refuses it."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.tidied: list[str] = []

    def connect(self) -> TwinStore:
        return self

    def tidy(self, prefix: str) -> None:
        self.tidied.append(prefix)
        raise StoreError("no deletion today")


@pytest.mark.parametrize("done", [5, 2])
def test_a_complete_session_removes_twins_and_outlives_a_refusal(tmp_path: Path, done: int, capsys) -> None:
    store = TwinStore(tmp_path / "store")
    session = open_session("twins", store=store, folder=tmp_path / "machine")
    for item, _ in zip(session.work(ROWS), range(done), strict=False):
        with item:
            item.save(x=np.zeros(1))
    session.left = lambda: (len(ROWS) - done, 0)
    summary = session.close()
    assert (summary["complete"], summary["exit"]) == ((True, 0) if done == 5 else (False, 3))
    assert set(store.tidied) == ({"twins/items/"} if done == 5 else set()), "only the end of a phase costs a listing"
    assert ("no deletion today" in capsys.readouterr().out) == (done == 5)


def test_the_closing_card_names_the_notebooks_that_go_on():
    assert next_notebooks("bandvar_train")[0] == "41_bandvar_rollout"
    assert next_notebooks("eeg_windows") == ["20_labram_codebook", "30_jepa_pretrain", "40_bandvar_train"]
    assert next_notebooks("labram_codebook") == ["21_labram_pretrain"], "what else waits for it, waits for more"
    assert next_notebooks("no_such_phase") == []


def deny_queries(session: Any) -> None:
    """Let every query of a session's ledger fail, as on a disk that fails."""
    session.ledger._db.set_authorizer(
        lambda action, *_: sqlite3.SQLITE_DENY if action == sqlite3.SQLITE_SELECT else sqlite3.SQLITE_OK
    )


def test_a_ledger_that_cannot_be_read_is_told_in_words_and_the_session_closes(tmp_path, capsys):
    session = open_session("toy", store=tmp_path / "store", folder=tmp_path / "work")
    for item in session.work(ROWS):
        with item:
            item.save(x=np.zeros(2))
    session.outbox.drain(5.0)
    deny_queries(session)
    for call in (lambda: session.inputs("toy"), session.history, session.ledger.counts):
        with pytest.raises(NbkitError, match="could not be read"):
            call()
    end = session.close()
    assert not end["complete"] and end["exit"] == 3
    assert "could not be read" in capsys.readouterr().out
    again = open_session("toy", store=tmp_path / "store", folder=tmp_path / "work")
    for item in again.work(ROWS):
        with item:
            item.save(x=np.zeros(2))
    assert again.close()["complete"]


@pytest.mark.parametrize("where", ["/dev/full", "", "no/such/folder/journal"])
def test_a_journal_that_cannot_be_written_stops_no_session(tmp_path, monkeypatch, capsys, where):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("nbkit.runtime.journal._unwritten", set())
    monkeypatch.setenv("NBKIT_JOURNAL", where or str(tmp_path))
    session = open_session("toy", store=tmp_path / "store", folder=tmp_path / "work")
    for item in session.work(ROWS):
        with item:
            item.save(x=np.zeros(2))
    assert session.close()["complete"]
    assert capsys.readouterr().out.count("cannot be written") == 1
