"""Settings are compared by their content; what has none is refused at once, and old stores stay as they were."""

from __future__ import annotations

import datetime
import enum
import json
import subprocess
import sys
from dataclasses import dataclass, make_dataclass
from decimal import Decimal
from pathlib import Path
from types import MappingProxyType, SimpleNamespace

import numpy as np
import pandas as pd
import pytest

import nbkit
from nbkit.runtime.errors import UsageError
from nbkit.runtime.items.chosen import NotComparable, as_before, comparable, differences
from nbkit.runtime.ledger.rounds import repair_session
from nbkit.runtime.ledger.segments import encode_line, segment_of
from nbkit.runtime.store.folder import FolderStore
from nbkit.tools.status.verify import verify_store


@dataclass
class Band:
    low: float
    high: float
    names: tuple[str, ...] = ()


class Method(enum.Enum):
    FIR = 1
    IIR = 2


LONG = np.arange(3000.0)
CHANGED = LONG.copy()
CHANGED[1500] = 7
VALUES = {
    "array": (LONG, CHANGED),
    "small array": (np.arange(3), np.array([0, 1, 3])),
    "shape": (LONG, LONG.reshape(2, -1)),
    "dtype": (LONG, LONG.astype(np.float32)),
    "masked": (np.ma.masked_array([1, 2, 3], [0, 1, 0]), np.ma.masked_array([1, 2, 3], [0, 0, 0])),
    "text array": (np.array(["Fz", "Cz"]), np.array(["Fz", "Pz"])),
    "days": (np.array(["2020-01-01"], "datetime64[D]"), np.array(["2020-01-02"], "datetime64[D]")),
    "set": ({"Fz", "Cz", "Pz", "Oz"}, {"Fz", "Cz", "Pz"}),
    "frozen set": (frozenset({1, 2}), frozenset({1, 3})),
    "path": (Path("a/x"), Path("a/y")),
    "date": (datetime.date(2020, 1, 1), datetime.date(2020, 1, 2)),
    "time": (pd.Timestamp("2020-01-01 10:00"), pd.Timestamp("2020-01-01 10:01")),
    "enum": (Method.FIR, Method.IIR),
    "dataclass": (Band(1.0, 40.0), Band(1.0, 45.0)),
    "in a dataclass": (Band(1.0, 2.0, ("a",)), Band(1.0, 2.0, ("b",))),
    "mapping": (MappingProxyType({"a": {1, 2}}), MappingProxyType({"a": {1, 3}})),
    "number": (np.int64(3), np.int64(4)),
    "decimal": (Decimal("0.1"), Decimal("0.2")),
    "dtype itself": (np.dtype("f4"), np.dtype("f8")),
    "class": (Band, Method),
}


def assert_told_apart(value, changed):
    """Assert that settings with equal values are equal, and others are not."""
    one, other = ({"of": {"x": [content]}} for content in (value, changed))
    assert comparable(one) == comparable(one) != comparable(other)
    assert json.loads(json.dumps(comparable(one))) == comparable(one)
    assert differences(comparable(one), comparable(other)).startswith("of was ")


@pytest.mark.parametrize("name", VALUES)
def test_equal_content_is_equal_and_other_content_is_not(name):
    assert_told_apart(*VALUES[name])


def test_the_same_numbers_are_equal_in_another_dress():
    wanted = comparable({"n": 3, "x": [0, 1, 2], "s": ["Cz", "Fz"]})
    assert comparable({"n": np.int64(3), "x": np.arange(3), "s": {"Fz", "Cz"}}) == wanted
    assert comparable({"n": 3, "x": (0, 1, 2), "s": ("Cz", "Fz")}) == wanted
    assert comparable({"w": LONG[::2]}) == comparable({"w": LONG[::2].copy()})
    assert comparable(Band(1, 2)) == comparable({"low": 1, "high": 2, "names": []})


class Thing:
    pass


class Spoken:
    def __repr__(self) -> str:
        return "Spoken()"


NOT = {
    "function": len, "lambda": lambda x: x, "object": Thing(), "with words of its own": Spoken(),
    "generator": np.random.default_rng(0), "table": pd.DataFrame({"a": [1]}), "namespace": SimpleNamespace(a=1),
    "of objects": np.array([Thing()], dtype=object),
}  # fmt: skip


