"""Forms of plain values that load with ``weights_only=True``, and how they become the values again.

Plain are numbers, text, None, bytes, tensors, numpy arrays and scalars, random generators, paths, members of an Enum,
and lists, tuples, dicts, sets, deques and dataclasses of those. The form of a value consists of None, numbers, text,
tensors, and lists that begin with the name of a kind.
"""

from __future__ import annotations

import array
import dataclasses
import datetime
import decimal
import enum
import fractions
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
_MANY = 10_000  # entries of an array of objects above which it is taken for the data
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
        return ["tensor", value.detach(), value.requires_grad and value.is_leaf, whereabouts(value)]
    if kind.__name__ in _LISTS and kind is _LISTS[kind.__name__]:
        items = sorted(value, key=repr) if isinstance(value, set | frozenset) else value
        return [kind.__name__, getattr(value, "maxlen", None), *[form_of(item, deeper) for item in items]]
    if isinstance(value, dict):
        if any(isinstance(key, torch.Tensor) for key in value):
            raise NotPlain(value)  # it is found by its identity, which no later session has
        flat = [form_of(part, deeper) for pair in value.items() for part in pair]
        if isinstance(value, defaultdict) and kind is defaultdict:
            return ["defaultdict", getattr(value.default_factory, "__name__", None), *flat]
        # a dict of another class can be filled again, but not made
        return [kind.__name__ if kind in _DICTS.values() else "another dict", None, *flat]
    if kind is np.ndarray and value.dtype == object and value.size <= _MANY:
        return ["object array", list(value.shape), *[form_of(item, deeper) for item in value.ravel()]]
    if kind is np.ma.MaskedArray:
        masked = (value.data, value.mask, value.fill_value)
        return ["masked array", bool(value.hardmask), *[form_of(np.asarray(part), deeper) for part in masked]]
    if kind is np.ndarray or isinstance(value, np.generic):
        return ["array", _npy(value), kind is np.ndarray]
    if isinstance(value, np.random.Generator):
        return ["numpy.Generator", *_bits(value.bit_generator, deeper)]
    if isinstance(value, np.random.BitGenerator):
        return ["numpy.BitGenerator", *_bits(value, deeper)]
    if kind is np.random.SeedSequence:
        words = (value.entropy, value.spawn_key, value.pool_size, value.n_children_spawned)
        return ["numpy.SeedSequence", *[form_of(word, deeper) for word in words]]
    if kind is np.random.RandomState:
        return ["numpy.RandomState", form_of(value.get_state(legacy=False), deeper)]
    if is_python_generator(value):
        version, numbers, gauss = random.Random.getstate(value)
        parts = [version, torch.tensor(numbers, dtype=torch.int64), gauss]
        # one of another class can be set, but not made
        return ["random.Random", *parts] if kind is random.Random else ["another Random", *parts, _name(kind)]
    if isinstance(value, torch.Generator):
        return ["torch.Generator", value.device.type, value.get_state()]
    if kind in (bytes, bytearray):
        return [kind.__name__, torch.tensor(list(value), dtype=torch.uint8)]
    if kind is array.array:
        return ["array.array", value.typecode, _npy(np.frombuffer(value.tobytes(), dtype=np.uint8))]
    if kind is datetime.timedelta:
        return ["timedelta", value.days, value.seconds, value.microseconds]
    if kind is datetime.date or (kind is datetime.datetime and value.tzinfo is None):
        return [kind.__name__, value.isoformat(), *([value.fold] if kind is datetime.datetime else [])]
    if kind in (decimal.Decimal, fractions.Fraction):
        return [kind.__name__, str(value)]
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


def is_python_generator(value: Any) -> bool:
    """Return whether a value is a generator of Python's ``random`` that keeps its state itself."""
    own = isinstance(value, random.Random) and not isinstance(value, random.SystemRandom)
    kept = ("getstate", "setstate", "random")  # another class may draw elsewhere
    return own and all(getattr(type(value), name) is getattr(random.Random, name) for name in kept)


def can_be_made(form: Any) -> bool:
    """Return whether a value can be made from its form alone, without one of its class to fill."""
    if not isinstance(form, list):
        return True
    if form[0] in ("another dict", "another Random"):
        return False
    if form[0] == "defaultdict" and form[1] not in (None, *_FACTORIES):
        return False
    if form[0] in ("enum", "dataclass", "namedtuple") and _class(form[1]) is None:
        return False
    return all(can_be_made(part) for part in form[1:])


def digest(form: Any) -> bytes:
    """Return a digest of a form: equal exactly where the values are equal, bit for bit, on whatever device."""
    sha = hashlib.blake2b(digest_size=16)
    _feed(sha, form)
    return sha.digest()


