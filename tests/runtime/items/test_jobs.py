"""The item loop over jobs, by submitit's own stand-in for Slurm: one process a job on this machine."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from concurrent.futures import wait
from pathlib import Path

import numpy as np
import pytest

import nbkit
from nbkit.runtime.items.jobs import JobExecutor
from nbkit.runtime.items.spread import workers_of
from tests import ROOT

submitit = pytest.importorskip("submitit", reason="submitit is not installed")


def process(row: dict) -> dict:
    """Make an array from a row; the item named in `kills` ends its job the first time, as a node that goes down."""
    with open(row["log"], "a") as log:
        log.write(f"{row['key']}\n")
    struck = Path(row["log"] + ".struck")
    if row["key"] == row["kills"] and not struck.exists():
        struck.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return {"x": np.arange(8) + int(row["key"][1:])}


@pytest.fixture
def jobs(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    return submitit.AutoExecutor(folder=tmp_path / "jobs", cluster="local")


def rows_in(folder: Path, count: int, kills: str = "") -> list[dict]:
    return [{"key": f"k{number:02d}", "log": str(folder / "log"), "kills": kills} for number in range(count)]


@pytest.mark.kill
def test_items_as_jobs_and_a_job_that_dies_costs_its_item_only(tmp_path, jobs):
    store = tmp_path / "store"
    with JobExecutor(jobs, at_once=3, look=0.1) as executor:
        assert workers_of(executor) == 3
        session = nbkit.open_session("toy", store, folder=tmp_path / "machine")
        session.map(process, rows_in(tmp_path, 4, "k02"), executor=executor, at_once=4)
        summary = session.close()
    assert (summary["done"], summary["failed"]) == (3, 0)
    assert summary["left"] == 1, "it failed once, and a later session tries it again"
    assert sorted(p.name for p in (store / "toy/items").rglob("*.npz")) == ["k00.npz", "k01.npz", "k03.npz"]
    session = nbkit.open_session("toy", store, folder=tmp_path / "machine")
    with JobExecutor(jobs, look=0.1) as executor:
        session.map(process, rows_in(tmp_path, 4, "k02"), executor=executor, at_once=4)
    assert session.close()["complete"]
    assert Counter((tmp_path / "log").read_text().split()) == {"k00": 1, "k01": 1, "k02": 2, "k03": 1}


class Job:
    """A job whose end the test decides."""

    def __init__(self, call) -> None:
        self.call, self.job_id, self.ended, self.cancelled = call, "7", False, False

    def done(self) -> bool:
        if self.job_id == "no answer":
            raise OSError("the scheduler does not answer")
        return self.ended

    def exception(self):
        return None

    def result(self):
        return self.call()

    def cancel(self, check: bool = True) -> None:
        self.cancelled = True


class Scheduler:
    """A scheduler that counts its arrays."""

    def __init__(self, refuses: bool = False) -> None:
        self.arrays, self.jobs, self.refuses = 0, [], refuses

    def batch(self):
        import contextlib

        self.arrays += 1
        return contextlib.nullcontext()

    def submit(self, call):
        if self.refuses:
            raise RuntimeError("sbatch: error: invalid partition")
        self.jobs.append(Job(call))
        return self.jobs[-1]


def test_submissions_at_once_become_one_array():
    scheduler = Scheduler()
    with JobExecutor(scheduler, look=0.02) as executor:
        futures = [executor.submit(pow, 2, n) for n in range(5)]
        while len(scheduler.jobs) < 5:
            time.sleep(0.01)
        assert scheduler.arrays == 1 and not any(future.done() for future in futures)
        scheduler.jobs[0].job_id = "no answer"
        for job in scheduler.jobs:
            job.ended = True
        wait(futures[1:], timeout=5)
        assert not futures[0].done(), "a scheduler that does not answer is asked again"
        scheduler.jobs[0].job_id = "7"
        assert [future.result(5) for future in futures] == [1, 2, 4, 8, 16]


def test_refusal_of_the_scheduler_reaches_the_caller():
    with JobExecutor(Scheduler(refuses=True), look=0.02) as executor:
        with pytest.raises(RuntimeError, match="invalid partition"):
            executor.submit(pow, 2, 3).result(5)


def test_shutdown_cancels_what_has_not_ended():
    scheduler = Scheduler()
    executor = JobExecutor(scheduler, look=0.02)
    future = executor.submit(pow, 2, 3)
    while not scheduler.jobs:
        time.sleep(0.01)
    executor.shutdown(wait=False, cancel_futures=True)
    with pytest.raises(RuntimeError, match="was cancelled"):
        future.result(5)
    assert scheduler.jobs[0].cancelled
    with pytest.raises(RuntimeError, match="after shutdown"):
        executor.submit(pow, 2, 3)
