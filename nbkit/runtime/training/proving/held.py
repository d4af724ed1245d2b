"""State that Python objects hold beside the weights: attributes, generators, class attributes, globals, closures.

A proof does not compare it, because a counter for a progress bar may well begin again. But where the weights differ,
whatever of it is not the same after a resume is the likeliest cause, and is named with its place.
"""

from __future__ import annotations

import functools
import itertools
import os
import random
import types
import zlib
from collections import deque
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from nbkit.runtime.training.held.code import BOUND, owner_of
from nbkit.runtime.training.held.collated import collate_of
from nbkit.runtime.training.proving.digests import of_plain, of_tensor
from nbkit.runtime.training.proving.ownership import named_in, of_library
from nbkit.runtime.training.proving.trial_session import TrialSession

_DEPTH, _NODES, _ITEMS, _BYTES = 7, 4000, 64, 1 << 20
WORKERS = "number of the DataLoader's workers"
_PLAIN = (bool, int, float, complex, str, bytes, type(None))
_OWN_OF_LIGHTNING = {
    *("_parameters", "_buffers", "_modules", "trainer", "_trainer", "training", "_fabric", "_metric_attributes"),
    *("_hparams", "_hparams_initial", "_hparams_name", "_log_hyperparams"),
}


def held_state(trainer: Any) -> dict[str, str]:
    """Return the digest of everything found, by a path in words such as ``dataset.rng``."""
    walk = _Walk(trainer)
    module = trainer.lightning_module
    walk.add("module", module)
    for name, part in module.named_modules():
        path = f"module.{name}" if name else "module"
        walk.found[path] = _name_of(type(part))  # a part may be another one than before
        walk.add(path, part)
    walk.add("data", trainer.datamodule)
    loader = trainer.train_dataloader
    walk.found[WORKERS] = str(getattr(loader, "num_workers", 0))
    walk.add("collate_fn", collate_of(loader))
    for name in ("dataset", "worker_init_fn"):
        walk.add(name, getattr(loader, name, None) or getattr(getattr(loader, "_inner", None), name, None))
    for callback in trainer.callbacks:
        if not type(callback).__module__.startswith("nbkit."):
            walk.add(f"callback {type(callback).__name__}", callback)
    for number, optimizer in enumerate(trainer.optimizers):
        walk.add(f"optimizer {number}", optimizer)
    walk.add("environment variable", dict(os.environ))
    return walk.found


class _Walk:
    """Follow the references from a few objects, within limits, and keep the digests of the leaves."""

    def __init__(self, trainer: Any) -> None:
        self.found: dict[str, str] = {}
        self._seen = {id(trainer)}
        self._weights = {id(t) for t in trainer.lightning_module.state_dict(keep_vars=True).values()}
        self._alive: list[Any] = []  # so that no identity is used twice

    def add(self, path: str, value: Any, depth: int = 0) -> None:
        if depth > _DEPTH or len(self.found) > _NODES:
            return
        if isinstance(value, _PLAIN):
            self.found[path] = of_plain(value)
            return
        if isinstance(value, types.FunctionType | types.BuiltinFunctionType | type):
            self.found[path] = _name_of(value)  # wherever it is held: which one it is may change
        if id(value) in self._seen or isinstance(value, types.ModuleType | TrialSession):
            return
        self._seen.add(id(value))
        self._alive.append(value)
        try:
            leaf = _leaf(value)
            parts = list(self._parts(path, value)) if leaf is None else []
        except Exception as error:  # an object of the user's that cannot be looked at is no reason to prove nothing
            self.found[path] = f"cannot be looked at: {type(error).__name__}"
            return
        if leaf is not None:
            if id(value) not in self._weights:
                self.found[path] = leaf
            return
        for name, item in parts:
            self.add(name, item, depth + 1)

    def _parts(self, path: str, value: Any) -> Iterator[tuple[str, Any]]:
        if isinstance(value, dict):  # not every mapping: the items of some are read from a file
            self.found[f"len({path})"] = str(len(value))
            for key, item in list(itertools.islice(value.items(), _ITEMS)):
                yield (f"{path} {key}" if path == "environment variable" else f"{path}[{key!r}]"), item
        elif isinstance(value, list | tuple | set | frozenset | deque):
            self.found[f"len({path})"] = str(len(value))
            for number, item in enumerate(itertools.islice(value, _ITEMS)):
                yield f"{path}[{number}]", item
        elif isinstance(value, types.FunctionType):
            yield from _of_function(path, value)
        elif isinstance(value, functools.partial):
            yield from ((path, value.func), (path, value.args))
        elif isinstance(value, BOUND):
            if isinstance(value, types.MethodType):
                yield path, value.__func__
            if (owner := owner_of(value)) is not None:
                yield f"{path}.__self__", owner
        elif isinstance(value, types.GeneratorType):
            frame = value.gi_frame
            for name, item in frame.f_locals.items() if frame is not None else ():
                yield f"{path} (a generator, {name})", item
        elif not isinstance(value, type):
            self.found.setdefault(path, _name_of(type(value)))
            hidden = _namesof_library(value)
            for name, item in list(getattr(value, "__dict__", {}).items()):
                if name not in hidden:
                    yield f"{path}.{name}", item
            for name in _slots(type(value)):
                yield f"{path}.{name}", getattr(value, name, None)
            yield from self._of_class(type(value))

    def _of_class(self, kind: type) -> Iterator[tuple[str, Any]]:
        for owner in kind.__mro__:
            if of_library(owner) or id(owner) in self._seen:
                continue
            self._seen.add(id(owner))
            for name, item in list(vars(owner).items()):
                if isinstance(item, staticmethod | classmethod):
                    item = item.__func__
                if isinstance(item, property) and item.fget is not None:
                    item = item.fget
                if not (name.startswith("__") and name.endswith("__")) or isinstance(item, types.FunctionType):
                    yield f"class attribute {owner.__name__}.{name}", item


