"""How the processes of a training find each other, and end together."""

from __future__ import annotations

import atexit
import contextlib
import os
from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any

from nbkit.runtime.errors import NbkitError, UsageError
from nbkit.runtime.training.protocol import TrainingSession
from nbkit.runtime.training.ranks.place import NEEDED, Place
from nbkit.runtime.training.ranks.ranks import Ranks

_MEET = timedelta(minutes=10)  # until all have come up
_TIMEOUT = timedelta(minutes=30)  # for one that is alive and stands still; one that died is seen at once
_LATE_WORDS = 5.0  # seconds that the news of a death may come after the operation that failed by it


@contextlib.contextmanager
def together(place: Place, session: TrainingSession, accelerator: str, parts: Mapping[str, Any]) -> Iterator[Ranks]:
    """Have the processes of a training find each other, and none outlive the others for long.

    Parameters
    ----------
    place : Place
    session : TrainingSession
    accelerator : str
    parts : mapping
        What the other processes need where this one starts them: arguments of `fit`.

    Raises
    ------
    NbkitError
        In place of whatever error the death of another process led to.
    """
    if place.size == 1:
        yield Ranks(place)
        return
    from nbkit.runtime.training.ranks.starting import Helpers

    with contextlib.ExitStack() as stack:
        helpers = stack.enter_context(Helpers(place, session, parts)) if place.starts else None
        ranks = _join(place, session, accelerator, helpers)
        try:
            yield ranks
            ranks.meet()  # nobody takes the connection away from one that is not done
        except BaseException as error:
            words = ranks.watch.why(_LATE_WORDS) if _may_follow(error) else None
            if words is None:
                ranks.watch.end(f"rank {place.rank} failed: {type(error).__name__}: {error}")
                raise
            ranks.watch.end(words)
            if helpers is not None:
                words += helpers.last_words()
            raise NbkitError(
                f"{words}. Training stopped on all {place.size} processes; the last checkpoint stands, and what came "
                "after it is done again. Run it again to go on."
            ) from error
        finally:
            ranks.watch.end()
            _part(place, session)


def _may_follow(error: BaseException) -> bool:
    """Return whether an error may be what another process's death looks like from here."""
    return isinstance(error, RuntimeError | OSError) and not isinstance(error, NbkitError)


def _join(place: Place, session: TrainingSession, accelerator: str, helpers: Any) -> Ranks:
    import torch
    import torch.distributed as dist

    from nbkit.runtime.training.ranks.watch import Watch

    store = helpers.meet() if helpers is not None else session.rendezvous
    missing = [name for name in NEEDED if name not in os.environ] if store is None else []
    if missing:
        raise UsageError(
            f"WORLD_SIZE={place.size} is set and {', '.join(missing)} is not, so the other processes cannot be found. "
            "Start them with torchrun, or unset WORLD_SIZE. Nothing was trained."
        )
    if not dist.is_initialized():
        backend = "gloo"
        if accelerator in ("cuda", "gpu"):
            torch.cuda.set_device(place.local_rank)
            # 2: give up what waits for one that is gone; the default takes this process down, a notebook's kernel too
            os.environ.setdefault("TORCH_NCCL_ASYNC_ERROR_HANDLING", "2")
            backend = "nccl"
        dist.init_process_group(backend, store=store, rank=place.rank, world_size=place.size, timeout=_MEET)
        if store is None:
            atexit.register(_destroy)
    ranks = Ranks(place, dist.new_group(backend="gloo", timeout=_TIMEOUT))
    address = "127.0.0.1" if store is not None else os.environ["MASTER_ADDR"]
    ranks.watch = Watch(ranks, address)
    return ranks


def _part(place: Place, session: TrainingSession) -> None:
    """Leave the group where it was made for this one training; torchrun's processes may meet again in it."""
    if place.starts or session.rendezvous is not None:
        _destroy()


def _destroy() -> None:
    import torch.distributed as dist

    if dist.is_initialized():
        with contextlib.suppress(RuntimeError):  # one that is gone cannot say goodbye
            dist.destroy_process_group()
