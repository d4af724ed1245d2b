"""CPU threads: how they wait, how many a training has, and what the user says of either."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

from nbkit.runtime.ledger.receipts import read_receipt
from nbkit.runtime.threads import describe_threads, kept_threads, wait_asleep
from tests.runtime.training.training_support import FakeSession, Tiny, TinyData, run_child

_OPEN = """
import os, sys
{first}
import nbkit
session = nbkit.open_session("toy", store=sys.argv[1], folder=sys.argv[1] + "/here", accelerator="cpu")
print(os.environ.get("OMP_WAIT_POLICY"))
session.close()
"""


@pytest.fixture(autouse=True)
def nothing_told(monkeypatch):
    for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)


def opened(tmp_path, root, first="", **told):
    environment = os.environ | {"PYTHONPATH": str(root)} | told
    command = [sys.executable, "-c", _OPEN.format(first=first), str(tmp_path)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout


@pytest.mark.rehearse
def test_a_session_has_threads_sleep_and_its_card_says_so(tmp_path, root):
    said = opened(tmp_path, root)
    assert "PASSIVE" in said and (len(os.sched_getaffinity(0)) == 1 or "sleep while they wait" in said)


@pytest.mark.rehearse
def test_a_waiting_that_the_user_chose_stays(tmp_path, root):
    said = opened(tmp_path, root, OMP_WAIT_POLICY="ACTIVE", OMP_NUM_THREADS="2")
    assert "ACTIVE" in said and "CPU (2 threads, OMP_WAIT_POLICY=ACTIVE)" in said


@pytest.mark.rehearse
def test_after_torch_it_is_too_late_and_the_card_says_what_to_do(tmp_path, root):
    said = opened(tmp_path, root, first="import torch", OMP_NUM_THREADS="2")
    assert "None" in said.splitlines() and "OMP_WAIT_POLICY=PASSIVE before Python starts" in said


def test_the_variable_is_not_set_where_torch_is_here():
    wait_asleep()
    assert "OMP_WAIT_POLICY" not in os.environ
    assert "spin" in describe_threads(2) and describe_threads(1) == "1 thread"


def test_a_training_goes_on_with_the_threads_it_began_with_and_puts_the_number_back(tmp_path):
    def train(threads, steps):
        torch.set_num_threads(threads)
        session, seen = FakeSession(tmp_path), []

        class Looking(Tiny):
            def on_train_batch_end(self, *_):
                seen.append(torch.get_num_threads())

        from nbkit.runtime.training.fit import fit

        fit(session, Looking(), TinyData(), max_steps=steps)
        newest = read_receipt(sorted((tmp_path / "checkpoints").glob("step-*.json"))[-1])
        return set(seen), newest.threads, torch.get_num_threads(), session.said

    cores = len(os.sched_getaffinity(0))
    assert run_child(train, 3, 4)[:3] == ({3}, 3, 3)
    seen, recorded, after, said = run_child(train, cores, 8)  # as on a machine with other cores
    assert (seen, recorded, after) == ({3}, 3, cores)
    assert f"Training with 3 threads instead of {cores}, as it began: the last bits depend on this number." in said


@pytest.mark.parametrize("by", ["OMP_NUM_THREADS", "torch.set_num_threads"])
def test_a_number_that_the_user_chose_stays_and_what_that_means_is_said(monkeypatch, by):
    before, said = torch.get_num_threads(), []
    if by == "OMP_NUM_THREADS":
        monkeypatch.setenv(by, "5")
    torch.set_num_threads(5)
    try:
        with kept_threads(3, "cpu", said.append) as number:
            assert number == torch.get_num_threads() == 5
    finally:
        torch.set_num_threads(before)
    assert said[0].startswith(f"This training began with 3 threads and continues with 5, because {by} sets that number")


def test_with_a_gpu_the_number_is_left_alone():
    before = torch.get_num_threads()
    with kept_threads(before + 1, "cuda", print) as number:
        assert number == 0 and torch.get_num_threads() == before


def test_the_number_of_threads_is_part_of_the_bits():
    """Why it is kept: a sum over more threads is added in another order."""
    values = torch.randn(1_000_003, generator=torch.Generator().manual_seed(1))
    before, sums = torch.get_num_threads(), {}
    try:
        for number in (1, 2, 3, 2, 1):
            torch.set_num_threads(number)
            sums.setdefault(number, set()).add(float(values.sum()))
    finally:
        torch.set_num_threads(before)
    assert all(len(found) == 1 for found in sums.values()) and len(set.union(*sums.values())) > 1