WRAPPED = [lambda x: x, lambda x: [x], lambda x: {"b": x}, lambda x: make_dataclass("D", ["b"])(x)]


@pytest.mark.parametrize("name", NOT)
@pytest.mark.parametrize("wrapped", WRAPPED)
def test_what_has_no_content_to_compare_is_refused_by_name(name, wrapped):
    with pytest.raises(NotComparable, match=r"settings\['a'\].* is .*no later session can tell"):
        comparable({"a": wrapped(NOT[name])})


@pytest.mark.parametrize("settings", ["x", [1], 5, None, {"a", "b"}])
def test_settings_are_names_with_values(settings):
    with pytest.raises(NotComparable, match="no names with values"):
        comparable(settings)


def test_a_set_is_the_same_in_every_process():
    code = "from nbkit.runtime.items.chosen import comparable; print(comparable({'ch': {'Fz', 'Cz', 'Pz', 'Oz'}}))"
    said = {
        subprocess.run([sys.executable, "-c", code], env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)},
                       capture_output=True, text=True, check=True).stdout
        for seed in "123"
    }  # fmt: skip
    assert len(said) == 1


@pytest.fixture
def session(tmp_path):
    sessions = []

    def open_one():
        sessions.append(nbkit.open_session("toy", store=tmp_path / "store", folder=tmp_path / f"w{len(sessions)}"))
        return sessions[-1]

    yield open_one
    for one in sessions:
        one._leave()


def do(session, settings, keys="ab") -> dict:
    for item in session.work([{"key": key} for key in keys], settings=settings):
        with item:
            item.save(x=np.arange(3))
    return session.close()


def test_a_change_in_the_middle_of_a_long_array_is_noticed(session):
    do(session(), {"w": LONG})
    with pytest.raises(UsageError, match="computed with other settings .2 items.: w was .*sha256.*now .*sha256"):
        do(session(), {"w": CHANGED})
    assert do(session(), {"w": LONG.copy()}, "abc")["done"] == 3


def test_a_function_is_refused_before_anything_is_begun(session):
    with pytest.raises(UsageError, match="(?s)settings= of toy cannot be recorded: settings.'f'.* is <.*function"):
        do(session(), {"f": lambda x: x})
    assert do(session(), {"f": "lambda"})["complete"]


def test_settings_of_a_store_of_before_are_the_same_settings(session, tmp_path):
    """Earlier versions recorded what is no JSON as its text."""
    settings = {"p": Path("a/x"), "n": np.int64(3), "f": np.float32(0.5), "w": LONG, "day": datetime.date(2020, 1, 1),
                "how": Method.FIR, "band": Band(1.0, 2.0), "kind": Spoken(), "z": 1}  # fmt: skip
    old = as_before(settings)
    assert do(session(), old)["done"] == 2
    assert do(session(), settings, "abc")["done"] == 3
    with pytest.raises(UsageError, match="n was '3', now 4"):
        do(session(), {name: value for name, value in settings.items() if name != "kind"} | {"n": np.int64(4)})


def lose(store: Path, *keys: str) -> None:
    lines = [encode_line({"e": "lost", "k": key, "r": 1, "t": 0.0}) for key in keys]
    segment, data = segment_of("toy", repair_session(), 1, lines)
    path = store / segment.name
    path.parent.mkdir(parents=True)
    path.write_bytes(data)


def test_settings_of_which_nothing_is_left_bind_nobody(session, tmp_path):
    do(session(), {"sfreq": 100})
    lose(tmp_path / "store", "a")
    with pytest.raises(UsageError, match="other settings .1 item.: sfreq was 100, now 200"):
        do(session(), {"sfreq": 200})
    lose(tmp_path / "store", "b")
    assert do(session(), {"sfreq": 200})["complete"]
    with pytest.raises(UsageError, match="sfreq was 200, now 100"):
        do(session(), {"sfreq": 100})
    assert not verify_store(str(tmp_path / "store")).faults
    assert FolderStore(tmp_path / "store").stat("toy/items/a.npz") is not None
