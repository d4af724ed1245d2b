"""Connecting the processes of a training, and ending them together."""

from __future__ import annotations

import atexit
import contextlib
import os
from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any

from nbkit.runtime.errors import NbkitError, UsageError
from nbkit.runtime.training.protocol import TrainingSession
from nbkit.runtime.training.ranks.ranks import Ranks
from nbkit.runtime.training.ranks.world import NEEDED, World

_MEET = timedelta(minutes=10)  # until all processes have started
_TIMEOUT = timedelta(minutes=30)  # for a process that hangs; a death is noticed at once
_LATE_WORDS = 5.0  # seconds between an operation that fails because of a death and the news of the death


@contextlib.contextmanager
def together(world: World, session: TrainingSession, accelerator: str, parts: Mapping[str, Any]) -> Iterator[Ranks]:
    """Connect the processes of a training, as a context manager; if one dies, the others end soon after.

    Parameters
    ----------
    world : World
    session : TrainingSession
    accelerator : str
    parts : mapping
        Arguments of `fit` for the other processes, if this one starts them.

    Raises
    ------
    NbkitError
        Instead of the error that the death of another process caused here.
    """
    if world.size == 1:
        yield Ranks(world)
        return
    from nbkit.runtime.training.ranks.starting import Helpers

    with contextlib.ExitStack() as stack:
        helpers = stack.enter_context(Helpers(world, session, parts)) if world.starts else None
        ranks = _join(world, session, accelerator, helpers)
        try:
            yield ranks
            ranks.meet()  # no process closes the connection before all are done
        except BaseException as error:
            words = ranks.watch.why(_LATE_WORDS) if _may_follow(error) else None
            if words is None:
                ranks.watch.end(f"rank {world.rank} failed: {type(error).__name__}: {error}")
                raise
            ranks.watch.end(words)
            if helpers is not None:
                words += helpers.last_words()
            raise NbkitError(
                f"{words}. Training stopped on all {world.size} processes; the last checkpoint stands, and what came "
                "after it is done again. Run it again to go on."
            ) from error
        finally:
            ranks.watch.end()
            _part(world, session)


def _may_follow(error: BaseException) -> bool:
    """Return whether an error may be the consequence of another process's death."""
    return isinstance(error, RuntimeError | OSError) and not isinstance(error, NbkitError)


def _join(world: World, session: TrainingSession, accelerator: str, helpers: Any) -> Ranks:
    import torch
    import torch.distributed as dist

    from nbkit.runtime.training.ranks.watch import Watch

    store = helpers.meet() if helpers is not None else session.rendezvous
    missing = [name for name in NEEDED if name not in os.environ] if store is None else []
    if missing:
        raise UsageError(
            f"WORLD_SIZE={world.size} is set and {', '.join(missing)} is not, so the other processes cannot be found. "
            "Start them with torchrun, or unset WORLD_SIZE. Nothing was trained."
        )
    if not dist.is_initialized():
        backend = "gloo"
        if accelerator in ("cuda", "gpu"):
            torch.cuda.set_device(world.local_rank)
            # 2: give up what waits for one that is gone; the default takes this process down, a notebook's kernel too
            os.environ.setdefault("TORCH_NCCL_ASYNC_ERROR_HANDLING", "2")
            backend = "nccl"
        dist.init_process_group(backend, store=store, rank=world.rank, world_size=world.size, timeout=_MEET)
        if store is None:
            atexit.register(_destroy)
    ranks = Ranks(world, dist.new_group(backend="gloo", timeout=_TIMEOUT))
    address = "127.0.0.1" if store is not None else os.environ["MASTER_ADDR"]
    ranks.watch = Watch(ranks, address)
    return ranks


def _part(world: World, session: TrainingSession) -> None:
    """Leave the process group if it was created for this training; processes of torchrun may use it again."""
    if world.starts or session.rendezvous is not None:
        _destroy()


def _destroy() -> None:
    import torch.distributed as dist

    if dist.is_initialized():
        with contextlib.suppress(RuntimeError):  # fails if another process is gone
            dist.destroy_process_group()
