"""Random generators that a dataset, its transforms or its collate function hold: found, and seeded for every item.

Items are read ahead, and in several processes, so that the state of such a generator says nothing about the place of
a training. Like the global generators, each of them is therefore seeded from (seed, epoch, index) before an item.
"""

from __future__ import annotations

import functools
import hashlib
import types
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import torch

from nbkit.runtime.training.held.code import BOUND, functions_in, owner_of, reached_by
from nbkit.runtime.training.held.values import NotPlain, digest, form_of, is_python_generator

_LEAVES = (type(None), bool, int, float, complex, str, bytes, torch.Tensor, np.ndarray, np.generic, type)
_MOST = 20_000  # objects that are looked at
_ITEMS = 1_000  # of one container
_SMALL = 1 << 20  # bytes of an attribute of a dataset above which it is taken for the data
# objects of these belong to Lightning, torch or the machine, and are not walked through
_FOREIGN = {
    "_io", "_thread", "asyncio", "builtins", "concurrent", "contextlib", "fsspec", "functools", "inspect", "io",
    "IPython", "ipywidgets", "lightning", "lightning_fabric", "lightning_utilities", "logging", "matplotlib",
    "multiprocessing", "operator", "pandas", "PIL", "plotly", "pytorch_lightning", "queue", "re", "rich", "socket",
    "subprocess", "tempfile", "tensorboard", "threading", "torch", "tqdm", "triton", "typing", "wandb", "weakref",
}  # fmt: skip


def is_generator(value: Any) -> bool:
    """Return whether a value is a random generator."""
    kinds = (np.random.Generator, np.random.RandomState, np.random.BitGenerator, torch.Generator)
    return isinstance(value, kinds) or is_python_generator(value)


def is_foreign(module: str | None) -> bool:
    """Return whether a Python module belongs to Lightning, torch, the machine, or nbkit's runtime itself."""
    # the datasets and samplers of torch hold the user's objects
    if module is None or module.startswith("torch.utils.data"):
        return False
    return module.partition(".")[0] in _FOREIGN or module.startswith("nbkit.runtime")


def generators_in(holders: Iterable[Any]) -> list[Any]:
    """Return the generators that objects hold, also in objects of theirs, in the same order in every process."""
    return [thing for thing in _reachable(holders) if is_generator(thing)]


def digest_of(holders: Iterable[Any]) -> bytes:
    """Return a digest of the plain attributes of objects and of objects of theirs; generators are left out."""
    sha = hashlib.blake2b(digest_size=16)
    for thing in _reachable(holders):
        for name, value in list(getattr(thing, "__dict__", {}).items()):
            if isinstance(value, torch.Tensor | np.ndarray) and value.nbytes > _SMALL:
                continue
            if is_generator(value) or (isinstance(value, list | tuple | dict | set) and len(value) > _ITEMS):
                continue
            try:
                sha.update(name.encode() + digest(form_of(value)))
            except NotPlain:
                sha.update(f"{name} {type(value)}".encode())
    return sha.digest()


def _reachable(holders: Iterable[Any]) -> Iterator[Any]:
    seen: dict[int, Any] = {}
    queue = deque(holders)
    while queue and len(seen) < _MOST:
        thing = queue.popleft()
        if id(thing) in seen or isinstance(thing, _LEAVES):
            continue
        seen[id(thing)] = thing
        yield thing
        queue.extend(_parts(thing))


def _parts(thing: Any) -> Iterator[Any]:
    if isinstance(thing, list | tuple | deque):
        yield from list(thing)[:_ITEMS]
    elif isinstance(thing, Mapping):
        yield from list(thing.values())[:_ITEMS]
    elif isinstance(thing, types.FunctionType):
        yield from _named_in(thing)
    elif isinstance(thing, functools.partial):
        yield from (thing.func, *thing.args, *thing.keywords.values())
    elif isinstance(thing, BOUND):
        yield from (owner_of(thing), getattr(thing, "__func__", None))
    elif isinstance(thing, torch.nn.Module):
        yield from (*vars(thing).values(), *thing._modules.values())
    elif not is_generator(thing) and not is_foreign(type(thing).__module__):
        yield from list(getattr(thing, "__dict__", {}).values())
        for kind in type(thing).__mro__:
            if not is_foreign(kind.__module__):
                for value in vars(kind).values():
                    yield from [value] if is_generator(value) else functions_in(value)


def _named_in(function: types.FunctionType) -> Iterator[Any]:
    """Return the generators and functions that a function reaches, and what its defaults and attributes hold."""
    if is_foreign(function.__module__):
        return
    for one in reached_by(function):
        found = is_generator(one.value) or isinstance(one.value, types.FunctionType) or one.may_hold_numbers
        if found or is_generator(owner_of(one.value)):
            yield one.value


def reseed(generators: list[Any], material: bytes) -> None:
    """Seed each generator with numbers of its own."""
    for number, generator in enumerate(generators):
        own = hashlib.blake2b(material, digest_size=8, salt=number.to_bytes(4, "little")).digest()
        seed = int.from_bytes(own, "little") >> 1
        if isinstance(generator, np.random.Generator | np.random.BitGenerator):
            bits: Any = getattr(generator, "bit_generator", generator)
            bits.state = type(bits)(seed).state
        elif isinstance(generator, np.random.RandomState):
            generator.seed(seed & 0xFFFFFFFF)
        elif isinstance(generator, torch.Generator):
            generator.manual_seed(seed)
        else:
            generator.seed(seed)
