"""The outbox: uploads that run beside the work.

It has a bounded queue and a few threads, each with its own connection. Uploads are recorded in the ledger before they
are queued, so the queue survives a kill, and files that are not in the store yet can always be listed. The bound limits
what is lost with a machine.
"""

from __future__ import annotations

import contextlib
import math
import os
import queue
import sqlite3
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable
from pathlib import Path

from nbkit.ground.background import Background
from nbkit.runtime.budget import Budget
from nbkit.runtime.errors import DamagedError, NbkitError, StoreError
from nbkit.runtime.ledger.claims import ALIVE, BEAT
from nbkit.runtime.ledger.ledger import Ledger
from nbkit.runtime.store.protocol import Stat, Store
from nbkit.runtime.store.retried import Retried

BOUND = 8
THREADS = 2
_TICK = 0.25  # seconds between looks at the clock when nothing comes
_FLUSH_EVERY = 2.0  # seconds between segments while items are being done
_REFRESH_EVERY = 20.0  # seconds between looks at what parallel sessions have done
_HOPELESS = 5  # permanent faults in a row after which the store is given up
_PATIENCE = 300.0  # seconds of passing faults, without one success, after which it is given up
_STUMBLES = 3  # tries of an upload that fails by a fault of this machine or a bug of ours
_AGAIN_EVERY = 5.0  # seconds between tries of uploads that met passing faults

Job = tuple[str, str | int]
_WAKE: Job = ("wake", "")
_NO_MEMORY = "this machine's memory is used up"


