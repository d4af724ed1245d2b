"""Several processes: what agreeing costs a step, against Lightning's own broadcast and against not agreeing

Steps with and without an agreement take turns within one training, so a machine that is busy with something else slows
all of them alike. The processes share this machine's cores; nothing is said of how much faster two devices are.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from tests.bench.rows import Row
from tests.runtime.training.ranks.rank_support import Plain, plain_loader, run_team
from tests.runtime.training.training_support import FakeSession

_WIDTH = 512
_WAYS = ("agreeing", "not agreeing", "Lightning's broadcast")


def run(quick: bool) -> list[Row]:
    """Measure the agreement alone, then steps of a training with and without it."""
    with tempfile.TemporaryDirectory() as folder:
        ours, bare = run_team(2, Path(folder, "a"), _agreements, Path(folder, "a"), 500 if quick else 5000)[0]
        steps = run_team(2, Path(folder, "b"), _training, Path(folder, "b"), 300 if quick else 2400)[0]
    note = f"2 processes by gloo on {os.cpu_count()} CPU cores"
    agreeing, without, theirs = (1e3 * steps[way] for way in _WAYS)
    return [
        Row("agree to stop or to save, in front of a batch", ours * 1e6, "us", "a bare all-reduce of two numbers",
            bare * 1e6, "<= 2 x", ours <= 2 * bare, note),
        Row("step of a small model", agreeing, "ms", "the same without agreeing", without, note=note),
        Row("step of a small model", agreeing, "ms", "with Lightning's broadcast of SIGTERM instead", theirs,
            note=note),
    ]  # fmt: skip


def _agreements(folder: Path, times: int) -> tuple[float, float]:
    """Return the median seconds of our agreement and of what it cannot do without."""
    import torch.distributed as dist

    from nbkit.runtime.training.ranks.meeting import together
    from nbkit.runtime.training.ranks.world import current_world

    ours, bare = [], []
    with together(current_world(), FakeSession(folder), "cpu", {}) as ranks:
        flags = torch.zeros(2, dtype=torch.int64)
        for _ in range(times):
            began = time.perf_counter()
            ranks.any(False, False)
            between = time.perf_counter()
            dist.all_reduce(flags, op=dist.ReduceOp.MAX, group=ranks.control)
            ours.append(between - began)
            bare.append(time.perf_counter() - between)
    return statistics.median(ours), statistics.median(bare)


def _training(folder: Path, steps: int) -> dict[str, float]:
    """Return the median seconds from one step's end to the next, of steps that take turns in how they agree."""
    from lightning.pytorch import Callback

    from nbkit.runtime.training import loop_state
    from nbkit.runtime.training.fit import fit
    from nbkit.runtime.training.ranks.ranks import Ranks

    seconds: dict[str, list[float]] = {way: [] for way in _WAYS}
    way, agree = [_WAYS[0]], Ranks.any

    class Clock(Callback):
        ended = 0.0

        def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
            now = time.perf_counter()
            if trainer.global_step > 10:
                seconds[way[0]].append(now - self.ended)
                way[0] = _WAYS[trainer.global_step % len(_WAYS)]
            self.ended = now

    def in_turns(trainer: Any) -> None:
        loop = trainer.fit_loop.epoch_loop
        theirs = loop._broadcast_sigterm_tensor
        loop._broadcast_sigterm_tensor = lambda: theirs() if way[0] == _WAYS[2] else None

    loop_state.leave_stopping_to_us = in_turns
    # one flag is whether a save is held already: that is always asked
    Ranks.any = lambda self, *asked: agree(self, *asked) if way[0] == _WAYS[0] or len(asked) == 1 else asked
    session = FakeSession(folder / os.environ["RANK"])
    options = {"max_steps": steps, "save_every": None, "log_every_n_steps": 10**6}
    fit(session, Plain(width=_WIDTH), plain_loader(8, 4096), callbacks=[Clock()], **options)
    return {way: statistics.median(found) for way, found in seconds.items()}
