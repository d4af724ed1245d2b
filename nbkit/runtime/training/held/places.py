"""Where a module, a callback or a DataModule holds state: every attribute that can be looked at, in every object.

A place is an attribute, an entry of a dict or an item of a list. Objects are walked through, wherever they are held;
what Lightning and torch save by themselves (parameters, persistent buffers, optimizers) is left out.
"""

from __future__ import annotations

import functools
import itertools
import types
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningDataModule, LightningModule
from lightning.pytorch.loggers import Logger
from torch.utils.data import DataLoader

from nbkit.runtime.training.held.caches import caches_of, of_a_library
from nbkit.runtime.training.held.code import (
    ATTRIBUTES,
    BOUND,
    files_of,
    functions_in,
    is_the_users,
    owner_of,
    reached_by,
)  # fmt: skip
from nbkit.runtime.training.held.generators import is_foreign, is_generator
from nbkit.runtime.training.held.links import FUNCTIONS, Link, hooks_of
from nbkit.runtime.training.held.opaque import content_of
from nbkit.runtime.training.held.values import NotPlain, form_of

_LARGE = 1 << 24  # bytes of an array of a DataModule or dataset above which it is taken for the data themselves
_MANY = 10_000  # entries of a container above which it is not walked through, and those of data are not compared

_EMPTY: tuple[Any, ...] = ([], (), {}, set(), "", range(0))
_HAVE_METHODS: Any = (list, dict, set, deque, bytearray, np.ndarray, torch.Tensor)
_ITERATORS: Any = (
    types.GeneratorType,
    *(type(iter(empty)) for empty in _EMPTY),
    *(map, zip, filter, enumerate, reversed),
    *(kind for kind in vars(itertools).values() if isinstance(kind, type)),
)


@dataclass
class Place:
    """One place that may hold state.

    Attributes
    ----------
    path : str
        For example ``module.meters['loss'].sum``.
    parent : str
        Path of the object or container that holds it.
    holder : object
        What holds it: an object, a class, a dict or a list.
    key
        Its name, key or index there.
    value
    kind : str
        ``plain``; ``own`` for an object with state_dict and load_state_dict; ``iterator``; ``grown`` for a list of
        metrics that makes its own items; ``object`` for all others, of which only the class is known.
    quiet : bool
        Whether a change that cannot be stored is one of a library's own, and needs no word.
    form
        Form of a plain value; the class, and the length of a container, of all others.
    content : str
        What tells that an object of a library has changed; "" of all others.
    """

    path: str
    parent: str
    holder: Any
    key: Any
    value: Any
    kind: str
    quiet: bool
    form: Any
    content: str = ""


def put(holder: Any, key: Any, value: Any) -> None:
    """Set an attribute, entry or item."""
    if isinstance(holder, (tuple, functools.partial, *BOUND)):
        return  # what it holds was changed in place
    if isinstance(holder, dict | list | deque):
        holder[key] = value
    elif isinstance(holder, type):
        setattr(holder, key, value)
    elif hasattr(holder, "__dict__") and not isinstance(getattr(type(holder), key, None), types.MemberDescriptorType):
        vars(holder)[key] = value  # not setattr: torch would make a buffer or an error of a tensor
    else:
        object.__setattr__(holder, key, value)


def get(holder: Any, key: Any) -> Any:
    """Return an attribute, entry or item; None if there is none any more."""
    if isinstance(holder, dict | list | tuple | deque):
        return holder[key] if (key in holder if isinstance(holder, dict) else key < len(holder)) else None
    return getattr(holder, key, None) if isinstance(key, str) else None


