"""The item loop: pending items of a shard, one after the other, until none is left or the wall is near.

An item that raises an error is recorded with its traceback, and the loop continues. Items during which earlier sessions
may have died come last, so that an item which takes its machine down cannot keep the others from being done; see
`nbkit.runtime.ledger.claims`.
"""

from __future__ import annotations

import os
import shutil
import time
import traceback
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from itertools import filterfalse
from pathlib import Path
from types import TracebackType
from typing import Any

from nbkit.ground.extras import how_to_install
from nbkit.ground.files import no_file, write_atomically
from nbkit.runtime.disk import FULL, DiskError, on_disk
from nbkit.runtime.errors import ColumnError, ItemTimeout, NbkitError, UsageError
from nbkit.runtime.items.arrays import check_arrays, write_arrays
from nbkit.runtime.items.loop import ItemLoop
from nbkit.runtime.items.naming import OutputNames, arrays_name, file_name
from nbkit.runtime.ledger.claims import Blame
from nbkit.runtime.ledger.ledger import Ledger, Output
from nbkit.runtime.ledger.manifest import Manifest
from nbkit.runtime.store.address import presentable
from nbkit.runtime.words import message_of, printable

TRIES = 3  # failures of an item after which it is not tried again


class Item(Mapping):
    """One row of a manifest, and the results for it.

    Used as a context manager: leaving it records the item as done, or as failed with its traceback.

    Attributes
    ----------
    key : str
        The item's name.
    """

    def __init__(self, row: Mapping[str, str], loop: ItemLoop, digest: int = 0) -> None:
        self.key = row["key"]
        self._row, self._loop, self._ledger = row, loop, loop.ledger
        self._outputs: list[Output] = []
        self._digest = digest
        self._reason: str | None = None
        self.begun = 0.0
        self.entered = False

    def __getitem__(self, column: str) -> str:
        if column not in self._row:
            raise ColumnError(
                f"The manifest has no column {column!r}; it has {', '.join(self._row)}. Add the column, or read it "
                f"with item.get({column!r}, default) where it may be missing. Nothing of this item was kept."
            )
        return self._row[column]

    def __iter__(self) -> Iterator[str]:
        return iter(self._row)

    def __len__(self) -> int:
        return len(self._row)

    def save(self, /, **results: Any) -> None:
        """Keep the item's results: arrays together in ``<key>.npz``, files under their own names.

        Parameters
        ----------
        **results : array or Path
            By name. The files are copied.

        Raises
        ------
        UsageError
            If a file does not exist, a result is not an array of numbers or text, or the item was saved already.
        """
        if self._outputs:
            raise UsageError(f"Item {self.key} was saved already. Pass all results to one item.save(...).")
        self._outputs = save_results(self._ledger, self._loop.names, self.key, results)

    def skip(self, reason: str) -> None:
        """Record that the item rightly has no result, and why; it counts as done."""
        self._reason = presentable(str(reason))

    def __enter__(self) -> Item:
        self.begun, self.entered = time.monotonic(), True
        self._ledger.begin(self.key)
        self._loop.journal("begin", key=self.key)
        self._loop.watch.begin(self.key)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        self._loop.watch.end()
        return self.leave(error, time.monotonic() - self.begun)

    def leave(self, error: BaseException | None, seconds: float, waited: float | None = None) -> bool:
        """Record the item as done or failed; return True if the loop may continue after the error.

        Parameters
        ----------
        error : BaseException or None
        seconds : float
            Time of work.
        waited : float or None
            Time from begin to end, including any time in a queue; this has to fit before the wall.
        """
        if error is None and not self._outputs and self._reason is None:
            error = UsageError(
                f"Item {self.key} ended without a result. Call item.save(name=array, ...) in the loop, or "
                "item.skip('why') if there is rightly none."
            )
        if error is None:
            self._record_done(seconds, seconds if waited is None else waited)
            return False
        if isinstance(error, KeyboardInterrupt | GeneratorExit):
            self._ledger.rest()  # interrupted, not killed
            return False
        if isinstance(error, DiskError):
            raise error
        if isinstance(error, ItemTimeout) and error.wall:
            self._loop.say(str(error))
            self._loop.meet_wall(self.key)
            return True
        if isinstance(error, OSError) and error.errno in FULL:
            # not the item's fault: on a full disk each item would fail, after three times for good
            raise NbkitError(
                f"Item {self.key} met a full disk ({error.strerror}: {error.filename or 'while writing'}). It is not "
                "recorded as failed and will be done again; everything recorded before is safe. Free some disk space "
                "and run again."
            ) from error
        if isinstance(error, ModuleNotFoundError) and (told := how_to_install(error)):
            self._ledger.rest()  # no item's fault: each would fail alike, after three times for good
            raise UsageError(f"Item {self.key} was not done and is not recorded as failed. {told}") from error
        # what is no `Exception` too, such as sys.exit() in a library: else each session would end at this item
        self._ledger.failed(self.key, "".join(traceback.format_exception(error)))
        self._loop.journal("failed", key=self.key)
        self._loop.say(f"item {self.key} failed: {type(error).__name__}: {presentable(message_of(error), 1000)}")
        return True

    def _record_done(self, seconds: float, waited: float) -> None:
        more: dict[str, Any] = {"reason": self._reason} if self._reason is not None else {}
        if self._digest:
            more["row"] = self._digest
        self._ledger.done(self.key, self._outputs, seconds, **more)
        self._loop.journal("item", key=self.key, s=round(seconds, 3))
        self._loop.budget.measured("item", waited)
        self._loop.outbox.send_item(self.key)


