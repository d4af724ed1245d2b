"""Retries: the one place that decides when a failed call is made again.

Passing faults are retried with exponential, jittered waits, and no sooner than the server asked for; permanent ones are
raised at once. No wait goes past the deadline that was given.
"""

from __future__ import annotations

import email.utils
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from nbkit.runtime.errors import StoreError
from nbkit.runtime.store.address import show
from nbkit.runtime.store.bounded import Bounded
from nbkit.runtime.store.folder import FolderStore
from nbkit.runtime.store.protocol import Stat, Store

T = TypeVar("T")
_TRIES = 6
_FIRST_WAIT, _LONGEST_WAIT = 0.2, 30.0  # seconds
_LONGEST_ASKED = 3600.0  # seconds; a server that asks for more is asked again after an hour


def is_passing(error: BaseException) -> bool:
    """Return whether the same call may succeed later."""
    return isinstance(error, StoreError) and error.passing


def asked_wait(error: BaseException) -> float:
    """Return the seconds that a store asked to wait, 0 where it did not."""
    return float(getattr(error, "retry_after", None) or 0.0)


def retry(
    call: Callable[[], T],
    tries: int = _TRIES,
    first_wait: float = _FIRST_WAIT,
    longest_wait: float = _LONGEST_WAIT,
    time_left: Callable[[], float] | None = None,
    passing: Callable[[BaseException], bool] = is_passing,
    asked: Callable[[BaseException], float] = asked_wait,
) -> T:
    """Make a call, again after passing faults, and return its result.

    Parameters
    ----------
    call : callable
    tries : int
        Calls at most, the first included.
    first_wait, longest_wait : float
        Seconds before the second call, doubled each time and jittered, and their upper limit.
    time_left : callable or None
        Seconds that may still be spent on waiting; a longer wait is not begun.
    passing : callable
        Whether an error is worth another call.
    asked : callable
        Seconds that the server asked to wait, in an error.
    """
    from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_exponential, wait_random

    jittered = wait_exponential(multiplier=first_wait, max=longest_wait) + wait_random(0, first_wait)

    def wait(state: Any) -> float:
        return max(asked(state.outcome.exception()), jittered(state))

    def too_late(state: Any) -> bool:
        # tenacity has chosen the wait before it asks whether to stop
        return time_left is not None and state.upcoming_sleep > time_left()

    return Retrying(
        stop=lambda state: stop_after_attempt(tries)(state) or too_late(state),
        wait=wait,
        retry=retry_if_exception(passing),
        reraise=True,
        sleep=time.sleep,
    )(call)


def retry_after(value: str | None) -> float | None:
    """Return the seconds of a Retry-After header, which holds a number or a date; None where it holds neither."""
    if not value:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(value).timestamp() - time.time()
        except (ValueError, TypeError):
            return None
    return min(max(seconds, 0.0), _LONGEST_ASKED)


class Retried:
    """Store whose calls are made again after passing faults.

    Parameters
    ----------
    store : Store
    tries : int
    first_wait : float
        Seconds; see `retry`.
    time_left : callable or None
        Seconds that may still be spent; a call that has not ended by then is left.
    """

    def __init__(
        self,
        store: Store,
        tries: int = _TRIES,
        first_wait: float = _FIRST_WAIT,
        time_left: Callable[[], float] | None = None,
    ) -> None:
        self.inner, self.url = store, show(store.url)
        self._tries, self._first_wait, self._time_left = tries, first_wait, time_left
        self._bounded = Bounded(time_left) if time_left is not None else None

    def _call(self, verb: Callable[..., Any], *args: Any, what: str) -> Any:
        def call() -> Any:
            return verb(*args) if self._bounded is None else self._bounded.call(lambda: verb(*args), what)

        return retry(call, self._tries, self._first_wait, time_left=self._time_left)

    def put(self, path: Path, name: str) -> Stat:
        return self._call(self.inner.put, path, name, what=f"put {name} in {self.url}")

    @property
    def together(self) -> bool:
        """Whether the store stores many files at once, for no more than one of them."""
        return hasattr(self.inner, "put_together")

    def put_together(self, files: Sequence[tuple[Path, str]]) -> list[Stat]:
        """Store files at once where the store can, else one after the other, each with retries."""
        if not self.together:
            return [self.put(path, name) for path, name in files]
        return self._call(self.inner.put_together, files, what=f"put {files[0][1]} in {self.url}")  # type: ignore[attr-defined]

    def get(self, name: str, path: Path, sha256: str | None = None) -> Stat:
        return self._call(self.inner.get, name, path, sha256, what=f"get {name} from {self.url}")

    def in_place(self, name: str) -> Path | None:
        """Return the path of a file that can be read without a copy of it; None where the store is no plain folder."""
        return self.inner.path(name) if type(self.inner) is FolderStore else None

    def stat(self, name: str) -> Stat | None:
        return self._call(self.inner.stat, name, what=f"stat {name} in {self.url}")

    def list(self, prefix: str = "") -> Iterator[Stat]:
        return iter(self._call(lambda: list(self.inner.list(prefix)), what=f"list {prefix} in {self.url}"))

    def list_outside(self, prefix: str, without: Collection[str]) -> Iterator[Stat]:
        """Return what `list` returns, where the store can do so without what lies in some folders."""
        outside = getattr(self.inner, "list_outside", None)

        def listing() -> list[Stat]:
            return [*(outside(prefix, without) if outside else self.inner.list(prefix))]

        return iter(self._call(listing, what=f"list {prefix} in {self.url}"))

    def tidy(self, prefix: str) -> None:
        """Let the store remove equal files of one name, where it can hold several."""
        if (tidy := getattr(self.inner, "tidy", None)) is not None:
            self._call(tidy, prefix, what=f"tidy {prefix} in {self.url}")

    def delete(self, name: str) -> None:
        return self._call(self.inner.delete, name, what=f"delete {name} in {self.url}")

    def connect(self) -> Retried:
        return Retried(self.inner.connect(), self._tries, self._first_wait, self._time_left)


def put_together(store: Store, files: Sequence[tuple[Path, str]]) -> list[Stat]:
    """Store files at once where a store can, else one after the other."""
    together: Callable[..., list[Stat]] | None = getattr(store, "put_together", None)
    return together(files) if together else [store.put(path, name) for path, name in files]
