"""The result of a proof, and its words."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from nbkit.runtime.training.proving.causes import Cause
from nbkit.runtime.training.proving.compare import Difference
from nbkit.runtime.words import show_duration

_FEW = 4


@dataclass(frozen=True)
class ProofReport:
    """What a proof found.

    Attributes
    ----------
    exact : bool
        Whether the training with stops has the bits of the one without.
    steps : int
        Optimizer steps that were compared.
    stops : tuple of str
        Where the interrupted run was stopped or killed, in words.
    first : Difference or None
        The first difference.
    cause : Cause or None
        Its likeliest cause.
    error : str
        What the training said where it could not resume; empty if it could.
    notes : tuple of str
        Names that differ between any two runs and are no part of the training, such as a logged throughput.
    seconds : float
    """

    exact: bool
    steps: int
    stops: tuple[str, ...]
    first: Difference | None = None
    cause: Cause | None = None
    error: str = ""
    notes: tuple[str, ...] = ()
    seconds: float = 0.0

    def words(self) -> str:
        """Return the result as sentences."""
        over = f"{self.steps} steps, stopped {len(self.stops)} times ({'; '.join(self.stops)})"
        more = f" {', '.join(self.notes)} differ between any two runs, which harms nothing." if self.notes else ""
        took = f" It took {show_duration(self.seconds)}."
        if self.exact:
            return (
                f"Exact: {over}, have the same weights, optimizer, schedulers, buffers and metrics, bit for bit, as in "
                f"one go.{more}{took}"
            )
        why = f" {self.cause.words()}" if self.cause is not None else ""
        if self.error:
            return f"Not exact: {over}. It could not resume: {self.error}{took}"
        assert self.first is not None
        return f"Not exact: {over}. {_where(self.first)}{why}{more}{took}"

    def row(self) -> dict[str, Any]:
        """Return the result as one JSON object."""
        return {**asdict(self), "words": self.words(), "remedy": self.cause.words() if self.cause else ""}


def _where(first: Difference) -> str:
    also = f", and {len(first.others)} more" if first.others else ""
    if first.batch < 0:
        place = "The first difference is at the end"
    else:
        place = f"The first difference is at step {first.step + 1} (epoch {first.epoch}, batch {first.batch}"
        resumed = first.resumed_at
        place += f", after a resume at epoch {resumed[0]}, batch {resumed[1]})" if resumed and any(resumed) else ")"
    return f"{place}: {first.name} is {first.in_one_go} in one go and {first.with_stops} with stops{also}."
