"""Values of hyperparameters, callbacks and functions, described so that two sessions can compare them.

Each value becomes rows of a name and a number, a text or None. What has no such value, an object, is described by its
class: two objects of one class count as equal. Nothing here is called or changed.
"""

from __future__ import annotations

import dataclasses
import enum
import hashlib
import itertools
import json
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import PurePath, PureWindowsPath
from typing import Any

import numpy as np
import torch

_DEPTH = 6
_ROWS = 64  # of one value; longer ones are described by their number and a hash
_LONGEST = 10_000  # entries that are looked at

Described = dict[str, Any]


def described(value: Any, name: str) -> Described:
    """Return the rows of a value.

    Parameters
    ----------
    value : Any
    name : str
        Of the value; its parts are called ``name.key`` or ``name[0]``.
    """
    rows = dict(itertools.islice(_rows(value, name, _DEPTH), _LONGEST))
    if len(rows) <= _ROWS:
        return rows
    # a folder differs from host to host
    parts = [[key, PurePath(part).name if is_folder(part) else part] for key, part in rows.items()]
    return {name: f"{len(rows)} entries, {hashlib.blake2b(json.dumps(parts).encode(), digest_size=4).hexdigest()}"}


def hparams_of(thing: Any) -> Described:
    """Return what a module or DataModule gave to Lightning's ``save_hyperparameters``; empty if it gave nothing.

    Its ``settings`` are left out, because they are compared by themselves.
    """
    # not hparams_initial, which copies them
    found = getattr(thing, "_hparams_initial", None)
    rows: Described = {}
    for name, value in found.items() if isinstance(found, Mapping) else ():
        if not (dataclasses.is_dataclass(value) and type(value) is type(getattr(thing, "settings", None))):
            rows |= described(value, str(name))
    return rows


def is_folder(value: Any) -> bool:
    """Return whether a value is a place of files, which differs from host to host; their content is compared."""
    return isinstance(value, str) and (os.path.isabs(value) or PureWindowsPath(value).is_absolute())


def _rows(value: Any, name: str, depth: int) -> Iterator[tuple[str, Any]]:
    if isinstance(value, torch.Tensor | np.ndarray):
        kind = f"{value.dtype} {tuple(value.shape)}".removeprefix("torch.")
        small = value.size < _ROWS if isinstance(value, np.ndarray) else value.numel() < _ROWS and not value.is_meta
        value = value.tolist() if small else kind
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, enum.Enum):
        yield name, value.name
    elif isinstance(value, float) and not math.isfinite(value):
        yield name, str(value)  # JSON has no such number
    elif value is None or isinstance(value, bool | int | float | str):
        yield name, value
    elif isinstance(value, PurePath | torch.dtype | torch.device):
        yield name, str(value)
    elif callable(value) and hasattr(value, "__qualname__"):
        yield name, value.__qualname__.rpartition(".")[2]
    else:
        parts = _parts(value)
        if parts is None or depth == 0:
            yield name, type(value).__qualname__
        elif len(parts) > _LONGEST:
            yield name, f"{len(parts)} entries"
        else:
            for key, part in parts:
                yield from _rows(part, f"{name}{key}", depth - 1)


def _parts(value: Any) -> list[tuple[str, Any]] | None:
    """Return the parts of a container with their names; None for any other object."""
    if dataclasses.is_dataclass(value):
        # what is derived is no argument, and may change
        return [(f".{f.name}", getattr(value, f.name, None)) for f in dataclasses.fields(value) if f.init]
    if isinstance(value, Mapping):
        return [(f".{key}", part) for key, part in value.items()]
    if isinstance(value, list | tuple):
        return [(f"[{number}]", part) for number, part in enumerate(value)]
    if isinstance(value, set | frozenset):
        return [(f"[{number}]", part) for number, part in enumerate(sorted(value, key=repr))]
    return None