def _of_function(path: str, function: types.FunctionType) -> Iterator[tuple[str, Any]]:
    """Yield what a user's function keeps: the variables of its closure, its attributes, and the globals it names."""
    if of_library(function):
        return
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            yield f"variable {name} around {function.__qualname__}", cell.cell_contents
        except ValueError:
            continue  # not yet assigned
    for number, value in enumerate(function.__defaults__ or ()):
        yield f"default {number} of {function.__qualname__}", value
    for name, value in vars(function).items():
        yield f"attribute {name} of {function.__qualname__}", value
    for name, value in named_in(function):
        if not isinstance(value, type):
            yield f"module-level {name}", value
        elif not of_library(value):
            for key, item in list(vars(value).items()):
                if not key.startswith("__"):
                    yield f"class attribute {value.__name__}.{key}", item


def _name_of(kind: Any) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def _leaf(value: Any) -> str | None:
    """Return the digest of an object that is looked at as a whole; None for one with parts."""
    if isinstance(value, torch.Tensor):
        return of_tensor(value) if value.numel() * value.element_size() <= _BYTES else "large"
    if isinstance(value, np.ndarray | np.generic):
        small = value.nbytes <= _BYTES and value.dtype != object
        return f"#{zlib.crc32(np.ascontiguousarray(value).tobytes()):08x}" if small else "large"
    if isinstance(value, torch.Generator):
        return f"random generator {of_tensor(value.get_state())}"
    if isinstance(value, np.random.Generator):
        return f"random generator {of_plain(value.bit_generator.state)}"
    if isinstance(value, np.random.RandomState):
        _, keys, place, *_ = value.get_state(legacy=True)
        return f"random generator #{zlib.crc32(np.asarray(keys).tobytes()):08x} at {place}"
    if isinstance(value, random.Random):
        return f"random generator {zlib.crc32(repr(value.getstate()).encode()):08x}"
    if hasattr(value, "cache_info") and callable(value.cache_info):
        return f"cache {value.cache_info()}"
    if isinstance(value, itertools.count):
        return repr(value)
    if hasattr(value, "__length_hint__"):
        return f"iterator with {value.__length_hint__()} left"
    return None


def _slots(kind: type) -> Iterator[str]:
    for owner in kind.__mro__:
        names = vars(owner).get("__slots__", ()) if not of_library(owner) else ()
        yield from (name for name in ([names] if isinstance(names, str) else names) if not name.startswith("__"))


@functools.cache
def _fresh_names(kind: type) -> frozenset[str]:
    return frozenset(vars(kind()))


def _namesof_library(value: Any) -> frozenset[str] | set[str]:
    """Return the names of the attributes that torch or Lightning keeps in an object for itself."""
    from lightning import LightningDataModule, LightningModule

    if isinstance(value, LightningModule):
        return _fresh_names(LightningModule) | _OWN_OF_LIGHTNING
    if isinstance(value, torch.nn.Module):
        return _fresh_names(torch.nn.Module) | _OWN_OF_LIGHTNING
    if isinstance(value, LightningDataModule):
        return _fresh_names(LightningDataModule) | _OWN_OF_LIGHTNING
    if isinstance(value, torch.optim.Optimizer):
        return {"state", "param_groups", "defaults"}
    return _OWN_OF_LIGHTNING
