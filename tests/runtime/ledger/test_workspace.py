"""Lanes: a machine's session folders, each of one store."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import numpy as np
import pytest

import nbkit
from nbkit.runtime.errors import UsageError
from nbkit.runtime.ledger.workspace import take_workspace
from tests.runtime.children import fork, reap

ROWS = [{"key": f"k{number}"} for number in range(3)]


def test_a_killed_sessions_items_do_not_reach_another_store(tmp_path, capfd):
    def killed():
        session = nbkit.open_session("toy", store=tmp_path / "a", folder=tmp_path / "here")
        for item in session.work(ROWS):
            with item:
                item.save(x=np.zeros(3))
            os.kill(os.getpid(), signal.SIGKILL)

    assert reap(fork(killed)) == -signal.SIGKILL
    other = nbkit.open_session("toy", store=tmp_path / "b", folder=tmp_path / "here")
    other.close()
    assert not list((tmp_path / "b").rglob("*.npz"))
    assert f"for {tmp_path / 'a'}. The next session with that store uploads it" in capfd.readouterr().out

    same = nbkit.open_session("toy", store=tmp_path / "a", folder=tmp_path / "here")
    left = []
    for item in same.work(ROWS):
        with item:
            left.append(item.key)
            item.save(x=np.ones(3))
    same.close()
    assert left == ["k1", "k2"] and len(list((tmp_path / "a").rglob("*.npz"))) == 3


def test_a_training_in_another_store_begins_anew(tmp_path):
    import torch

    from tests.runtime.training.training_support import Tiny, TinyData

    def train(store: str) -> tuple[int | None, int]:
        session = nbkit.open_session("tiny", store=tmp_path / store, folder=tmp_path / "here", accelerator="cpu")
        torch.set_num_threads(1)
        report = session.fit(Tiny(), TinyData(), max_steps=6, save_every=None)
        session.close()
        return report.resumed_from, report.step

    assert train("a") == (None, 6)
    assert train("b") == (None, 6)
    assert train("a")[1] == 6 and list((tmp_path / "b").rglob("step-*.ckpt"))


def test_a_workspace_of_a_living_session_or_another_store_is_passed_over(tmp_path: Path):
    first = take_workspace(tmp_path, "gdrive://a")
    assert take_workspace(tmp_path, "gdrive://a").folder.name == "lane-1"
    other = take_workspace(tmp_path, "gdrive://b")
    assert other.folder.name == "lane-2"
    other.release()
    first.release()
    assert take_workspace(tmp_path, "gdrive://b").folder.name == "lane-2"
    assert take_workspace(tmp_path, "gdrive://a").folder.name == "lane-0"


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot be created or written"):
        take_workspace(tmp_path / "file", "gdrive://a")
