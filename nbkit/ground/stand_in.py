"""Detect results of stand-in data or untrained weights from their descriptions."""

from __future__ import annotations

from collections.abc import Mapping

_UNTRAINED = ("random", "untrained", "synthetic", "made-up", "stand-in", "no weights")


def is_made_up(data: str) -> bool:
    """Return whether a description names data that are not real; False if it is empty, because nothing is known then.

    Examples
    --------
    >>> is_made_up("synthetic"), is_made_up("real, 12 subjects"), is_made_up("")
    (True, False, False)
    """
    data = data.strip().lower()
    return bool(data) and not data.startswith("real")


def is_untrained(weights: str) -> bool:
    """Return whether a description names weights that were never trained.

    Examples
    --------
    >>> is_untrained("random, seed 0"), is_untrained("trained here")
    (True, False)
    """
    return weights.strip().lower().startswith(_UNTRAINED)


def is_stand_in(labels: Mapping[str, str]) -> bool:
    """Return whether the data or the weights are stand-ins, so that results say nothing about brains."""
    return is_made_up(labels.get("data", "")) or is_untrained(labels.get("weights", ""))
