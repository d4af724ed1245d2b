"""NeuroFM's search: trials on two processes beside one, and what a verdict costs

Eight trials through `session.map`, each process on one thread, from the first item to the last one in the store. Both
ways do the same trials and must leave the same scores. Processes are up and have done a short trial before the clock
starts: a real trial takes hours, and starting takes seconds, which the note gives.
"""

from __future__ import annotations

import contextlib
import io
import os
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

import nbkit
from nbkit.neuro.neurofm.data.pool import open_pool
from nbkit.neuro.neurofm.network.model import NeuroFMSettings
from nbkit.neuro.neurofm.scaling_laws.power_law import judge
from nbkit.neuro.neurofm.search import SearchSettings, search_rows
from nbkit.neuro.neurofm.trial import Trial, read_trials, workers
from nbkit.neuro.signals.spikes.synthetic import PopulationSettings
from tests.bench.rows import Row


def run(quick: bool) -> list[Row]:
    """Time the same eight trials on one process and on two, and a power law with its interval."""
    return [_search(6 if quick else 20), _verdict(20 if quick else 200)]


def _search(epochs: int) -> Row:
    settings = NeuroFMSettings.smoke()
    grid = replace(SearchSettings.smoke(), dims=(32,), blocks=(1,), seeds=tuple(range(8)), epochs=epochs)
    with tempfile.TemporaryDirectory() as folder:
        pool = open_pool(None, Path(folder, "windows"), grid.recordings, settings, PopulationSettings.smoke())
        trial = Trial(settings, pool.paths)
        one, first, _ = _timed(trial, search_rows(grid), 1, Path(folder, "one"))
        two, second, start = _timed(trial, search_rows(grid), 2, Path(folder, "two"))
    same = all(a["loss"] == b["loss"] for a, b in zip(first, second, strict=True))
    if not same:
        raise AssertionError("the same trials on one process and on two left other losses")
    cores, load = len(os.sched_getaffinity(0)), os.getloadavg()[0]
    note = (
        f"{one:.1f} s and {two:.1f} s, same losses to the bit; start {start:.0f} s; CPU, {cores} cores, load {load:.1f}"
    )
    return Row("8 trials on 2 processes", one / two, "x", "1 process", 1.0, ">= 1.8 x", one / two >= 1.8, note)


def _timed(trial: Trial, rows: list[dict], count: int, folder: Path) -> tuple[float, list[dict], float]:
    """Return the seconds of the trials, their scores, and the seconds until all processes were up."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        session = nbkit.open_session("neurofm_search", folder / "store", folder=folder / "work")
        short, began = [rows[0] | {"epochs": 1}] * 2 * count, time.perf_counter()
        with workers(count) as executor:
            list((executor.map if executor else map)(trial, short))
            up = time.perf_counter()
            session.map(trial, rows, executor=executor)
            session.outbox.drain(60)
            taken = time.perf_counter() - up
        trials = read_trials(session.inputs("neurofm_search"))
        session.close()
    return taken, trials, up - began


def _verdict(repeats: int) -> Row:
    sizes = np.repeat([5.0, 10.0, 20.0, 40.0], 3)
    began = time.perf_counter()
    held = 0
    for seed in range(repeats):
        losses = sizes**-0.5 + 0.3 + 0.02 * np.random.default_rng(seed).normal(size=len(sizes))
        low, high = judge(sizes, losses, worth=0.01, seed=seed).fit.alpha_interval
        held += low <= 0.5 <= high
    milliseconds = 1000 * (time.perf_counter() - began) / repeats
    note = f"4 sizes x 3 seeds, 1000 bootstrap draws; the 90 % interval of the exponent held it in {held / repeats:.0%}"
    return Row("a power law, its interval and verdict", milliseconds, "ms", note=note)