def save_results(ledger: Ledger, names: OutputNames, key: str, results: Mapping[str, Any]) -> list[Output]:
    """Write an item's results to this machine's disk, atomically; return their names, sizes and hashes."""
    import numpy as np

    if not results:
        raise UsageError(f"Item {key}: item.save() got no results. Pass at least one array or path by name.")
    files = {n: Path(v) for n, v in results.items() if isinstance(v, os.PathLike)}
    check_arrays(key, [name for name in results if name not in files])
    arrays: dict[str, Any] = {n: np.asarray(v) for n, v in results.items() if n not in files}
    for name, array in arrays.items():
        if array.dtype.hasobject:
            raise UsageError(
                f"{name!r} of item {key} is a {type(results[name]).__name__}, which is not an array of plain values "
                "(dtype object). Allowed are numbers, text, or the path of a file. The item is not recorded."
            )
    targets = [file_name(ledger.slug, key, path.name) for path in files.values()]
    names.refuse_taken(key, [path.name for path in files.values()])
    for path in files.values():
        if (what := no_file(path)) is not None:
            raise UsageError(
                f"Item {key} has as result {printable(str(path))}, which {what}; a file is needed. The item is not "
                "recorded."
            )
    outputs = []
    not_recorded = f"Item {key} is not recorded and will be done again"
    if arrays:
        name = arrays_name(ledger.slug, key)
        with on_disk(not_recorded, ledger.folder, sum(array.nbytes for array in arrays.values())):
            size, sha256 = write_atomically(ledger.local(name), partial(write_arrays, arrays))
        outputs.append(Output(name, size, sha256))
    for path, name in zip(files.values(), targets, strict=True):
        with on_disk(not_recorded, ledger.folder, path.stat().st_size), open(path, "rb") as source:
            size, sha256 = write_atomically(ledger.local(name), partial(shutil.copyfileobj, source))
        outputs.append(Output(name, size, sha256))
    return outputs


def pending(
    ledger: Ledger, manifest: Manifest, retry_failed: bool = False, blame: Blame | None = None, backwards: bool = False
) -> Iterator[int]:
    """Yield positions of the rows to do: new ones first, then those with earlier failures or kills.

    Parameters
    ----------
    ledger : Ledger
    manifest : Manifest
    retry_failed : bool
        Whether to yield also those that failed too often or were set aside.
    blame : Blame or None
        As the ledger has it now, if the caller asked already.
    backwards : bool
        True to begin at the manifest's end, as the second of two sessions that would meet at each item.
    """
    state, keys, later, position = ledger.state, manifest.keys, [], 0
    fresh: list[int] = []
    blame = blame or ledger.blame()
    troubled = state.failures.keys() | blame.deaths.keys() | blame.suspects.keys()
    for key in filterfalse(state.done.__contains__, keys):  # skips a million done items in C
        position = keys.index(key, position)
        if ledger.is_done(key):
            continue
        if key in troubled or key in state.failures:
            later.append(position)
        elif backwards:
            fresh.append(position)
        else:
            yield position
    yield from (position for position in reversed(fresh) if not ledger.is_done(keys[position]))

    def trouble(position: int) -> tuple[int, int]:
        key = keys[position]
        return state.failures.get(key, 0) + blame.deaths[key], blame.suspects.get(key, (0, 0))[1]

    for position in sorted(later, key=trouble):
        key = keys[position]
        if not ledger.is_done(key) and (
            retry_failed or (state.failures.get(key, 0) < TRIES and key not in blame.aside)
        ):
            yield position


def left(ledger: Ledger, keys: Iterable[str]) -> tuple[int, int]:
    """Return how many of some items are pending, and how many have failed for good or were set aside."""
    undone = [key for key in keys if not ledger.is_done(key)]
    aside = ledger.blame().aside
    failed = sum(ledger.state.failures.get(key, 0) >= TRIES or key in aside for key in undone)
    return len(undone) - failed, failed


def items(loop: ItemLoop, manifest: Manifest, retry_failed: bool = False) -> Iterator[Item]:
    """Yield the pending items until none is left or the next one would not end in time."""
    ledger, blame = loop.ledger, loop.ledger.blame()
    positions = pending(ledger, manifest, retry_failed, blame, loop.backwards)
    try:
        for batch in loop.claiming.batches(positions, manifest.keys, blame):
            if not loop.may_go_on("item"):
                return
            loop.claiming.claim(manifest.keys[position] for position in batch)
            for position in batch:
                if not loop.may_go_on("item"):
                    return
                if ledger.is_done(manifest.keys[position]):
                    continue  # a parallel session was faster
                item = Item(manifest.row(position), loop, manifest.digest(position))
                yield item
                if not item.entered:
                    raise UsageError(
                        f"Item {item.key} was passed over: nothing is recorded unless the loop's body is in 'with "
                        "item:'. Put it there and run again; everything recorded before is safe."
                    )
    finally:
        loop.watch.stop()
        loop.claiming.release()
