"""What functions reach beside their arguments: global variables, closures, defaults, and attributes of their own.

A generator that stands there belongs to the training as much as one in an attribute. So do lists, dicts and arrays
among the defaults, and the numbers that a function keeps as its attributes.
"""

from __future__ import annotations

import functools
import random
import sys
import sysconfig
import types
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

ATTRIBUTES = ".__dict__"  # of a function, behind its name
_ROOTS = {"module", "data", "dataset"}  # what paths begin with
_CHANGE = (list, dict, set, deque, bytearray, np.ndarray, torch.Tensor)  # kinds of defaults that a call can change
BOUND = (types.MethodType, types.BuiltinMethodType, types.MethodWrapperType)
# such as ``random.random``: their state is kept as that of the process
_OF_THE_PROCESS = tuple(getattr(draw, "__self__", None) for draw in (random.random, np.random.random_sample))
_LIBRARIES = tuple(
    path for path in map(sysconfig.get_paths().get, ("stdlib", "platstdlib", "purelib", "platlib")) if path
)


@dataclass(frozen=True)
class Reached:
    """Something that a function reaches.

    Attributes
    ----------
    holder : object
        What holds it: the dict of a file's variables or of a function's attributes, the defaults, or a cell.
    key
        Its name or index there.
    value
    owner : str
        The file's name if it is a global variable, else what comes behind the function's name, "" for its closure.
    of_a_file : bool
    """

    holder: Any
    key: Any
    value: Any
    owner: str
    of_a_file: bool = False

    @property
    def may_hold_numbers(self) -> bool:
        """Whether more than generators and functions counts: of global variables nobody knows whose they are."""
        return self.owner == ATTRIBUTES or (self.owner.startswith(".__") and isinstance(self.value, _CHANGE))


def owner_of(method: Any) -> Any:
    """Return the object whose state a bound method, or a partial of it, uses, such as a generator; None if none."""
    while isinstance(method, functools.partial):
        method = method.func
    owner = method.__self__ if isinstance(method, BOUND) else None
    known = isinstance(owner, types.ModuleType | type) or any(owner is one for one in _OF_THE_PROCESS)
    return None if known else owner


def functions_in(member: Any) -> list[types.FunctionType]:
    """Return the functions of a member of a class: a method of any kind, or those of a property."""
    if isinstance(member, staticmethod | classmethod):
        member = member.__func__
    parts = [member]
    if isinstance(member, property):
        parts = [member.fget, member.fset, member.fdel]
    elif isinstance(member, functools.cached_property | functools.partialmethod):
        parts = [member.func]
    return [part for part in parts if isinstance(part, types.FunctionType)]


def reached_by(function: types.FunctionType) -> Iterator[Reached]:
    """Yield what a function reaches, also in the lambdas, comprehensions and functions inside of it."""
    names = names_in(function.__code__)
    for owner, space in files_of(function):
        for name in names:
            value = space.get(name)
            if value is not None and not isinstance(value, types.ModuleType):
                yield Reached(space, name, value, owner, True)
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        yield Reached(cell, name, content(cell), "")
    if function.__code__.co_filename.startswith(_LIBRARIES):
        return
    for index, value in enumerate(function.__defaults__ or ()):
        yield Reached(function.__defaults__, index, value, ".__defaults__")
    for name, value in (function.__kwdefaults__ or {}).items():
        yield Reached(function.__kwdefaults__, name, value, ".__kwdefaults__")
    for name, value in vars(function).items():
        if not name.startswith("__"):  # such as what functools.wraps leaves
            yield Reached(vars(function), name, value, ATTRIBUTES)


def files_of(function: types.FunctionType) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the file of a function and those of the user's that it names, each by its name and with its variables."""
    space = function.__globals__
    yield _path(str(space.get("__name__"))), space
    for name in names_in(function.__code__):
        module = space.get(name)
        if isinstance(module, types.ModuleType) and hasattr(module, "__file__") and is_the_users(module.__name__):
            yield _path(module.__name__), vars(module)


def _path(file: str) -> str:
    return f"{file}.py" if file in _ROOTS else file


@functools.lru_cache(maxsize=4096)
def names_in(code: types.CodeType) -> tuple[str, ...]:
    """Return the names of globals and attributes in a code, and in the codes inside of it."""
    inner = [name for part in code.co_consts if isinstance(part, types.CodeType) for name in names_in(part)]
    return tuple(dict.fromkeys([*code.co_names, *inner]))


def content(cell: types.CellType) -> Any:
    """Return what a cell of a closure holds; None if it is empty as yet."""
    try:
        return cell.cell_contents
    except ValueError:
        return None


def is_the_users(module: str) -> bool:
    """Return whether a file is the user's, not Python's or an installed library's, by the name of its module."""
    path = getattr(sys.modules.get(module), "__file__", None)  # a notebook's cells are in no file
    return not (isinstance(path, str) and path.startswith(_LIBRARIES))
