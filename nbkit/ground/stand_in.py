"""What is no real result, by the words that a phase says of its data and weights."""

from __future__ import annotations

from collections.abc import Mapping

_UNTRAINED = ("random", "untrained", "synthetic", "made-up", "stand-in", "no weights")


def is_made_up(data: str) -> bool:
    """Return whether data are others than real ones; where nothing is said, nobody knows, and it is False.

    Examples
    --------
    >>> is_made_up("synthetic"), is_made_up("real, 12 subjects"), is_made_up("")
    (True, False, False)
    """
    data = data.strip().lower()
    return bool(data) and not data.startswith("real")


def is_untrained(weights: str) -> bool:
    """Return whether weights hold nothing that was learned.

    Examples
    --------
    >>> is_untrained("random, seed 0"), is_untrained("trained here")
    (True, False)
    """
    return weights.strip().lower().startswith(_UNTRAINED)


def is_stand_in(labels: Mapping[str, str]) -> bool:
    """Return whether what rests on these data and weights says nothing about brains."""
    return is_made_up(labels.get("data", "")) or is_untrained(labels.get("weights", ""))
