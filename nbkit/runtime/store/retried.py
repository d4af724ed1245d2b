"""Retries around any store.

Passing faults are tried again with exponential, jittered waits, and no sooner than the store asked for; permanent
ones are passed on at once. No wait goes past the deadline that was given.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

from nbkit.runtime.errors import StoreError
from nbkit.runtime.store.protocol import Stat, Store

_TRIES = 6
_FIRST_WAIT, _LONGEST_WAIT = 0.2, 30.0  # seconds


class Retried:
    """Give a store's verbs with retries.

    Parameters
    ----------
    store : Store
    tries : int
        Calls at most, the first included.
    first_wait : float
        Seconds, doubled each time and jittered.
    time_left : callable or None
        Seconds that may still be spent waiting.
    """

    def __init__(
        self,
        store: Store,
        tries: int = _TRIES,
        first_wait: float = _FIRST_WAIT,
        time_left: Callable[[], float] | None = None,
    ) -> None:
        self.inner, self.url = store, store.url
        self._tries, self._first_wait, self._time_left = tries, first_wait, time_left

    def _call(self, verb: Callable[..., Any], *args: Any) -> Any:
        from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_exponential, wait_random

        jittered = wait_exponential(multiplier=self._first_wait, max=_LONGEST_WAIT) + wait_random(0, self._first_wait)

        def wait(state: Any) -> float:
            asked = getattr(state.outcome.exception(), "retry_after", None) or 0.0
            return max(float(asked), jittered(state))

        def too_late(state: Any) -> bool:
            return self._time_left is not None and wait(state) > self._time_left()

        retrying = Retrying(
            stop=lambda state: stop_after_attempt(self._tries)(state) or too_late(state),
            wait=wait,
            retry=retry_if_exception(lambda error: isinstance(error, StoreError) and error.passing),
            reraise=True,
            sleep=time.sleep,
        )
        return retrying(verb, *args)

    def put(self, path: Path, name: str) -> Stat:
        return self._call(self.inner.put, path, name)

    def get(self, name: str, path: Path, sha256: str | None = None) -> Stat:
        return self._call(self.inner.get, name, path, sha256)

    def stat(self, name: str) -> Stat | None:
        return self._call(self.inner.stat, name)

    def list(self, prefix: str = "") -> Iterator[Stat]:
        return iter(self._call(lambda: list(self.inner.list(prefix))))

    def list_outside(self, prefix: str, without: Collection[str]) -> Iterator[Stat]:
        """Return what `list` returns, where the store can do so without what lies in some folders."""
        outside = getattr(self.inner, "list_outside", None)
        return iter(self._call(lambda: list(outside(prefix, without) if outside else self.inner.list(prefix))))

    def delete(self, name: str) -> None:
        return self._call(self.inner.delete, name)

    def connect(self) -> Retried:
        return Retried(self.inner.connect(), self._tries, self._first_wait, self._time_left)
