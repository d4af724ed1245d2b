"""Un-synced writes dropped at every operation of a session of items and of a training: nothing confirmed is lost."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from nbkit.ground import files
from tests.runtime.items.nth_fault_items import short_waits
from tests.runtime.training.faults.nth_fault_training import uninterrupted
from tests.runtime.training.faults.power_loss_sessions import lose_items, lose_training

pytestmark = pytest.mark.train


@pytest.fixture(autouse=True)
def _short_waits():
    with short_waits():
        yield


def test_power_lost_at_every_operation_of_an_item_session(tmp_path: Path) -> None:
    found = lose_items(tmp_path, lambda n: n % 19 == 0)
    assert not found.faults, "\n".join(found.faults[:5])
    assert found.operations > 80 and found.states > 100 and found.sessions >= 5


def test_power_lost_at_every_operation_of_a_training(tmp_path: Path) -> None:
    found = lose_training(tmp_path / "lost", lambda n: n % 61 == 40, uninterrupted(tmp_path / "whole"))
    assert not found.faults, "\n".join(found.faults[:5])
    assert found.operations > 150 and found.states > 200 and found.sessions >= 4


class _System:
    """The module `os` with one call that does nothing."""

    def __init__(self, idle: str) -> None:
        self._idle = idle

    def __getattr__(self, name: str) -> Any:
        return (lambda *args: None) if name == self._idle else getattr(os, name)


@pytest.mark.parametrize("what", ["contents", "names", "new folders"])
def test_the_model_sees_what_is_not_synced(tmp_path: Path, what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if what == "contents":
        monkeypatch.setattr(files, "os", _System("fsync"))
    elif what == "names":
        monkeypatch.setattr(files, "fsync_folder", lambda folder: None)
    else:
        monkeypatch.setattr(
            "nbkit.runtime.store.folder.make_folder", lambda folder: folder.mkdir(parents=True, exist_ok=True)
        )
        monkeypatch.setattr(files, "make_folder", lambda folder: folder.mkdir(parents=True, exist_ok=True))
    found = lose_items(tmp_path, lambda n: False)
    assert any("was confirmed and is" in fault for fault in found.faults)
