"""Agreement between the processes of one training.

Every decision that leads to a collective operation (to resume, to save, to stop) is made once and applied by all before
the same batch, so no process waits for another that does something else. Only rank 0 owns the store, the checkpoints
and the output; the others compute their share of every batch and write nothing.
"""

from __future__ import annotations

from typing import Any

from nbkit.runtime.training.ranks.world import World


class Ranks:
    """Let the processes of one training agree; for a single process this costs nothing.

    Parameters
    ----------
    world : World
    control : ProcessGroup or None
        Connects the CPUs, so that an agreement never waits for a GPU.
    watch : Watch or None
    """

    def __init__(self, world: World | None = None, control: Any = None, watch: Any = None) -> None:
        self.world, self.control, self.watch = world or World(), control, watch

    @property
    def rank(self) -> int:
        return self.world.rank

    @property
    def size(self) -> int:
        return self.world.size

    @property
    def first(self) -> bool:
        return self.world.rank == 0

    def any(self, *asked: bool) -> tuple[bool, ...]:
        """Return for each flag whether it is set on any process; the same on all processes."""
        if self.control is None:
            return asked
        import torch
        import torch.distributed as dist

        flags = torch.tensor(asked, dtype=torch.int64)
        dist.all_reduce(flags, op=dist.ReduceOp.MAX, group=self.control)
        return tuple(map(bool, flags.tolist()))

    def first_of(self, reason: str | None) -> str | None:
        """Return the reason of the lowest rank that has one, on all processes."""
        if self.control is None:
            return reason
        import torch.distributed as dist

        reasons: list[str | None] = [None] * self.size
        dist.all_gather_object(reasons, reason, group=self.control)
        return next((found for found in reasons if found), None)

    def share(self, value: Any) -> Any:
        """Return the value of rank 0, on all processes."""
        if self.control is None:
            return value
        import torch.distributed as dist

        held = [value if self.first else None]
        dist.broadcast_object_list(held, src=0, group=self.control)
        return held[0]

    def share_bytes(self, tensor: Any, size: int) -> Any:
        """Return the bytes of rank 0, a tensor of shape (size,), on all processes."""
        import torch
        import torch.distributed as dist

        held = tensor if self.first else torch.empty(size, dtype=torch.uint8)
        for part in held.split(1 << 26):
            dist.broadcast(part, src=0, group=self.control)
        return held

    def gather(self, value: Any) -> list[Any] | None:
        """Return the values of all processes in order of rank on rank 0; None on the others."""
        if self.control is None:
            return [value]
        import torch.distributed as dist

        held: list[Any] | None = [None] * self.size if self.first else None
        dist.gather_object(value, held, dst=0, group=self.control)
        return held

    def meet(self) -> None:
        """Wait for all processes."""
        if self.control is not None:
            import torch.distributed as dist

            dist.barrier(group=self.control)
