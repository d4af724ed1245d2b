"""Functions, described so that two sessions can compare them: whether a collate function is still the same.

A function that is written again in a notebook's cell is another object with the same code, so code and constants count,
and arguments that a partial or a closure holds. Functions of installed libraries count by their name, because a new
version may be written otherwise; and code is not compared between two versions of Python, whose bytecodes differ.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import sys
import sysconfig
from pathlib import PurePath
from types import CodeType, FunctionType, MethodType
from typing import Any
from weakref import WeakKeyDictionary

import torch
from lightning.pytorch import LightningDataModule
from torch.utils.data import Dataset

from nbkit.runtime.training.same_training import differences
from nbkit.runtime.training.sameness.described import Described, described

_CODE = "code of "
_DEPTH = 4  # of functions in functions
_COMPARED = (Dataset, LightningDataModule, torch.nn.Module)  # owners that are compared in other ways
_LIBRARIES = {"site-packages", "dist-packages"}

# a training may change what a function holds: in one process, it is what it came as
_described_before: WeakKeyDictionary[Any, dict[str, Any]] = WeakKeyDictionary()


def described_function(function: Any) -> dict[str, Any]:
    """Return the name of a function, the version of Python, a hash of its code if it is known, and what it holds."""
    with contextlib.suppress(TypeError):  # it cannot be referred to weakly
        if (before := _described_before.get(function)) is not None:
            return before
    holds: Described = {}
    name, code = _described(function, holds, "", _DEPTH)
    found = {"name": name, "code": code, "python": f"{sys.version_info[0]}.{sys.version_info[1]}", "holds": holds}
    with contextlib.suppress(TypeError):
        _described_before[function] = found
    return found


def changed_function(what: str, before: dict[str, Any] | None, now: dict[str, Any] | None) -> list[str]:
    """Return how two described functions differ, in words; nothing where one of them is not known."""
    if not before or not now:
        return []
    comparable = before["python"] == now["python"] and before["code"] and now["code"]
    other = before["code"] != now["code"] if comparable else _last(before["name"]) != _last(now["name"])
    if other:
        same_name = before["name"] == now["name"]
        return [f"{what} {_shown(before, same_name)} -> {_shown(now, same_name)}"]
    same_python = before["python"] == now["python"]
    then, present = (
        {key: value for key, value in one["holds"].items() if same_python or not key.startswith(_CODE)}
        for one in (before, now)
    )
    return [f"{what} {now['name']} with {words}" for words in differences(then, present)]


def held_by(value: Any, name: str) -> Described:
    """Return the rows of a value, as `described` does, and of what it holds if it is a function."""
    holds: Described = {}
    _hold(holds, name, value, _DEPTH)
    return {key: one for key, one in holds.items() if not key.startswith(_CODE)}


def _described(function: Any, holds: Described, at: str, depth: int) -> tuple[str, str]:
    """Return the name and the hash of the code of a function; add what it holds."""
    if isinstance(function, functools.partial):
        for number, value in enumerate(function.args):
            _hold(holds, f"{at}args[{number}]", value, depth)
        for key, value in function.keywords.items():
            _hold(holds, f"{at}{key}", value, depth)
        return _described(function.func, holds, at, depth - 1) if depth else ("partial", "")
    if isinstance(function, MethodType):
        if not isinstance(function.__self__, _COMPARED):
            holds |= _fields(function.__self__, at)
        return _described(function.__func__, holds, at, depth)
    if isinstance(function, FunctionType):
        code = function.__code__
        library = _of_a_library(function)
        for key, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
            with contextlib.suppress(ValueError):  # the cell is empty
                value = cell.cell_contents
                if not library:
                    _hold(holds, f"{at}{key}", value, depth)
                elif isinstance(value, FunctionType) and depth:  # wrapped, in one version more often than in another
                    _described(value, holds, at, depth - 1)
                elif isinstance(value, bool | int | float | str):
                    holds[f"{at}{key}"] = value
        if library:
            return function.__qualname__, ""
        given = function.__defaults__ or ()
        names = code.co_varnames[code.co_argcount - len(given) : code.co_argcount]
        for key, value in [*zip(names, given, strict=True), *(function.__kwdefaults__ or {}).items()]:
            if f"{at}{key}" not in holds:  # a partial gives it
                _hold(holds, f"{at}{key}", value, depth)
        return function.__qualname__, _hash(_of_code(code, function.__doc__))
    if isinstance(function, type) or hasattr(function, "__qualname__"):
        return str(function.__qualname__), ""
    # an object that can be called
    holds |= _fields(function, at)
    call = getattr(type(function), "__call__", None)  # noqa: B004
    if not isinstance(call, FunctionType) or _of_a_library(call):
        return type(function).__qualname__, ""
    return type(function).__qualname__, _hash(_of_code(call.__code__, call.__doc__))


def _fields(owner: Any, at: str) -> dict[str, Any]:
    """Return the numbers and texts that an object shows to everyone."""
    found = getattr(owner, "__dict__", {})
    plain = {name: value for name, value in found.items() if isinstance(value, bool | int | float | str | None)}
    return {f"{at}{name}": described(value, "")[""] for name, value in plain.items() if not name.startswith("_")}


def _hold(holds: Described, name: str, value: Any, depth: int) -> None:
    if depth and isinstance(value, FunctionType | MethodType | functools.partial):
        called, code = _described(value, holds, f"{name}.", depth - 1)
        holds[name] = _last(called)
        if code:
            holds[f"{_CODE}{name}"] = code
    else:
        holds |= described(value, name)


def _of_a_library(function: FunctionType) -> bool:
    """Return whether a function comes with an installed package, with Python or with nbkit."""
    file = function.__code__.co_filename
    module = str(function.__module__).partition(".")[0]
    standard = file.startswith(sysconfig.get_path("stdlib"))
    return module == "nbkit" or standard or bool(_LIBRARIES & set(PurePath(file).parts))


def _of_code(code: CodeType, doc: str | None) -> list[Any]:
    """Return what a code does: its bytes, names and constants, without places in files and its docstring."""
    constants = [one for one in code.co_consts if one is not doc or doc is None]
    return [
        code.co_code.hex(),
        *map(list, (code.co_names, code.co_freevars, code.co_cellvars)),
        [_of_code(one, None) if isinstance(one, CodeType) else _constant(one) for one in constants],
    ]


def _constant(value: Any) -> str:
    return repr(sorted(map(repr, value)) if isinstance(value, frozenset) else value)


def _hash(value: Any) -> str:
    return hashlib.blake2b(repr(value).encode(), digest_size=4).hexdigest()


def _last(name: str) -> str:
    return name.rpartition(".")[2]


def _shown(function: dict[str, Any], with_code: bool) -> str:
    return f"{function['name']} (code {function['code']})" if with_code else function["name"]
