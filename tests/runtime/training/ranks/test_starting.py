"""Devices that a script or notebook asks for: the other processes are started, told, watched, and never left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest
import torch

from nbkit.runtime.errors import NbkitError, UsageError
from nbkit.runtime.journal import read_journal
from nbkit.runtime.training.fit import fit
from tests import ROOT
from tests.runtime.training.ranks.rank_support import Plain, plain_loader, run_team
from tests.runtime.training.training_support import (
    FakeSession,
    Tiny,
    TinyData,
    checkpoint_of,
    digest,
    run_child,
    train_tiny,
)

pytestmark = pytest.mark.kill

TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")

# a class of the script itself, as a notebook's cells have them; data with a function that plain pickle refuses
SCRIPT = """
import os
import sys
import nbkit
from tests.runtime.training.training_support import Tiny, TinyData

class Mine(Tiny):
    pass

session = nbkit.open_session("tiny", store="store", folder="here", accelerator="cpu")
data = TinyData(batch_size=2, validation=True, augment=True)
report = session.fit(Mine(pause=PAUSE), data, max_steps=40, save_every=0.001, log_every_n_steps=1, OPTIONS)
sys.stdout.flush()
words = f"\\nreached {session.rank} {report.step} {report.reason}\\n"
os.write(1, words.encode())  # in one write: two processes share this output
sys.exit(session.close()["exit"])
"""


class Script:
    """A script that trains on two devices, in a process of its own."""

    def __init__(
        self, folder: Path, pause: float = 0.0, launcher: tuple[str, ...] = (), options: str = "devices=2"
    ) -> None:
        self.folder, self.journal = folder, folder / "journal"
        (folder / "train.py").write_text(SCRIPT.replace("OPTIONS", options).replace("PAUSE", repr(pause)))
        self.before = len(read_journal(self.journal))
        told = {"PYTHONPATH": str(ROOT), "NBKIT_JOURNAL": str(self.journal), "OMP_NUM_THREADS": "1"}
        with open(folder / "output", "wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, *launcher, "train.py"],
                cwd=folder,
                env={**os.environ, **told},
                stdout=output,
                stderr=output,
            )
        self.others: list[psutil.Process] = []

    def until_step(self, step: int) -> None:
        while sum(e["e"] == "step" for e in read_journal(self.journal)[self.before :]) < step:
            assert self.process.poll() is None, self.output()
            time.sleep(0.01)
        self.others = psutil.Process(self.process.pid).children(recursive=True)

    def rank(self, rank: int) -> psutil.Process:
        """Return the process of a rank, by its environment."""
        return next(p for p in self.others if p.environ().get("RANK") == str(rank))

    def end(self) -> int:
        code = self.process.wait(150)
        _, alive = psutil.wait_procs(self.others, timeout=60)
        assert not alive, "a process was left behind"
        return code

    def output(self) -> str:
        return (self.folder / "output").read_text()


def newest(folder: Path) -> dict:
    return torch.load(max((folder / "store" / "tiny" / "checkpoints").glob("*.ckpt")), weights_only=True)


def test_a_killed_helper_ends_the_script_with_words_and_torchrun_completes_it_to_the_same_bits(tmp_path: Path) -> None:
    script = Script(tmp_path, pause=0.02)
    script.until_step(6)
    helper = script.rank(1)
    helper.kill()
    assert script.end() == 1, script.output()
    for words in (
        f"rank 1 (process {helper.pid} on ",
        "killed by SIGKILL, most often because memory ran out",
        "Training stopped on all 2 processes; the last checkpoint stands",
    ):
        assert words in script.output()

    again = Script(tmp_path, launcher=TORCHRUN, options="")
    assert again.end() == 0, again.output()
    assert "Resumed at step" in again.output()
    reached = [line for line in again.output().splitlines() if line.startswith("reached")]
    assert sorted(reached) == ["reached 0 40 complete", "reached 1 40 complete"]
    assert again.output().count("nbkit session") == 2, "rank 0 alone prints a card and a closing"

    whole = {"n": 36, "batch_size": 2, "validation": True, "augment": True, "max_steps": 40, "log_every_n_steps": 1}
    run_team(2, tmp_path / "whole", train_tiny, tmp_path / "whole", save_every=None, **whole)
    assert digest(newest(tmp_path)) == digest(checkpoint_of(tmp_path / "whole"))


def test_a_killed_script_takes_its_helpers_along_and_an_interrupt_stops_both_with_work_left(tmp_path: Path) -> None:
    script = Script(tmp_path, pause=0.02)
    script.until_step(6)
    script.process.kill()
    assert script.end() == -signal.SIGKILL

    script = Script(tmp_path, pause=0.02)
    script.until_step(2)
    script.process.send_signal(signal.SIGINT)  # as a notebook's stop button: to rank 0 alone
    assert script.end() == 3, script.output()
    reached = next(line.split() for line in script.output().splitlines() if line.startswith("reached"))
    assert reached[3] == "SIGINT" and newest(tmp_path)["global_step"] == int(reached[2])


def test_what_cannot_be_handed_over_is_refused_before_anything_starts(tmp_path: Path) -> None:
    def train() -> tuple[str, list[psutil.Process]]:
        module = Plain()
        module.lock = threading.Lock()
        with pytest.raises(UsageError) as error:
            fit(FakeSession(tmp_path), module, plain_loader(2), max_steps=5, devices=2)
        return str(error.value), len(psutil.Process().children())

    words, children = run_child(train)
    assert "cannot be sent to the processes of the other devices" in words and "in setup()" in words
    assert children == 0


class Unwelcome:
    """A callback that the other process cannot take."""

    def __reduce__(self) -> tuple:
        return _refuse, ()


def _refuse() -> None:
    raise OSError("this disk is not on the other machine")


def test_a_process_that_does_not_come_up_is_an_error_with_its_last_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)

    def train() -> tuple[str, int]:
        threads = torch.get_num_threads()
        with pytest.raises(NbkitError) as error:
            fit(FakeSession(tmp_path), Plain(), plain_loader(2), max_steps=5, devices=2, callbacks=[Unwelcome()])
        assert torch.get_num_threads() == threads and "OMP_NUM_THREADS" not in os.environ
        return str(error.value), len(psutil.Process().children())

    words, children = run_child(train)
    assert words.startswith("Rank 1 did not start") and "OSError: this disk is not on the other machine" in words
    assert children == 0


def test_complete_training_starts_no_process(tmp_path: Path) -> None:
    run_team(2, tmp_path, train_tiny, tmp_path, n=36, batch_size=2, max_steps=5)

    def train() -> tuple[bool, bool]:
        report = fit(FakeSession(tmp_path), Tiny(), TinyData(batch_size=2), max_steps=5, devices=2)
        return report.complete, (tmp_path / "rank-1.log").exists()

    assert run_child(train) == (True, False)
