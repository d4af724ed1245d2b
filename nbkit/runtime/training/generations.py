"""Checkpoint generations: the two newest and the best, on this machine and in the store.

The newest complete generation can be loaded at any time. If it is damaged, the one before it is used, with a message.
Nothing is deleted before something newer is complete, both in the folder and in the store.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nbkit.ground.files import own_files, remove_stray_temps
from nbkit.runtime.errors import DamagedError, StoreError
from nbkit.runtime.ledger.outbox import Outbox
from nbkit.runtime.ledger.receipts import Receipt, read_receipt, step_of
from nbkit.runtime.store.protocol import Stat, Store
from nbkit.runtime.training.newest import (
    checkpoints_of,
    fetch_receipt,
    metrics_name,
    run_of,
    run_to_train,
    stored_by_another,
    stored_runs,
    to_keep,
)

if TYPE_CHECKING:
    from nbkit.runtime.training.exact.form import Reader  # imports torch, which tidying does without

_LOOKS, _WAIT = 4, 0.1  # listings while what they show is gone, and seconds between them, doubled each time
_FETCHED = ".fetched-"  # prefix of files from the store until they are verified


class Generations:
    """Keep the checkpoints of one training phase.

    Parameters
    ----------
    slug : str
        The phase.
    folder : Path
        Local folder; checkpoints are written to ``<folder>/checkpoints``.
    store : Store or None
        Keeps them under ``<slug>/checkpoints/``.
    outbox : Outbox or None
        Uploads them.
    say, journal : callable
        Print one line; append one event to the journal.
    """

    def __init__(
        self,
        slug: str,
        folder: Path,
        store: Store | None = None,
        outbox: Outbox | None = None,
        say: Callable[[str], None] = print,
        journal: Callable[..., None] | None = None,
    ) -> None:
        self.slug, self.store, self.outbox, self.say = slug, store, outbox, say
        self.journal = journal or (lambda event, **fields: None)
        self.root = Path(folder) / "checkpoints"
        self.damaged: list[str] = []
        self._gone: list[str] = []  # what was listed and could not be fetched
        self._lock = threading.RLock()
        self._on_the_way: set[int] = set()
        self._best_unsent: Receipt | None = None
        self._opened = False
        self._here: dict[int, Receipt] = {}
        self._there: dict[int, Receipt] = {}
        self._there_names: set[str] = set()
        self.run = 1

    @property
    def folder(self) -> Path:
        return self.root if self.run == 1 else self.root / f"run-{self.run}"

    @property
    def prefix(self) -> str:
        return checkpoints_of(self.slug, self.run)

    def open(self, fresh: bool | int = False) -> Generations:
        """Find the existing checkpoints, remove incomplete files of killed sessions, and choose the run.

        Parameters
        ----------
        fresh : bool or int
            Whether to start a new run beside the old ones, which are kept; see `run_to_train`.
        """
        stored = stored_runs(self.store, self.slug) if self.store else {}
        runs = {1, *stored}
        if self.root.is_dir():
            runs |= {run for path in self.root.iterdir() if path.is_dir() and (run := run_of(path.name))}
            remove_stray_temps(self.root)
        something = bool(stored) or self._any_local()
        self.run = run_to_train(max(runs), fresh, something)
        self._list(stored)
        self._read_local()
        self._opened = True
        return self

    def _list(self, stored: dict[int, list[Stat]]) -> None:
        self._there_names = {stat.name[len(self.prefix) :] for stat in stored.get(self.run, ())}

    @property
    def only_here(self) -> bool:
        """Whether this machine has checkpoints of the run and the store has none, as if the store had been deleted."""
        return self.store is not None and bool(self._here) and not self._steps_there()

    def _any_local(self) -> bool:
        return self.root.is_dir() and any(step_of(path.name) is not None for path in self.root.rglob("step-*"))

    def _read_local(self) -> None:
        self._here = {}
        if not self.folder.is_dir():
            return
        for path in sorted(self.folder.iterdir()):
            step = step_of(path.name)
            if step is not None and path.suffix == ".json":
                try:
                    self._here[step] = read_receipt(path, slug=self.slug)
                except DamagedError as error:
                    self.damaged.append(str(error))
                except FileNotFoundError:
                    continue  # pruned by a parallel session between listing and reading
        for path in own_files(self.folder, lambda name: step_of(name.removeprefix(_FETCHED)) is not None):
            # without a receipt its session was killed before it wrote it, so this checkpoint does not count
            unfinished = path.suffix == ".ckpt" and not path.with_suffix(".json").exists()
            if unfinished or path.name.startswith(_FETCHED):
                path.unlink(missing_ok=True)

    def _steps_there(self) -> set[int]:
        steps = [step_of(name) for name in self._there_names if name.endswith(".json")]
        return {step for step in steps if step is not None}

    def _receipt_there(self, step: int) -> Receipt | None:
        """Fetch a receipt from the store; None if it is damaged or has been deleted."""
        if step in self._there or self.store is None:
            return self._there.get(step)
        name = f"step-{step:09d}.json"
        path = self.folder / f"{_FETCHED}{name}"
        try:
            self._there[step] = fetch_receipt(self.store, self.prefix + name, path)
        except FileNotFoundError:
            self._gone.append(f"{self.prefix + name} was listed and is not in the store")
            return None
        except DamagedError as error:
            self.damaged.append(str(error))
            return None
        return self._there[step]

    def newest(self, best: bool = False, read: Reader | None = None) -> tuple[Receipt, Path] | None:
        """Return the newest complete generation as receipt and verified local path.

        Parameters
        ----------
        best : bool
            Return the best one by the monitored metric instead, if one was marked.
        read : Reader or None
            Reads the checkpoint, which is damaged if it has a fault.

        Returns
        -------
        generation : tuple of (Receipt, Path) or None
            None if there never was one.

        Raises
        ------
        DamagedError
            If there are generations and all of them are damaged.
        StoreError
            If the store cannot be read: an older local generation must not be taken for the newest.
        """
        if not self._opened:
            self.open()
        found = None
        for look in range(_LOOKS):
            if look:  # a session that trains meanwhile has deleted what was listed, or the listing lags
                time.sleep(_WAIT * 2**look)
                self._list(stored_runs(self.store, self.slug) if self.store else {})
            self._gone.clear()
            found = self._newest_whole(best, read) or found
            if not self._gone:
                break
        faults = self.damaged + [words for words in self._gone if found is None or ".ckpt" in words]
        if found:
            for words in faults:
                kept = f"the checkpoint of step {found[0].step} is complete and was used. Nothing was deleted."
                self.say(f"{words}; {kept}")
            if not faults:
                self._prune_local()  # a session killed while it pruned left some
        elif faults:
            raise DamagedError(
                f"All checkpoints of {self.slug} are damaged: {'; '.join(faults)}. Nothing was deleted. Put an "
                f"intact copy into {self.folder} or the store, or start again beside them with fresh=True."
            )
        self.damaged.clear()
        return found

    def _newest_whole(self, best: bool, read: Reader | None) -> tuple[Receipt, Path] | None:
        steps = sorted(set(self._here) | self._steps_there(), reverse=True)
        if best:
            marked = [s for s in steps if (r := self._here.get(s) or self._receipt_there(s)) is not None and r.best]
            steps = marked[:1] + [s for s in steps if s not in marked[:1]]
        for step in steps:
            for find in (self._whole_here, self._whole_there):
                found = find(step)
                words = read.fault(*found) if found and read else None
                if found and words is None:
                    return found
                if words is not None:
                    self.damaged += [words] if words not in self.damaged else []
                    del self._here[step]
        return None

    def _whole_here(self, step: int) -> tuple[Receipt, Path] | None:
        receipt = self._here.get(step)
        if receipt is None:
            return None
        path = self.folder / receipt.file
        fault = receipt.fault(path)
        if fault is None:
            return receipt, path
        self.damaged.append(f"{path} {fault}")
        del self._here[step]
        return None

    def _whole_there(self, step: int) -> tuple[Receipt, Path] | None:
        if self.store is None or step not in self._steps_there():
            return None
        receipt = self._receipt_there(step)
        if receipt is None:
            return None
        path = self.folder / receipt.file
        name = self.prefix + receipt.file
        if path.is_file() and receipt.fault(path) is None:
            receipt.write(self.folder)
        else:
            fetched = path.with_name(f"{_FETCHED}{path.name}")
            try:
                self.store.get(name, fetched, sha256=receipt.sha256)
            except FileNotFoundError:
                self._gone.append(f"{name} is not in the store though its receipt is")
                return None
            except DamagedError as error:
                self.damaged.append(str(error))
                return None
            except StoreError as error:
                if error.passing:
                    raise
                self.damaged.append(f"{name} cannot be fetched ({error})")
                return None
            # a damaged local file of this name is replaced by the intact one
            fetched.replace(path)
            receipt.write(self.folder)
        self._here[step] = receipt
        return receipt, path

    # -- writing ------------------------------------------------------------------------------------------------------

    def holds(self, step: int, epoch: int, batch: int, complete: bool) -> bool:
        """Return whether exactly this state is already saved here."""
        receipt = self._here.get(step)
        return receipt is not None and (receipt.epoch, receipt.batch, receipt.complete) == (epoch, batch, complete)

    def holds_step(self, step: int) -> bool:
        """Return whether a state of this step, at whatever batch, is saved here."""
        return step in self._here

    def write(self, tree: Any, fields: dict[str, Any]) -> Receipt:
        """Write a generation: first the checkpoint, then its receipt; then delete what is no longer needed."""
        from nbkit.runtime.training.checkpoint_io import write_checkpoint

        path = self.folder / f"step-{fields['step']:09d}.ckpt"
        # of two places of one step: between the files of both, neither would count as damaged
        path.with_suffix(".json").unlink(missing_ok=True)
        size, sha256 = write_checkpoint(tree, path)
        receipt = Receipt(slug=self.slug, size=size, sha256=sha256, time=time.time(), **fields)
        receipt.write(self.folder)
        with self._lock:
            self._here[receipt.step] = receipt
        self.journal("saved", step=receipt.step)
        self._prune_local()
        return receipt

    def _prune_local(self) -> None:
        waiting = set(self.outbox.waiting()) if self.outbox else set()
        with self._lock:
            keep = to_keep(self._here)
            for step in set(self._here) - keep:
                receipt = self._here[step]
                if {self.prefix + receipt.file, self.prefix + receipt.name} & waiting:
                    continue
                for name in (receipt.name, receipt.file, metrics_name(step)):
                    (self.folder / name).unlink(missing_ok=True)
                del self._here[step]
            newest = max(self._here, default=0)
            for path in own_files(self.folder, step_of):
                found = step_of(path.name)
                # damaged ones are kept until something newer is complete
                if found is not None and found < newest and found not in self._here:
                    path.unlink(missing_ok=True)

    # -- to the store -------------------------------------------------------------------------------------------------

    def send(self, receipt: Receipt, metrics: Callable[[Path], None] | None = None, *, final: bool = False) -> bool:
        """Start the upload of a generation to the store.

        Only one is uploaded at a time: a slow store gets every third or tenth generation instead of a queue of them,
        and the last one of a session does not wait behind a queue. The best one is sent with the next.

        Parameters
        ----------
        receipt : Receipt
        metrics : callable or None
            Writes the logged metrics to a path; they are uploaded as ``<slug>/metrics.jsonl``.
        final : bool
            Whether this is the last one of the session.
        """
        if self.outbox is None:
            return False
        with self._lock:
            if receipt.best:
                self._best_unsent = receipt
            if self._on_the_way:
                # an upload that the outbox gave up, because its file is gone, must not block all later ones
                waiting = set(self.outbox.waiting())
                self._on_the_way = {s for s in self._on_the_way if f"{self.prefix}step-{s:09d}.json" in waiting}
            if self._on_the_way and not final:
                return False
            best, self._best_unsent = self._best_unsent, None
        if best is not None and best.step != receipt.step:
            self._put_on_its_way(best, None)
        self._put_on_its_way(receipt, metrics)
        return True

    def _put_on_its_way(self, receipt: Receipt, metrics: Callable[[Path], None] | None) -> None:
        assert self.outbox is not None and self.store is not None  # as send and send_left_over check
        if self.outbox.beside() and stored_by_another(self.store, self.prefix, receipt):
            return
        with self._lock:
            self._on_the_way.add(receipt.step)
        files = [(self.folder / receipt.file, self.prefix + receipt.file)]
        if metrics is not None:
            path = self.folder / metrics_name(receipt.step)
            metrics(path)
            files.append((path, f"{self.slug}/metrics.jsonl"))
        files.append((self.folder / receipt.name, self.prefix + receipt.name))
        self.outbox.send(files, f"{self.slug} step {receipt.step}", lambda: self._stored(receipt))

    def send_left_over(self, metrics: Callable[[Path], None] | None = None, *, final: bool = False) -> None:
        """Send the newest local generation if its upload has not begun yet, as after a kill.

        Parameters
        ----------
        metrics, final
            As for `send`.
        """
        if self.outbox is None or not self._here:
            return
        receipt = self._here[max(self._here)]
        if receipt.name not in self._there_names and self.prefix + receipt.name not in self.outbox.waiting():
            self.send(receipt, metrics, final=final)

    def _stored(self, receipt: Receipt) -> None:
        """Record that the store has a generation, and delete older ones there; runs in an upload thread."""
        with self._lock:
            self._on_the_way.discard(receipt.step)
            self._there[receipt.step] = receipt
            self._there_names |= {receipt.file, receipt.name}
            known = {step: r for step in self._steps_there() if (r := self._there.get(step)) is not None}
        self.journal("stored", step=receipt.step)
        (self.folder / metrics_name(receipt.step)).unlink(missing_ok=True)
        if self.store is None:
            return
        store = self.store.connect()
        unread = [step for step in self._steps_there() if step not in known]
        for step in unread:
            # an earlier session may have marked the best one
            if (there := self._receipt_there(step)) is not None:
                known[step] = there
        keep, newest = to_keep(known), max(known)
        # else another thread, half-way with an older one, would put the receipt of a checkpoint that is deleted here
        keep |= {step_of(name.rpartition("/")[2]) or 0 for name in self.outbox.waiting()} if self.outbox else set()
        with self._lock:
            gone = {s for n in self._there_names if (s := step_of(n)) is not None and s not in keep and s < newest}
        # the receipt first, also one that came after the listing: without it the checkpoint does not count
        for name in [f"step-{step:09d}.{kind}" for kind in ("json", "ckpt") for step in sorted(gone)]:
            store.delete(self.prefix + name)
            with self._lock:
                self._there_names.discard(name)
