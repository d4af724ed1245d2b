"""The item loops of a session: what they were asked to do, and what of it is left at the end.

A session may run several loops with manifests of their own, and is complete once no item of any of them is left. A
call that was refused asked for nothing, and a session whose last call was refused is not complete.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nbkit.runtime.errors import UsageError
from nbkit.runtime.items import work
from nbkit.runtime.items.naming import check_names
from nbkit.runtime.ledger.manifest import Manifest, read_manifest
from nbkit.runtime.ledger.records import REFUSED
from nbkit.runtime.words import parse_duration

if TYPE_CHECKING:
    from nbkit.runtime.budget import Budget
    from nbkit.runtime.items.loop import ItemLoop
    from nbkit.runtime.items.work import Item
    from nbkit.runtime.ledger.ledger import Ledger

BROKE_OFF = "left"  # why a session ended whose last call was ended by an error


class Wanted:
    """The keys of all manifests that the loops of a session were given, each once."""

    def __init__(self) -> None:
        self.keys: list[str] = []

    def __len__(self) -> int:
        return len(self.keys)

    def add(self, manifest: Manifest) -> None:
        """Add the items of one more loop."""
        known = set(self.keys)
        self.keys = self.keys + [key for key in manifest.keys if key not in known] if known else manifest.keys


class Working:
    """The part of a session that is about items."""

    slug: str
    shard: str | None
    budget: Budget
    ledger: Ledger
    say: Callable[[str], None]
    _loop: ItemLoop
    _wanted: Wanted
    _accepting: Callable[[], bool]
    _closed: bool
    _at_work: bool
    _end_work: Callable[[], None]
    _overtime: Any  # of the room of results, which knows this one
    _undone: str | None = None  # why the last call of work, map or fit did not do what it was asked

    def work(
        self,
        manifest: str | Path | Iterable[Mapping[str, object]],
        settings: Mapping[str, Any] | None = None,
        retry_failed: bool = False,
        item_limit: str | float | None = None,
        accept_changes: bool = False,
        redo_changed: bool = False,
    ) -> Iterator[Item]:
        """Return an iterator over the pending items of this session's shard; it ends early if time runs out.

        Parameters
        ----------
        manifest : str, path or rows
            A name in ``manifests/``, a ``.tsv`` file, or rows with a ``key``: mappings or a data frame.
        settings : mapping or None
            What the results depend on: numbers, text, arrays, paths, dates, and lists, sets, mappings and dataclasses
            of these. Items done with other settings are never mixed with these unless that is accepted: they are an
            error.
        retry_failed : bool
            True to try items again that failed three times, or were set aside because sessions died in them.
        item_limit : str, float or None
            Longest time of an item, such as ``"2h"``; None for 20 times that of the slowest so far, at least 30 min. An
            item that takes longer is interrupted and recorded as failed.
        accept_changes : bool
            True to keep the outputs of done items whose row in the manifest, or whose settings, have changed. By
            default they are an error. RESUME = "accept" in a notebook and ``--accept-changes`` say the same.
        redo_changed : bool
            True to do items again whose row has changed.

        Raises
        ------
        UsageError
            If the manifest is not valid or a file without a row, or items were done with other settings.
        """
        from nbkit.runtime.items.progress import bar

        rows = self._prepare(manifest, settings, item_limit, accept_changes, redo_changed)
        done = sum(map(self.ledger.is_done, rows.keys))
        loop = self._until_ended(work.items(self._loop, rows, retry_failed))
        return bar(loop, len(rows), done, self.budget, self.slug)

    def map(
        self,
        process: Callable[[Mapping[str, str]], Mapping[str, Any]],
        manifest: str | Path | Iterable[Mapping[str, object]],
        executor: Executor | None = None,
        settings: Mapping[str, Any] | None = None,
        at_once: int | None = None,
        item_limit: str | float | None = None,
        accept_changes: bool = False,
        redo_changed: bool = False,
    ) -> None:
        """Process every pending item with a function, here or in an executor; see `nbkit.runtime.items.spread`.

        Parameters
        ----------
        process : callable
            ``process(row) -> {name: array or path}``.
        manifest, settings, accept_changes, redo_changed
            As in `work`.
        executor : concurrent.futures.Executor or None
            Any, such as Dask's ``client.get_executor()``; None computes in this process.
        at_once : int or None
            Number of items that are processed at the same time; twice the executor's workers by default.
        item_limit
            As in `work`; an executor's workers are interrupted where each is a process.
        """
        with self._asked():
            _check_call(process, executor, at_once)
        if executor is None:
            changes = {"accept_changes": accept_changes, "redo_changed": redo_changed}
            for item in self.work(manifest, settings, item_limit=item_limit, **changes):
                with item:
                    item.save(**process(item))
            return
        from nbkit.runtime.items.progress import bar
        from nbkit.runtime.items.spread import spread, workers_of

        rows = self._prepare(manifest, settings, item_limit, accept_changes, redo_changed)
        done = sum(map(self.ledger.is_done, rows.keys))
        loop = spread(self._loop, rows, process, executor, at_once or 2 * workers_of(executor))
        for _ in bar(self._until_ended(loop), len(rows), done, self.budget, self.slug):
            pass

    def _prepare(
        self, manifest: Any, settings: Mapping[str, Any] | None, item_limit: str | float | None, accept: bool,
        redo: bool,
    ) -> Manifest:  # fmt: skip
        with self._asked():
            longest = parse_duration(item_limit)
            whole = read_manifest(manifest, self.slug)
            if not len(whole):
                self._tell_empty(whole, isinstance(manifest, str | os.PathLike))
            rows = whole.shard(self.shard)
            loop = replace(self._loop, names=check_names(whole, self.ledger))
            accept = accept or (self._accepting() and not redo)
            chosen = None if settings is None else loop.check_settings(settings, accept)
            loop.use_rows(rows, accept, redo)
            if chosen is not None:
                loop.use_settings(chosen)
        self._overtime.stop()
        self._at_work, self._loop = True, loop
        self._loop.watch.use(longest)
        self._wanted.add(rows)
        return rows

    def _tell_empty(self, manifest: Manifest, is_file: bool) -> None:
        if is_file:
            raise UsageError(
                f"{manifest.source} has a header and no row, so there is nothing to do. Write a row for each item, and "
                "see that none begins with '#', or give rows=[] on purpose. Nothing was begun."
            )
        self.say(f"The manifest of {self.slug} has no row: there is nothing to do in this loop.")

    @contextmanager
    def _asked(self) -> Iterator[None]:
        """Note whether what a call asked for was refused or broke off; the next call that is not has made it good."""
        try:
            yield
        except BaseException as error:
            self._undone, self._at_work = REFUSED if isinstance(error, UsageError) else BROKE_OFF, False
            raise
        self._undone = None

    def _until_ended(self, items: Iterator[Item]) -> Iterator[Item]:
        try:
            yield from items
        finally:  # where the loop is left by a break, too
            if not self._closed:
                self._end_work()

    def left(self) -> tuple[int, int]:
        """Return the numbers of pending and of finally failed items of all manifests of this session."""
        return work.left(self.ledger, self._wanted.keys)


def _check_call(process: object, executor: object, at_once: object) -> None:
    """Refuse what `map` cannot call, before it counts against each item."""
    if not callable(process):
        raise UsageError(f"process={process!r} is no function of a row. Nothing was begun.")
    if executor is not None and not callable(getattr(executor, "submit", None)):
        raise UsageError(
            f"executor={executor!r} is no executor. Give one of concurrent.futures, such as ProcessPoolExecutor(4), or "
            "Dask's client.get_executor(); None computes in this process. Nothing was begun."
        )
    if at_once is not None and (not isinstance(at_once, int) or isinstance(at_once, bool) or at_once < 1):
        raise UsageError(f"at_once={at_once!r} is no whole number of 1 or more, nor None. Nothing was begun.")
