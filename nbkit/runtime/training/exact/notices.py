"""What is said once during a training because it is probably a mistake."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nbkit.runtime.training.loop_state import unsynced

_BATCHES = 200  # without an optimizer step


class Notices:
    """Look at every batch that has ended, and say what is probably a mistake.

    Parameters
    ----------
    ranks : int
        Number of processes that train together.
    say : callable
        Prints one line.
    """

    def __init__(self, ranks: int, say: Callable[[str], None]) -> None:
        self.ranks, self.say = ranks, say
        self._batches, self._stepped_at = 0, -1
        self._step: int | None = None

    def batch_ended(self, trainer: Any) -> None:
        """Count a batch."""
        self._batches += 1
        if self._step != trainer.global_step:
            self._step, self._stepped_at = trainer.global_step, self._batches
        manual = not trainer.lightning_module.automatic_optimization
        if manual and self._batches - self._stepped_at == _BATCHES:
            self.say(
                f"no optimizer step was counted in {_BATCHES} batches. max_steps counts the steps of self.optimizers()"
                ", not those of torch's own optimizers behind them"
            )
        if self.ranks > 1 and self._batches == 1 and (names := unsynced(trainer)):
            self.say(f"{', '.join(names)}: logged without sync_dist=True, so the history shows rank 0's share only")
