"""What a user's code calls that can give another result in another session: the clock, the system's entropy, files.

The compiled functions of the user's own classes are read, not their source, because classes of a notebook have none.
A call that is found is no fault: it is named only where a proof has found one of its kind.
"""

from __future__ import annotations

import dis
import types
from collections.abc import Iterator
from typing import Any

from nbkit.runtime.training.proving.opened import place_of
from nbkit.runtime.training.proving.ownership import named_in, of_library

_CALLS = {
    "clock": {"time", "time_ns", "perf_counter", "monotonic", "now", "utcnow", "today", "process_time"},
    "entropy": {"urandom", "uuid1", "uuid4", "SystemRandom", "token_bytes", "token_hex", "randbits", "getpid"},
    "generator": {"default_rng", "Generator", "RandomState", "Random", "SeedSequence"},
    "hash": {"hash", "set", "frozenset", "id"},
    "file": {"open", "write_text", "write_bytes", "touch", "mkdir", "savez", "tofile", "memmap", "exists", "is_file"},
    "thread": {"Thread", "Timer", "ThreadPoolExecutor", "ProcessPoolExecutor", "Pool", "Process"},
    "environment": {"environ", "getenv", "putenv"},
}
_OWNERS = {"environ"}  # names that count although something is called of them
_DEPTH = 4


def clues_of(module: Any, data: Any, callbacks: Any) -> list[list[str]]:
    """Return (kind, call, where, part) for every call of these kinds in the classes and functions of a training.

    The part is ``"data"`` for what makes the batches, else ``"module"``. For a hook at the start of an epoch, the call
    is the names of the attributes that it sets.
    """
    found: list[list[str]] = []
    seen: set[int] = set()
    roots = [module, *(module.modules() if hasattr(module, "modules") else ()), *callbacks]
    for hook in map(_epoch_hook, roots):
        if hook is not None:
            found.append(["epoch start", " ".join(_attributes_set(hook)), hook.__qualname__, "module"])
    for root in [*roots, data]:
        for code in _codes(root, seen, 0):
            for kind, call in _calls(code):
                one = [kind, call, place_of(code), "data" if root is data else "module"]
                if one not in found:
                    found.append(one)
    return found


def _epoch_hook(thing: Any) -> Any:
    """Return the user's own hook at the start of an epoch, if there is one."""
    hook = getattr(type(thing), "on_train_epoch_start", None)
    return hook if hook is not None and not of_library(hook) else None


def _attributes_set(function: Any) -> list[str]:
    return [one.argval for one in dis.get_instructions(function) if one.opname == "STORE_ATTR"]


def _codes(thing: Any, seen: set[int], depth: int) -> Iterator[types.CodeType]:
    """Yield the code of an object's class, of the functions it holds, and of what these name."""
    if depth > _DEPTH or id(thing) in seen or isinstance(thing, types.ModuleType):
        return
    seen.add(id(thing))
    if isinstance(thing, types.FunctionType):
        if of_library(thing):
            return
        yield from _nested(thing.__code__)
        for _, value in named_in(thing):
            if isinstance(value, types.FunctionType | type):
                yield from _codes(value, seen, depth + 1)
        for cell in thing.__closure__ or ():
            try:
                yield from _codes(cell.cell_contents, seen, depth + 1)
            except ValueError:
                continue  # not yet assigned
        return
    if isinstance(thing, types.MethodType):
        yield from _codes(thing.__func__, seen, depth)
        return
    kind = thing if isinstance(thing, type) else type(thing)
    for owner in kind.__mro__:
        if not of_library(owner) and (owner is thing or id(owner) not in seen):
            seen.add(id(owner))
            for item in vars(owner).values():
                item = getattr(item, "__func__", getattr(item, "fget", item))
                if isinstance(item, types.FunctionType):
                    yield from _codes(item, seen, depth + 1)
    if not isinstance(thing, type):
        for value in list(getattr(thing, "__dict__", {}).values()):
            if hasattr(value, "__dict__") and not isinstance(value, type):
                yield from _codes(value, seen, depth + 1)


def _nested(code: types.CodeType) -> Iterator[types.CodeType]:
    yield code
    for part in code.co_consts:
        if isinstance(part, types.CodeType):
            yield from _nested(part)


def _calls(code: types.CodeType) -> Iterator[tuple[str, str]]:
    read = list(dis.get_instructions(code))
    called = set()
    for one, after in zip(read, [*read[1:], read[-1]], strict=True):
        # "time" is the clock in time.time(), and only the name of a module in time.sleep()
        is_owner = one.opname.startswith(("LOAD_GLOBAL", "LOAD_NAME")) and after.opname in ("LOAD_ATTR", "LOAD_METHOD")
        if one.opname.startswith(("LOAD_ATTR", "LOAD_METHOD", "IMPORT_FROM", "LOAD_GLOBAL", "LOAD_NAME")) and (
            not is_owner or one.argval in _OWNERS
        ):
            called.add(one.argval)
    for kind, names in _CALLS.items():
        for name in sorted(called & names, key=str):
            if kind != "generator" or _is_unseeded(name, read):
                yield kind, name
    if any(one.opname in ("BUILD_SET", "SET_UPDATE", "SET_ADD") for one in read):
        yield "hash", "a set"


def _is_unseeded(name: str, read: list[dis.Instruction]) -> bool:
    """Return whether a generator is made without a seed: by a call without arguments, and not seeded after it."""
    if any(one.argval == "manual_seed" for one in read):
        return False
    places = [number for number, one in enumerate(read) if one.argval == name]
    return any(_arguments(read[number + 1 :]) == 0 for number in places)


def _arguments(read: list[dis.Instruction]) -> int:
    """Return the number of arguments of a call if it follows at once, else 1."""
    for one in read:
        if one.opname == "CALL":
            return one.arg or 0
        if one.opname not in ("PRECALL", "PUSH_NULL", "CACHE"):
            return 1
    return 1
