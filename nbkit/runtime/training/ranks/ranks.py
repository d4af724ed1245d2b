"""The processes that train together, and what they agree on.

Whatever leads into a collective operation (to resume, to save, to stop) is decided once and taken over by all in front
of the same batch, so none of them waits for one that went elsewhere. Rank 0 alone owns the store, the checkpoints and
the output; the others compute their share of every batch and write nothing.
"""

from __future__ import annotations

from typing import Any

from nbkit.runtime.training.ranks.place import Place


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
        """Return the reason of the lowest rank that has one."""
        if self.control is None:
            return reason
        import torch.distributed as dist

        reasons: list[str | None] = [None] * self.size
        dist.all_gather_object(reasons, reason, group=self.control)
        return next((found for found in reasons if found), None)

    def share(self, value: Any) -> Any:
        """Return rank 0's value to all."""
        if self.control is None:
            return value
        import torch.distributed as dist

        held = [value if self.first else None]
        dist.broadcast_object_list(held, src=0, group=self.control)
        return held[0]

    def share_bytes(self, tensor: Any, size: int) -> Any:
        """Return rank 0's bytes, a tensor of shape (size,), to all."""
        import torch
        import torch.distributed as dist

        held = tensor if self.first else torch.empty(size, dtype=torch.uint8)
        for part in held.split(1 << 26):
            dist.broadcast(part, src=0, group=self.control)
        return held

    def gather(self, value: Any) -> list[Any] | None:
        """Return rank 0 every process's value in order of rank; None to the others."""
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
