"""Whose code an object comes from: the user's own, or a library's, whose caches and counters are no fault."""

from __future__ import annotations

import functools
import sys
import sysconfig
from pathlib import Path
from typing import Any

_OURS = ("nbkit.runtime", "nbkit.tools", "nbkit.ground")


def of_library(thing: Any) -> bool:
    """Return whether a class or function comes from Python, an installed package or nbkit's own runtime.

    What a notebook or script defines, and what is imported from a folder of the user's, is the user's own.
    """
    return _is_library(getattr(thing, "__module__", None) or "")


@functools.cache
def _is_library(module: str) -> bool:
    if module.startswith(_OURS) or module.split(".")[0] in sys.stdlib_module_names - {"__main__"}:
        return True
    file = getattr(sys.modules.get(module), "__file__", None)
    if file is None:
        return False
    places = {Path(sysconfig.get_path(name)).resolve() for name in ("purelib", "platlib")}
    return any(place in Path(file).resolve().parents for place in places)
