"""Settings of items in a form in which any later session can compare them.

What is written is the content: of an array its numbers or their checksum, of a set its members in order. What has no
content that can be compared, such as a function, is refused at once, not by each later session.
"""

from __future__ import annotations

import datetime
import decimal
import enum
import fractions
import hashlib
import json
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from pathlib import PurePath
from typing import Any

_SMALL = 64  # numbers of an array that are written out; of more, the checksum
_SHOWN = 60  # characters of a value in a message
_AS_TEXT = (
    PurePath, datetime.date, datetime.time, datetime.timedelta, datetime.tzinfo, decimal.Decimal, fractions.Fraction,
    uuid.UUID, complex, bytes, range, type,
)  # fmt: skip


class NotComparable(ValueError):
    """A value of which no later session could tell whether it is the same."""


def comparable(settings: Mapping[str, Any]) -> Any:
    """Return settings as plain values of JSON that are equal where the settings are.

    Raises
    ------
    NotComparable
        If a value has no content that can be compared; the message names it.
    TypeError, ValueError, RecursionError
        As `json.dumps`.
    """
    plain = _plain(settings, "settings")
    if not isinstance(plain, dict):
        raise NotComparable(f"they are {_short(settings)}, and no names with values")
    return json.loads(json.dumps(plain, sort_keys=True))


def as_before(settings: Mapping[str, Any]) -> Any:
    """Return settings as earlier versions recorded them: what is no JSON as its text; None where they could not."""
    try:
        return json.loads(json.dumps(settings, sort_keys=True, default=str))
    except (TypeError, ValueError, RecursionError):
        return None


def _plain(value: Any, name: str) -> Any:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, enum.Enum):
        return f"{type(value).__name__}.{value.name}"
    if isinstance(value, _AS_TEXT) or _is_kind_of_numbers(value):
        return str(value)
    if isinstance(value, Mapping):
        return {key: _plain(one, f"{name}[{key!r}]") for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one, f"{name}[{number}]") for number, one in enumerate(value)]
    if isinstance(value, set | frozenset):
        members = [_plain(one, f"a member of {name}") for one in value]
        return sorted(members, key=lambda one: json.dumps(one, sort_keys=True))
    if is_dataclass(value):
        return {field.name: _plain(getattr(value, field.name), f"{name}.{field.name}") for field in fields(value)}
    if (array := _array(value)) is not None:
        return _numbers(array, name)
    raise NotComparable(
        f"{name} is {_short(value, _SHOWN)} ({type(value).__name__}), of which no later session can tell whether it is "
        "the same; give its name or its values instead"
    )


def _is_kind_of_numbers(value: Any) -> bool:
    """Return whether a value is a dtype or a device, of numpy or torch."""
    return type(value).__name__.lower().endswith(("dtype", "device")) and _package(value) in ("numpy", "torch")


def _package(value: Any) -> str:
    return type(value).__module__.partition(".")[0]


def _array(value: Any) -> Any:
    """Return a value as a numpy array; None if it is not an array."""
    import numpy as np

    try:
        if _package(value) == "torch" and hasattr(value, "detach"):
            value = value.detach().cpu()
        # a table of pandas has names beside its numbers
        if not hasattr(value, "__array__") or _package(value) in ("pandas", "polars"):
            return None
        return value if isinstance(value, np.ma.MaskedArray) else np.asarray(value)
    except (TypeError, ValueError, RuntimeError):  # numbers that numpy has not, such as bfloat16
        return None


def _numbers(array: Any, name: str) -> Any:
    import numpy as np

    if isinstance(array, np.ma.MaskedArray):
        masked = np.ma.getmaskarray(array)
        return {"masked": _numbers(masked, name), "data": _numbers(array.filled(0), name)}
    if array.size <= _SMALL or array.dtype.hasobject:
        return _plain(array.tolist(), name)
    content = np.ascontiguousarray(array)
    return {
        "array": f"{array.dtype} {array.shape}", "sha256": hashlib.sha256(content.tobytes()).hexdigest(),
    }  # fmt: skip


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """Return in words how settings differ."""
    return ", ".join(_differing(old, new))


def _differing(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    for name in sorted({*old, *new}):
        if old.get(name) != new.get(name):
            was, now = _short(old.get(name)), _short(new.get(name))
            yield f"{name} was {was}, now {now}" if was != now else f"{name} was {was}, which differs further on now"


def _short(value: Any, most: int = 4 * _SHOWN) -> str:
    text = " ".join(repr(value).split())
    return text if len(text) <= most else f"{text[:most]}..."
