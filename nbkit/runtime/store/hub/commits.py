"""Commits to the Hub, each for many files: all puts of a minute share one.

The Hub counts commits, so a commit a file would soon be refused. Each put waits for the commit that has its file; one
thread makes the commits, at most one in `EVERY` seconds, sends contents in the meantime, and looks afterwards whether
the Hub holds what was sent. A session that is killed before a commit leaves no trace of its files.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterable
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from huggingface_hub import CommitOperationAdd, CommitOperationDelete

from nbkit.ground.background import Background
from nbkit.runtime.store.hub.access import Entry, HubAccess
from nbkit.runtime.store.hub.faults import HubError
from nbkit.runtime.store.retried import asked_wait, is_passing

EVERY = 60.0  # seconds between two commits of a session
_GATHER = 1.0  # seconds that the first put waits for others, at most
_TRIES = 4
_LONGEST_WAIT = 30.0  # seconds; longer ones are left to the store's retries


@dataclass(eq=False)
class Content:
    """A local file on its way to a name.

    Attributes
    ----------
    name : str
    path : Path
    size : int
        Bytes.
    sha256, blob : str
        Hash of the content, and git's SHA-1 of it.
    """

    name: str
    path: Path
    size: int
    sha256: str
    blob: str
    done: Future[None] = field(default_factory=Future)

    def is_in(self, held: dict[str, Entry]) -> bool:
        """Return whether the Hub holds this content."""
        entry = held.get(self.name)
        return entry is not None and entry.holds(self.size, self.sha256, self.blob)


class Commits:
    """Bring files to the Hub and delete others, many with one commit.

    Parameters
    ----------
    access : HubAccess
    every : float
        Seconds between two commits.
    """

    def __init__(self, access: HubAccess, every: float = EVERY) -> None:
        self._access, self._every = access, every
        self._writer = os.urandom(3).hex()  # tells the commits of parallel sessions apart
        self._started(-every)

    def _started(self, last: float) -> None:
        self._changed, self._pid = threading.Condition(), os.getpid()
        self._waiting: list[Content] = []
        self._gone: dict[str, None] = {}
        self._hurry = False
        self._thread: threading.Thread | None = None
        self._last = time.monotonic() + last

    def put(self, content: Content) -> Future[None]:
        """Queue a file; the future ends when the Hub was seen to hold it, or cannot be brought to."""
        self.put_all([content])
        return content.done

    def put_all(self, contents: Iterable[Content]) -> None:
        """Queue files that become visible together."""
        if self._pid != os.getpid():  # a forked process has the object but not the thread
            self._started(0.0)
        with self._changed:
            for content in contents:
                self._gone.pop(content.name, None)
                self._waiting.append(content)
            self._wake()

    def delete(self, name: str) -> None:
        """Queue a deletion, which goes with the next commit; until then this process hides the name."""
        if self._pid != os.getpid():
            self._started(0.0)
        with self._changed:
            self._gone[name] = None
            self._wake()

    def is_deleted(self, name: str) -> bool:
        """Return whether a deletion waits for its commit."""
        return name in self._gone

    def deleted(self) -> frozenset[str]:
        """Return the names whose deletion waits for its commit."""
        return frozenset(self._gone)  # without the lock, which a forked process may never get

    def deletes(self) -> bool:
        """Return whether any deletion waits for its commit."""
        return bool(self._gone) and self._pid == os.getpid()

    def settle(self, seconds: float, at_once: bool = False) -> None:
        """Wait until nothing waits, for so many seconds at most; `at_once` makes the commit before its time."""
        end = time.monotonic() + seconds
        with self._changed:
            self._hurry = at_once
            self._changed.notify_all()
            while self._thread is not None and self._pid == os.getpid() and time.monotonic() < end:
                self._changed.wait(max(0.0, end - time.monotonic()))

    def _wake(self) -> None:
        if self._thread is None or not self._thread.is_alive():
            self._thread = Background(self._run, name="hub-commits")
            self._thread.start()
        self._changed.notify_all()

    # -- in the thread --

    def _run(self) -> None:
        held: list[Content] = []
        while True:
            time.sleep(min(_GATHER, self._every / 20))
            try:
                held = self._send(held)
                with self._changed:
                    soon = self._last + self._every - time.monotonic()
                    if soon > 0 and (held or self._gone) and not self._hurry:
                        self._changed.wait_for(partial(self._may_go_on, held), soon)
                        continue
                self._commit(held)
                held = []
            except BaseException as error:  # whoever waits for these contents gets it
                _end(held, error)
                held = []
            with self._changed:
                if not self._waiting and not self._gone:
                    self._thread, self._hurry = None, False
                    self._changed.notify_all()
                    return

    def _may_go_on(self, held: list[Content]) -> bool:
        return self._hurry or bool(self._fresh(held))

    def _fresh(self, held: list[Content]) -> list[Content]:
        """Return what waits and may join; of two contents of a name the second has a later commit."""
        names = {content.name for content in held}
        fresh = []
        for content in self._waiting:
            if content.name not in names:
                names.add(content.name)
                fresh.append(content)
        return fresh

    def _send(self, held: list[Content]) -> list[Content]:
        """Send what came since, and return all that needs a commit; what the Hub has already needs none."""
        with self._changed:
            fresh = self._fresh(held)
            self._waiting = [content for content in self._waiting if content not in fresh]
        if not fresh:
            return held
        try:
            there = self._access.entries([content.name for content in fresh])
            _end([content for content in fresh if content.is_in(there)])
            fresh = _without_vanished(content for content in fresh if not content.done.done())
            if fresh:
                self._access.send([_add(content) for content in fresh])
        except Exception as error:
            # the commit sends what is not there yet; a permanent fault would only meet it again
            if not is_passing(fault := _of_all(error)):
                _end(fresh, fault)
                return held
        return held + fresh

    def _commit(self, held: list[Content]) -> None:
        """Make one commit; try again where the Hub has certainly made none."""
        for attempt in range(1, _TRIES + 1):
            held = _without_vanished(held)
            with self._changed:
                gone = [name for name in self._gone if name not in {content.name for content in held}]
            there = self._access.entries(gone) if gone else {}
            doomed = [name for name in there if self.is_deleted(name)]
            if not held and not doomed:
                return self._deleted(gone)
            fault: Exception | None = None
            try:
                operations: list[CommitOperationAdd | CommitOperationDelete] = [*map(_add, held)]
                operations += map(CommitOperationDelete, doomed)
                self._access.commit(operations, f"{self._writer}: {len(held)} files, {len(doomed)} deleted")
            except Exception as error:  # judged below, by what the Hub holds then
                fault = _of_all(error)
            ended = time.monotonic()
            # whatever was answered, what the Hub holds decides
            unclear = fault is None or is_passing(fault)
            now = self._access.entries([*(content.name for content in held), *doomed]) if unclear else None
            arrived = [content for content in held if now is not None and content.is_in(now)]
            vanished = [name for name in doomed if now is not None and name not in now]
            if fault is None or arrived or vanished:
                self._last = ended
            _end(arrived)
            self._deleted(set(gone) - set(doomed) | set(vanished))
            held = [content for content in held if not content.done.done()]
            if not held and len(vanished) == len(doomed):
                return
            if fault is None or arrived or vanished:
                words = held[0].name if held else f"{doomed[0]}, deleted,"
                raise HubError(f"{words} in {self._access.repo} is not as it was sent; it is sent again", passing=True)
            if not is_passing(fault) or attempt == _TRIES or asked_wait(fault) > _LONGEST_WAIT:
                self._deleted(gone)  # a fault of the login meets the next put, too; what stays does no harm
                raise fault
            time.sleep(max(asked_wait(fault), min(0.5 * 2**attempt, self._every / 10)))

    def _deleted(self, names: Iterable[str]) -> None:
        with self._changed:
            for name in names:
                self._gone.pop(name, None)


def _add(content: Content) -> CommitOperationAdd:
    return CommitOperationAdd(content.name, str(content.path))


def _of_all(error: Exception) -> Exception:
    """Return an error for all files of a commit: one that is gone from this disk is not the others' fault."""
    if isinstance(error, OSError) and not isinstance(error, HubError):
        return HubError(f"a file changed on this disk while it was sent: {error}", passing=True)
    return error


def _without_vanished(contents: Iterable[Content]) -> list[Content]:
    """Return the files that are still on this disk, as they were; the others fail for themselves."""
    left = []
    for content in contents:
        try:
            if os.path.getsize(content.path) != content.size:
                _end([content], HubError(f"{content.path} changed while it was waiting to be sent", passing=True))
            else:
                left.append(content)
        except OSError as error:
            _end([content], error)
    return left


def _end(contents: Iterable[Content], error: BaseException | None = None) -> None:
    for content in contents:
        if not content.done.done():
            if error is None:
                content.done.set_result(None)
            else:
                content.done.set_exception(error)
