"""A share of the validation set that every validation of a training uses, chosen by time.

At full size a validation can take longer than the training between two of them. The first one therefore counts how
many batches end within the given share of the time. They come in an order that is drawn from the seed, so the share is
a random sample of the set, and the count is kept in the receipts: all validations score the same windows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nbkit.runtime.training.ranks.ranks import Ranks

FEWEST = 4  # batches of a validation, however slow they are


class ValidationBound:
    """Count the batches of the first validation, and end every later one after as many.

    Parameters
    ----------
    share : float or None
        Largest share of the time that validations may take; None for no bound.
    chosen : dict
        What the receipts keep of this training's choices; ``val_batches`` is read and written.
    clock : callable
        In seconds.
    ranks : Ranks
        The processes that train together; all end a validation after the same batch.
    say : callable
    """

    def __init__(
        self,
        share: float | None,
        chosen: dict[str, Any],
        clock: Callable[[], float],
        ranks: Ranks,
        say: Callable[[str], None],
    ) -> None:
        self.share, self.chosen, self.clock, self.ranks, self.say = share, chosen, clock, ranks, say
        self._until: float | None = None

    def begin(self, step_seconds: float, between: float) -> None:
        """Record that a validation begins.

        Parameters
        ----------
        step_seconds : float
            Seconds of a training batch.
        between : float
            Training batches between two validations.
        """
        if self.share is not None and "val_batches" not in self.chosen:
            allowed = self.share / (1 - self.share) * step_seconds * between
            self._until = self.clock() + allowed

    def ends(self, batch: int, batches: int) -> bool:
        """Return whether a validation is over before this one of so many batches."""
        if self.share is None:
            return False
        if "val_batches" not in self.chosen and self._until is not None and batch >= FEWEST:
            _wait_for_the_gpu()
            if self.ranks.any(self.clock() >= self._until)[0]:
                self.chosen["val_batches"] = batch
                self.say(
                    f"Validations use {batch} of {batches} batches, the same in all sessions: the whole set would take "
                    f"more than {self.share:.0%} of the time"
                )
        return batch >= self.chosen.get("val_batches", batches)

    def end(self, batches: float) -> None:
        """Record the end of a validation; if it was whole, so are all later ones."""
        if self._until is not None and "val_batches" not in self.chosen:
            self.chosen["val_batches"] = int(batches)
        self._until = None


def _wait_for_the_gpu() -> None:
    """Let the clock see what was only queued so far."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()
