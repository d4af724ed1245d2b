"""Objects that are trained again in the same process, as when a cell of a notebook is run once more.

They hold what their last session left, which may be more than the checkpoint that the next one resumes from. So what
they came with is remembered, and put back where nobody has changed it since.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any
from weakref import WeakKeyDictionary

import torch

from nbkit.runtime.training.held.places import Place, put
from nbkit.runtime.training.held.values import digest, value_of

_SMALL = 1 << 16  # bytes of a tensor, above which a value is not remembered

# forms of what was there before the first session, and digests of what the last one left, by path
_KNOWN: WeakKeyDictionary[Any, tuple[dict[str, Any], dict[str, bytes]]] = WeakKeyDictionary()


def as_it_came(module: Any, places: list[Place], saved: Collection[str] | None) -> bool:
    """Put back what an earlier session of this process has changed; return whether there was anything.

    Parameters
    ----------
    module : LightningModule
    places : list of Place
    saved : collection of str or None
        Paths that the checkpoint restores; None if the training begins.
    """
    changed = False
    if saved is not None and module in _KNOWN:
        came, left = _KNOWN[module]
        for place in places:
            path = place.path
            if path in saved or path not in came or place.kind != "plain" or digest(came[path]) == left.get(path):
                continue
            if digest(place.form) == left.get(path):
                put(place.holder, place.key, value_of(_copied(came[path]), place.value))
                changed = True
    return changed


def remember(module: Any, places: list[Place]) -> None:
    """Remember what the places hold before the first session of a module in this process."""
    if module not in _KNOWN:
        plain = {place.path: _copied(place.form) for place in places if place.kind == "plain"}
        _KNOWN[module] = ({path: form for path, form in plain.items() if form is not _LARGE}, {})


def leave(module: Any, places: list[Place]) -> None:
    """Remember how a session leaves its objects."""
    if module in _KNOWN:
        left = {place.path: digest(place.form) for place in places if place.kind == "plain"}
        _KNOWN[module] = (_KNOWN[module][0], left)


_LARGE: Any = object()


def _copied(form: Any) -> Any:
    """Return a form with copies of its tensors; ``_LARGE`` if one of them is."""
    if isinstance(form, torch.Tensor):
        return form.detach().clone() if form.nbytes <= _SMALL else _LARGE
    if not isinstance(form, list):
        return form
    parts = [_copied(part) for part in form]
    return _LARGE if any(part is _LARGE for part in parts) else parts
