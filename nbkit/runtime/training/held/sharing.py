"""Values that are one object, or one piece of memory, in several places.

A checkpoint stores the value of each place alone. Without more, a resumed session would have two equal lists where
there was one, or copies of the weights where there were views of them, and what changes one would no longer change the
other. So the places are stored that share something, and they are joined again.
"""

from __future__ import annotations

import array
import dataclasses
import random
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import torch

from nbkit.runtime.training.held.places import Place, put

Spot = list[Any]  # path of a place and steps into its value, or "" and the name of a weight

_CONTAINERS = (list, dict, set, deque)
_MUTABLE = (*_CONTAINERS, bytearray, array.array, np.ndarray, torch.Tensor, torch.Generator, np.random.Generator,
            np.random.BitGenerator, np.random.RandomState, random.Random)  # fmt: skip


def sharing_of(places: Iterable[Place], weights: Mapping[str, torch.Tensor]) -> list[list[Any]]:
    """Return which spots hold the same object, and which tensors are views of another one's memory.

    Parameters
    ----------
    places : iterable of Place
        Those with a plain value are looked into.
    weights : mapping of str to torch.Tensor
        Parameters and buffers by their names, which are stored elsewhere.

    Returns
    -------
    sharing : list
        ``["same", spot, spot, ...]`` and ``["view", spot, owner's spot, size, stride, offset]``, in the order in which
        `join` has to take them.
    """
    spots: dict[int, list[Spot]] = {id(weight): [["", name]] for name, weight in weights.items()}
    tensors: dict[int, tuple[torch.Tensor, Spot]] = {}
    for name, weight in weights.items():
        tensors.setdefault(id(weight), (weight, ["", name]))
    for place in places:
        if place.kind != "plain":
            continue
        for spot, value in _inside(place.value, [place.path], spots):
            spots.setdefault(id(value), []).append(spot)
            if isinstance(value, torch.Tensor):
                tensors.setdefault(id(value), (value, spot))
    same = [["same", *found] for found in spots.values() if len({tuple(spot) for spot in found}) > 1]
    same = [entry for entry in same if any(spot[0] for spot in entry[1:])]
    return sorted(same, key=lambda entry: min(map(len, entry[1:]))) + list(_views(tensors.values()))


def join(sharing: Iterable[list[Any]], places: Iterable[Place], kept: set[str], weights: Mapping[str, Any]) -> None:
    """Make spots hold one object, or one memory, again.

    Parameters
    ----------
    sharing : iterable
        As `sharing_of` returned it.
    places : iterable of Place
        With their values put back.
    kept : set of str
        Paths of places whose object is the one that others may refer to: it was there before the resume.
    weights : mapping of str to torch.Tensor
    """
    there = {place.path: place for place in places if place.kind == "plain"}
    for kind, *entry in sharing:
        if kind == "same":
            spots = sorted(
                (s for s in entry if s[0] in there or not s[0]), key=lambda s: (bool(s[0]), s[0] not in kept)
            )
            values = [_at(spot, there, weights) for spot in spots]
            one = next((value for value in values if value is not None), None)
            for spot, value in zip(spots, values, strict=True):
                if spot[0] and one is not None and value is not None and value is not one:
                    _set(there[spot[0]], spot[1:], one)
            continue
        spot, owner_spot, size, stride, offset = entry
        view, owner = _at(spot, there, weights), _at(owner_spot, there, weights)
        if _fits(view, owner, size, stride, offset):
            view.data = owner.detach().as_strided(size, stride, owner.storage_offset() + offset)


def _inside(value: Any, spot: Spot, seen: Mapping[int, Any]) -> Iterator[tuple[Spot, Any]]:
    """Yield what can be changed in a plain value, outer objects first; what has been met is not looked into again."""
    changeable = isinstance(value, _MUTABLE) or _is_record(value)
    if changeable:
        met = id(value) in seen
        yield spot, value
        if met:
            return
    for step, item in enumerate(_items(value)):
        if isinstance(item, (*_MUTABLE, tuple)) or _is_record(item):
            yield from _inside(item, [*spot, step], seen)


def _items(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return list(value.values())
    if isinstance(value, list | tuple | deque):
        return list(value)
    if isinstance(value, np.ndarray) and value.dtype == object:
        return list(value.ravel())
    return list(vars(value).values()) if _is_record(value) else []


def _is_record(value: Any) -> bool:
    return dataclasses.is_dataclass(value) and not isinstance(value, type) and hasattr(value, "__dict__")


def _at(spot: Spot, there: Mapping[str, Place], weights: Mapping[str, Any]) -> Any:
    """Return what is at a spot; None if it is empty."""
    path, *steps = spot
    if not path:
        return weights.get(steps[0])
    value = there[path].value if path in there else None
    for step in steps:
        items = _items(value)
        value = items[step] if step < len(items) else None
    return value


def _set(place: Place, steps: list[int], one: Any) -> None:
    new = _with(place.value, steps, one)
    if new is not place.value:
        put(place.holder, place.key, new)
        place.value = new


def _with(value: Any, steps: list[int], one: Any) -> Any:
    """Return a value with something else at a spot inside it; only tuples have to be made anew for it."""
    if not steps:
        return one
    step, *rest = steps
    inner = _items(value)[step]
    new = _with(inner, rest, one)
    if new is inner:
        return value
    if isinstance(value, tuple):
        items = [*value[:step], new, *value[step + 1 :]]
        return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
    if isinstance(value, dict):
        dict.__setitem__(value, list(value)[step], new)
    elif isinstance(value, list | deque):
        value[step] = new
    elif isinstance(value, np.ndarray):
        value[np.unravel_index(step, value.shape)] = new
    else:
        vars(value)[list(vars(value))[step]] = new  # a frozen dataclass, too
    return value


def _views(tensors: Iterable[tuple[torch.Tensor, Spot]]) -> Iterator[list[Any]]:
    by_memory: dict[tuple[str, int], list[tuple[torch.Tensor, Spot]]] = {}
    for tensor, spot in tensors:
        if tensor.layout is torch.strided and not tensor.is_meta and tensor.numel():
            key = (str(tensor.device), tensor.untyped_storage().data_ptr())
            by_memory.setdefault(key, []).append((tensor, spot))
    for group in by_memory.values():
        # a weight stays the object that it is; else the largest one holds the others
        owner, owner_spot = max(group, key=lambda item: (not item[1][0], item[0].numel()))
        for tensor, spot in group:
            offset = tensor.storage_offset() - owner.storage_offset()
            layout = [list(tensor.shape), list(tensor.stride()), offset]
            if tensor is not owner and spot[0] and _fits(tensor, owner, *layout):
                yield ["view", spot, owner_spot, *layout]


def _fits(view: Any, owner: Any, size: list[int], stride: list[int], offset: int) -> bool:
    """Return whether a view can be made of an owner's own elements."""
    if not isinstance(view, torch.Tensor) or not isinstance(owner, torch.Tensor) or view.device != owner.device:
        return False
    dense = owner.numel() == 1 + sum((n - 1) * step for n, step in zip(owner.shape, owner.stride(), strict=True))
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    return dense and view.dtype == owner.dtype and list(view.shape) == size and 0 <= offset <= last < owner.numel()
