"""Whom a checkpoint has seen: the subjects of its training and validation, and of all phases before it.

A score on subjects that an earlier phase has seen without their targets is transductive, and is labelled so. The label
comes from the names in the checkpoint, not from a rule, so it is right also for other splits, seeds and stores.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from nbkit.neuro.signals.assignment import plain_name


def seen_of(made: Mapping[str, Any]) -> tuple[str, ...] | None:
    """Return the subjects in a checkpoint's description (see `held`); None if it does not name them."""
    return tuple(made["seen"]) if "seen" in made else None


def seen_together(*parts: Iterable[str] | None) -> tuple[str, ...]:
    """Return the subjects of several phases, sorted; parts that are None count as nobody."""
    return tuple(sorted({str(name) for part in parts for name in part or ()}))


def also_seen(seen: Iterable[str] | None, subjects: Iterable[str]) -> list[str]:
    """Return the subjects that are among the seen ones, sorted; 4, "4" and "04" are one name."""
    known = {plain_name(name) for name in seen or ()}
    return sorted({str(name) for name in subjects if plain_name(name) in known})


def exposure(seen: Iterable[str] | None, subjects: Iterable[str]) -> str:
    """Return in words how many of the test subjects an earlier phase has seen.

    Parameters
    ----------
    seen : iterable of str or None
        See `seen_of`.
    subjects : iterable of str
        The test subjects; empty if nothing is tested.
    """
    tested = {str(name) for name in subjects}
    if not tested:
        return ""
    if seen is None:
        return "whom its pretraining saw is not known"
    both = also_seen(seen, tested)
    if both:
        return f"transductive: {len(both)} of {len(tested)} test subjects were in pretraining"
    return f"none of {len(tested)} test subjects was in pretraining"
