"""A phase's settings: a frozen dataclass from a preset and a notebook's parameters.

Unknown names are rejected with the nearest field named, and values of another type are rejected, so that no parameter
of a nine-hour run is silently ignored.
"""

from __future__ import annotations

import json
import typing
from collections.abc import Mapping
from dataclasses import asdict, fields, is_dataclass, replace
from typing import Any, TypeVar

from nbkit.ground.fields import MISFIT, fit, misfit, unknown
from nbkit.runtime.errors import UsageError

T = TypeVar("T")


def settings(
    cls: type[T], smoke: bool = False, overrides: Mapping[str, Any] | str | None = None, preset: str | None = None
) -> T:
    """Return a phase's settings: a preset with some fields replaced.

    Parameters
    ----------
    cls : type
        A frozen dataclass with the classmethods ``free()`` and ``smoke()``, and any other presets.
    smoke : bool
        True for ``cls.smoke()``, else ``cls.free()``.
    overrides : mapping, str or None
        Fields to replace, as a mapping or as JSON text. Those that are None keep the preset's value. Settings within
        settings are replaced one by one, too: ``{"student": {"dim": 64}}``.
    preset : str or None
        Another preset of the class; ignored with `smoke`.

    Returns
    -------
    settings : cls

    Raises
    ------
    UsageError
        If a field or preset is unknown, or a value does not have the field's type.
    """
    if not is_dataclass(cls):
        raise UsageError(f"{cls!r} is not the frozen dataclass of a phase's settings. Nothing was begun.")
    name = "smoke" if smoke else preset or "free"
    presets = presets_of(cls)
    if name not in presets:
        raise UsageError(f"{cls.__name__}: {unknown('preset', name, presets)} Nothing was begun.")
    given = {k: v for k, v in _mapping(cls, overrides).items() if v is not None}
    made = getattr(cls, name)()
    return replace(made, **_checked(cls, given, made))


def presets_of(cls: type) -> list[str]:
    """Return the names of a settings class's presets: its own public classmethods without arguments."""
    return [n for n, value in vars(cls).items() if isinstance(value, classmethod) and not n.startswith("_")]


def to_json(value: Any) -> str:
    """Return settings as JSON text."""
    return json.dumps(asdict(value), indent=1, sort_keys=True)


def from_json(cls: type[T], text: str) -> T:
    """Return settings from JSON text; missing fields keep the class's defaults.

    Raises
    ------
    UsageError
        If the text is not a JSON object, a field is unknown or missing, or a value has another type.
    """
    values = _checked(cls, _mapping(cls, text))
    try:
        return cls(**values)
    except TypeError as error:
        raise UsageError(
            f"{cls.__name__} cannot be created from {sorted(values)}: {error}. Nothing was begun."
        ) from None


def _mapping(cls: type, given: Mapping[str, Any] | str | None) -> dict[str, Any]:
    if given is None:
        return {}
    if isinstance(given, str):
        try:
            given = json.loads(given) if given.strip() else {}
        except (ValueError, RecursionError) as error:
            raise UsageError(
                f"The settings of {cls.__name__} {given!r} are not JSON ({error}). Write them like "
                "'{\"max_steps\": 300}'. Nothing was begun."
            ) from None
    if not isinstance(given, Mapping):
        raise UsageError(f"The settings of {cls.__name__} must be names with values, not {given!r}. Nothing was begun.")
    return dict(given)


def _checked(cls: type, given: Mapping[str, Any], preset: Any = None) -> dict[str, Any]:
    """Return values of the fields' types; names with values replace single fields of the preset's settings within."""
    hints = typing.get_type_hints(cls)
    names = [field.name for field in fields(cls) if field.init]
    for name in given:
        if name not in names:
            raise UsageError(f"{cls.__name__}: {unknown('setting', str(name), names)} Nothing was begun.")
    made = {}
    for name, value in given.items():
        inner = getattr(preset, name, None)
        if isinstance(value, Mapping) and is_dataclass(inner) and not isinstance(inner, type):
            made[name] = replace(inner, **_checked(type(inner), value, inner))
        else:
            made[name] = _typed(cls, name, hints[name], value)
    return made


def _typed(cls: type, name: str, wanted: Any, value: Any) -> Any:
    fitted = fit(wanted, value)
    if fitted is MISFIT:
        raise UsageError(f"{misfit(cls.__name__, name, value, wanted)} Nothing was begun.")
    return fitted
