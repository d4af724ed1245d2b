"""Settings: presets, overrides, and what is refused."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbkit.runtime.errors import UsageError
from nbkit.runtime.settings import from_json, settings, to_json


@dataclass(frozen=True)
class Toy:
    max_steps: int = 1000
    learning_rate: float = 1e-3
    name: str = "toy"
    residual: bool = True
    bands: tuple[tuple[float, float], ...] = ((0.5, 4.0), (4.0, 8.0))
    shape: tuple[int, int] = (3, 4)
    dropout: float | None = None
    head: Literal["linear", "mlp"] = "linear"

    @classmethod
    def free(cls) -> Toy:
        return cls(max_steps=5000)

    @classmethod
    def smoke(cls) -> Toy:
        return cls(max_steps=3)

    @classmethod
    def wide(cls) -> Toy:
        return cls(shape=(30, 40))


def test_presets_are_chosen_by_smoke_and_by_name():
    assert settings(Toy).max_steps == 5000
    assert settings(Toy, smoke=True).max_steps == 3
    assert settings(Toy, preset="wide").shape == (30, 40)
    assert settings(Toy, smoke=True, preset="wide").max_steps == 3


def test_overrides_replace_fields_as_mapping_and_as_json():
    assert settings(Toy, overrides={"max_steps": 7, "learning_rate": 1}).learning_rate == 1.0
    changed = settings(Toy, overrides='{"bands": [[1, 2], [2, 30.5]], "dropout": 0.1, "head": "mlp"}')
    assert (changed.bands, changed.dropout, changed.head) == (((1.0, 2.0), (2.0, 30.5)), 0.1, "mlp")
    assert changed.max_steps == 5000


def test_an_override_of_none_keeps_the_preset():
    assert settings(Toy, overrides={"max_steps": None}).max_steps == 5000


@pytest.mark.parametrize(
    ("given_", "words"),
    [
        ({"max_step": 7}, "Did you mean 'max_steps'"),
        ({"qqqq": 7}, "Allowed: max_steps, learning_rate"),
        ({"max_steps": "7"}, "Toy.max_steps is '7'; it must be a whole number"),
        ({"max_steps": True}, "Toy.max_steps is True"),
        ({"max_steps": 7.5}, "Toy.max_steps is 7.5"),
        ({"residual": 1}, "Toy.residual is 1; it must be True or False"),
        ({"bands": [[1, "x"]]}, "Toy.bands is [[1, 'x']]"),
        ({"shape": [1, 2, 3]}, "Toy.shape is [1, 2, 3]"),
        ({"head": "conv"}, "Toy.head is 'conv'"),
        ("{not json", "are not JSON"),
        ("[1]", "must be names with values"),
    ],
)
def test_what_is_refused_says_the_value_and_what_is_allowed(given_, words):
    with pytest.raises(UsageError) as caught:
        settings(Toy, overrides=given_)
    assert words in str(caught.value)


def test_an_unknown_preset_is_refused_with_the_nearest():
    with pytest.raises(UsageError, match="Did you mean 'wide'"):
        settings(Toy, preset="wid")


@given(st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text(), st.booleans())
def test_json_gives_back_the_same_settings(max_steps, learning_rate, name, residual):
    value = Toy(max_steps, learning_rate, name, residual)
    assert from_json(Toy, to_json(value)) == value


def test_json_with_an_unknown_name_is_refused():
    text = json.dumps(json.loads(to_json(Toy())) | {"max_stepz": 3})
    with pytest.raises(UsageError, match="max_stepz"):
        from_json(Toy, text)


@dataclass(frozen=True)
class Inner:
    width: int = 3
    rate: float = 0.1


@dataclass(frozen=True)
class Outer:
    inner: Inner = field(default_factory=Inner)
    steps: int = 5

    @classmethod
    def free(cls):
        return cls(Inner(width=7))

    @classmethod
    def smoke(cls):
        return cls()


def test_settings_within_settings_are_replaced_one_by_one():
    assert settings(Outer, overrides={"inner": {"rate": 1}}) == Outer(Inner(7, 1.0))
    assert settings(Outer, overrides='{"inner": {"width": 2}, "steps": 9}') == Outer(Inner(2), 9)
    with pytest.raises(UsageError, match=r"Inner: .*'widht'"):
        settings(Outer, overrides={"inner": {"widht": 2}})
    with pytest.raises(UsageError, match="Inner.width is 'a'"):
        settings(Outer, overrides={"inner": {"width": "a"}})
