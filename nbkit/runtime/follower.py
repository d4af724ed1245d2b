"""The session of a process other than rank 0 in a training on several devices.

Under torchrun every process runs the same script. Rank 0 has the session; each other process has a `Follower`, which
trains, reads the results of other phases, and writes and prints nothing.
"""

from __future__ import annotations

import mmap
import os
import pickle
import sys
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nbkit.runtime.budget import Budget
from nbkit.runtime.errors import UsageError
from nbkit.runtime.items.fetching import fetch_history, fetch_outputs
from nbkit.runtime.store.protocol import Store
from nbkit.runtime.store.retried import Retried
from nbkit.runtime.training.ranks.starting import START
from nbkit.runtime.training.ranks.world import current_world
from nbkit.runtime.training.sameness.asked import fit_options

if TYPE_CHECKING:
    from nbkit.runtime.device import Device
    from nbkit.runtime.training.fit import FitReport


class Follower:
    """Replace the session on every rank except 0.

    Parameters
    ----------
    slug : str
    store : Store or None
        It is only read.
    smoke : bool
    seed : int
    device : Device or None
    folder : path
        Local folder for the files that this process fetches.
    """

    def __init__(
        self,
        slug: str,
        store: Store | None = None,
        *,
        smoke: bool = False,
        seed: int = 2025,
        device: Device | None = None,
        folder: str | os.PathLike[str] = ".",
        resume: str = "exact",
    ) -> None:
        self.slug, self.smoke, self.seed, self.device, self.resume = slug, smoke, seed, device, resume
        self.rank = current_world().rank
        self.folder = Path(folder) / f"rank-{self.rank}"
        self.id = f"rank-{self.rank}"
        self.store = None  # nothing of a training is written from here
        self.outbox = None
        self.budget = Budget(None)  # rank 0 has the wall
        self.rendezvous: Any = None
        self._raw = store
        self._report: FitReport | None = None

    @property
    def _source(self) -> Store:
        """The store that other phases are read from."""
        if self._raw is None:
            raise UsageError(
                f"Rank {self.rank} of the training of {self.slug} was started by rank 0 without a store, so it cannot "
                "read what other phases made. Read it on rank 0, before session.fit. Nothing was changed."
            )
        return self._raw

    def say(self, text: str) -> None:
        """Print nothing: rank 0 prints it."""

    def journal(self, event: str, **fields: Any) -> None:
        """Do nothing: rank 0 writes the journal."""

    def fit(self, module: Any, data: Any, **options: Any) -> FitReport:
        """Train the share of this process; see `nbkit.runtime.training.fit.fit`."""
        from nbkit.runtime.training.fit import fit

        self._report = fit(self, module, data, **fit_options(self.resume, options))
        return self._report

    def prove(self, *args: Any, **options: Any) -> Any:
        """Raise an error: a proof starts its own processes."""
        raise UsageError(
            f"This is rank {self.rank} of a training that torchrun started, and a proof starts its own processes. Run "
            "it as a plain script, with devices= as an option. Nothing was begun."
        )

    def work(self, *args: Any, **options: Any) -> Any:
        """Raise an error: items are not shared between processes that train together."""
        raise UsageError(
            f"Items are done by one process per session, and this is rank {self.rank} of a training. Do the items in a "
            "session of their own (shard='1/2' and '2/2' for two at once), then train. Nothing was begun."
        )

    map = work

    def inputs(self, slug: str) -> list[Path]:
        """Return the verified local paths of all outputs of another phase's items."""
        return fetch_outputs(self._source, Retried(self._source), slug, self.folder)

    def checkpoint(self, slug: str | None = None, which: str = "best") -> Path:
        """Return the verified local path of another phase's checkpoint."""
        from nbkit.runtime.training.fetching import fetch_checkpoint

        if slug in (None, self.slug):
            raise UsageError(
                f"Rank 0 uploads the checkpoints of {self.slug}; read them under `if session.rank == 0:`, as "
                "everything that follows a training."
            )
        return fetch_checkpoint(Retried(self._source), slug, which, self.folder / "inputs")

    def history(self, slug: str | None = None) -> list[dict[str, Any]]:
        """Return the metric rows of another phase, or those of this phase that this process has logged."""
        if slug in (None, self.slug):
            return self._report.history if self._report else []
        return fetch_history(Retried(self._source), slug, self.folder)

    def result(self, *args: Any, **options: Any) -> None:
        """Do nothing: rank 0 stores it."""

    note = figure = page = result

    def close(self) -> dict[str, Any]:
        """Return a summary of the training on this process."""
        report = self._report
        complete = report is None or report.complete
        reached = {"step": report.step, "max_steps": report.max_steps} if report else {}
        reason = report.reason if report else "complete"
        return {"complete": complete, **reached, "reason": reason, "exit": 0 if complete else 3}

    def __enter__(self) -> Follower:
        return self

    def __exit__(self, *error: object) -> None:
        """Do nothing: there is nothing to close."""


def main(handle: int) -> None:
    """Train as one of the processes that rank 0 started."""
    with mmap.mmap(handle, 0, access=mmap.ACCESS_READ) as content:
        os.close(handle)
        facts, parts = pickle.loads(content)
    import torch.distributed as dist

    from nbkit.runtime.device import Device
    from nbkit.runtime.training.fit import fit

    session = Follower(facts["slug"], seed=facts["seed"], device=Device(**facts["device"]), folder=facts["folder"])
    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    # rank 0 is running already: if it does not answer now, it is gone
    session.rendezvous = dist.TCPStore(address, port, is_master=False, timeout=timedelta(seconds=30))
    session.rendezvous.set_timeout(timedelta(seconds=START))
    session.rendezvous.set(f"up/{os.environ['RANK']}", "1")
    module, data = parts.pop("module"), parts.pop("data")
    fit(session, module, data, **parts)


if __name__ == "__main__":
    main(int(sys.argv[1]))
