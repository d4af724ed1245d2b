"""Settings of callbacks that a training depends on: what they were made with, beside the state that they save.

Lightning restores some settings with the state, as the patience of an EarlyStopping, so that a new one would be ignored
without a word; others it takes as they are now. So both are compared, and where a change is accepted the new one holds.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterable
from typing import Any
from weakref import WeakKeyDictionary

import lightning

from nbkit.runtime.training.same_training import differences
from nbkit.runtime.training.sameness.described import Described
from nbkit.runtime.training.sameness.functions import held_by

_SHOWN = {"verbose", "strict", "log_rank_zero_only", "device"}  # they change no result

# a training changes what a callback holds: in one process, it is what it came as
_made_before: WeakKeyDictionary[Any, Described] = WeakKeyDictionary()


def callback_settings(callbacks: Iterable[Any]) -> dict[str, Described]:
    """Return the settings of callbacks, by the names under which a checkpoint has their states."""
    found: dict[str, Described] = {}
    for callback in callbacks:
        name, number = callback.state_key, 1
        while name in found:
            number += 1
            name = f"{callback.state_key} ({number})"
        found[name] = _made_with(callback)
    return found


def changed_settings(before: dict[str, Described], now: dict[str, Described]) -> list[str]:
    """Return how the settings of callbacks differ, in words; a callback on one side only is compared elsewhere."""
    return [
        f"{name.partition('{')[0]}.{words}"
        for name in before
        if name in now
        for words in differences(before[name], now[name])
    ]


def set_again(came: Iterable[tuple[Any, dict[str, Any]]], changed: list[str]) -> None:
    """Set in callbacks that have loaded their state the settings that have changed, as they came.

    Parameters
    ----------
    came : iterable of pairs
        Each callback, and its attributes before its state was loaded.
    changed : list of str
        From `changed_settings`.
    """
    for callback, attributes in came:
        kind = callback.state_key.partition("{")[0]
        for name in attributes:
            if any(words.startswith(f"{kind}.{name}: ") for words in changed):
                setattr(callback, name, attributes[name])


def _made_with(callback: Any) -> Described:
    with contextlib.suppress(TypeError):  # it cannot be referred to weakly
        if (known := _made_before.get(callback)) is not None:
            return known
    found: Described = {}
    for name, theirs in _arguments(type(callback)).items():
        attribute = next((one for one in (name, f"_{name}") if one in vars(callback)), None)
        if attribute is None or name in _SHOWN:
            continue
        value = vars(callback)[attribute]
        if theirs and isinstance(value, dict):
            for key, part in value.items():
                found |= held_by(part, key if name == "kwargs" else f"{name}.{key}")
        elif theirs or isinstance(value, bool | int | float):  # a text may be a name of this session
            found |= held_by(value, attribute)
    with contextlib.suppress(TypeError):
        _made_before[callback] = found
    return found


def _arguments(kind: type) -> dict[str, bool]:
    """Return the names of what a callback's class takes, and whether Lightning's own class takes it."""
    found: dict[str, bool] = {}
    for one in kind.__mro__:
        if one is lightning.Callback:
            break
        if "__init__" in vars(one):
            theirs = one.__module__.startswith("lightning.")
            found |= {
                name: theirs or found.get(name, False) for name in inspect.signature(vars(one)["__init__"]).parameters
            }
    return found
