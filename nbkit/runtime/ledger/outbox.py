"""The outbox: work goes on while uploads run.

A bounded queue and a few threads, a connection each. What waits is written in the ledger before it is queued, so the
queue outlives a kill, and what has not reached the store can always be named. The bound limits what a lost machine
takes along.
"""

from __future__ import annotations

import contextlib
import queue
import sqlite3
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable
from pathlib import Path

from nbkit.runtime.budget import Budget
from nbkit.runtime.errors import DamagedError, NbkitError, StoreError
from nbkit.runtime.ledger.ledger import Ledger
from nbkit.runtime.store.protocol import Stat, Store
from nbkit.runtime.store.retried import Retried

BOUND = 8
THREADS = 2
_TICK = 0.25  # seconds between looks at the clock when nothing comes
_FLUSH_EVERY = 2.0  # seconds between segments while items are being done
_REFRESH_EVERY = 20.0  # seconds between looks at what parallel sessions have done
_HOPELESS = 5  # permanent refusals in a row after which the store is said to be gone
_PATIENCE = 300.0  # seconds of passing faults, without one success, after which it is said to be gone
_AGAIN_EVERY = 5.0  # seconds between tries of what passing faults kept back

Job = tuple[str, str | int]
_WAKE: Job = ("wake", "")


