"""The processes that train together, and what they agree on.

Whatever leads into a collective operation (to resume, to save, to stop) is decided once and taken over by all in front
of the same batch, so none of them waits for one that went elsewhere. Rank 0 alone owns the store, the checkpoints and
the output; the others compute their share of every batch and write nothing.
"""

from __future__ import annotations

import atexit
import contextlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from nbkit.runtime.errors import NbkitError, UsageError

_MEET = timedelta(minutes=10)  # until all have come up
_TIMEOUT = timedelta(minutes=30)  # for one that is alive and stands still; one that died is seen at once
_NEEDED = ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
_STRATEGIES = {"auto": False, "ddp": False, "ddp_find_unused_parameters_true": True}
_LATE_WORDS = 5.0  # seconds that the news of a death may come after the operation that failed by it


@dataclass(frozen=True)
class Place:
    """Say which of how many processes this one is.

    Attributes
    ----------
    rank, size : int
        Among all processes.
    local_rank, local_size : int
        Among those of this machine.
    starts : bool
        Whether this process has to start the others; else somebody (torchrun, or such a process) started it.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1
    starts: bool = False

    @property
    def others_wait(self) -> bool:
        """Whether other processes are there already, to be told whatever becomes of this one."""
        return self.size > 1 and not self.starts and all(name in os.environ for name in _NEEDED)

    @property
    def nodes(self) -> int:
        return self.size // self.local_size


def place_here(environment: Mapping[str, str] | None = None) -> Place:
    """Give the place that the environment tells, as torchrun sets it; the only one where it tells none.

    Raises
    ------
    UsageError
        For numbers that do not fit together.
    """
    told = os.environ if environment is None else environment
    try:
        size, rank = int(told.get("WORLD_SIZE", "1")), int(told.get("RANK", "0"))
        local_size, local = int(told.get("LOCAL_WORLD_SIZE", str(size))), int(told.get("LOCAL_RANK", str(rank)))
    except ValueError:
        size = rank = local_size = local = -1
    if not (0 <= rank < size and 0 <= local < local_size and size % local_size == 0):
        names = ("WORLD_SIZE", "RANK", "LOCAL_WORLD_SIZE", "LOCAL_RANK")
        raise UsageError(
            f"the environment says {', '.join(f'{n}={told.get(n)}' for n in names)}, which do not fit together. Start "
            "the processes with torchrun, the same number on every machine. Nothing was trained."
        )
    return Place(rank, size, local, local_size) if size > 1 else Place()


def choose_place(options: Mapping[str, Any], device: Any) -> Place:
    """Give this process's place in a training on the devices that were asked for.

    Parameters
    ----------
    options : mapping
        Options of `fit`; of it ``devices``, ``strategy`` and ``accelerator`` are read.
    device : Device

    Raises
    ------
    UsageError
        For devices that are not there, or a strategy whose state no single process has whole.
    """
    told = place_here()
    accelerator = options.get("accelerator", device.accelerator)
    devices = options.get("devices")
    if told.size > 1:
        if devices not in (None, "auto", -1, told.local_size, str(told.local_size)):
            raise UsageError(
                f"devices={devices!r}, and torchrun started {told.local_size} process(es) on this machine. Leave "
                "devices out, or start as many. Nothing was trained."
            )
        place = told
    else:
        wanted = 1 if devices is None else _count(devices, device, accelerator)
        place = Place(0, wanted, 0, wanted, starts=wanted > 1)
    strategy = options.get("strategy", "auto")
    if place.size > 1 and strategy not in _STRATEGIES:
        raise UsageError(
            f"strategy={strategy!r} is not one for several devices; allowed are {', '.join(_STRATEGIES)}. The "
            "processes are started by nbkit in a notebook or script, or by torchrun. Nothing was trained."
        )
    return place


def _count(devices: Any, device: Any, accelerator: str) -> int:
    on_gpu = accelerator in ("cuda", "gpu")
    if devices in ("auto", -1, "-1"):
        return device.count if on_gpu else 1
    number = int(devices) if isinstance(devices, str) and devices.isdigit() else devices
    if isinstance(number, bool) or not isinstance(number, int) or number < 1:
        raise UsageError(
            f"devices={devices!r} is not a number of devices; allowed are a whole number from 1, and 'auto' for all "
            "that this machine has. On several machines start the processes with torchrun. Nothing was trained."
        )
    if on_gpu and number > device.count:
        raise UsageError(
            f"devices={devices!r}, and this machine has {device.count} GPU(s) ({device.name}). Ask for as many as "
            "there are, or turn on more (Kaggle: GPU T4 x2). Nothing was trained."
        )
    return number


class Ranks:
    """Let the processes of one training agree; alone, everything agrees at once and costs nothing.

    Parameters
    ----------
    place : Place
    control : ProcessGroup or None
        Speaks between CPUs, so that an agreement never waits for a GPU.
    watch : Watch or None
    """

    def __init__(self, place: Place | None = None, control: Any = None, watch: Any = None) -> None:
        self.place, self.control, self.watch = place or Place(), control, watch

    @property
    def rank(self) -> int:
        return self.place.rank

    @property
    def size(self) -> int:
        return self.place.size

    @property
    def first(self) -> bool:
        return self.place.rank == 0

    def any(self, *asked: bool) -> tuple[bool, ...]:
        """Give, of each flag, whether any process has it; all processes get the same."""
        if self.control is None:
            return asked
        import torch
        import torch.distributed as dist

        flags = torch.tensor(asked, dtype=torch.int64)
        dist.all_reduce(flags, op=dist.ReduceOp.MAX, group=self.control)
        return tuple(map(bool, flags.tolist()))

    def first_of(self, reason: str | None) -> str | None:
        """Give the reason of the lowest rank that has one."""
        if self.control is None:
            return reason
        import torch.distributed as dist

        reasons: list[str | None] = [None] * self.size
        dist.all_gather_object(reasons, reason, group=self.control)
        return next((found for found in reasons if found), None)

    def share(self, value: Any) -> Any:
        """Give rank 0's value to all."""
        if self.control is None:
            return value
        import torch.distributed as dist

        held = [value if self.first else None]
        dist.broadcast_object_list(held, src=0, group=self.control)
        return held[0]

    def share_bytes(self, tensor: Any, size: int) -> Any:
        """Give rank 0's bytes, a tensor of shape (size,), to all."""
        import torch
        import torch.distributed as dist

        held = tensor if self.first else torch.empty(size, dtype=torch.uint8)
        for part in held.split(1 << 26):
            dist.broadcast(part, src=0, group=self.control)
        return held

    def gather(self, value: Any) -> list[Any] | None:
        """Give rank 0 every process's value in order of rank; None to the others."""
        if self.control is None:
            return [value]
        import torch.distributed as dist

        held: list[Any] | None = [None] * self.size if self.first else None
        dist.gather_object(value, held, dst=0, group=self.control)
        return held

    def meet(self) -> None:
        """Wait for all."""
        if self.control is not None:
            import torch.distributed as dist

            dist.barrier(group=self.control)

    def trainer_options(self, strategy: str) -> dict[str, Any]:
        """Give what Lightning's Trainer has to know of the processes."""
        from nbkit.runtime.training.ranks.lightning_side import JoinedDDP, RankEnvironment

        # After its first backward pass DDP lays its buckets out anew, unless it looks for unused parameters. Where a
        # gradient lies decides in which order more than two summands are added, so a resumed run would add otherwise.
        keep_buckets = self.size > 2
        return {
            "devices": self.place.local_size,
            "num_nodes": self.place.nodes,
            "strategy": JoinedDDP(
                cluster_environment=RankEnvironment(self.place),
                find_unused_parameters=_STRATEGIES[strategy] or keep_buckets,
            ),
        }


@contextlib.contextmanager
def together(place: Place, session: Any, accelerator: str, parts: Mapping[str, Any]) -> Iterator[Ranks]:
    """Have the processes of a training find each other, and none outlive the others for long.

    Parameters
    ----------
    place : Place
    session : Session
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
    """Say whether an error may be what another process's death looks like from here."""
    return isinstance(error, RuntimeError | OSError) and not isinstance(error, NbkitError)


def _join(place: Place, session: Any, accelerator: str, helpers: Any) -> Ranks:
    import torch
    import torch.distributed as dist

    from nbkit.runtime.training.ranks.watch import Watch

    store = helpers.meet() if helpers is not None else getattr(session, "rendezvous", None)
    missing = [name for name in _NEEDED if name not in os.environ] if store is None else []
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


def _part(place: Place, session: Any) -> None:
    """Leave the group where it was made for this one training; torchrun's processes may meet again in it."""
    if place.starts or getattr(session, "rendezvous", None) is not None:
        _destroy()


def _destroy() -> None:
    import torch.distributed as dist

    if dist.is_initialized():
        with contextlib.suppress(RuntimeError):  # one that is gone cannot say goodbye
            dist.destroy_process_group()
