"""Contents of a dataset, drawn: whether the items of today are those that a checkpoint was trained on.

A few items are fetched under fixed seeds, so that augmentation makes no difference, in a process of their own, so that
the fetching changes neither the dataset nor any generator here. Numbers are compared with a tolerance, because another
machine may compute them differently in the last digits.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import multiprocessing
import time
from collections.abc import Mapping
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch

from nbkit.runtime.training.held.items import SeededItems

_ENOUGH_S = 0.05  # of fetching, after which no further item is fetched
_LONGEST_S = 3.0  # of waiting
_CLOSE = 1e-3  # relative to the size of the numbers
_LEAVES = 32  # of an item
_SAMPLES = 1 << 16  # numbers of an array that are looked at

Sketch = dict[str, list[list[Any]]]
"""By the number of the item: one row for each part, of its name, its kind, and its hash or some numbers."""

# a training may change what a dataset holds: in one process, its items are those that it came with
_drawn_before: WeakKeyDictionary[Any, tuple[int, Sketch]] = WeakKeyDictionary()


def draw_contents(dataset: Any, seed: int) -> tuple[Sketch, str]:
    """Return the sketch of a few items, and why there is none.

    Parameters
    ----------
    dataset : Dataset
        With ``__len__`` and ``__getitem__``.
    seed : int
        Seed of the training, which the augmentation depends on.
    """
    with contextlib.suppress(TypeError):  # the dataset cannot be referred to weakly
        if (before := _drawn_before.get(dataset)) is not None and before[0] == seed:
            return before[1], ""
    sketch, why = _draw(dataset, seed)
    if not why:
        with contextlib.suppress(TypeError):
            _drawn_before[dataset] = (seed, sketch)
    return sketch, why


def _draw(dataset: Any, seed: int) -> tuple[Sketch, str]:
    if "fork" not in multiprocessing.get_all_start_methods():
        return {}, "this system cannot fork"
    if multiprocessing.current_process().daemon:
        return {}, "a daemonic process cannot start another"
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe(duplex=False)
    child = context.Process(target=_answer, args=(there, dataset, seed), daemon=True)
    child.start()
    there.close()
    try:
        return here.recv() if here.poll(_LONGEST_S) else ({}, f"an item takes more than {_LONGEST_S:g} s")
    except (EOFError, OSError):
        return {}, "an item could not be fetched in a process of its own"
    finally:
        child.kill()
        child.join()
        here.close()


def _answer(pipe: Any, dataset: Any, seed: int) -> None:
    torch.set_num_threads(1)  # the threads of the process that was forked are not here
    try:
        pipe.send(_drawn(dataset, seed))
    except Exception as error:  # the training meets the same error, and tells it with its traceback
        pipe.send(({}, f"fetching an item raised {type(error).__name__}"))


def _drawn(dataset: Any, seed: int) -> tuple[Sketch, str]:
    items, size = SeededItems(dataset, None, seed, training=True), len(dataset)
    drawn = [0, size - 1, size // 2, int(np.random.default_rng([seed, size]).integers(size))] if size else []
    sketch: Sketch = {}
    began = time.monotonic()
    for index in dict.fromkeys(drawn):
        sketch[str(index)] = _item(items, index)
        if len(sketch) == 1 and different(sketch, {str(index): _item(items, index)}):
            return {}, (
                f"item {index} is another one each time, although the seeds are the same. It draws from a source that "
                "nbkit does not seed, so a training that is stopped may see other data than one that is not; "
                "session.prove(module, data) tells whether its result differs"
            )
        if time.monotonic() - began > _ENOUGH_S:
            break
    return sketch, ""


def _item(items: SeededItems, index: int) -> list[list[Any]]:
    rows: list[list[Any]] = []
    _add(rows, "", items[0, index])
    return rows


def _add(rows: list[list[Any]], name: str, value: Any) -> None:
    """Add the parts of a value, each as a row of its name, its kind and its content."""
    if len(rows) >= _LEAVES:
        return
    if isinstance(value, torch.Tensor):
        value = value.detach()
        value = (value.float() if value.is_floating_point() else value).cpu().numpy()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        for key in value:
            _add(rows, f"{name}[{key!r}]", value[key])
    elif isinstance(value, list | tuple):
        for number, part in enumerate(value):
            _add(rows, f"{name}[{number}]", part)
    elif isinstance(value, np.ndarray | np.generic | float | int):
        array = np.asarray(value)
        kind = f"{array.dtype} {array.shape}"
        inexact = array.dtype.kind in "fc"
        rows.append([name, kind, numbers_of(array) if inexact else _hash(np.ascontiguousarray(array).tobytes())])
    elif isinstance(value, str | bytes):
        content = value if isinstance(value, bytes) else value.encode("utf-8", "surrogatepass")
        rows.append([name, type(value).__name__, _hash(content)])
    else:
        rows.append([name, type(value).__name__, ""])


def _hash(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=8).hexdigest()


def numbers_of(array: np.ndarray) -> list[float]:
    """Return a few numbers that change if any larger part of an array changes: mean, spread, two weighted means."""
    flat = np.asarray(array).reshape(-1)
    flat = flat[:: max(1, len(flat) // _SAMPLES)]
    flat = np.concatenate([flat.real, flat.imag]) if flat.dtype.kind == "c" else flat
    flat = flat.astype(np.float64)
    finite = np.where(np.isfinite(flat), flat, 0.0)
    if not len(flat):
        return [0.0, 0.0, 0.0, 0.0]
    place = np.arange(len(flat))
    found = [finite.mean(), finite.std(), *((finite * np.cos(speed * place)).mean() for speed in (0.7, 2.3))]
    # a receipt can hold only what is finite
    return [float(np.nan_to_num(number)) for number in found] + [float(len(flat) - np.isfinite(flat).sum())]


def different(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return how two sketches differ, in words; only items that are in both are compared."""
    found = []
    for index in before:
        rows, others = before[index], now.get(index)
        if others is None:
            continue
        if [row[:2] for row in rows] != [row[:2] for row in others]:
            found.append(f"item {index}: {_kinds(rows)} -> {_kinds(others)}")
            continue
        for (name, kind, old), (_, _, new) in zip(rows, others, strict=True):
            if not same_numbers(old, new):
                found.append(f"content of item {index}{name} ({kind}): {_shown(old)} -> {_shown(new)}")
                break
    return found


def same_numbers(old: Any, new: Any) -> bool:
    """Return whether two hashes are equal, or two rows of numbers nearly so."""
    if not isinstance(old, list) or not isinstance(new, list):
        return bool(old == new)
    size = max(abs(old[0]) + old[1], abs(new[0]) + new[1])
    return len(old) == len(new) and all(abs(a - b) <= _CLOSE * size for a, b in zip(old, new, strict=True))


def _kinds(rows: list[list[Any]]) -> str:
    return ", ".join(f"{name.strip('[]') or 'value'} {kind}" for name, kind, _ in rows[:4])


def _shown(content: Any) -> str:
    return f"mean {content[0]:.4g}, spread {content[1]:.4g}" if isinstance(content, list) else content[:8]
