"""A store that is deleted, emptied, set back or thinned out while a session runs: nothing is lost in silence."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nbkit.runtime.ledger import outbox
from nbkit.runtime.session import open_session
from nbkit.tools.status.verify import verify_store

KEYS = [f"item-{number}" for number in range(6)]


@pytest.fixture(autouse=True)
def _flush_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "_FLUSH_EVERY", 0.01)
    monkeypatch.setattr(outbox, "_TICK", 0.02)


def delete(store: Path, before: Path) -> None:
    shutil.rmtree(store)


def empty(store: Path, before: Path) -> None:
    for path in list(store.iterdir()):
        shutil.rmtree(path)


def set_back(store: Path, before: Path) -> None:
    shutil.rmtree(store)
    shutil.copytree(before, store)


def lose_segments(store: Path, before: Path) -> None:
    for path in store.rglob("*.jsonl"):
        path.unlink()


def lose_the_phase(store: Path, before: Path) -> None:
    shutil.rmtree(store / "toy")


def session_once(root: Path, during: Callable[[], None] = lambda: None, results: bool = True) -> tuple[dict, list[str]]:
    session, did = open_session("toy", root / "store", folder=root / "work"), []
    for number, item in enumerate(session.work([{"key": key} for key in KEYS])):
        with item:
            did.append(item.key)
            item.save(x=np.arange(50) + number)
        if number == 3:
            session.outbox.drain(10)
            session.ledger.flush()
            during()
    if results:
        session.result("score", 1.0, unit="1", baseline=0.0, baseline_is="nothing")
    return session.close(), did


def lose_outputs(store: Path, before: Path) -> None:
    shutil.rmtree(store / "toy" / "items")


def lose_one_output(store: Path, before: Path) -> None:
    next((store / "toy" / "items").rglob("*.npz")).unlink()


@pytest.mark.parametrize("hurt", [lose_outputs, lose_one_output])
def test_outputs_that_vanish_alone_are_noticed_before_the_phase_is_called_complete(
    tmp_path: Path, capsys, hurt: Any
) -> None:
    summary, _ = session_once(tmp_path, lambda: hurt(tmp_path / "store", tmp_path))
    lost = 4 if hurt is lose_outputs else 1
    assert not summary["complete"] and summary["exit"] == 3 and summary["left"] == lost
    assert "was changed while this session ran" in capsys.readouterr().out
    again, did_again = session_once(tmp_path)
    assert again["complete"] and len(did_again) == lost and not verify_store(str(tmp_path / "store")).faults


@pytest.mark.parametrize("hurt", [delete, empty, set_back, lose_segments, lose_the_phase])
def test_a_store_changed_in_mid_session_does_not_end_as_complete(tmp_path: Path, capsys, hurt: Any) -> None:
    store, before = tmp_path / "store", tmp_path / "before"
    open_session("toy", store, folder=tmp_path / "earlier").close()
    shutil.copytree(store, before)
    summary, did = session_once(tmp_path, lambda: hurt(store, before))
    said = capsys.readouterr().out
    assert "was changed while this session ran" in said and "pending again" in said
    if hurt is lose_segments:  # all of them are on this machine's disk, too
        assert summary["complete"] and summary["exit"] == 0
    else:
        assert not summary["complete"] and summary["exit"] == 3 and summary["left"] == 4
    assert not verify_store(str(store)).faults
    again, did_again = session_once(tmp_path)
    assert again["complete"] and again["done"] == len(KEYS)
    assert len(did_again) == summary["left"], "only what is gone is done again"
    assert not verify_store(str(store)).faults


def test_the_last_checkpoint_is_brought_there_again(tmp_path: Path, capsys) -> None:
    session = open_session("toy", tmp_path / "store", folder=tmp_path / "work")
    for name in ("step-000000001.ckpt", "step-000000001.json"):
        (session.folder / name).write_bytes(name.encode())
    session.outbox.send([(session.folder / n, f"toy/checkpoints/{n}")
                         for n in ("step-000000001.ckpt", "step-000000001.json")], "step 1")  # fmt: skip
    session.outbox.drain(10)
    shutil.rmtree(tmp_path / "store" / "toy" / "checkpoints")
    assert session.close()["complete"]
    assert (tmp_path / "store/toy/checkpoints/step-000000001.json").read_bytes() == b"step-000000001.json"
    assert "brought there again" in capsys.readouterr().out


def test_a_store_that_is_left_alone_is_asked_little(tmp_path: Path, capsys, monkeypatch) -> None:
    from nbkit.runtime.store.folder import FolderStore

    asked: list[str] = []
    session = open_session("toy", tmp_path / "store", folder=tmp_path / "work")
    for item in session.work([{"key": key} for key in KEYS]):
        with item:
            item.save(x=np.arange(5))
    session.outbox.drain(10)
    session.ledger.flush()
    real = FolderStore.list
    monkeypatch.setattr(FolderStore, "list", lambda self, prefix="": asked.append(prefix) or real(self, prefix))
    assert session.close()["complete"]
    assert set(asked) <= {f"toy/ledger/{session.id}/", "toy/items/"} and len(asked) <= 2, asked
    assert "was changed" not in capsys.readouterr().out