class Outbox:
    """Bring outputs and parcels to the store beside the work.

    Parameters
    ----------
    ledger : Ledger
    store : Store
    budget : Budget
    threads : int
        Uploads at a time.
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
        self.refused: StoreError | None = None
        self._refusals = 0
        self._store = store
        self._queue: queue.Queue[Job] = queue.Queue(bound)
        self._then: dict[int, Callable[[], None]] = {}
        self._state = threading.Condition()
        self._stop = threading.Event()
        self._flushed = self._refreshed = self._tried = time.monotonic()
        self._failing: float | None = None  # since when every upload met a passing fault
        self._left_over: deque[Job] = deque(("parcel", row) for row in ledger.parcels())
        self._left_over += [("item", key) for key in ledger.here]
        self._put_off: list[Job] = []
        self._kept_back: set[Job] = set()  # put off or tried again, and not yet in the store
        self._open = len(self._left_over)  # jobs that some thread still has to see
        self._names: dict[str, threading.Lock] = {}
        self._threads = [threading.Thread(target=self._run, name=f"outbox-{i}", daemon=True) for i in range(threads)]
        for thread in self._threads:
            thread.start()

    # -- from the loop and from training --

    def send_item(self, key: str) -> None:
        """Queue the outputs of an item that the ledger has as done here; waits while the queue is full."""
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
            Called in the upload's thread once all are verified in the store.
        """
        row = self.ledger.add_parcel(label, [(str(path), name) for path, name in files])
        if then is not None:
            self._then[row] = then
        self._enqueue(("parcel", row))

    def _enqueue(self, job: Job) -> None:
        with self._state:
            self._open += 1
        while not self._stop.is_set():
            try:
                # what an outage keeps back waits too: the bound holds
                if len(self._kept_back) + self._queue.qsize() >= self._queue.maxsize:
                    time.sleep(_TICK)
                    raise queue.Full
                return self._queue.put(job, timeout=_TICK)
            except queue.Full:
                if self.budget.wall() <= 0 or self.refused is not None:
                    break
        with self._state:
            self._left_over.append(job)  # the ledger has it; the next session sends it

    def waiting(self) -> list[str]:
        """Return the names of all that is not yet in the store."""
        names = [name for parcel in self.ledger.parcels().values() for _, name in parcel["files"]]
        for key in list(self.ledger.here):
            names += [output.name for output in self.ledger.outputs(key)]
        return list(dict.fromkeys(names))

    def drain(self, timeout: float | None = None) -> list[str]:
        """Wait until all is in the store or the time is up; give the names of what is not.

        Parameters
        ----------
        timeout : float or None
            Seconds; None waits as long as it takes.
        """
        end = None if timeout is None else time.monotonic() + timeout
        with self._state:
            self._try_again()
            # what fails in passing here, too, is queued again by `_tend`, until the store is given up as gone
            while (self._open or self._put_off) and not self.refused:
                left = None if end is None else end - time.monotonic()
                if left is not None and left <= 0:
                    break
                self._state.wait(min(_TICK, left) if left is not None else _TICK)
        return self.waiting()

    def close(self) -> None:
        """Stop the threads after what they are at; nothing that waits is lost."""
        self._stop.set()
        for _ in self._threads:
            with contextlib.suppress(queue.Full):
                self._queue.put_nowait(_WAKE)
        end = time.monotonic() + max(0.2, min(30.0, self.budget.wall()))
        for thread in self._threads:
            thread.join(timeout=max(0.0, end - time.monotonic()))

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
        store = Retried(self._store.connect(), time_left=self.budget.wall)
        while not self._stop.is_set():
            job = self._next()
            if job is not None:
                try:
                    self._do(store, job)
                finally:
                    with self._state:
                        if job not in self._put_off:
                            self._kept_back.discard(job)
                        self._open -= 1
                        self._state.notify_all()
            self._tend(store)

    def _do(self, store: Store, job: Job) -> None:
        kind, what = job
        began = time.monotonic()
        then = None
        try:
            if kind == "item":
                self._send_item(store, str(what))
            else:
                then = self._send_parcel(store, int(what))
        except StoreError as error:
            return self._refuse(job, error)
        except NbkitError as error:  # the ledger cannot record it now, as on a full disk: the next session sends again
            return self._note_fault(str(what), str(error))
        except Exception as error:  # a fault of ours must be seen, and must not end the uploads of the rest
            if not self._stop.is_set():  # after close() the ledger is shut: the next session sends it
                self.say(f"uploading {what} failed unexpectedly:\n{traceback.format_exc()}")
            self.faults[str(what)] = repr(error)
            return None
        self.faults.pop(str(what), None)
        self.budget.measured("upload", time.monotonic() - began)
        with self._state:
            self._refusals = 0
            self._failing = None
            self._try_again()
        if then is not None:
            try:
                then()
            except (StoreError, NbkitError) as error:
                self._note_fault(str(what), str(error))
            except Exception:
                self.say(f"what follows the upload of {what} failed:\n{traceback.format_exc()}")

    def _send_item(self, store: Store, key: str) -> None:
        try:
            outputs = self.ledger.outputs(key)
            for output in outputs:
                stat = self._put(store, self.ledger.local(output.name), output.name)
                if (stat.size, stat.checksum or f"sha256:{output.sha256}") != (output.size, f"sha256:{output.sha256}"):
                    raise DamagedError(f"{output.name} changed on this disk after it was made")
        except (FileNotFoundError, DamagedError) as error:
            words = f"{error.filename} vanished" if isinstance(error, FileNotFoundError) else str(error)
            self.say(f"{key}: {words} before it reached the store; the item is done again")
            return self.ledger.forget(key)
        self.ledger.stored(key)
        for output in outputs:
            self.ledger.local(output.name).unlink(missing_ok=True)

    def _send_parcel(self, store: Store, row: int) -> Callable[[], None] | None:
        parcel = self.ledger.parcels().get(row) or {"files": [], "label": ""}
        then = self._then.get(row)
        for path, name in parcel["files"]:
            try:
                self._put(store, Path(path), name)
            except FileNotFoundError:
                # pruned, because something newer is whole: without it the files after it mean nothing
                self.say(f"{parcel['label']}: {name} is no longer on this disk and does not go to the store")
                then = None
                break
        self.ledger.remove_parcel(row)
        self._then.pop(row, None)
        return then

    def _put(self, store: Store, path: Path, name: str) -> Stat:
        """Put a file; of two uploads of one name the second waits, so that the newer content comes last."""
        with self._state:
            lock = self._names.setdefault(name, threading.Lock())
        with lock:
            stat = store.put(path, name)
        with self._state:
            if not lock.locked():
                self._names.pop(name, None)
        return stat

    def _refuse(self, job: Job, error: StoreError) -> None:
        label = str(job[1])
        self._note_fault(label, str(error))
        with self._state:
            if error.passing:
                self._put_off.append(job)
                self._kept_back.add(job)
                self._failing = self._failing or time.monotonic()
                hopeless = time.monotonic() - self._failing > _PATIENCE
                words = f"has taken nothing for {_PATIENCE / 60:.0f} min"
            else:
                self._refusals += 1
                hopeless = self._refusals >= _HOPELESS
                words = f"refused {self._refusals} uploads in a row"
            if not hopeless or self.refused is not None:
                return
            self.refused = error
        self.say(f"the store {words}; work stops, and what waits is kept here")

    def _note_fault(self, label: str, words: str) -> None:
        if label not in self.faults:
            self.say(f"not in the store yet: {label}: {words}")
        self.faults[label] = words

    def _try_again(self) -> None:
        """Queue what a passing fault kept back, now that the store answers or the session ends; under the lock."""
        self._left_over += self._put_off
        self._open += len(self._put_off)
        self._put_off.clear()

    def _tend(self, store: Store) -> None:
        """Flush and refresh when due; one thread does it, the others go on uploading."""
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
            if flush and self.ledger.flush(store):
                self.budget.measured("flush", time.monotonic() - now)
            if refresh:
                self.ledger.refresh(store)
                # a slow listing must not become the main traffic
                self._refreshed = time.monotonic() + 10 * (time.monotonic() - now)
        except (NbkitError, OSError, sqlite3.Error) as error:
            if not self._stop.is_set():
                self._note_fault("ledger", str(error))
        else:
            if flush or refresh:
                self.faults.pop("ledger", None)
