"""State that a training reaches only through code is the same after stops, as in a new process."""

from __future__ import annotations

import functools
import random
import sys
import textwrap
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from nbkit.runtime.errors import UsageError
from nbkit.runtime.training.held.code import functions_in, names_in, owner_of, reached_by
from nbkit.runtime.training.loader import ResumableLoader
from tests.runtime.training.exact.sessions import assert_same, one_session
from tests.runtime.training.training_support import Tiny

NAME = "users_other"
OTHER = """
    import numpy as np
    rng = np.random.default_rng(11)
    def noise():
        return rng.random()
    """
START = """
    import collections, functools, itertools, random
    import numpy as np, torch
    import users_other
    rng = np.random.default_rng(5)
    """
# each makes `draw`, which returns another number at each call
GENERATORS = {
    "default": "def draw(rng=np.random.default_rng(1)): return rng.random()",
    "method of a generator": "draw = np.random.default_rng(5).random",
    "method of Python's generator": "draw = random.Random(5).random",
    "method of an old generator": "draw = np.random.RandomState(5).rand",
    "partial of a method": "draw = functools.partial(random.Random(5).gauss, 0.0, 1.0)",
    "method as a variable": "number = random.Random(5).random\ndef draw(): return number()",
    "partial of a method as a variable": """
        number = functools.partial(np.random.default_rng(5).normal, 0.0, 1.0)
        def draw(): return number()
        """,
    "method in a closure": "draw = (lambda number: lambda: number())(random.Random(5).random)",
    "method as a default": "def draw(number=np.random.default_rng(5).random): return number()",
    "default of a keyword": "def draw(*, rng=random.Random(1)): return rng.random()",
    "default of torch": "def draw(g=torch.Generator().manual_seed(1)): return torch.rand(1, generator=g).item()",
    "comprehension": "def draw(): return sum([rng.random() for _ in range(2)])",
    "generator expression": "def draw(): return sum(rng.random() for _ in range(2))",
    "lambda inside": "def draw(): return (lambda: rng.random())()",
    "function inside": """
        def draw():
            def inner():
                return rng.random()
            return inner()
        """,
    "static method": """
        class Noise:
            @staticmethod
            def number(): return rng.random()
        noise = Noise()
        draw = noise.number
        thing = noise
        """,
    "class method": """
        class Noise:
            @classmethod
            def number(cls): return rng.random()
        thing = Noise()
        def draw(): return thing.number()
        """,
    "property": """
        class Noise:
            @property
            def number(self): return rng.random()
        thing = Noise()
        def draw(): return thing.number
        """,
    "partial method": """
        class Noise:
            def scaled(self, by): return by * rng.random()
            number = functools.partialmethod(scaled, 2.0)
        thing = Noise()
        def draw(): return thing.number()
        """,
    "variable of another file": "def draw(): return users_other.rng.random()",
    "function of another file": "def draw(): return users_other.noise()",
    "function by name of another file": """
        from users_other import noise
        def draw(): return noise()
        """,
    "made at its first use": """
        late = None
        def draw():
            global late
            if late is None: late = random.Random(3)
            return late.random()
        """,
    "made at its first use in another file": """
        def draw():
            if not hasattr(users_other, "late"): users_other.late = random.Random(3)
            return users_other.late.random()
        """,
    "two in a closure": """
        def make(a, b): return lambda: a.random() + b.random()
        draw = make(random.Random(1), random.Random(2))
        """,
    "two lambdas of one name": """
        def make(a): return lambda: a.random()
        first, second = make(random.Random(1)), make(random.Random(2))
        def draw(): return first() + 10 * second()
        """,
    "wrapped": """
        def twice(function):
            @functools.wraps(function)
            def both(): return function() + function()
            return both
        @twice
        def draw(): return rng.random()
        """,
}
NUMBERS = {
    "attribute of a function, made at its first call": """
        def draw():
            draw.count = getattr(draw, "count", 0) + 1
            return draw.count / 10
        """,
    "attribute of a function": """
        def draw():
            draw.count += 1
            return draw.count / 10
        draw.count = 0
        """,
    "list among the defaults": """
        def draw(seen=[0]):
            seen[0] += 1
            return seen[0] / 10
        """,
    "dict among the keywords' defaults": """
        def draw(*, seen={"n": 0}):
            seen["n"] += 1
            return seen["n"] / 10
        """,
    "array among the defaults": """
        def draw(seen=np.zeros(2)):
            seen += 1
            return float(seen.sum()) / 10
        """,
}


def load(source: str) -> dict[str, Any]:
    """Run a user's file and the one that it imports, as a new process does."""
    other = types.ModuleType(NAME)
    other.__file__ = str(Path(f"{NAME}.py").absolute())
    sys.modules[NAME] = other
    exec(compile(textwrap.dedent(OTHER), other.__file__, "exec"), vars(other))
    space = {"__name__": "users_file"}
    exec(compile(textwrap.dedent(START) + textwrap.dedent(source), "users_file.py", "exec"), space)
    return space


