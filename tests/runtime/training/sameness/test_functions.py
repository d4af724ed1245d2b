"""Described functions: the same code and constants are the same function, and another argument is another one."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pytest
from torch.utils.data import default_collate

from nbkit.neuro.signals.windows.montage_data import collate_montage
from nbkit.runtime.training.sameness.functions import _constant, changed_function, described_function

PRELUDE = "import functools, torch\nfrom torch.utils.data import default_collate\nfrom pathlib import Path\n"
DOCUMENTED = "def f(b):\n    '''{}'''\n    return default_collate(b)\n"


@dataclass
class Pad:
    length: int = 8
    kind: str = "zeros"

    def __call__(self, batch: Any) -> Any:
        return default_collate(batch)

    def collate(self, batch: Any) -> Any:
        return self(batch)


def made(cell: str) -> Any:
    """Return the f of a notebook's cell."""
    names: dict[str, Any] = {"__name__": "__main__", "Pad": Pad}
    exec(compile(PRELUDE + cell, "<cell>", "exec"), names)
    return names["f"]


def words(before: Any, now: Any) -> list[str]:
    """Return the change between two functions, of which the first is read from a checkpoint."""
    return changed_function("collate_fn", json.loads(json.dumps(described_function(before))), described_function(now))


SAME = {
    "a function": ("def f(b):\n    return default_collate(b)\n",) * 2,
    "a function lower in the cell": ("def f(b):\n    return b\n", "# here\n\ndef f(b):\n    return b  # now\n"),
    "another docstring": (DOCUMENTED.format("One."), DOCUMENTED.format("Two.")),
    "a lambda": ("f = lambda b: default_collate(b[::2])",) * 2,
    "a lambda with a set": ("f = lambda b: [one for one in b if one in {'a', 'b', 'c', 'd'}]",) * 2,
    "another name": ("def g(b):\n    return b\nf = g", "def h(b):\n    return b\nf = h"),
    "a partial": ("f = functools.partial(default_collate, collate_fn_map=None)",) * 2,
    "a partial with a place": tuple(f"f = functools.partial(default_collate, root=Path({p!r}))" for p in ("/a", "/b")),
    "a partial with an object": ("f = functools.partial(default_collate, x=object())",) * 2,
    "workers": tuple(f"f = functools.partial(default_collate, num_workers={n})" for n in (1, 2)),
    "a closure": ("def g(n):\n    return lambda b: b[:n]\nf = g(2)",) * 2,
    "an object": ("f = Pad(3)",) * 2,
    "a method": ("f = Pad(3).collate",) * 2,
    "a function of C": ("f = len",) * 2,
}
OTHER = {
    "another function": ("f = default_collate", "def f(b):\n    return b", "collate_fn default_collate -> f"),
    "other code": ("def f(b):\n    return b", "def f(b):\n    return b[::-1]", "collate_fn f (code "),
    "another constant": ("f = lambda b: b[:2]", "f = lambda b: b[:3]", "collate_fn <lambda> (code "),
    "a constant inside": ("f = lambda b: [[x, 2] for x in b]", "f = lambda b: [[x, 2.0] for x in b]", "<lambda> (c"),
    "a partial's argument": (
        "f = functools.partial(default_collate, length=2)", "f = functools.partial(default_collate, length=3)",
        "collate_fn default_collate with length: 2 -> 3",
    ),
    "an argument without a name": (
        "f = functools.partial(default_collate, 2)", "f = functools.partial(default_collate, 3)", "args[0]: 2 -> 3",
    ),
    "a partial added": (
        "f = default_collate", "f = functools.partial(default_collate, length=3)", "length: None -> 3",
    ),
    "a function in a partial": (
        "f = functools.partial(default_collate, pad=lambda x: 1)",
        "f = functools.partial(default_collate, pad=lambda x: 2)", "with code of pad: ",
    ),
    "a default": ("def f(b, n=2):\n    return b[:n]", "def f(b, n=3):\n    return b[:n]", "f with n: 2 -> 3"),
    "a default by name": ("def f(b, *, n=2):\n    return b", "def f(b, *, n=3):\n    return b", "f with n: 2 -> 3"),
    "a closure": (
        "def g(n):\n    return lambda b: b[:n]\nf = g(2)", "def g(n):\n    return lambda b: b[:n]\nf = g(3)",
        "n: 2 -> 3",
    ),
    "an object": ("f = Pad(3)", "f = Pad(4)", "collate_fn Pad with length: 3 -> 4"),
    "a method": ("f = Pad(3).collate", "f = Pad(4).collate", "length: 3 -> 4"),
    "a function of C": ("f = len", "f = max", "collate_fn len -> max"),
}  # fmt: skip


@pytest.mark.parametrize("name", SAME)
def test_a_function_that_is_written_again_is_the_same(name):
    first, second = (made(cell) for cell in SAME[name])
    assert words(first, second) == words(second, first) == []


@pytest.mark.parametrize("name", OTHER)
def test_another_function_is_told_with_both(name):
    first, second, told = OTHER[name]
    found = words(made(first), made(second))
    assert len(found) == 1 and told in found[0] and " -> " in found[0], found


def test_code_is_compared_only_within_one_version_of_python_and_names_always():
    first, second = (described_function(made(f"f = lambda b: b[:{n}]")) for n in (2, 3))
    older = {**first, "python": "3.9"}
    assert changed_function("x", first, second) != [] == changed_function("x", older, second)
    inside, other = (made(OTHER["a function in a partial"][number]) for number in (0, 1))
    older_inside = {**described_function(inside), "python": "3.9"}
    assert words(inside, other) != [] == changed_function("x", older_inside, described_function(other))
    assert changed_function("x", older, described_function(default_collate)) == ["x <lambda> -> default_collate"]


@pytest.mark.parametrize("function", [default_collate, collate_montage, json.dumps])
def test_a_function_of_a_library_counts_by_its_name(function):
    found = described_function(function)
    assert found["code"] == "" and found["holds"] == {} and found["name"] == function.__name__


def test_what_is_not_known_is_no_change():
    known = described_function(default_collate)
    assert changed_function("x", None, known) == changed_function("x", {}, known) == []


def test_what_a_function_has_counted_is_no_change():
    def count(batch, kept=[0]):  # noqa: B006
        kept.append(len(kept))
        return batch

    before = described_function(count)
    assert before["holds"] == {"kept[0]": 0}
    count([])
    assert changed_function("x", before, described_function(count)) == []


def test_the_order_of_a_set_which_differs_between_processes_does_not_count():
    first, second = frozenset((0, 8)), frozenset((8, 0))
    assert repr(first) != repr(second) and _constant(first) == _constant(second)
