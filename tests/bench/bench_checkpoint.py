"""Checkpoints: stall and memory of a save, kills during saving, and training time in short sessions.

The model has 15M parameters with AdamW (180 MB a checkpoint). All ways of saving run in this process, on this disk.
"""

from __future__ import annotations

import contextlib
import logging
import os
import random
import shutil
import statistics
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.plugins.io import AsyncCheckpointIO, TorchCheckpointIO
from torch.utils.data import DataLoader, TensorDataset

from nbkit.ground.files import write_atomically
from nbkit.runtime.training.checkpointing import Checkpointing
from nbkit.runtime.training.fit import fit
from tests.bench.limits import copy_rate
from tests.bench.rows import Row
from tests.runtime.training.saving_storm import storm
from tests.runtime.training.training_support import FakeSession, Tiny, TinyData, run_child

EVERY = 24  # steps between saves
FIRST = 8  # steps before the first save


class Large(lightning.LightningModule):
    """A transformer of 15.0M parameters."""

    def __init__(self, width: int = 384, layers: int = 8) -> None:
        super().__init__()
        layer = torch.nn.TransformerEncoderLayer(width, 6, 4 * width, batch_first=True)
        self.body = torch.nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.head = torch.nn.Linear(width, 2048)

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        return self.head(self.body(batch[0])).square().mean()

    def configure_optimizers(self) -> Any:
        return torch.optim.AdamW(self.parameters(), lr=1e-4)


class Probe(lightning.Callback):
    """Save at fixed steps by a given way; measure the stall, the steps, and the memory.

    The peak is that of the saves, beyond what training had before the first.
    """

    def __init__(self, saves: int, save: Any, ready: Any = lambda trainer: True) -> None:
        self.saves, self.save, self.ready, self.stalls, self.idle, self.beside = saves, save, ready, [], [], []
        self.due, self.after = False, 0
        self.base = self.peak = 0
        self.began = 0.0
        self._watching = threading.Event()

    def on_train_batch_start(self, trainer: Any, module: Any, batch: Any, batch_idx: int) -> None:
        step = trainer.global_step
        if step == FIRST:
            self.base = self.peak = _memory()
            threading.Thread(target=self._watch, daemon=True).start()
        self.due |= step >= FIRST and (step - FIRST) % EVERY == 0
        if self.due and self.ready(trainer):
            self.due = False
            began = time.perf_counter()
            self.save(trainer, step)
            self.stalls.append(time.perf_counter() - began)
        self.began = time.perf_counter()

    def on_train_batch_end(self, trainer: Any, module: Any, *args: Any) -> None:
        since = (trainer.global_step - 1 - FIRST) % EVERY
        if trainer.global_step > FIRST + EVERY:
            (self.beside if since < 3 else self.idle if since > EVERY - 4 else []).append(
                time.perf_counter() - self.began
            )
        # however long the writes take, as many saves are measured; then steps enough for one more write
        self.after += len(self.stalls) > self.saves
        trainer.should_stop |= self.after >= EVERY

    def _watch(self) -> None:
        while not self._watching.wait(0.002):
            self.peak = max(self.peak, _memory())

    def result(self) -> dict[str, float]:
        self._watching.set()
        return {
            "first": self.stalls[0],
            "stall": statistics.median(self.stalls[1:]),
            "extra": (self.peak - self.base) / 1e6,
            "idle": statistics.median(self.idle),
            "beside": statistics.median(self.beside),
        }


def _memory() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _data() -> DataLoader:
    return DataLoader(TensorDataset(torch.randn(8, 4, 384)), batch_size=1, shuffle=True)


def _with_lightning(folder: Path, saves: int, way: str) -> dict[str, float]:
    """Train with Lightning's trainer and save in one of its ways, or by torch.save, fsync and replace."""
    torch.set_num_threads(2)
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)

    class Replacing(TorchCheckpointIO):
        def save_checkpoint(self, checkpoint: Any, path: Any, storage_options: Any = None) -> None:
            write_atomically(Path(path), lambda file: torch.save(checkpoint, file))

    plugin = {"default": TorchCheckpointIO, "async": AsyncCheckpointIO, "replace": Replacing}[way]()
    probe = Probe(saves, lambda trainer, step: trainer.save_checkpoint(folder / f"{step % 2}.ckpt"))
    trainer = lightning.Trainer(
        max_steps=FIRST + 10 * EVERY * (saves + 1), accelerator="cpu", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, callbacks=[probe], plugins=[plugin],
        default_root_dir=folder,
    )  # fmt: skip
    trainer.fit(Large(), _data())
    return probe.result()


def _with_ours(folder: Path, saves: int) -> dict[str, float]:
    """Train by fit; the probe asks for a save as the clock would."""
    torch.set_num_threads(2)
    session = FakeSession(folder)
    probe = Probe(saves, lambda trainer, step: None)

    held = 0.0

    def saving_of(trainer: Any) -> Checkpointing:
        return next(callback for callback in trainer.callbacks if isinstance(callback, Checkpointing))

    def save(trainer: Any, step: int) -> None:
        nonlocal held
        saving = saving_of(trainer)
        held = saving.buffers.bytes() / 1e6
        # fit serves its flags in front of the probe: what it does there is done here, where the probe measures it
        saving._save(trainer, "clock")

    probe.save = save
    probe.ready = lambda trainer: not saving_of(trainer).writer.busy  # as fit has it: a due save waits for a later step
    fit(
        session, Large(), _data(), max_steps=FIRST + 10 * EVERY * (saves + 1), save_every=None, callbacks=[probe],
        log_every_n_steps=1000,
    )  # fmt: skip
    result = probe.result()
    # fit's save after the very first step has made the buffers before the probe looked at the memory
    first = next(event["stall_s"] for event in session.events if event["e"] == "save")
    return {**result, "first": first, "extra": result["extra"] + held}