class Walk:
    """Walk through objects, and collect the places that they hold.

    Parameters
    ----------
    known : iterable of objects
        Tensors and optimizers that are saved elsewhere, and the Trainer.
    named : mapping of str to object
        Those of them that an attribute may name now and another one later, by names that every session has.
    """

    def __init__(self, known: Any = (), named: Mapping[str, Any] | None = None) -> None:
        self.places: list[Place] = []
        self.links: list[Link] = []  # modules, functions and classes that are named
        self.optimizers: set[str] = set()  # paths of those that are walked through
        self.holders: dict[str, Any] = {}  # what a path leads to, where it can hold places
        self._known = list(known)
        self._seen = {id(thing) for thing in self._known}
        self.named = dict(named or {})
        self._named = {id(thing) for thing in self.named.values()}
        self._walked: set[int] = set()  # objects that are no plain values, wherever they were met first

    def root(self, thing: Any, path: str, data: bool = False) -> None:
        """Walk through an object, its class, and the global generators that its methods use.

        Parameters
        ----------
        thing : object
        path : str
            What its paths begin with.
        data : bool
            Whether it holds data: then large arrays and lists are taken for the data, and left out.
        """
        if isinstance(thing, FUNCTIONS):
            self._callable(thing, path, data)
            return
        self._object(thing, path, data)
        self._classes(thing)

    def optimizer(self, thing: torch.optim.Optimizer, path: str) -> None:
        """Walk through what an optimizer holds beside its state_dict; plain numbers are kept elsewhere."""
        if of_a_library(type(thing)):
            return
        for name, value in list(_attributes(thing)):
            if name not in _of_optimizers() and type(value) not in (type(None), bool, int, float, str):
                self._value(thing, name, value, path, f"{path}.{name}", False, False)
        self.holders[path] = thing
        self.optimizers.add(path)
        self._classes(thing)

    def _object(self, thing: Any, path: str, data: bool) -> None:
        if self._been_at(thing, path):
            return
        self._attributes(thing, path, data)
        self._classes(thing, is_the_users)  # the functions of a library may call thousands of others

    def _classes(self, thing: Any, of: Callable[[str], bool] = bool) -> None:
        for kind in type(thing).__mro__:
            if not of_a_library(kind) and of(kind.__module__):
                self._class(kind)

    def _attributes(self, thing: Any, path: str, data: bool) -> None:
        quiet, caches = of_a_library(type(thing)), caches_of(thing)
        if isinstance(thing, LightningModule | LightningDataModule):
            _ = thing.hparams  # makes its attribute where there is none yet, as saving would
        if not isinstance(thing, torch.nn.Module):
            for name, value in list(_attributes(thing)):
                if name not in caches:
                    self._value(thing, name, value, path, f"{path}.{name}", quiet, data)
            return
        if _makes_its_items(thing):
            self.places.append(Place(f"{path}[...]", path, thing, None, len(thing), "grown", quiet, len(thing)))
        for name, value in list(vars(thing).items()):
            if name not in _standard() and name not in caches:
                self._value(thing, name, value, path, f"{path}.{name}", quiet, data)
        # buffers that are not persistent, and everything of a module that is not registered anywhere
        for kind in ("_parameters", "_buffers"):
            tensors = getattr(thing, kind)
            self.holders[f"{path}.{kind}"] = tensors
            for name, value in tensors.items():
                self._value(tensors, name, value, f"{path}.{kind}", f"{path}.{name}", quiet, data)
        self.holders[f"{path}._modules"] = thing._modules
        self.links += hooks_of(thing, path, quiet)
        for name, part in thing._modules.items():
            if not _makes_its_items(thing):
                self.links.append(Link(f"{path}.{name}", thing, name, part, quiet, part=True))
            if part is not None:
                self._object(part, f"{path}.{name}", data)

    def _been_at(self, thing: Any, path: str) -> bool:
        if id(thing) in self._seen:
            return True
        self._seen.add(id(thing))
        self._known.append(thing)  # kept alive, so that no other object gets its id
        self.holders[path] = thing
        return False

    def _class(self, kind: type) -> None:
        path = f"{kind.__module__}.{kind.__qualname__}"
        if self._been_at(kind, path):
            return
        for name, value in list(vars(kind).items()):
            functions = functions_in(value)
            for function in functions:
                self._function(function, path)
            if not functions and not name.startswith(("__", "_abc_")):
                self._plain(kind, name, value, path, f"{path}.{name}")

    def _function(self, function: types.FunctionType, path: str) -> None:
        """Collect what a function reaches beside its arguments: generators, and what may change with it."""
        inside = f"{path}.{function.__name__}"
        while self.holders.get(inside, function) is not function:
            inside += "'"  # another one of the same name, such as a second lambda
        if self._been_at(function, inside):
            return
        self.holders.update(files_of(function))  # also where a later session has not made a variable yet
        self.holders[f"{inside}{ATTRIBUTES}"] = vars(function)
        for one in reached_by(function):
            if isinstance(one.value, types.FunctionType):
                self._callable(one.value, str(one.value.__module__), data=False)
            elif is_generator(owner_of(one.value)):
                self._callable(one.value, f"{one.owner if one.of_a_file else inside + one.owner}.{one.key}", data=False)
            elif is_generator(one.value) or one.may_hold_numbers:
                place = f"{one.owner if one.of_a_file else inside + one.owner}.{one.key}"
                parent, key = place.rpartition(".")[0], one.key
                if isinstance(one.holder, types.CellType):
                    parent, key = f"{inside}({key})", "cell_contents"
                if cannot_change(one.value) or not self._been_at(one.value, place):
                    if self._plain(one.holder, key, one.value, parent, place):
                        self.holders[parent] = one.holder

    def _plain(self, holder: Any, key: Any, value: Any, parent: str, path: str, quiet: bool = False) -> bool:
        """Collect a place if its value is plain; return whether it is."""
        try:
            form = form_of(value)
        except NotPlain:
            return False
        self.places.append(Place(path, parent, holder, key, value, "plain", quiet, form))
        return True

    def _value(self, holder: Any, key: Any, value: Any, parent: str, path: str, quiet: bool, data: bool) -> None:
        if isinstance(value, (*FUNCTIONS, torch.nn.Module, type)):
            self.links.append(Link(path, holder, key, value, quiet))
        elif id(value) in self._named or id(value) in self._walked:
            self.links.append(Link(path, holder, key, value, quiet, loose=True))
        if id(value) in self._seen and not cannot_change(value):
            return
        if isinstance(value, (*FUNCTIONS, types.MethodWrapperType)):
            self._callable(value, path, data)
            return
        if isinstance(value, torch.nn.Module):
            self._object(value, path, data)
            return
        if isinstance(value, type):
            if not of_a_library(value):
                self._class(value)
            return
        if isinstance(value, types.ModuleType | DataLoader | Logger) or (data and _is_large(value)):
            return
        if not self._holds_known(value) and self._plain(holder, key, value, parent, path, quiet):
            return
        kind = "own" if has_own_state(value) else "object"
        if isinstance(value, _ITERATORS) or "DataLoaderIter" in type(value).__name__:
            kind = "iterator"
        if kind != "iterator":
            self._walked.add(id(value))
            self.links.append(Link(path, holder, key, value, quiet, loose=True))
        opaque = kind == "object" and not quiet and not isinstance(value, list | tuple | deque | Mapping)
        opaque = opaque and (is_foreign(type(value).__module__) or not any(_attributes(value)))
        told = content_of(value) if opaque else ""
        self.places.append(Place(path, parent, holder, key, value, kind, quiet, _class_of(value), told))
        if isinstance(value, list | tuple | deque | Mapping):
            if len(value) <= _MANY and not self._been_at(value, path):
                items = value.items() if isinstance(value, Mapping) else enumerate(value)
                for number, (name, item) in enumerate(list(items)):
                    passing = isinstance(name, torch.Tensor | torch.nn.Module)  # their repr is long, and changes
                    shown = f"{type(name).__name__} {number}" if passing else repr(name)
                    self._value(value, name, item, path, f"{path}[{shown}]", quiet, data)
        elif kind == "object" and not is_foreign(type(value).__module__):
            self._object(value, path, data)

    def _callable(self, value: Any, path: str, data: bool) -> None:
        if isinstance(value, types.FunctionType):
            if not is_foreign(value.__module__):
                self._function(value, path)
        elif isinstance(value, functools.partial):
            if not self._been_at(value, path):
                for name, part in enumerate([value.func, *value.args, *value.keywords.values()]):
                    self._value(value, name, part, path, f"{path}({name})", False, data)
        elif is_generator(owner := owner_of(value)) or isinstance(owner, (*_HAVE_METHODS, *_ITERATORS)):
            if not self._been_at(value, path):
                self._value(value, "__self__", owner, path, f"{path}.__self__", False, data)
        elif isinstance(value, types.MethodType) and not is_foreign(type(value.__self__).__module__):
            self._object(value.__self__, f"{path}.__self__", data)

    def _holds_known(self, value: Any) -> bool:
        """Return whether a container holds a tensor that is saved elsewhere, such as a list of parameters."""
        if not isinstance(value, list | tuple | deque | Mapping) or len(value) > _MANY:
            return False
        items = value.values() if isinstance(value, Mapping) else value
        return any(isinstance(item, torch.Tensor) and id(item) in self._seen for item in items)


