"""Sessions: the interface of the library for notebooks, limited to the time that a host gives.

Opening a session finds the host, the store and the point to continue from, and prints them. Closing it waits for the
uploads until the time limit and prints what is left. Reaching the time limit is no error: no cell raises because of it.
"""

from __future__ import annotations

import atexit
import os
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nbkit.ground.files import remove_stray_temps
from nbkit.runtime.beside.listening import listen
from nbkit.runtime.beside.living import whereabouts
from nbkit.runtime.budget import Budget, process_age
from nbkit.runtime.card import CardFacts, opening_card
from nbkit.runtime.cells.sentences import show_mistakes_as_sentences
from nbkit.runtime.cells.shown import cell_number, show_card
from nbkit.runtime.closing import Closing, expect_closing
from nbkit.runtime.device import Device, open_device
from nbkit.runtime.errors import UsageError
from nbkit.runtime.follower import Follower
from nbkit.runtime.hosts import Host, detect
from nbkit.runtime.items.claiming import Claiming, spare
from nbkit.runtime.items.fetching import fetch_elsewhere, fetch_history, fetch_outputs
from nbkit.runtime.items.loop import ItemLoop
from nbkit.runtime.items.watching import Watch
from nbkit.runtime.items.working import Wanted, Working
from nbkit.runtime.journal import KILLED, append_event
from nbkit.runtime.ledger.ledger import Ledger
from nbkit.runtime.ledger.manifest import parse_shard
from nbkit.runtime.ledger.outbox import BOUND, THREADS, Outbox
from nbkit.runtime.ledger.workspace import take_workspace
from nbkit.runtime.names import check_slug
from nbkit.runtime.opened import leave_earlier
from nbkit.runtime.results.showing import Showing
from nbkit.runtime.signals import ENDING, StopSignals
from nbkit.runtime.store.address import presentable
from nbkit.runtime.store.opening import default_store, local_folder, open_store, store_address
from nbkit.runtime.store.protocol import Store
from nbkit.runtime.store.retried import Retried
from nbkit.runtime.threads import wait_asleep
from nbkit.runtime.training.newest import newest_receipt
from nbkit.runtime.training.proving.asked import in_its_place, prove_and_end
from nbkit.runtime.training.ranks.world import current_world
from nbkit.runtime.training.sameness.asked import accepts, check_resume, fit_options
from nbkit.runtime.words import parse_duration

if TYPE_CHECKING:
    from nbkit.runtime.training.fit import FitReport
    from nbkit.runtime.training.proving.report import ProofReport

_SLOW_OPENING = 10.0  # seconds from which the time of the opening is printed


def open_session(
    slug: str,
    store: str | os.PathLike[str] | Store | None = None,
    limit: str | float | None = None,
    smoke: bool = False,
    *,
    shard: str | None = None,
    seed: int = 2025,
    accelerator: str | None = None,
    resume: str = "exact",
    folder: str | os.PathLike[str] | None = None,
) -> Session | Follower:
    """Open a session of a phase and print its card.

    If torchrun started several processes, rank 0 gets the session, and every other rank gets a `Follower`, which trains
    with it and writes nothing.

    Parameters
    ----------
    slug : str
        The phase, such as ``"eeg_windows"``.
    store : str, path or None
        A folder or URL; None uses the variable NBKIT_STORE, then ``./nbkit-store``.
    limit : str, float or None
        Length of the session, such as ``"9h"``; None uses NBKIT_LIMIT, then the host's default.
    smoke : bool
        True for a test at small sizes, which may run on a CPU.
    shard : str or None
        ``"2/5"`` for the second of five parallel sessions that share one manifest.
    seed : int
        Seed of everything random.
    accelerator : str or None
        ``"gpu"``, ``"cpu"`` or ``"any"``; None for a phase that trains nothing.
    resume : str
        How a training goes on: ``"exact"`` refuses changed settings or data, ``"accept"`` goes on with them,
        ``"fresh"`` starts again beside the earlier checkpoints, once for all sessions; ``"fresh-2"`` once more.
    folder : path or None
        Folder for local files; None uses the host's default.

    Returns
    -------
    session : Session or Follower

    Raises
    ------
    UsageError
        If a name or value is not valid, or the phase needs a GPU and there is none.
    StoreError
        If the store cannot be reached.
    """
    show_mistakes_as_sentences()
    check_slug(slug)
    check_resume(resume)
    parse_shard("1/1" if shard is None else shard)
    wait_asleep()  # before anything imports torch
    here = local_folder(folder)
    given = None if isinstance(store, str) and not store else store
    opened = open_store(os.environ.get("NBKIT_STORE") or default_store() if given is None else given)
    world = current_world()
    if world.rank > 0:
        device = open_device(accelerator, smoke, seed, world.local_rank) if accelerator is not None else None
        where = (here or detect().folder) / slug
        return Follower(slug, opened, smoke=smoke, seed=seed, device=device, folder=where, resume=resume)
    length = parse_duration(limit if limit is not None else os.environ.get("NBKIT_LIMIT"))
    opened, local = in_its_place(opened, here, slug)
    return Session(
        slug, opened, length, smoke=smoke, shard=shard, seed=seed, accelerator=accelerator, resume=resume, folder=local
    )