class Outbox:
    """Bring outputs and other files to the store beside the work.

    Parameters
    ----------
    ledger : Ledger
    store : Store
    budget : Budget
    threads : int
        Number of uploads at a time.
    bound : int
        Jobs that may wait before `send` waits too.
    say : callable
        Prints one line.
    """

    def __init__(
        self,
        ledger: Ledger,
        store: Store,
        budget: Budget,
        threads: int = THREADS,
        bound: int = BOUND,
        say: Callable[[str], None] = print,
    ) -> None:
        self.ledger, self.budget, self.say = ledger, budget, say
        self.faults: dict[str, str] = {}
        self.sent: dict[str, Path] = {}  # what the store confirmed, without items' outputs
        self.refused: StoreError | None = None
        self._refusals = 0
        self._store = store
        self._queue: queue.Queue[Job] = queue.Queue(bound)
        self._then: dict[int, Callable[[], None]] = {}
        self._state = threading.Condition()
        self._stop = threading.Event()
        self._flushed = self._refreshed = self._tried = self._beaten = time.monotonic()
        self.refreshed: Callable[[], None] = lambda: None  # called when the ledger knows what others have done
        self.beside: Callable[[], bool] = lambda: False  # whether another session stores what this one does, too
        self._failing: float | None = None  # time since which each upload has met a passing fault
        self._left_over: deque[Job] = deque(("upload", row) for row in ledger.uploads())
        self._left_over += [("item", key) for key in ledger.here]
        self._put_off: list[Job] = []
        self._stumbles: dict[Job, int] = {}
        self._kept_back: set[Job] = set()  # postponed or tried again, and not yet in the store
        self._open = len(self._left_over)  # jobs that no thread has dealt with yet
        self._names: dict[str, threading.Lock] = {}
        self._tending = threading.Lock()
        self.confirmed: set[str] = set()  # keys of items whose outputs the store has taken in this session
        self._pid = os.getpid()
        self._threads = [self._begun(i) for i in range(threads)]

    def _begun(self, number: int) -> Background:
        thread = Background(self._run, name=f"outbox-{number}")
        thread.start()
        return thread

    def _begin_again(self) -> None:
        """Replace threads that died, as where memory ended."""
        for number, thread in enumerate(self._threads):
            if not thread.is_alive() and not self._stop.is_set() and self._pid == os.getpid():
                self._threads[number] = self._begun(number)

    # -- from the loop and from training --

    def send_item(self, key: str) -> None:
        """Queue the outputs of an item that is done here; waits while the queue is full."""
        self._enqueue(("item", key))

    def send(self, files: list[tuple[Path, str]], label: str, then: Callable[[], None] | None = None) -> None:
        """Queue files that must reach the store in this order.

        Parameters
        ----------
        files : list of (Path, str)
            Local path and name in the store.
        label : str
            What they are, for messages.
        then : callable or None
            Called in the upload's thread when all files are verified in the store.
        """
        row = self.ledger.add_upload(label, [(str(path), name) for path, name in files])
        if then is not None:
            self._then[row] = then
        self._enqueue(("upload", row))

    def _enqueue(self, job: Job) -> None:
        with self._state:
            self._open += 1
        while not self._stop.is_set():
            try:
                # uploads that wait for the end of an outage count, too
                if len(self._kept_back) + self._queue.qsize() >= self._queue.maxsize:
                    time.sleep(_TICK)
                    raise queue.Full
                return self._queue.put(job, timeout=_TICK)
            except queue.Full:
                # what is in the reserve is for the uploads that run and for the closing
                if self.budget.left() <= 0 or self.budget.stop_reason or self.refused is not None:
                    break
                self._begin_again()
        with self._state:
            self._left_over.append(job)  # it is recorded: the next session sends it

    def waiting(self) -> list[str]:
        """Return the names of all files that are not yet in the store."""
        names = [name for upload in self.ledger.uploads().values() for _, name in upload["files"]]
        for key in list(self.ledger.here):
            names += [output.name for output in self.ledger.outputs(key)]
        return list(dict.fromkeys(names))

    def drain(self, time_left: Callable[[], float] | float | None = None) -> list[str]:
        """Wait until all files are in the store or the time is up.

        Parameters
        ----------
        time_left : callable, float or None
            Seconds that it may still wait, or a function that returns them; None waits as long as it takes.

        Returns
        -------
        waiting : list of str
            Names of the files that are not in the store.
        """
        began = time.monotonic()
        seconds = math.inf if time_left is None else time_left
        with self._state:
            self._try_again()
            # `_tend` queues uploads that meet passing faults again, until the store is given up
            while (self._open or self._put_off) and not self.refused:
                # asked each time, because a signal may bring the end nearer
                left = seconds() if callable(seconds) else began + seconds - time.monotonic()
                if left <= 0:
                    break
                self._begin_again()
                self._state.wait(min(_TICK, left))
        return self.waiting()

    def close(self, kept: float = 0.0) -> bool:
        """Stop the threads after their current uploads, which stay recorded; return whether one still runs.

        Parameters
        ----------
        kept : float
            Seconds before the time limit that are kept for what follows: then a running upload is left.
        """
        self._stop.set()
        for _ in self._threads:
            with contextlib.suppress(queue.Full):
                self._queue.put_nowait(_WAKE)
        end = time.monotonic() + max(0.2, min(30.0, self.budget.wall() - kept))
        for thread in self._threads:
            thread.join(timeout=max(0.0, end - time.monotonic()))
        return any(thread.is_alive() for thread in self._threads)

    # -- in the threads --

    def _next(self) -> Job | None:
        with self._state:
            if self._left_over and not self.refused:
                return self._left_over.popleft()
        try:
            job = self._queue.get(timeout=_TICK)
        except queue.Empty:
            return None
        return None if job is _WAKE else job

    def _run(self) -> None:
        store: Retried | None = None
        while not self._stop.is_set():
            try:
                store = store or Retried(self._store.connect(), time_left=self.budget.wall)
                self._take_one(store)
                self._tend(store)
            except (NbkitError, OSError, MemoryError) as error:
                # the thread must outlive it, or all that is queued would wait for ever
                self._note_fault("the queue", str(error) or _NO_MEMORY)
                self._stop.wait(_TICK)

    def _take_one(self, store: Retried) -> None:
        job = self._next()
        if job is None:
            return
        try:
            self._do(store, job)
        finally:
            with self._state:
                if job not in self._put_off:
                    self._kept_back.discard(job)
                self._open -= 1
                self._state.notify_all()

    def _do(self, store: Retried, job: Job) -> None:
        (kind, what), began = job, time.monotonic()
        then = None
        try:
            if kind == "item":
                self._send_item(store, str(what))
            else:
                then = self._send_upload(store, int(what))
        except StoreError as error:
            return self._refuse(job, error)
        except (NbkitError, OSError, sqlite3.Error, MemoryError) as error:  # of this machine, such as a full disk
            return self._stumble(job, str(error) or _NO_MEMORY)
        except Exception as error:  # a bug of ours must be visible and must not stop the other uploads
            if not self._stop.is_set() and job not in self._stumbles:
                self.say(f"Uploading {what} failed unexpectedly:\n{traceback.format_exc()}")
            return self._stumble(job, repr(error))
        self.faults.pop(str(what), None)
        self._stumbles.pop(job, None)
        self.budget.measured("upload", time.monotonic() - began)
        with self._state:
            self._refusals = 0
            self._failing = None
            self._try_again()
        if then is not None:
            try:
                then()
            except (NbkitError, OSError, MemoryError) as error:
                self._note_fault(str(what), str(error) or _NO_MEMORY)
            except Exception:  # a bug of ours: shown whole; the file itself has arrived
                self.say(f"The callback after the upload of {what} failed:\n{traceback.format_exc()}")

    def _send_item(self, store: Retried, key: str) -> None:
        try:
            outputs = self.ledger.outputs(key)
            files = [(self.ledger.local(output.name), output.name) for output in outputs]
            for output, stat in zip(outputs, self._put(store, files), strict=True):
                if (stat.size, stat.checksum or f"sha256:{output.sha256}") != (output.size, f"sha256:{output.sha256}"):
                    raise DamagedError(f"{output.name} changed on this disk after it was made")
        except (FileNotFoundError, DamagedError) as error:
            words = f"{error.filename} vanished" if isinstance(error, FileNotFoundError) else str(error)
            self.say(f"{key}: {words} before it reached the store; the item is done again")
            return self.ledger.forget(key)
        stored = self.ledger.stored(key)
        if stored:
            self.confirmed.add(key)
        for output in outputs if stored else ():
            try:
                self.ledger.local(output.name).unlink(missing_ok=True)
            except OSError as error:
                self.say(f"{output.name} is in the store, and its copy here stays: {error}")

    def _send_upload(self, store: Retried, row: int) -> Callable[[], None] | None:
        upload = self.ledger.uploads().get(row) or {"files": [], "label": ""}
        then = self._then.get(row)
        files = [(Path(path), name) for path, name in upload["files"]]
        for group in [files] if store.together and files else [[file] for file in files]:
            try:
                self._put(store, group)
                for path, name in group:
                    self.sent.pop(name, None)
                    self.sent[name] = path  # the newest last
            except FileNotFoundError as error:
                # pruned, because a newer one is complete: without it the files after it are useless
                name = next((name for path, name in group if str(path) == error.filename), group[0][1])
                self.say(f"{upload['label']}: {name} is no longer on this disk and does not go to the store")
                then = None
                break
        self.ledger.remove_upload(row)
        self._then.pop(row, None)
        return then

    def _put(self, store: Retried, files: list[tuple[Path, str]]) -> list[Stat]:
        """Put files; of two uploads of one name the second waits, so that the newer content is written last."""
        if not files:
            return []
        names = sorted({name for _, name in files})  # in one order, or two uploads could wait for each other
        with contextlib.ExitStack() as held:
            for name in names:
                with self._state:
                    lock = self._names.setdefault(name, threading.Lock())
                held.enter_context(lock)
            stats = store.put_together(files)
        with self._state:
            for name in names:
                if name in self._names and not self._names[name].locked():
                    del self._names[name]
        return stats

    def _refuse(self, job: Job, error: StoreError) -> None:
        label = str(job[1])
        self._note_fault(label, str(error))
        with self._state:
            if error.passing:
                self._put_off.append(job)
                self._kept_back.add(job)
                self._failing = self._failing or time.monotonic()
                hopeless = time.monotonic() - self._failing > _PATIENCE
                words = f"has accepted nothing for {_PATIENCE / 60:.0f} min"
            else:
                self._refusals += 1
                hopeless = self._refusals >= _HOPELESS
                words = f"refused {self._refusals} uploads in a row"
            if not hopeless or self.refused is not None:
                return
            self.refused = error
        self.say(f"The store {words}. Work stops; files that wait are kept here.")

    def _stumble(self, job: Job, words: str) -> None:
        """Put off an upload that failed by no fault of the store; after some tries the next session sends it."""
        if self._stop.is_set():  # the ledger is closed, and that may be the fault
            return
        self._note_fault(str(job[1]), words)
        with self._state:
            self._stumbles[job] = self._stumbles.get(job, 0) + 1
            if self._stumbles[job] < _STUMBLES:
                self._put_off.append(job)
                self._kept_back.add(job)

    def _note_fault(self, label: str, words: str) -> None:
        if label not in self.faults:
            self.say(f"Not in the store yet: {label}: {words}")
        self.faults[label] = words

    def _try_again(self) -> None:
        """Queue uploads that met passing faults once more; the caller holds the lock."""
        self._left_over += self._put_off
        self._open += len(self._put_off)
        self._put_off.clear()

    def _tend(self, store: Store) -> None:
        """Flush and refresh when due; one thread does it while the others upload."""
        if self._tending.acquire(blocking=False):
            try:
                self._tend_now(store)
            finally:
                self._tending.release()

    def _tend_now(self, store: Store) -> None:
        now = time.monotonic()
        with self._state:
            flush = now - self._flushed > _FLUSH_EVERY
            refresh = now - self._refreshed > _REFRESH_EVERY
            self._flushed = now if flush else self._flushed
            self._refreshed = now if refresh else self._refreshed
            if now - self._tried > _AGAIN_EVERY:
                self._tried = now
                self._try_again()
        try:
            beat = flush and now - self._beaten > BEAT
            if beat:
                self.ledger.note(ALIVE)
            if flush and self.ledger.flush(store, beat=beat):
                self._beaten = now
                self.budget.measured("flush", time.monotonic() - now)
            if refresh:
                self.ledger.refresh(store)
                self.refreshed()
                # a slow listing must not become most of the traffic
                self._refreshed = time.monotonic() + 10 * (time.monotonic() - now)
        except (NbkitError, OSError, sqlite3.Error, MemoryError) as error:
            if not self._stop.is_set():
                self._note_fault("ledger", str(error) or _NO_MEMORY)
        else:
            if flush or refresh:
                self.faults.pop("ledger", None)
