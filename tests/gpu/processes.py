"""Slices in processes of their own, each in a fresh interpreter; the next ones import while one measures.

Nothing is forked: whatever a server had imported may have touched the driver, and then no process forked from it can
use the card. A card that is lent for a quarter of an hour should not wait for imports either.
"""

from __future__ import annotations

import importlib
import json
import multiprocessing
import os
import tempfile
import time
import traceback
from collections import deque
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any
from unittest import mock

import torch

from tests.gpu import memory, steps
from tests.gpu.presets import installed
from tests.gpu.slices import Slice, all_slices

_SPAWN = multiprocessing.get_context("spawn")
_IMPORTED = ("lightning", "mne", "braindecode", "tests.gpu.steps", "tests.gpu.resumed")


def left_out(one: Slice) -> str:
    """Return why a slice cannot run here; "" if it can."""
    missing = [name for name in one.needs if not installed(name)]
    if missing:
        return f"left out: {', '.join(missing)} {'is' if len(missing) == 1 else 'are'} not installed"
    if torch.cuda.is_available() and torch.cuda.device_count() < one.cards:
        return f"left out: it needs {one.cards} cards, and there is {torch.cuda.device_count()}"
    return ""


def in_turns(
    wanted: list[Slice], seconds: float, known: dict[str, Any], at_once: int = 1
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Run slices, those without timings several at once, and yield each one's name and part of the results.

    Parameters
    ----------
    wanted : list of Slice
    seconds : float
        Longest time of one.
    known : dict
        ``estimates`` of memory by preset, and ``steps`` of a preset.
    at_once : int
        How many run at once that measure no time, and how many more import.
    """
    able = []
    for one in wanted:
        if why := left_out(one):
            yield one.name, {"rows": [], "why": why, "seconds": 0.0}
        else:
            able.append(one)
    threads = max(1, (os.cpu_count() or 1) // (2 * at_once))  # with one for every core they would wait for each other
    with mock.patch.dict(os.environ, {"OMP_NUM_THREADS": str(threads)}):
        for timed in (False, True):
            waiting = deque(one for one in able if one.timed is timed)
            running: deque[_Process] = deque()
            try:
                while waiting or running:
                    while waiting and len(running) <= at_once:
                        running.append(_Process(waiting.popleft(), known))
                    for process in list(running)[: 1 if timed else at_once]:
                        process.go()
                    process = _ended(running, seconds, 1 if timed else at_once)
                    running.remove(process)
                    yield process.name, process.part(seconds)
            finally:
                for process in running:  # after an interrupt they would hold the card
                    process.part(0.0)


def _ended(running: deque[_Process], seconds: float, most: int) -> _Process:
    """Return the first of the processes that may measure which has ended, or whose time is over."""
    while True:
        for process in list(running)[:most]:
            if not process.alive() or process.took() > seconds:
                return process
        time.sleep(0.02)


class _Process:
    def __init__(self, one: Slice, known: dict[str, Any]) -> None:
        self.name, self.began = one.name, time.monotonic()
        self._folder = tempfile.TemporaryDirectory()
        self._target, self._go, self._went = Path(self._folder.name, "rows.json"), _SPAWN.Event(), False
        self._process = _SPAWN.Process(target=_measure, args=(one.name, self._target, known, self._go))
        self._process.start()

    def go(self) -> None:
        if not self._went:
            self._went, self.began = True, time.monotonic()
            self._go.set()

    def alive(self) -> bool:
        return self._process.is_alive()

    def took(self) -> float:
        return time.monotonic() - self.began

    def part(self, seconds: float) -> dict[str, Any]:
        """Return the rows, or why there are none."""
        part: dict[str, Any] = {"rows": [], "why": "", "seconds": round(self.took(), 1)}
        if self.alive():
            self._process.kill()
            part["why"] = f"failed: it did not end within {seconds / 60:.0f} minutes"
        self._process.join()
        if self._target.is_file():
            part |= json.loads(self._target.read_text("utf-8"))
        elif not part["why"]:
            part["why"] = f"failed: its process ended with code {self._process.exitcode}"
        self._folder.cleanup()
        return part


def _measure(name: str, target: Path, known: dict[str, Any], go: Any) -> None:
    os.setpgid(0, 0)
    for module in _IMPORTED:
        if installed(module.partition(".")[0]):
            importlib.import_module(module)
    memory.KNOWN.update(known.get("estimates", {}))
    steps.STEPS = known.get("steps", steps.STEPS)
    kept: dict[str, Any] = {"rows": [], "why": ""}
    go.wait()
    try:
        one = next(one for one in all_slices() if one.name == name)
        kept["rows"] = [asdict(row) for row in one.rows()]
    except Exception as error:
        traceback.print_exc()
        kept["why"] = f"failed: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"[:400]
    half = target.with_suffix(".half")
    half.write_text(json.dumps(kept), "utf-8")
    half.replace(target)
