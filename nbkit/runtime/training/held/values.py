"""Forms of plain values that load with ``weights_only=True``, and how they become the values again.

Plain are numbers, text, None, bytes, tensors, numpy arrays and scalars, random generators, paths, members of an Enum,
and lists, tuples, dicts, sets, deques and dataclasses of those. The form of a value consists of None, numbers, text,
tensors, and lists that begin with the name of a kind.
"""

from __future__ import annotations

import dataclasses
import enum
import hashlib
import io
import random
import sys
from collections import Counter, OrderedDict, defaultdict, deque
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import torch

_SELF = (type(None), bool, int, float, str, torch.dtype, torch.device, torch.Size)
_LISTS = {"list": list, "tuple": tuple, "deque": deque, "set": set, "frozenset": frozenset}
_DICTS = {"dict": dict, "OrderedDict": OrderedDict, "Counter": Counter, "defaultdict": defaultdict}
_FACTORIES = {f.__name__: f for f in (list, dict, set, int, float, str, bool, deque)}
_LARGE = 1 << 26  # bytes of a tensor above which torch's count of its changes is compared, not its values
_DEEPEST = 60  # a list that holds itself ends here
NOTHING: Any = object()  # no value at all


class NotPlain(Exception):
    """Raised for a value that has no form; its argument is that value."""


def form_of(value: Any, depth: int = 0) -> Any:
    """Return the form of a plain value; its tensors are those of the value, not copies.

    Raises
    ------
    NotPlain
    """
    kind, deeper = type(value), depth + 1
    if depth > _DEEPEST:
        raise NotPlain(value)
    if kind in _SELF:
        return value
    if isinstance(value, torch.Tensor):
        if value.layout is not torch.strided or value.is_meta or value.is_quantized:
            raise NotPlain(value)
        return ["tensor", value.detach(), value.requires_grad and value.is_leaf, value.device.type]
    if kind.__name__ in _LISTS and kind is _LISTS[kind.__name__]:
        items = sorted(value, key=repr) if isinstance(value, set | frozenset) else value
        return [kind.__name__, getattr(value, "maxlen", None), *[form_of(item, deeper) for item in items]]
    if isinstance(value, dict):
        flat = [form_of(part, deeper) for pair in value.items() for part in pair]
        if isinstance(value, defaultdict) and kind is defaultdict:
            return ["defaultdict", getattr(value.default_factory, "__name__", None), *flat]
        # a dict of another class can be filled again, but not made
        return [kind.__name__ if kind in _DICTS.values() else "another dict", None, *flat]
    if kind is np.ndarray or isinstance(value, np.generic):
        return ["array", _npy(value), kind is np.ndarray]
    if isinstance(value, np.random.Generator):
        return ["numpy.Generator", type(value.bit_generator).__name__, form_of(value.bit_generator.state, deeper)]
    if kind is np.random.RandomState:
        return ["numpy.RandomState", form_of(value.get_state(legacy=False), deeper)]
    if kind is random.Random:
        version, numbers, gauss = value.getstate()
        return ["random.Random", version, torch.tensor(numbers, dtype=torch.int64), gauss]
    if isinstance(value, torch.Generator):
        return ["torch.Generator", value.device.type, value.get_state()]
    if kind in (bytes, bytearray):
        return [kind.__name__, torch.tensor(list(value), dtype=torch.uint8)]
    if kind is complex:
        return ["complex", value.real, value.imag]
    if kind is range:
        return ["range", value.start, value.stop, value.step]
    if isinstance(value, PurePath):
        return ["path", str(value)]
    if isinstance(value, enum.Enum):
        return ["enum", _name(kind), value.name]
    if dataclasses.is_dataclass(value) and hasattr(value, "__dict__"):
        flat = [form_of(part, deeper) for pair in vars(value).items() for part in pair]
        return ["dataclass", _name(kind), *flat]
    if isinstance(value, tuple) and hasattr(kind, "_fields"):
        return ["namedtuple", _name(kind), *[form_of(item, deeper) for item in value]]
    raise NotPlain(value)


def can_be_made(form: Any) -> bool:
    """Return whether a value can be made from its form alone, without one of its class to fill."""
    if not isinstance(form, list):
        return True
    if form[0] == "another dict" or (form[0] == "defaultdict" and form[1] not in (None, *_FACTORIES)):
        return False
    if form[0] in ("enum", "dataclass", "namedtuple") and _class(form[1]) is None:
        return False
    return all(can_be_made(part) for part in form[1:])


def digest(form: Any) -> bytes:
    """Return a digest of a form: equal exactly where the values are equal, bit for bit."""
    sha = hashlib.blake2b(digest_size=16)
    _feed(sha, form)
    return sha.digest()


