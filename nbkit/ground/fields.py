"""Settings that check themselves as they are made: unknown names and values of another type are refused in words.

`checked` stands above ``@dataclass(frozen=True)``. It converts what says the same in another type (a list to a tuple, a
number of numpy to Python's own), so that settings can be compared and written as JSON.
"""

from __future__ import annotations

import difflib
import functools
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import MISSING, fields
from numbers import Integral, Real
from typing import Any, TypeVar

T = TypeVar("T")
MISFIT: Any = type("Misfit", (), {"__repr__": lambda self: "MISFIT"})()

_WORDS = {
    str: "text", int: "a whole number", float: "a number", bool: "True or False", tuple: "a list", list: "a list",
    dict: "names with values", type(None): "None",
}  # fmt: skip
_ABSTRACT: dict[Any, str] = {Sequence: "a list", Mapping: "names with values"}


def checked(cls: type[T]) -> type[T]:
    """Return a frozen dataclass whose instances are made of known names and of values of the fields' types alone.

    Raises
    ------
    ValueError
        When an instance is made: if a name is unknown, missing or given twice, or a value has another type.
    """
    made: Callable[..., None] = cls.__init__
    names = [field.name for field in fields(cls) if field.init]  # type: ignore[arg-type]
    needed = [
        field.name
        for field in fields(cls)  # type: ignore[arg-type]
        if field.init and field.default is MISSING and field.default_factory is MISSING
    ]
    hints: dict[str, Any] = {}

    @functools.wraps(made)
    def init(self: Any, *values: Any, **named: Any) -> None:
        kind = type(self).__name__
        if not hints:  # annotations are looked up at the first instance, not at the import
            hints.update(typing.get_type_hints(cls))
        if len(values) > len(names):
            raise ValueError(f"{kind} got {len(values)} values, but has {len(names)} settings: {', '.join(names)}.")
        given = dict(zip(names, values, strict=False))
        for name, value in named.items():
            if name not in hints or name not in names:
                raise ValueError(f"{kind}: {unknown('setting', name, names)}")
            if name in given:
                raise ValueError(f"{kind}.{name} is given twice: {given[name]!r} and {value!r}.")
            given[name] = value
        if missing := [name for name in needed if name not in given]:
            raise ValueError(f"{kind} needs {', '.join(missing)} too. Its settings: {', '.join(names)}.")
        for name, value in given.items():
            fitted = fit(hints[name], value)
            if fitted is MISFIT:
                raise ValueError(misfit(kind, name, value, hints[name]))
            given[name] = fitted
        made(self, **given)

    cls.__init__ = init  # type: ignore[method-assign]
    return cls


def misfit(kind: str, name: str, value: Any, wanted: Any) -> str:
    """Return a message about a value of another type than a field's."""
    shown = repr(value)
    shown = shown if len(shown) <= 100 else f"{shown[:97]}..."
    return f"{kind}.{name} is {shown}; it must be {described(wanted)}."


def unknown(what: str, name: str, allowed: Iterable[str]) -> str:
    """Return a message about an unknown name, with the nearest allowed name and the list of all.

    Parameters
    ----------
    what : str
        What it is the name of, such as ``"setting"``.
    name : str
        The name that was given.
    allowed : iterable of str
    """
    allowed = list(allowed)
    folded = {one.lower(): one for one in allowed}
    close = difflib.get_close_matches(name.lower(), list(folded), n=1, cutoff=0.5)
    hint = f" Did you mean {folded[close[0]]!r}?" if close else ""
    return f"There is no {what} {name!r}.{hint} Allowed: {', '.join(allowed) or 'none'}."


def described(wanted: Any) -> str:
    """Return what an annotation allows.

    Examples
    --------
    >>> described(float | None), described(tuple[str, ...]), described(tuple[float, float])
    ('a number or None', 'a list of text', 'a list of 2 values: a number, a number')
    """
    origin, arguments = typing.get_origin(wanted), typing.get_args(wanted)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(described(one) for one in arguments)
    if origin is typing.Literal:
        return "one of " + ", ".join(map(repr, arguments))
    if origin is tuple and arguments and arguments[-1] is not ...:
        return f"a list of {len(arguments)} values: {', '.join(described(one) for one in arguments)}"
    if origin in (tuple, list, Sequence) and arguments:
        return f"a list of {described(arguments[0])}"
    word = _WORDS.get(origin or wanted) or _ABSTRACT.get(origin or wanted)
    return word or f"of type {getattr(wanted, '__name__', wanted)}"


def fit(wanted: Any, value: Any) -> Any:
    """Return a value converted to an annotation's type; MISFIT if it does not fit."""
    if wanted is Any or type(value) is wanted:
        return value
    origin, arguments = typing.get_origin(wanted), typing.get_args(wanted)
    if origin in (typing.Union, types.UnionType):
        if type(value) in arguments:
            return value
        fits = (fit(one, value) for one in arguments)
        return next((fitted for fitted in fits if fitted is not MISFIT), MISFIT)
    if origin is typing.Literal:
        return value if any(value == one and type(value) is type(one) for one in arguments) else MISFIT
    if wanted is None or wanted is type(None):
        return None if value is None else MISFIT
    if wanted in (int, float, bool, tuple, list) or origin in (tuple, list):
        if hasattr(value, "tolist"):  # numpy's and torch's numbers and arrays
            value = value.tolist()
        return _fit_number(wanted, value) if wanted in (int, float, bool) else _fit_list(wanted, value)
    if origin is Sequence:
        return _fit_list(tuple[arguments[0], ...], value)  # type: ignore[valid-type]
    if wanted in (dict, Mapping) or origin in (dict, Mapping):
        return _fit_mapping(origin or wanted, arguments, value)
    return value if isinstance(value, origin or wanted) else MISFIT


def _fit_number(wanted: type, value: Any) -> Any:
    if wanted is bool or isinstance(value, bool):
        return value if wanted is bool and isinstance(value, bool) else MISFIT
    if wanted is float:
        return float(value) if isinstance(value, Real) else MISFIT
    whole = isinstance(value, Integral) or (isinstance(value, float) and value.is_integer())
    return int(value) if whole else MISFIT


def _fit_list(wanted: Any, value: Any) -> Any:
    kind, arguments = typing.get_origin(wanted) or wanted, typing.get_args(wanted)
    if not isinstance(value, list | tuple):
        return MISFIT
    if kind is list or (len(arguments) == 2 and arguments[1] is ...):
        arguments = arguments[:1] * len(value)
    if not arguments and typing.get_args(wanted) == ():
        return kind(value)
    if len(arguments) != len(value):
        return MISFIT
    fitted = [fit(one, v) for one, v in zip(arguments, value, strict=True)]
    return MISFIT if any(one is MISFIT for one in fitted) else kind(fitted)


def _fit_mapping(kind: type, arguments: tuple[Any, ...], value: Any) -> Any:
    if not isinstance(value, Mapping):
        return MISFIT
    of = [one for one in arguments if one in _WORDS]  # what else it may hold, the class itself says
    if len(of) == 2 and any(fit(of[0], name) is MISFIT or fit(of[1], one) is MISFIT for name, one in value.items()):
        return MISFIT
    return dict(value) if kind is dict else value
