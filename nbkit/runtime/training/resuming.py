"""The checkpoint that a training resumes from, found by rank 0 and sent to all ranks.

Only rank 0 reads the store. The other ranks receive the bytes that it verified, on whatever machine they run.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nbkit.runtime.errors import NbkitError, UsageError
from nbkit.runtime.ledger.receipts import Receipt
from nbkit.runtime.training.ranks.ranks import Ranks
from nbkit.runtime.training.same_training import check_same


@dataclass
class State:
    """Hold a verified checkpoint, or nothing at the start of a training.

    Attributes
    ----------
    receipt : Receipt or None
    path : Path or None
    checkpoint : dict or None
    """

    receipt: Receipt | None = None
    path: Path | None = None
    checkpoint: dict[str, Any] | None = None

    def is_complete(self, total: int) -> bool:
        """Return whether a training of this many steps is complete."""
        found = self.receipt
        return found is not None and (found.step >= total or (found.complete and found.max_steps >= total))


def find_state(generations: Any, facts: dict[str, Any], fresh: bool | int, accept: bool, say: Any) -> State:
    """Return the newest valid checkpoint of this training.

    Raises
    ------
    UsageError
        If the checkpoint has other settings or another number of processes.
    DamagedError
        If there are checkpoints and all of them are damaged.
    """
    from nbkit.runtime.training.exact.form import Reader

    reader = Reader()
    generations.open(fresh=fresh)
    found = None if fresh is True else generations.newest(read=reader)
    if not found:
        if fresh and generations.run > 1:
            say(f"This training starts again, as run {generations.run}; the earlier checkpoints are kept")
        return State()
    receipt, path = found
    if generations.only_here:
        say(
            f"The store has no checkpoint of {generations.slug}; that of step {receipt.step} is this machine's own, in "
            f"{generations.folder}, and is used. To begin anew, delete this folder, too, or give RESUME = 'fresh'."
        )
    check_same(receipt, facts, accept, say)
    generations.send_left_over()
    return State(receipt, path, reader.read[path])


def share_state(ranks: Ranks, find: Callable[[], State]) -> State:
    """Return the state that rank 0 finds, on all ranks; an error on rank 0 is raised on all of them."""
    found: State | NbkitError = State()
    if ranks.first:
        try:
            found = find()
        except NbkitError as error:
            found = error
    if ranks.size > 1:
        told: dict[str, Any]
        if isinstance(found, State):
            size = found.path.stat().st_size if found.path else 0
            told = {"receipt": found.receipt, "path": found.path, "size": size}
        else:
            told = {"error": type(found), "words": str(found)}
        told = ranks.share(told)
        if not ranks.first:
            if "error" in told:
                kind = told["error"] if issubclass(told["error"], UsageError) else NbkitError
                raise kind(f"rank 0: {told['words']}")
            found = State(told["receipt"], told["path"])
        if isinstance(found, State) and told.get("size"):
            _share_checkpoint(ranks, found, told["size"])
    if not isinstance(found, State):
        raise found
    return found


def _share_checkpoint(ranks: Ranks, state: State, size: int) -> None:
    import torch

    if ranks.first:
        ranks.share_bytes(torch.from_file(str(state.path), size=size, dtype=torch.uint8), size)
    else:
        content = io.BytesIO(ranks.share_bytes(None, size).numpy())
        state.checkpoint = torch.load(content, map_location="cpu", weights_only=True)
