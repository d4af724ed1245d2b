"""The outbox: work goes on while uploads run.

A bounded queue and a few threads, a connection each. What waits is written in the ledger before it is queued, so the
queue outlives a kill, and what has not reached the store can always be named. The bound limits what a lost machine
takes along.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from nbkit.runtime.budget import Budget
from nbkit.runtime.errors import StoreError
from nbkit.runtime.ledger import Ledger
from nbkit.runtime.store.protocol import Store
from nbkit.runtime.store.retried import Retried

BOUND = 8
THREADS = 2
_TICK = 0.25  # seconds between looks at the clock when nothing comes
_FLUSH_EVERY = 2.0  # seconds between segments while items are being done
_REFRESH_EVERY = 20.0  # seconds between looks at what parallel sessions have done
_HOPELESS = 5  # refusals in a row after which the store is said to be gone

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
        self._busy = 0
        self._state = threading.Condition()
        self._stop = threading.Event()
        self._flushed = self._refreshed = time.monotonic()
        self._left_over: list[Job] = [("parcel", row) for row in ledger.parcels()]
        self._left_over += [("item", key) for key in ledger.here]
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
        while not self._stop.is_set():
            try:
                return self._queue.put(job, timeout=_TICK)
            except queue.Full:
                if self.budget.wall() <= 0 or self.refused is not None:
                    break
        with self._state:
            self._left_over.append(job)  # the ledger has it; the next session sends it

    def waiting(self) -> list[str]:
        """Give the names of all that is not yet in the store."""
        names = [name for parcel in self.ledger.parcels().values() for _, name in parcel["files"]]
        for key in list(self.ledger.here):
            names += [output.name for output in self.ledger.outputs(key)]
        return names

    def drain(self, timeout: float | None = None) -> list[str]:
        """Wait until all is in the store or the time is up; give the names of what is not.

        Parameters
        ----------
        timeout : float or None
            Seconds; None waits as long as it takes.
        """
        end = None if timeout is None else time.monotonic() + timeout
        with self._state:
            while self._open_jobs() and not self.refused:
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
        for thread in self._threads:
            thread.join(timeout=max(1.0, min(30.0, self.budget.wall())))

    # -- in the threads --

    def _open_jobs(self) -> int:
        return self._busy + self._queue.qsize() + len(self._left_over)

    def _next(self) -> Job | None:
        with self._state:
            if self._left_over and not self.refused:
                self._busy += 1
                return self._left_over.pop(0)
        try:
            job = self._queue.get(timeout=_TICK)
        except queue.Empty:
            return None
        if job is _WAKE:
            return None
        with self._state:
            self._busy += 1
        return job

    def _run(self) -> None:
        store = Retried(self._store.connect(), time_left=self.budget.wall)
        while not self._stop.is_set():
            job = self._next()
            if job is not None:
                try:
                    self._do(store, job)
                finally:
                    with self._state:
                        self._busy -= 1
                        self._state.notify_all()
            self._tend(store)

    def _do(self, store: Store, job: Job) -> None:
        kind, what = job
        began = time.monotonic()
        try:
            if kind == "item":
                for output in self.ledger.outputs(str(what)):
                    store.put(self.ledger.local(output.name), output.name)
                names = [output.name for output in self.ledger.outputs(str(what))]
                self.ledger.stored(str(what))
                for name in names:
                    self.ledger.local(name).unlink(missing_ok=True)
                self.faults.pop(str(what), None)
            else:
                parcel = self.ledger.parcels().get(int(what))
                for path, name in parcel["files"] if parcel else ():
                    if Path(path).is_file():  # replaced by a newer one of its name, or pruned: nothing to keep
                        store.put(Path(path), name)
                self.ledger.remove_parcel(int(what))
                then = self._then.pop(int(what), None)
                if then is not None:
                    then()
            self._refusals = 0
            self.budget.measured("upload", time.monotonic() - began)
        except FileNotFoundError as error:
            if kind == "item":
                self.say(f"{what}: {error.filename} vanished before it reached the store; the item is done again")
                self.ledger.forget(str(what))
            else:
                self.ledger.remove_parcel(int(what))
        except StoreError as error:
            self._refuse(job, error)
        except Exception as error:  # a fault of ours must be seen, and must not end the uploads of the rest
            self.say(f"uploading {what} failed unexpectedly:\n{traceback.format_exc()}")
            self.faults[str(what)] = repr(error)

    def _refuse(self, job: Job, error: StoreError) -> None:
        label = str(job[1])
        if label not in self.faults:
            self.say(f"not in the store yet: {label}: {error}")
        self.faults[label] = str(error)
        self._refusals += 1
        if self._refusals >= _HOPELESS and self.refused is None:
            self.refused = error
            self.say(f"the store refused {self._refusals} uploads in a row; work stops, and what waits is kept here")

    def _tend(self, store: Store) -> None:
        """Flush and refresh when due; one thread does it, the others go on uploading."""
        now = time.monotonic()
        with self._state:
            flush = now - self._flushed > _FLUSH_EVERY
            refresh = now - self._refreshed > _REFRESH_EVERY
            self._flushed = now if flush else self._flushed
            self._refreshed = now if refresh else self._refreshed
        try:
            if flush:
                self.ledger.flush(store)
            if refresh:
                self.ledger.refresh(store)
                # a slow listing must not become the main traffic
                self._refreshed = time.monotonic() + 10 * (time.monotonic() - now)
        except (StoreError, FileNotFoundError) as error:
            self.faults["ledger"] = str(error)
        else:
            self.faults.pop("ledger", None)