def cannot_change(value: Any) -> bool:
    """Return whether a value is a number, a text or None."""
    return value is None or isinstance(value, bool | int | float | str | complex | bytes | torch.dtype | torch.device)


def has_own_state(value: Any) -> bool:
    """Return whether an object can give and take its state."""
    kind = type(value)  # not the object itself, whose __getattr__ may do anything
    return callable(getattr(kind, "state_dict", None)) and callable(getattr(kind, "load_state_dict", None))


def _class_of(value: Any) -> str:
    size = len(value) if isinstance(value, list | tuple | deque | Mapping) else ""
    return f"{type(value).__module__}.{type(value).__qualname__}{size}"


def _makes_its_items(module: Any) -> bool:
    from torchmetrics.wrappers import MetricTracker

    return isinstance(module, MetricTracker)


def _attributes(thing: Any) -> Iterator[tuple[str, Any]]:
    leave_out = _standard() if isinstance(thing, LightningDataModule | Callback) else ()
    for name, value in list(getattr(thing, "__dict__", {}).items()):
        if name not in leave_out:
            yield name, value
    for kind in type(thing).__mro__:
        for name in [slots] if isinstance(slots := vars(kind).get("__slots__", ()), str) else slots:
            if name not in ("__dict__", "__weakref__") and hasattr(thing, name):
                yield name, getattr(thing, name)


@functools.cache
def _standard() -> frozenset[str]:
    """Return the attributes that every module, LightningModule and LightningDataModule has."""
    own = {
        *vars(LightningModule()),
        *vars(LightningDataModule()),
        "_metric_attributes",
        "_jit_is_scripting",
        "_hparams_name",
    }
    return frozenset(own | {"train_dataloader", "val_dataloader", "trainer", "_update_signature"})


@functools.cache
def _of_optimizers() -> frozenset[str]:
    """Return the attributes that every optimizer has, and those that schedules set."""
    own = vars(torch.optim.SGD([torch.zeros(1)]))
    return frozenset({*own, "step", "_opt_called", "_step_count"})


def _is_large(value: Any) -> bool:
    if isinstance(value, torch.Tensor | np.ndarray):
        return value.nbytes > _LARGE
    return isinstance(value, list | tuple | dict | set | deque) and len(value) > _MANY