def _feed(sha: Any, form: Any) -> None:
    if isinstance(form, list):
        sha.update(b"[%d" % len(form))
        for part in form:
            _feed(sha, part)
    elif isinstance(form, torch.Tensor):
        sha.update(f"{form.dtype}{tuple(form.shape)}".encode())
        if form.nbytes > _LARGE:
            sha.update(f"{form.data_ptr()} {0 if form.is_inference() else form._version}".encode())
            return
        flat = torch.view_as_real(form) if form.is_complex() else form
        sha.update(flat.cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    else:
        sha.update(f"{type(form).__name__}{form!r};".encode())


def value_of(form: Any, current: Any = NOTHING, device: Any = "cpu") -> Any:
    """Return the value of a form.

    Parameters
    ----------
    form
    current : optional
        The value that is there now. Where it can be changed in place into the value of the form, it is, so that
        everything else that refers to it sees the change.
    device : torch.device
        The device of a tensor that was not on the CPU.
    """
    if not isinstance(form, list):
        return form
    kind, parts = form[0], form[1:]
    if kind == "tensor":
        return _tensor(form, current, device)
    if kind in _LISTS:
        return _list(kind, parts, current, device)
    if kind in _DICTS or kind in ("another dict", "dataclass"):
        return _dict(kind, parts, current, device)
    if kind in ("numpy.Generator", "numpy.RandomState", "random.Random", "torch.Generator"):
        return _generator(kind, parts, current)
    if kind == "array":
        return _array(parts, current)
    if kind == "bytes":
        return bytes(parts[0].tolist())
    if kind == "bytearray":
        target = current if type(current) is bytearray else bytearray()
        target[:] = parts[0].tolist()
        return target
    if kind == "namedtuple":
        return _class(parts[0])(*[value_of(part, device=device) for part in parts[1:]])
    made: dict[str, Any] = {
        "complex": complex,
        "range": range,
        "path": Path,
        "enum": lambda name, member: _class(name)[member],
    }
    return made[kind](*parts)


def _tensor(form: list[Any], current: Any, device: Any) -> Any:
    _, saved, requires_grad, where = form
    if isinstance(current, torch.Tensor) and current.shape == saved.shape and current.dtype == saved.dtype:
        with torch.no_grad():
            current.copy_(saved)
        return current
    new = saved.detach().clone() if where == "cpu" else saved.detach().to(device)
    return new.requires_grad_() if requires_grad else new


def _inner(form: Any, current: Any, device: Any) -> Any:
    # inside a list a tensor may stand several times, or be the default of something else: it is not changed in place
    keep = not isinstance(current, torch.Tensor | np.ndarray) or getattr(current, "requires_grad", False)
    return value_of(form, current if keep else NOTHING, device)


def _list(kind: str, parts: list[Any], current: Any, device: Any) -> Any:
    maxlen, forms = parts[0], parts[1:]
    there = isinstance(current, list | tuple | deque)
    same = there and len(current) == len(forms) == len({id(item) for item in current})
    items = [_inner(f, c, device) for f, c in zip(forms, current, strict=True)] if same else None
    if items is None:
        items = [value_of(form, device=device) for form in forms]
    known: Any = _LISTS[kind]
    if type(current) is known:
        if kind == "tuple" and same and all(a is b for a, b in zip(items, current, strict=True)):
            return current
        if kind == "list":
            current[:] = items
            return current
        if kind == "set" or (kind == "deque" and current.maxlen == maxlen):
            current.clear()
            getattr(current, "update" if kind == "set" else "extend")(items)
            return current
    return deque(items, maxlen) if kind == "deque" else known(items)


def _dict(kind: str, parts: list[Any], current: Any, device: Any) -> Any:
    if kind == "dataclass":
        filled = dataclasses.is_dataclass(current) and _name(type(current)) == parts[0]
        target = current if filled else object.__new__(_class(parts[0]))
        into = vars(target)
    elif isinstance(current, dict) and (type(current) is _DICTS.get(kind) or kind == "another dict"):
        target = into = current
    elif kind == "defaultdict":
        target = into = defaultdict(_FACTORIES.get(parts[0]))
    else:
        target = into = _DICTS[kind]()
    before = dict(into)
    keys = [value_of(form) for form in parts[1::2]]
    values = [_inner(f, before.get(key, NOTHING), device) for key, f in zip(keys, parts[2::2], strict=True)]
    into.clear()
    for key, value in zip(keys, values, strict=True):  # not update: a Counter would count
        into[key] = value
    return target


def _array(parts: list[Any], current: Any) -> Any:
    array = np.lib.format.read_array(io.BytesIO(parts[0].numpy().tobytes()), allow_pickle=False)
    if not parts[1]:
        return array[()]
    if type(current) is np.ndarray and current.shape == array.shape and current.dtype == array.dtype:
        if current.flags.writeable:
            current[...] = array
            return current
    return array


def _generator(kind: str, parts: list[Any], current: Any) -> Any:
    if kind == "numpy.Generator":
        fits = isinstance(current, np.random.Generator) and type(current.bit_generator).__name__ == parts[0]
        generator = current if fits else np.random.Generator(getattr(np.random, parts[0])())
        generator.bit_generator.state = value_of(parts[1])
    elif kind == "numpy.RandomState":
        generator = current if type(current) is np.random.RandomState else np.random.RandomState()
        generator.set_state(value_of(parts[0]))
    elif kind == "random.Random":
        generator = current if type(current) is random.Random else random.Random()
        generator.setstate((parts[0], tuple(parts[1].tolist()), parts[2]))
    else:
        fits = isinstance(current, torch.Generator) and current.device.type == parts[0]
        generator = current if fits else torch.Generator(parts[0])
        generator.set_state(parts[1].cpu())
    return generator


def _npy(value: Any) -> torch.Tensor:
    file = io.BytesIO()
    try:
        np.lib.format.write_array(file, np.asanyarray(value), allow_pickle=False)
    except ValueError:
        raise NotPlain(value) from None  # an array of objects
    return torch.frombuffer(file.getbuffer(), dtype=torch.uint8)


def _name(kind: type) -> str:
    return f"{kind.__module__}:{kind.__qualname__}"


def _class(name: str) -> Any:
    """Return the class of a plain kind with this name, if its module is loaded; nothing is imported."""
    module, _, path = name.partition(":")
    found: Any = sys.modules.get(module)
    for part in path.split("."):
        found = getattr(found, part, None)
    plain = isinstance(found, type) and (
        dataclasses.is_dataclass(found) or issubclass(found, enum.Enum) or hasattr(found, "_fields")
    )
    return found if plain else None
