"""Where a proof stops a training: instants drawn from the ones that the uninterrupted run passed through.

Most faults show only in some places: after a resume inside an epoch, at the first batch of one, around a validation, or
while gradients are accumulated. So one stop is drawn from each of these kinds, and the others from all batches.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

Place = tuple[int, int]  # epoch and batch


@dataclass(frozen=True)
class Batch:
    """What happened at one batch of the uninterrupted run.

    Attributes
    ----------
    place : tuple of int
        Epoch and batch.
    stepped : bool
        Whether an optimizer stepped.
    validated : bool
        Whether a validation followed.
    """

    place: Place
    stepped: bool
    validated: bool


@dataclass(frozen=True)
class Stop:
    """When a session of the interrupted run is asked to stop.

    Attributes
    ----------
    place : tuple of int
        Epoch and batch from which on the request is made.
    when : str
        ``"start"`` or ``"end"`` of the batch, or ``"validation"``, inside of the one that follows it.
    kind : str
        In words.
    kill : bool
        Whether the session is killed there without a warning, so that its steps are done again.
    """

    place: Place
    when: str
    kind: str
    kill: bool = False


def draw_stops(batches: Sequence[Batch], count: int, seed: int) -> list[Stop]:
    """Return at most `count` stops in the order of their places, at different batches.

    Parameters
    ----------
    batches : sequence of Batch
        Of the uninterrupted run, in order.
    count : int
    seed : int
    """
    rng = random.Random(seed)
    free = list(range(len(batches) - 1))  # after a stop at the last batch nothing would be left to train
    drawn: list[tuple[int, Stop]] = []
    kinds = [*_kinds(batches), *[("at random", free, "start", False)] * count]
    for kind, candidates, when, kill in kinds[:count]:
        left = [number for number in candidates if number in free]
        if not left:
            continue
        number = rng.choice(left)
        free.remove(number)
        drawn.append((number, Stop(batches[number].place, when, kind, kill)))
    return [stop for _, stop in sorted(drawn, key=lambda one: one[0])]


def _kinds(batches: Sequence[Batch]) -> list[tuple[str, list[int], str, bool]]:
    """Return (name, numbers of the batches that qualify, when to ask, whether to kill), the rarest first."""
    last = [n for n in range(len(batches) - 1) if batches[n + 1].place[0] > batches[n].place[0]]
    inner = [n for n, batch in enumerate(batches) if n not in last and batch.place[1] > 0]
    validated = [n for n, batch in enumerate(batches) if batch.validated]
    found = [
        ("in a validation", validated, "validation", False),
        ("first batch of an epoch", last, "end", False),
        ("mid-epoch", inner, "start", False),
        ("killed", inner or list(range(len(batches))), "start", True),
        ("while gradients are accumulated", [n for n, b in enumerate(batches) if not b.stepped], "start", False),
        ("before a validation", [n - 1 for n in validated if n], "start", False),
    ]
    return [one for one in found if one[1]]


def affordable(stops: int, left: float, took: float, training: float) -> int:
    """Return how many of the stops fit into the time that is left; at least one.

    Parameters
    ----------
    stops : int
        As many as are wanted.
    left : float
        Seconds.
    took, training : float
        Seconds of the run in one go, and of its batches; the rest is what every session takes to start.
    """
    start = max(took - training, 1e-3)
    fitting = (0.8 * left - 1.5 * training) / start - 1  # after the last stop one more session goes to the end
    return max(1, min(stops, int(fitting))) if fitting < stops else stops