def _feed(sha: Any, form: Any) -> None:
    if isinstance(form, list):
        parts = form[:-1] if form[0] == "tensor" else form  # its last part is the device
        sha.update(b"[%d" % len(parts))
        for part in parts:
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
    if kind in _GENERATORS:
        return _generator(kind, parts, current)
    if kind == "array.array":
        numbers = array.array(parts[0], _array([parts[1], True], None).tobytes())
        if type(current) is not array.array or current.typecode != parts[0]:
            return numbers
        current[:] = numbers
        return current
    if kind == "object array":
        return _object_array(parts, current, device)
    if kind == "masked array":
        return _masked_array(parts, current)
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
        "timedelta": datetime.timedelta,
        "date": datetime.date.fromisoformat,
        "datetime": lambda text, fold: datetime.datetime.fromisoformat(text).replace(fold=fold),
        "Decimal": decimal.Decimal,
        "Fraction": fractions.Fraction,
        "range": range,
        "path": Path,
        "enum": lambda name, member: _class(name)[member],
    }
    return made[kind](*parts)


def _tensor(form: list[Any], current: Any, device: Any) -> Any:
    _, saved, requires_grad, where = form
    if isinstance(current, torch.Tensor) and current.shape == saved.shape and current.dtype == saved.dtype:
        move(current, where, device)
        with torch.no_grad():
            current.copy_(saved)
        return current
    new = saved.detach().clone()
    move(new, where, device)
    return new.requires_grad_() if requires_grad else new


def whereabouts(tensor: torch.Tensor) -> str:
    """Return the kind of device that a tensor is on."""
    return tensor.device.type


def move(tensor: torch.Tensor, where: str, device: Any) -> None:
    """Bring a tensor to where the training had it: the CPU, or the device that trains."""
    target = torch.device("cpu" if where == "cpu" else device)
    if whereabouts(tensor) != target.type:
        tensor.data = tensor.data.to(target)  # it stays the same object, for what refers to it


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


def _object_array(parts: list[Any], current: Any, device: Any) -> Any:
    shape, forms = tuple(parts[0]), parts[1:]
    fits = type(current) is np.ndarray and current.dtype == object and current.shape == shape
    target = current if fits and current.flags.writeable else np.empty(shape, dtype=object)
    for place, form in zip(np.ndindex(*shape), forms, strict=True):
        target[place] = value_of(form, device=device)
    return target


def _masked_array(parts: list[Any], current: Any) -> Any:
    hard, data, mask, fill = parts[0], *[value_of(part) for part in parts[1:]]
    if not mask.shape and data.shape:
        mask = np.ma.nomask
    fits = type(current) is np.ma.MaskedArray and (current.shape, current.dtype) == (data.shape, data.dtype)
    if not fits or not current.flags.writeable:
        return np.ma.MaskedArray(data, mask, fill_value=fill, hard_mask=hard)
    current.soften_mask()
    current.data[...] = data
    if mask is not np.ma.nomask or np.ma.getmask(current) is not np.ma.nomask:
        current.mask = mask
    current.fill_value = fill
    if hard:
        current.harden_mask()
    return current


_GENERATORS = {
    "numpy.Generator", "numpy.BitGenerator", "numpy.SeedSequence", "numpy.RandomState", "random.Random",
    "another Random", "torch.Generator",
}  # fmt: skip


def _bits(bits: Any, depth: int) -> list[Any]:
    """Return the parts of the form of a bit generator; the number of those that it has spawned only if there are."""
    spawned = getattr(bits.seed_seq, "n_children_spawned", 0)
    return [type(bits).__name__, form_of(bits.state, depth), *([spawned] if spawned else [])]


def _set_bits(bits: Any, parts: list[Any]) -> None:
    bits.state = value_of(parts[1])
    _spawn(bits.seed_seq, parts[2] if len(parts) > 2 else 0)


def _spawn(sequence: Any, number: int) -> None:
    missing = number - getattr(sequence, "n_children_spawned", number)
    if missing > 0:
        sequence.spawn(missing)  # the only way to set its count


def _generator(kind: str, parts: list[Any], current: Any) -> Any:
    if kind == "numpy.Generator":
        fits = isinstance(current, np.random.Generator) and type(current.bit_generator).__name__ == parts[0]
        generator = current if fits else np.random.Generator(getattr(np.random, parts[0])())
        _set_bits(generator.bit_generator, parts)
    elif kind == "numpy.BitGenerator":
        generator = current if type(current).__name__ == parts[0] else getattr(np.random, parts[0])()
        _set_bits(generator, parts)
    elif kind == "numpy.SeedSequence":
        entropy, key, size, spawned = (value_of(part) for part in parts)
        same = type(current) is np.random.SeedSequence and current.n_children_spawned <= spawned
        if same and (current.entropy, tuple(current.spawn_key), current.pool_size) == (entropy, tuple(key), size):
            generator = current
            _spawn(generator, spawned)
        else:
            generator = np.random.SeedSequence(entropy, spawn_key=key, pool_size=size, n_children_spawned=spawned)
    elif kind == "numpy.RandomState":
        generator = current if type(current) is np.random.RandomState else np.random.RandomState()
        generator.set_state(value_of(parts[0]))
    elif kind in ("random.Random", "another Random"):
        generator = current if is_python_generator(current) else random.Random()
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
