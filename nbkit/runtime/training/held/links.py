"""Which modules, functions and classes the attributes of a training name, and which hooks its modules have.

A later session makes these anew and names what ``__init__`` names. Where the training has made an attribute name
another one, that is kept if it was there when the training began, as its path says which it is. Otherwise it is
refused.
"""

from __future__ import annotations

import functools
import types
from dataclasses import dataclass
from typing import Any

import torch

from nbkit.runtime.errors import UsageError
from nbkit.runtime.training.held.generators import content, is_foreign
from nbkit.runtime.training.held.values import NotPlain, digest, form_of

FUNCTIONS = (types.FunctionType, types.BuiltinFunctionType, types.MethodType, functools.partial)
_HOOKS = {
    "_forward_pre_hooks": "forward pre-hooks",
    "_forward_hooks": "forward hooks",
    "_backward_pre_hooks": "backward pre-hooks",
    "_backward_hooks": "backward hooks",
}
_UNCHANGED = "Nothing was saved now; earlier checkpoints are unchanged."


@dataclass
class Link:
    """What one attribute names.

    Attributes
    ----------
    path : str
        For example ``module.criterion``.
    holder : object
        What holds it: an object or a container.
    key
        Its name, key or index there.
    value
        A module, function or class; None where a module has been; a tuple of hooks.
    quiet : bool
        Whether the holder is an object of a library, which sets its own functions.
    part : bool
        Whether it is registered as a part of a module.
    """

    path: str
    holder: Any
    key: Any
    value: Any
    quiet: bool
    part: bool = False

    @property
    def at(self) -> tuple[int, Any]:
        """The place, whichever path leads to it."""
        return id(self.holder), self.key


def hooks_of(module: torch.nn.Module, path: str, quiet: bool) -> list[Link]:
    """Return the hooks of a module that are not those of a library."""
    return [
        Link(path, module, kind, tuple(h for h in getattr(module, kind).values() if not _of_library(h)), quiet)
        for kind in _HOOKS
    ]


class Links:
    """Compare what attributes name with what they named before the first epoch of a session."""

    def __init__(self) -> None:
        self._walk: Any = None
        self._first: dict[tuple[int, Any], Link] = {}
        self._paths: dict[int, str] = {}  # of all objects that were there
        self._names: dict[str, int] = {}  # of parts with weights, by which these are loaded

    def begin(self, walk: Any) -> None:
        """Record what there is."""
        self._walk = walk  # kept, so that no other object gets one of these ids
        self._first = {link.at: link for link in walk.links}
        self._names = _weighted(walk)
        for path, thing in walk.holders.items():
            self._paths.setdefault(id(thing), path)

    def changed(self, walk: Any) -> tuple[dict[str, list[Any]], list[Link]]:
        """Return what the training has changed: entries of a checkpoint, and what cannot be kept but need not be.

        Raises
        ------
        UsageError
            If an attribute names what no later session would have, or a module has other hooks.
        """
        entries: dict[str, list[Any]] = {}
        said = []
        for link in walk.links:
            parent, then = self._paths.get(id(link.holder)), self._first.get(link.at)
            if parent is None or (then is not None and _same(then.value, link.value)):
                continue
            if isinstance(link.value, tuple):
                raise UsageError(_other_hooks(link, then))
            known = isinstance(link.value, type)
            if link.value is None or isinstance(link.value, torch.nn.Module):
                known = _weighted(walk) == self._names
            target = "" if link.value is None else self._paths.get(id(link.value))
            inside = isinstance(link.holder, list | tuple) or (then is None and isinstance(link.holder, dict))
            if known and target is not None and not inside:
                parent += "._modules" * link.part
                entries[link.path] = [parent, form_of(link.key), "link", True, None, target]
            elif isinstance(link.value, torch.nn.Module) and then is None and not inside:
                raise UsageError(_new(link))
            elif then is not None and not (link.quiet and isinstance(link.value, FUNCTIONS)):
                if not _same_code(then.value, link.value):
                    raise UsageError(_other(then, _words(link.value)))
                said.append(link)
            elif then is None and not inside and not link.quiet:
                said.append(link)
        self._check_gone(walk)
        return entries, said

    def _check_gone(self, walk: Any) -> None:
        now = {link.at for link in walk.links} | {(id(place.holder), place.key) for place in walk.places}
        there = {id(thing) for thing in walk.holders.values()}
        for at, link in self._first.items():
            if at in now or at[0] not in there or link.value is None:
                continue
            if link.part or not (link.quiet or isinstance(link.holder, list | tuple | dict)):
                raise UsageError(_other(link, "gone"))


