"""Attributes that an object keeps for speed only, such as open files: it leaves them out where it is pickled.

A dataset is pickled for its workers, and opens its files anew in each of them. What its class leaves out so is made
again by a later session too, and is neither state to be kept nor something to be told of.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from nbkit.runtime.training.held.generators import is_foreign, is_generator

_LIBRARIES = ("torchmetrics", "torchvision")


def of_a_library(kind: type) -> bool:
    """Return whether a class belongs to a library, Lightning, torch or the machine, rather than to the user."""
    return is_foreign(kind.__module__) or kind.__module__.partition(".")[0] in _LIBRARIES


def caches_of(thing: Any) -> frozenset[str]:
    """Return the attributes that the user's own ``__getstate__`` of an object leaves out or empties.

    Generators, numbers and texts, and objects with a state_dict are none of them: they may be state all the same, and
    cost nothing to keep.
    """
    definer = next((kind for kind in type(thing).__mro__ if "__getstate__" in vars(kind)), object)
    values = getattr(thing, "__dict__", {})
    if of_a_library(definer) or not values:
        return frozenset()
    try:
        state = thing.__getstate__()
    except Exception:
        return frozenset()  # the user's method may raise anything, and then says nothing of the attributes
    if isinstance(state, tuple) and len(state) == 2:
        state = state[0]  # the other half are its slots
    if not isinstance(state, Mapping):
        return frozenset()
    return frozenset(name for name, value in values.items() if _remade(value) and _emptied(state, name, value))


def _remade(value: Any) -> bool:
    """Return whether a value may be one that is made again, rather than small or a state of its own."""
    small = value is None or isinstance(value, bool | int | float | complex | str | bytes)
    return not (small or is_generator(value) or callable(getattr(type(value), "state_dict", None)))


def _emptied(state: Mapping[str, Any], name: str, value: Any) -> bool:
    if name not in state:
        return True
    kept = state[name]
    if kept is value or isinstance(kept, torch.Tensor):
        return False
    return kept is None or (isinstance(kept, Mapping | list | tuple | set) and not kept)
