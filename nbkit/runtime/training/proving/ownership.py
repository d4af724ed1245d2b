"""Whose code an object comes from: the user's own, or a library's, whose caches and counters are no fault."""

from __future__ import annotations

import functools
import sys
import sysconfig
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_OURS = ("nbkit.runtime", "nbkit.tools", "nbkit.ground")


def of_library(thing: Any) -> bool:
    """Return whether a class or function comes from Python, an installed package or nbkit's own runtime.

    What a notebook or script defines, and what is imported from a folder of the user's, is the user's own.
    """
    return _is_library(getattr(thing, "__module__", None) or "")


def named_in(function: types.FunctionType) -> Iterator[tuple[str, Any]]:
    """Yield (name, value) for the globals that a function names, also those of the user's own modules that it names."""
    names, seen = [*dict.fromkeys(_names(function.__code__))], set()

    def of(namespace: dict[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
        for name in names:
            # a module may be imported within the function
            value = namespace.get(name, sys.modules.get(name) if not prefix else None)
            if not isinstance(value, types.ModuleType):
                if value is not None:
                    yield f"{prefix}{name}", value
            elif id(value) not in seen and not _is_library(value.__name__):
                seen.add(id(value))
                yield from of(vars(value), f"{value.__name__}.")

    yield from of(function.__globals__, "")


def _names(code: types.CodeType) -> Iterator[str]:
    yield from code.co_names
    for part in code.co_consts:
        if isinstance(part, types.CodeType):
            yield from _names(part)


@functools.cache
def _is_library(module: str) -> bool:
    if module.startswith(_OURS) or module.split(".")[0] in sys.stdlib_module_names - {"__main__"}:
        return True
    file = getattr(sys.modules.get(module), "__file__", None)
    if file is None:
        return False
    places = {Path(sysconfig.get_path(name)).resolve() for name in ("purelib", "platlib")}
    return any(place in Path(file).resolve().parents for place in places)