def _weighted(walk: Any) -> dict[str, int]:
    """Return all names of the parts of the module that have weights or buffers of their own."""
    parts = walk.holders["module"].named_modules(remove_duplicate=False)
    return {name: id(part) for name, part in parts if part._parameters or part._buffers}


def _same(a: Any, b: Any) -> bool:
    """Return whether two values do the same wherever they are called."""
    if a is b:
        return True
    if type(a) is not type(b):
        return False
    if isinstance(a, tuple):
        return len(a) == len(b) and all(_same(x, y) for x, y in zip(a, b, strict=True))
    if isinstance(a, types.MethodType):
        return a.__self__ is b.__self__ and a.__func__ is b.__func__
    if isinstance(a, types.BuiltinFunctionType):
        return a.__self__ is b.__self__ and a.__name__ == b.__name__
    if isinstance(a, functools.partial):
        return _alike([a.func, *a.args, a.keywords], [b.func, *b.args, b.keywords])
    if isinstance(a, types.FunctionType):
        return a.__code__ is b.__code__ and _alike(_held_by(a), _held_by(b))
    return False


def _same_code(a: Any, b: Any) -> bool:
    """Return whether two functions differ only in what they hold, as those that every step makes anew."""
    return isinstance(a, types.FunctionType) and isinstance(b, types.FunctionType) and a.__code__ is b.__code__


def _held_by(function: types.FunctionType) -> list[Any]:
    return [function.__defaults__, function.__kwdefaults__, *map(content, function.__closure__ or ())]


def _alike(a: Any, b: Any) -> bool:
    if _same(a, b):
        return True
    if type(a) is type(b) and isinstance(a, list | dict) and len(a) == len(b):
        if isinstance(a, dict):
            return list(a) == list(b) and _alike(list(a.values()), list(b.values()))
        return all(_alike(x, y) for x, y in zip(a, b, strict=True))
    try:
        return digest(form_of(a)) == digest(form_of(b))
    except NotPlain:
        return False


def _of_library(hook: Any) -> bool:
    while isinstance(hook, functools.partial):
        hook = hook.func
    return is_foreign(getattr(hook, "__module__", None) or type(hook).__module__)


def _words(value: Any) -> str:
    if value is None:
        return "None"
    if isinstance(value, functools.partial):
        return f"a partial of {_words(value.func)}"
    named: Any = value if isinstance(value, (*FUNCTIONS, type)) else type(value)
    name: str = getattr(named, "__qualname__", type(named).__qualname__)
    return name if named is value else f"a {name}"


def _other(then: Link, now: str) -> str:
    return (
        f"{then.path} was {_words(then.value)} when the training began, and is now {now}. No checkpoint can hold a "
        "module, function or class, so that a later session would go on with the first one. Make all of them "
        f"in __init__, and choose among them by a number (self.stage = 1), which is saved. {_UNCHANGED}"
    )


def _new(link: Link) -> str:
    return (
        f"{link.path} has become {_words(link.value)} during the training, and a later session would not have it when "
        "its values are put back. Make it in __init__, setup() or configure_model, where every session makes it, and "
        f"let a number say since when it is used. {_UNCHANGED}"
    )


def _other_hooks(link: Link, then: Link | None) -> str:
    before = ", ".join(map(_words, then.value)) if then is not None and then.value else "none"
    now = ", ".join(map(_words, link.value)) or "none"
    return (
        f"{link.path} has other {_HOOKS[link.key]} than when the training began: {before} -> {now}. No checkpoint can "
        "hold them, so that a later session would go on with the first ones. Register them in __init__, setup() or "
        f"on_train_start, and let a number (self.stage = 1), which is saved, say what they do. {_UNCHANGED}"
    )
