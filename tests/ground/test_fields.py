"""Settings check themselves: every class of the package, every field, and the messages."""

from __future__ import annotations

import ast
import copy
import importlib
import pickle
import typing
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nbkit.neuro
from nbkit.ground.fields import checked, described, fit

WRONG: dict[str, Any] = {
    "nothing": None,
    "a text": "many",
    "an object": object(),
    "a text in a list": [["x"]],
    "a set": {1},
}


def settings_classes() -> list[type]:
    """Return all frozen dataclasses of the wing that a user makes: named so, or each field has a default."""
    found, root = [], Path(nbkit.neuro.__path__[0]).parents[1]
    for path in sorted(root.joinpath("nbkit/neuro").rglob("*.py")):
        text = path.read_text("utf-8")
        if "frozen=True" not in text:
            continue
        names = [
            node.name for node in ast.parse(text).body if isinstance(node, ast.ClassDef) and is_made_by_users(node)
        ]
        module = ".".join(path.relative_to(root).with_suffix("").parts)
        found += [getattr(importlib.import_module(module), name) for name in names]  # others are not imported: seconds
    return found


def is_checked(cls: type) -> bool:
    """Return whether a class itself was decorated: a subclass has an own ``__init__`` and must be, too."""
    return hasattr(cls.__dict__.get("__init__"), "__wrapped__")


def is_made_by_users(node: ast.ClassDef) -> bool:
    if not any("frozen=True" in ast.unparse(one) for one in node.decorator_list):
        return False
    own = [one for one in node.body if isinstance(one, ast.AnnAssign)]
    return node.name.endswith(("Settings", "Config")) or all(map(has_default, own))


def has_default(one: ast.AnnAssign) -> bool:
    given = [] if not isinstance(one.value, ast.Call) else [word.arg for word in one.value.keywords]
    called = isinstance(one.value, ast.Call) and ast.unparse(one.value.func) == "field"
    return one.value is not None and (not called or "default" in given or "default_factory" in given)


def test_all_settings_check_themselves_and_refuse_each_field_in_words():
    classes, refused = settings_classes(), 0
    assert len(classes) > 45 and [one for one in classes if not is_checked(one)] == []
    for one in classes:
        hints = typing.get_type_hints(one)
        needed = {"models": {}} if one.__name__ == "ExperimentConfig" else {}
        one(**needed)
        with pytest.raises(ValueError, match="There is no setting 'fieldz'"):
            one(**needed, fieldz=1)
        for field in fields(one):
            for value in WRONG.values():
                if fits_by_hand(hints[field.name], value):
                    continue
                refused += 1
                with pytest.raises(ValueError) as caught:
                    one(**{**needed, field.name: value})
                said = str(caught.value)
                assert said.startswith(f"{one.__name__}.{field.name} is ") and "; it must be " in said, said
                assert described(hints[field.name]) in said
    assert refused > 1000


def fits_by_hand(wanted: Any, value: Any) -> bool:
    """Return whether one of WRONG is right for an annotation, told from its text alone."""
    text = str(wanted)
    if wanted is Any or (value is None and "None" in text):
        return True
    return isinstance(value, str) and (wanted is str or text.startswith("str |") or text.startswith("str | None"))


@checked
@dataclass(frozen=True)
class Toy:
    steps: int
    rate: float = 0.1
    both: bool = False
    betas: tuple[float, float] = (0.9, 0.99)
    names: tuple[str, ...] = ()
    weights: str | Mapping[str, str] = "hub"
    most: float | None = None

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError("own check")


def test_numbers_and_lists_of_other_libraries_become_pythons_own():
    made = Toy(np.int64(3), np.float32(0.5), np.bool_(True), np.array([0.5, 1]), ["a"], most=4)
    assert made == Toy(3, 0.5, True, (0.5, 1.0), ("a",), "hub", 4.0)
    kinds = [type(getattr(made, name)) for name in ("steps", "rate", "both", "betas", "most")]
    assert kinds == [int, float, bool, tuple, float]
    assert Toy(3.0) == Toy(3) and hash(Toy(3, names=["a"])) == hash(Toy(3, names=("a",)))
    assert replace(made, steps=5).steps == 5 and pickle.loads(pickle.dumps(made)) == copy.deepcopy(made) == made


@pytest.mark.parametrize(
    ("values", "named", "says"),
    [
        ((), {}, "Toy needs steps too. Its settings: steps, rate"),
        ((3,), {"steps": 4}, "Toy.steps is given twice: 3 and 4"),
        ((3,), {"bets": (1, 2)}, "There is no setting 'bets'. Did you mean 'betas'? Allowed: steps"),
        (tuple(range(9)), {}, "Toy got 9 values, but has 7 settings"),
        ((True,), {}, "Toy.steps is True; it must be a whole number."),
        ((2.5,), {}, "Toy.steps is 2.5"),
        ((3,), {"both": 1}, "Toy.both is 1; it must be True or False."),
        ((3,), {"betas": (1, 2, 3)}, "it must be a list of 2 values: a number, a number."),
        ((3,), {"names": "ab"}, "Toy.names is 'ab'; it must be a list of text."),
        ((3,), {"weights": {"a": 1}}, "it must be text or names with values."),
        ((3,), {"most": "x" * 999}, "xxx...; it must be a number or None."),
        ((0,), {}, "own check"),
    ],
)
def test_what_is_refused(values, named, says):
    with pytest.raises(ValueError) as caught:
        Toy(*values, **named)
    assert says in str(caught.value)


def test_a_subclass_that_is_not_checked_is_found():
    @dataclass(frozen=True)
    class More(Toy):
        more: int = 1

    assert is_checked(Toy) and not is_checked(More)


def test_the_exact_type_of_several_is_kept():
    assert [fit(float | int, value) for value in (1, 2.0)] == [1, 2.0] and type(fit(float | int, 1)) is int
