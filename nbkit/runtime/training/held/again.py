"""Objects that are trained again in the same process, as when a cell of a notebook is run once more.

They hold what their last session left, which may be more than the checkpoint that the next one resumes from. So what
they came with is remembered, and put back where nobody has changed it since.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary, ref

import torch

from nbkit.runtime.training.held.late import delete
from nbkit.runtime.training.held.places import Place, Walk, put
from nbkit.runtime.training.held.values import digest, value_of

_SMALL = 1 << 16  # bytes of a tensor, above which a value is not remembered


@dataclass
class _Known:
    """What is known of the objects of one module, by path."""

    paths: set[str]  # of all places before the first session
    came: dict[str, Any]  # forms of what was there then
    named: dict[str, Any]  # weak references to the objects that attributes named then
    left: dict[str, bytes] = field(default_factory=dict)  # digests of what the last session left


_KNOWN: WeakKeyDictionary[Any, _Known] = WeakKeyDictionary()


def as_it_came(module: Any, walk: Walk, saved: Collection[str] | None) -> bool:
    """Put back what an earlier session of this process has changed; return whether there was anything.

    Parameters
    ----------
    module : LightningModule
    walk : Walk
    saved : collection of str or None
        Paths that the checkpoint restores; None if the training begins.
    """
    if saved is None or module not in _KNOWN:
        return False
    known = _KNOWN[module]
    changed = False
    for link in walk.links:
        if isinstance(link.value, tuple):
            continue  # hooks
        first = known.named[link.path]() if link.path in known.named else None
        if first is not None and first is not link.value and link.path not in saved:
            put(link.holder._modules if link.part else link.holder, link.key, first)
            changed = True
    for place in walk.places:
        path = place.path
        if path in saved or place.kind != "plain" or digest(place.form) != known.left.get(path):
            continue
        if path not in known.paths:
            if not place.quiet and not isinstance(place.holder, list | tuple | type):
                delete(place.holder, place.key)  # a session has made it, of which the checkpoint knows nothing
                changed = True
        elif path in known.came and digest(known.came[path]) != known.left[path]:
            put(place.holder, place.key, value_of(_copied(known.came[path]), place.value))
            changed = True
    return changed


def remember(module: Any, walk: Walk) -> None:
    """Remember what the places hold before the first session of a module in this process."""
    if module not in _KNOWN:
        plain = {place.path: _copied(place.form) for place in walk.places if place.kind == "plain"}
        came = {path: form for path, form in plain.items() if form is not _LARGE}
        named = {link.path: _reference(link.value) for link in walk.links if _may_be_named(link.value)}
        _KNOWN[module] = _Known({place.path for place in walk.places}, came, named)


def leave(module: Any, places: list[Place]) -> None:
    """Remember how a session leaves its objects."""
    if module in _KNOWN:
        _KNOWN[module].left = {place.path: digest(place.form) for place in places if place.kind == "plain"}


def _may_be_named(value: Any) -> bool:
    return isinstance(value, torch.nn.Module) or hasattr(value, "__dict__")


def _reference(value: Any) -> Any:
    try:
        return ref(value)
    except TypeError:
        return lambda: None


_LARGE: Any = object()


def _copied(form: Any) -> Any:
    """Return a form with copies of its tensors; ``_LARGE`` if one of them is."""
    if isinstance(form, torch.Tensor):
        return form.detach().clone() if form.nbytes <= _SMALL else _LARGE
    if not isinstance(form, list):
        return form
    parts = [_copied(part) for part in form]
    return _LARGE if any(part is _LARGE for part in parts) else parts
