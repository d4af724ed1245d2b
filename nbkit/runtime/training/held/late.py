"""Places that a later session would have otherwise: deleted ones, objects made late, and entries under passing keys."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch

from nbkit.runtime.errors import UsageError
from nbkit.runtime.training.held.places import Place, Walk
from nbkit.runtime.training.held.values import NotPlain, form_of, value_of

_UNCHANGED = "Nothing was saved now; earlier checkpoints are unchanged."
_MISSING: Any = object()


class Late:
    """Compare the places of a save with those before the first epoch of a session."""

    def __init__(self, places: Iterable[Place] = ()) -> None:
        self._first = {place.path: place for place in places}

    def gone(self, walk: Walk) -> dict[str, list[Any]]:
        """Return entries of a checkpoint for attributes and entries of dicts that were deleted."""
        now = {place.path for place in walk.places} | {link.path for link in walk.links}
        entries = {}
        for path, place in self._first.items():
            if path not in now and not place.quiet and walk.holders.get(place.parent, _MISSING) is place.holder:
                if _looked_up(place.holder, place.key) is _MISSING:
                    entries[path] = [place.parent, form_of(place.key), "gone", False, None, None]
        return entries

    def check(self, place: Place, walk: Walk) -> None:
        """Refuse a place that cannot be put back in a later session.

        Raises
        ------
        UsageError
            If it is an object with a state_dict that was made during the training, or stands in a dict under a module,
            a parameter or the ``id`` of one.
        """
        first = self._first.get(place.path)
        if place.kind == "own" and not place.quiet and (first is None or first.kind != "own"):
            raise UsageError(
                f"{place.path} has become a {type(place.value).__qualname__} during the training, and no later session "
                "would have one to load its state into. Make it in __init__, setup() or on_fit_start, where every "
                f"session makes it, and let a number say since when it is used. {_UNCHANGED}"
            )
        bad = _passing_key(place, walk)
        if bad is not None:
            raise UsageError(
                f"The training changes {place.path}, which a dict holds under {bad}. A later session has other "
                "objects, so that it would not find the entry. Use names as keys, such as those of named_parameters() "
                f"and named_modules(). {_UNCHANGED}"
            )


def delete(holder: Any, key: Any) -> None:
    """Delete an attribute or an entry of a dict if it is there."""
    key = value_of(key)
    if isinstance(holder, dict):
        holder.pop(key, None)
    elif hasattr(holder, "__dict__") and key in vars(holder) and not isinstance(holder, type):
        del vars(holder)[key]
    elif _looked_up(holder, key) is not _MISSING:
        delattr(holder, key)


def _looked_up(holder: Any, key: Any) -> Any:
    """Return an attribute of an object itself or an entry of a dict; lists are compared as wholes."""
    if isinstance(holder, dict):
        return holder.get(key, _MISSING)
    if isinstance(holder, list | tuple) or not isinstance(key, str):
        return None
    if isinstance(holder, type):
        return vars(holder).get(key, _MISSING)
    slots = {name for kind in type(holder).__mro__ for name in _slots(kind)}
    return getattr(holder, key, _MISSING) if key in slots else getattr(holder, "__dict__", {}).get(key, _MISSING)


def _slots(kind: type) -> tuple[str, ...]:
    slots = vars(kind).get("__slots__", ())
    return (slots,) if isinstance(slots, str) else tuple(slots)


def _passing_key(place: Place, walk: Walk) -> str | None:
    """Return in words what no later session has the same of."""
    inside = [*place.value] if isinstance(place.value, Mapping) else []
    keys = [*inside, *([place.key] if isinstance(place.holder, dict) else [])]
    for key in keys:
        if isinstance(key, torch.Tensor | torch.nn.Module):
            return f"the object {type(key).__name__}"
    try:
        form_of(keys[-1] if keys and not inside else None)
    except NotPlain:
        return f"the object {getattr(place.key, '__qualname__', type(place.key).__qualname__)}"
    numbers = {key for key in keys if type(key) is int and key > 1 << 20}
    if numbers and not numbers.isdisjoint({id(thing) for thing in [*walk.holders.values(), *walk.named.values()]}):
        return "the id() of an object"
    return None