class Reaches(Tiny):
    def __init__(self, source: str) -> None:
        super().__init__()
        space = load(source)
        self.draw, self.thing = space["draw"], space.get("thing")

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        return super().training_step(batch, batch_idx) * (1 + 0.1 * self.draw())


@pytest.fixture(autouse=True)
def no_other_file():
    yield
    sys.modules.pop("users_other", None)


@pytest.mark.train
@pytest.mark.parametrize("name", [*GENERATORS, *NUMBERS])
def test_what_only_code_reaches_is_the_same_after_stops(name: str, tmp_path: Path) -> None:
    source = (GENERATORS | NUMBERS)[name]
    assert len({load(source)["draw"]() for _ in range(2)}) == 1, "a new process begins anew"
    draw = load(source)["draw"]
    assert draw() != draw(), "it changes with each call"
    assert_same(tmp_path, lambda: Reaches(source), steps=(5,), max_steps=14)


# methods that change what they belong to
METHODS = {
    "pop of a list": "draw = [0.01 * i for i in range(99)].pop",
    "popleft of a deque": "draw = collections.deque(0.01 * i for i in range(99)).popleft",
    "partial of a deque's": "draw = functools.partial(collections.deque([0.1] * 9 + [0.2] * 5).pop)",
    "method of the process's generator": "draw = random.random",
    "method of numpy's own generator": "draw = np.random.standard_normal",
}


@pytest.mark.train
@pytest.mark.parametrize("name", METHODS)
def test_what_a_bound_method_changes_is_the_same_after_stops(name: str, tmp_path: Path) -> None:
    assert_same(tmp_path, lambda: Reaches(METHODS[name]), steps=(5,), max_steps=14)


@pytest.mark.train
@pytest.mark.parametrize(
    "source", ["itertools.count().__next__", "iter(range(99)).__next__", "map(float, 'ab').__next__"]
)
def test_a_method_of_an_iterator_is_refused_as_the_iterator_is(source: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"module\.draw\.__self__ is a .*, an iterator, whose place no checkpoint"):
        one_session(tmp_path, Reaches(f"draw = {source}"), steps=5, max_steps=14)


@pytest.mark.train
@pytest.mark.parametrize("file", ["module", "data", "dataset", "Tiny", "optimizer"])
def test_a_users_file_may_be_called_as_anything(file: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(sys.modules[__name__], "START", START.replace("users_other", f"{file} as users_other"))
    monkeypatch.setattr(sys.modules[__name__], "NAME", file)
    assert_same(tmp_path, lambda: Reaches(GENERATORS["variable of another file"]), steps=(5,), max_steps=14)
    sys.modules.pop(file, None)


class Items(Dataset):
    def __init__(self, source: str) -> None:
        space = load(source)
        self.draw, self.thing = space["draw"], space.get("thing")

    def __len__(self) -> int:
        return 12

    def __getitem__(self, index: int) -> np.ndarray:
        return np.array([float(index), self.draw()])


@pytest.mark.parametrize("name", GENERATORS)
def test_a_generator_that_only_code_of_a_dataset_reaches_is_seeded_for_every_item(name: str) -> None:
    def batches(start: int) -> list[torch.Tensor]:
        loader = ResumableLoader(DataLoader(Items(GENERATORS[name]), batch_size=2, shuffle=True), 1)
        loader.load_state_dict({"epoch": 1, "batch": start})
        found = list(loader)
        loader.end()
        return found

    whole = batches(0)
    assert all(a.equal(b) for a, b in zip(whole[3:], batches(3), strict=True))
    assert len(torch.cat(whole)[:, 1].unique()) == 12


def test_code_of_a_library_is_left_alone() -> None:
    def keeps(values: Any = None, **more: Any) -> Any:
        return np.mean(values), textwrap.dedent("")

    owners = {one.owner for one in reached_by(keeps)}
    assert "numpy" not in owners and "textwrap" not in owners and ".__defaults__" in owners
    assert not [one for one in reached_by(textwrap.wrap) if one.may_hold_numbers]
    assert functions_in(3) == [] and functions_in(len) == [] and names_in(keeps.__code__)[0] == "np"
    owned = [[].append, random.Random(0).random, functools.partial(random.Random(0).random), "".join, iter([]).__next__]
    assert [type(owner_of(one)).__name__ for one in owned] == ["list", "Random", "Random", "str", "list_iterator"]
    shared = (random.random, np.random.rand, np.random.normal, len, torch.relu, dict.fromkeys, keeps, None)
    assert [owner_of(one) for one in shared] == [None] * len(shared)
