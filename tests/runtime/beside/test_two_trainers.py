"""Two machines train one phase with one store: each is told of the other, and nothing is lost, whoever is killed."""

from __future__ import annotations

import os
import re
import signal
import socket
from pathlib import Path

import lightning
import pytest

from nbkit.runtime.beside import listening, living
from nbkit.runtime.ledger import outbox
from nbkit.runtime.session import open_session
from nbkit.runtime.store.folder import FolderStore
from nbkit.runtime.training.newest import newest_receipts
from tests.runtime.children import fork, reap, wait_until
from tests.runtime.store.faulty_store import LaggingStore
from tests.runtime.training.training_support import DirectOutbox, Tiny, TinyData, digest

pytestmark = pytest.mark.kill

STEPS = 32


def train(root: Path, machine: str, pause: float, lag: float = 0.0) -> None:
    """Train in this process as on a machine of its own, with signs of life by the tenth of a second."""
    import torch

    torch.set_num_threads(1)
    socket.gethostname = lambda: machine
    outbox._FLUSH_EVERY, outbox._REFRESH_EVERY, outbox.BEAT = 0.05, 0.1, 0.5
    living.SILENCE = listening.SILENCE = 2.5
    store = LaggingStore(root / "store", lag) if lag else FolderStore(root / "store")
    session = open_session("tiny", store, folder=root / machine, accelerator="cpu", limit="30min")
    (root / f"{machine} is open").touch()
    options = {"max_steps": STEPS, "save_every": 0.2, "val_check_interval": 8}
    session.fit(Tiny(pause=pause), TinyData(), callbacks=[HearsOfTheDead(root, machine)], **options)
    session.close()


class HearsOfTheDead(lightning.Callback):
    """Wait before the last steps for the word on a machine that was killed: on a loaded one, listings come seldom."""

    def __init__(self, root: Path, machine: str) -> None:
        self._killed, self._log = root / "killed", root / f"{machine}.log"

    def on_train_batch_start(self, trainer, *args) -> None:
        if trainer.global_step == STEPS - 2 and self._killed.exists():
            wait_until(lambda: "this one goes on" in self._log.read_text())


@pytest.mark.parametrize(("lag", "killed"), [(0.0, "alpha"), (0.4, "beta")])
def test_two_machines_one_phase(tmp_path, lag, killed):
    logs = {name: tmp_path / f"{name}.log" for name in ("alpha", "beta")}
    said = lambda name: logs[name].read_text() if logs[name].exists() else ""  # noqa: E731
    store = FolderStore(tmp_path / "store")
    pids = {"alpha": fork(lambda: train(tmp_path, "alpha", 0.25, lag), logs["alpha"])}
    wait_until(lambda: newest_receipts(store, "tiny")[0])
    pids["beta"] = fork(lambda: train(tmp_path, "beta", 0.25, lag), logs["beta"])
    wait_until(lambda: "on alpha, open since" in said("beta") and "on beta, open since" in said("alpha"))
    card = said("beta").partition("nbkit session")[2].partition("[nbkit]")[0]
    assert "0 before this one, 0 of them ended without closing; 1 open now" in card or lag
    assert "the checkpoint with the most steps counts" in said("beta")
    assert re.search(r"its wall is in 2[0-9] min", said("beta"))

    before = newest_receipts(store, "tiny")[0][0].step
    (tmp_path / "killed").touch()
    os.kill(pids[killed], signal.SIGKILL)
    (other,) = {"alpha", "beta"} - {killed}
    assert reap(pids[killed]) == -signal.SIGKILL and reap(pids[other], 120) == 0, said(other)
    assert "was not heard for" in said(other) and "this one goes on" in said(other)

    receipts, damaged = newest_receipts(store, "tiny")
    assert not damaged and receipts[0].step == STEPS >= before and receipts[0].complete
    for receipt in receipts:  # each is whole, whoever stored it
        assert receipt.fault(tmp_path / "store" / "tiny" / "checkpoints" / receipt.file) is None
    assert reap(fork(lambda: alone(tmp_path))) == 0, "not the same as a run that had the phase to itself"


def alone(root: Path) -> None:
    import torch

    train(root / "alone", "gamma", 0.0)
    whole, both = (
        torch.load(path / "store/tiny/checkpoints" / f"step-{STEPS:09d}.ckpt", weights_only=True)
        for path in (root / "alone", root)
    )
    assert digest(whole) == digest(both)


def test_a_stored_checkpoint_of_the_other_is_not_replaced(tmp_path):
    """Of one step, by two sessions with different bytes: the first whole one stays, and the next step goes out."""
    import torch

    from nbkit.runtime.training.generations import Generations

    store = FolderStore(tmp_path / "store")

    def generations(name: str, beside: bool) -> Generations:
        box = DirectOutbox(store)
        box.beside = lambda: beside
        return Generations("tiny", tmp_path / name, store, box).open()

    def write(one: Generations, session: str, step: int) -> None:
        fields = {"step": step, "epoch": 0, "batch": step, "session": session}
        one.send(one.write({"w": torch.tensor([float(len(session))])}, fields))

    first, second = generations("a", True), generations("b", True)
    write(first, "one", 4)
    write(second, "other", 4)
    assert [(r.step, r.session) for r in newest_receipts(store, "tiny")[0]] == [(4, "one")]
    write(second, "other", 5)
    found = [(r.step, r.session) for r in newest_receipts(store, "tiny")[0]]
    assert found == [(5, "other"), (4, "one")]
    receipt, path = Generations("tiny", tmp_path / "c", store).newest()
    assert receipt.step == 5 and receipt.fault(path) is None
    write(generations("d", False), "third", 5)  # alone: it is its own to replace
    assert newest_receipts(store, "tiny")[0][0].session == "third"
