"""Trainings of two sessions between which something is changed: refused with both values, or free."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from torch.utils.data import DataLoader, default_collate

from nbkit.runtime.errors import UsageError
from nbkit.runtime.training.fit import fit
from tests.runtime.training.training_support import FakeSession, Tiny, TinyData

Options = dict[str, Any]
Changes = dict[str, tuple[Options, Options, str]]
"""How the first session is called, how the next, and what the refusal says."""
Freedoms = dict[str, Options | tuple[Options, Options]]
"""How the first session is called, if not as usual, and how the next."""


@dataclass(frozen=True)
class DataSettings:
    sfreq: float = 100.0
    folder: str = "/somewhere/data"
    num_workers: int = 0
    steps: int = 6


class Data(TinyData):
    """A DataModule with settings, and any loader."""

    def __init__(self, settings: DataSettings | None = None, loader: dict[str, Any] | None = None, shift: float = 0.0):
        super().__init__(validation=True)
        self.settings = settings or DataSettings()
        self.train.x = self.train.x + shift
        self.loader = {"batch_size": 4, "shuffle": True, **(loader or {})}

    def train_dataloader(self) -> DataLoader:
        return DataLoader(self.train, **self.loader)


def scaled(batch: Any, by: float = 1.0) -> Any:
    x, y = default_collate(batch)
    return by * x, y


def called(folder: Any, options: Options, **more: Any) -> tuple[Any, list[str]]:
    """Call fit as one session would, with fresh objects."""
    made = {name: value() if callable(value) else value for name, value in options.items()}
    session = FakeSession(folder)
    module, data = made.pop("module", None) or Tiny(), made.pop("data", None) or Data()
    return fit(session, module, data, **({"max_steps": 6} | made | more)), session.said


def refuse_each(root: Any, changes: Changes, unfit: Sequence[str] = ()) -> None:
    """Check that each change is refused before a step, in words with both values, and then accepted on request.

    Parameters
    ----------
    root : Path
    changes : dict
    unfit : sequence of str
        Those that are never accepted.
    """
    for number, (name, (first, then, told)) in enumerate(changes.items()):
        folder = root / str(number)
        called(folder, first)
        before = sorted(path.read_bytes() for path in folder.rglob("step-*"))
        with pytest.raises(UsageError) as refused:
            called(folder, {"max_steps": 9, **then})
            pytest.fail(f"{name} was not refused")
        assert sorted(path.read_bytes() for path in folder.rglob("step-*")) == before
        words = str(refused.value)
        assert told in words, (name, words)
        assert ("accept_changes=True" in words) == (name not in unfit) and "fresh=True" in words, name
        if name not in unfit:
            report, said = called(folder, {"max_steps": 9, **then}, accept_changes=True)
            assert report.resumed_from == 6 and report.step == 9, name
            assert any(told in line and "Resuming" in line for line in said), (name, said)


def take_each(root: Any, freedoms: Freedoms) -> list[str]:
    """Return the names of the changes with which a training resumes without a word."""
    resumed = []
    for number, (name, options) in enumerate(freedoms.items()):
        folder = root / str(number)
        first, then = options if isinstance(options, tuple) else ({}, options)
        called(folder, first)
        report, said = called(folder, {"max_steps": 9, **then})
        assert report.resumed_from == 6 and report.step == 9, name
        assert not any("changed" in line for line in said), (name, said)
        resumed.append(name)
    return resumed