class Session(Working, Showing, Closing):
    """A session of a phase on this host. `open_session` creates it."""

    rank = 0  # among the processes that train together; the others have a Follower
    rendezvous: Any = None  # only processes that were started by rank 0 have one

    def __init__(
        self, slug: str, store: Store, limit: float | None, *, smoke: bool, shard: str | None, seed: int,
        accelerator: str | None, resume: str = "exact", folder: Path | None,
    ) -> None:  # fmt: skip
        self.device: Device | None = None
        if accelerator is not None:
            self.device = open_device(accelerator, smoke, seed)
        began = time.monotonic()  # after torch's import, because this session's time counts from its opening
        self.slug, self.smoke, self.shard, self.seed, self.resume = slug, smoke, shard, seed, resume
        self.host: Host = detect()
        limit = limit if limit is not None else self.host.limit
        self.budget = Budget(limit, time.monotonic() - process_age() if self.host.clock == "process" else began)
        self._raw_store = store
        self.store: Store = Retried(store, time_left=self.budget.wall)
        self.id = f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}-{uuid.uuid4().hex[:8]}"
        root, address = (folder or self.host.folder) / slug, store_address(self.store.url)
        note_open = leave_earlier(self, root, address)
        self._workspace = take_workspace(root, address)
        self.folder: Path = self._workspace.folder
        remove_stray_temps(self.folder)
        self.ledger = self._or_release(lambda: Ledger(self.folder, slug, self.id, self.store))
        self.ledger.time_left = self.budget.wall
        threads = getattr(store, "uploads_at_once", THREADS)  # a remote store needs more parallel uploads
        self.outbox = Outbox(self.ledger, store, self.budget, threads, max(BOUND, threads), self.say)
        claiming = Claiming(self.ledger, store, self.budget, self.say)
        watch = Watch(self.budget, self.say, self._give_up, claiming.beat)
        self._loop = ItemLoop(
            self.ledger, self.outbox, self.budget, self.say, self.journal, self.store.url, claiming, watch,
            backwards=shard is None and self._workspace.beside % 2 == 1,
        )  # fmt: skip
        self._wanted = Wanted()
        self._steps: dict[str, Any] = {}
        self._began = self._work_ended = began
        expect_closing(self.budget, self.ledger.state.sessions.values())
        self._signals = StopSignals(self._stop_for_signal, self.say, ENDING)
        self._closed, self._pid, self._fitted, self._at_work = False, os.getpid(), False, False
        self._signals.install()
        atexit.register(self._leave)  # a notebook whose cell raised an error ends without close()
        newest, damaged = self._or_release(lambda: newest_receipt(self.store, slug))
        for note in (*self.ledger.notes, *self._workspace.notes(slug, shard), *damaged):
            self.say(note)
        step, here = newest.step if newest else 0, whereabouts()
        before = {"done": len(self.ledger.state.done), "step": step}  # the state that earlier sessions left
        self.ledger.note({"e": "open", "host": self.host.name, **here, "shard": shard, "limit": limit, **before})
        spare(self.ledger, os.environ.get(KILLED, "").split(","))
        others, waiting = listen(self, self._workspace.beside > 0), len(self.outbox.waiting())
        show_card(self._or_release(lambda: opening_card(self._facts(step, waiting), others)))
        elapsed = round(self.budget.elapsed(), 3)
        if (asked := time.monotonic() - began) > _SLOW_OPENING:
            self.say(f"Opening took {asked:.0f} s of this session: {self.store.url} answers slowly.")
        self.journal("open", slug=slug, session=self.id, done=len(self.ledger.state.done), step=step, elapsed=elapsed)
        note_open()

    def _or_release(self, call: Callable[[], Any]) -> Any:
        """Call a function; if it raises, release the workspace, so that the next session can take it over."""
        try:
            return call()
        except BaseException:
            if hasattr(self, "outbox"):
                atexit.unregister(self._leave)
                self._signals.restore()
                self.outbox.close()
                self.ledger.release()
            self._workspace.release()
            raise

    # -- output --

    def _facts(self, step: int = 0, waiting: int = 0) -> CardFacts:
        """Return what the cards show about this session."""
        facts = (self.id, self.slug, self.shard, self.smoke, self.host, self.device, self.store.url, self.folder)
        return CardFacts(*facts, self.budget, self.ledger, waiting, step)

    def say(self, text: str) -> None:
        """Print one line."""
        from tqdm.auto import tqdm

        tqdm.write(f"[nbkit] {presentable(text)}")

    def journal(self, event: str, **fields: Any) -> None:
        """Append an event to the journal that `run` and `rehearse` read."""
        append_event(event, fields)

    def _accepting(self) -> bool:
        """Return whether a person accepts changes in this session: by its parameter, or by the command line's flag."""
        return accepts(self.resume)

    # -- training --

    def fit(self, module: Any, data: Any, **options: Any) -> FitReport:
        """Train from where the last session stopped, up to the limit; options: `nbkit.runtime.training.fit.fit`."""
        from nbkit.runtime.training.fit import fit
        from nbkit.runtime.training.showing.logs import with_log

        options = with_log(self, options)
        prove_and_end(self, module, data, options)
        self._overtime.stop()
        self.budget.begin_in(cell_number())
        fitted, self._fitted, self._at_work = self._fitted, True, True
        with self._asked():
            try:
                report = fit(self, module, data, **fit_options(self.resume, options))
            except UsageError:
                self._fitted = fitted  # what was refused is no training
                raise
        self._steps = {k: getattr(report, k) for k in ("step", "max_steps", "reason", "chosen")}
        self._end_work()
        return report

    def prove(self, module: Any, data: Any, **options: Any) -> ProofReport:
        """Check on copies, in at most two minutes, that this training resumes bit for bit; print and return the result.

        Some steps are trained in one go and again with stops and a kill. If they differ, the report names the first
        tensor and step, and the likeliest cause. Module, data, store and folder are left as they are.
        See `nbkit.runtime.training.proving.proof.prove` for the options; those of `fit` are passed on.
        """
        from nbkit.runtime.training.proving.proof import prove

        report = prove(self, module, data, **options)
        self.say(report.words())
        self._end_work()
        return report

    # -- results of phases --

    def inputs(self, slug: str, store: str | None = None) -> list[Path]:
        """Return the verified local paths of all outputs of a phase's items, sorted by name.

        Parameters
        ----------
        slug : str
        store : str, optional
            Folder or URL of another store to read from; by default this session's.

        Raises
        ------
        UsageError
            If the phase has no outputs in the store.
        DamagedError
            If a file differs from its record.
        """
        if store is not None:
            return fetch_elsewhere(open_store(store), check_slug(slug), self.folder, self.budget.wall)
        if slug == self.slug:
            self._finish_uploads()
        return fetch_outputs(self._raw_store, self.store, check_slug(slug), self.folder)

    def checkpoint(self, slug: str | None = None, which: str = "best") -> Path:
        """Return the verified local path of a training phase's checkpoint: its ``best`` or its ``newest``."""
        from nbkit.runtime.training.fetching import fetch_checkpoint

        if slug in (None, self.slug):
            self._finish_uploads()
        return fetch_checkpoint(self.store, check_slug(slug or self.slug), which, self.folder / "inputs")

    def history(self, slug: str | None = None) -> list[dict[str, Any]]:
        """Return the logged metrics of a training phase as rows ``{"step": step, name: value}``."""
        if slug in (None, self.slug):
            self._finish_uploads()
        return fetch_history(self.store, check_slug(slug or self.slug), self.folder)

    def _finish_uploads(self) -> None:
        """Wait until this session's results are in the store, because they are read from there."""
        self.outbox.drain(self.budget.wall)
        self.ledger.flush()