def _sessions(folder: Path, count: int, seconds: float) -> list[tuple[float, float, int]]:
    """Return (training seconds, session seconds, steps) of sessions in a row."""
    rows = []
    for _ in range(count):

        def session() -> tuple[float, float, int]:
            began = time.perf_counter()
            report = fit(
                FakeSession(folder, folder / "store", limit=seconds), Tiny(pause=0.02), TinyData(validation=True),
                max_steps=10**6,
            )  # fmt: skip
            return report.seconds_training, time.perf_counter() - began, report.steps_this_session

        rows.append(run_child(session))
    return rows


def run(quick: bool) -> list[Row]:
    """Return the rows of stall, memory, kills and sessions."""
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(dir=os.environ.get("NBKIT_BENCH_FOLDER")) as folder:
        root = Path(folder)
        saves = 3 if quick else 6
        found: dict[str, list[dict[str, float]]] = {}
        for turn in range(1 if quick else 2):  # in turns, so that a busy minute hits all alike
            for way in ("ours", "default", "async", "replace"):
                target = root / f"{way}-{turn}"
                target.mkdir()
                call = (_with_ours, target, saves) if way == "ours" else (_with_lightning, target, saves, way)
                found.setdefault(way, []).append(run_child(*call))
                shutil.rmtree(target)
        median = {
            way: {key: statistics.median(result[key] for result in results) for key in results[0]}
            for way, results in found.items()
        }
        ours, default = median["ours"], median["default"]
        size, copied = _size(), copy_rate()
        names = {"default": "Lightning's default", "async": "AsyncCheckpointIO", "replace": "torch.save + replace"}
        for way, name in names.items():
            share = 100 * ours["stall"] / median[way]["stall"]
            first, other_first = 1000 * ours["first"], 1000 * median[way]["first"]
            rows.append(
                Row(
                    "stall of a save",
                    1000 * ours["stall"],
                    "ms",
                    name,
                    1000 * median[way]["stall"],
                    "<= 10 % of Lightning's default" if way == "default" else "",
                    share <= 10 if way == "default" else None,
                    f"{share:.1f} %; the first save {first:.0f} and {other_first:.0f} ms",
                    "copying it once",
                    1000 * size * 1e6 / copied,
                )
            )
        for way, name in names.items():
            rows.append(
                Row(
                    "memory beyond training, at its peak",
                    ours["extra"] / size,
                    "checkpoints",
                    name,
                    median[way]["extra"] / size,
                    "at most one copy and its largest tensor" if way == "default" else "",
                    ours["extra"] <= 1.15 * size if way == "default" else None,
                    f"a checkpoint has {size:.0f} MB",
                )
            )
        rows.append(
            Row(
                "a step while a checkpoint is written",
                1000 * ours["beside"],
                "ms",
                "Lightning's default",
                1000 * default["beside"],
                note=f"steps between saves take {1000 * ours['idle']:.0f} and {1000 * default['idle']:.0f} ms",
            )
        )
        rows += _storms(root, 40 if quick else 200)
        rows += _goodput(root, *((2, 8.0) if quick else (4, 20.0)))
    return rows


def _size() -> float:
    parameters = sum(p.numel() for p in Large().parameters())
    return 3 * 4 * parameters / 1e6


def _storms(root: Path, kills: int) -> list[Row]:
    rows = []
    for where in ("here", "/dev/shm"):
        other = Path(tempfile.mkdtemp(dir=where)) if where != "here" else root / "tmp"
        other.mkdir(exist_ok=True)
        began = time.perf_counter()
        result = storm(root / f"storm-{where.strip('/').replace('/', '-')}", kills, random.Random(11), other)
        left = len(list(other.iterdir()))
        with contextlib.suppress(OSError):
            other.rmdir()
        bad = result.unloadable + result.went_back
        rows.append(
            Row(
                f"newest generation unloadable or older after a kill while saving, TMPDIR {where}",
                bad,
                "kills",
                target="0, at most 1 stray file",
                met=bad == 0 and result.most_stray <= 1 and result.left_after_opening == 0 and left == 0,
                note=f"{result.kills} of {kills} killed while saving; stray files at most {result.most_stray}, after "
                f"the next opening {result.left_after_opening}, in TMPDIR {left}; {time.perf_counter() - began:.0f} s",
            )
        )
    return rows


def _goodput(root: Path, count: int, seconds: float) -> list[Row]:
    sessions = _sessions(root / "sessions", count, seconds)
    share = sum(row[0] for row in sessions) / (count * seconds)
    longest = max(row[1] for row in sessions)
    return [
        Row(
            f"training in {count} sessions of {seconds:.0f} s",
            share,
            "of k T",
            "Lightning's Timer (nothing after the first)",
            1 / count,
            ">= 0.95, none beyond its wall",
            share >= 0.95 and longest <= seconds,
            f"longest session {longest:.2f} s; steps {[row[2] for row in sessions]}",
        )
    ]


if __name__ == "__main__":
    for row in run(quick=False):
        print(row)
