"""Free presets that are stopped and killed on the card, in fp16, beside the same training in one go.

A card's sums are repeatable only with deterministic kernels, so each preset is trained with them and without, and both
are reported: with them a resumed training must have the same bits.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import pickle
import random
import shutil
import signal
import tempfile
import time
from pathlib import Path
from typing import Any

import cloudpickle
import torch
from torch.utils.data import DataLoader, Dataset

from nbkit.runtime.budget import Budget
from nbkit.runtime.device import Device
from nbkit.runtime.training.fit import fit
from nbkit.runtime.training.proving.trial_session import TrialSession
from tests.bench.rows import Row
from tests.gpu.presets import Preset

STEPS, STOP = 6, 3
KILLED_STEPS, KILLS = 40, 3
ON_CARD = ("cuda", "16-mixed")


class Windows(Dataset):
    """The rows of one batch, an item each."""

    def __init__(self, batch: Any) -> None:
        self.batch = batch

    def __len__(self) -> int:
        return len(next(iter(self._columns())))

    def __getitem__(self, index: int) -> Any:
        if isinstance(self.batch, dict):
            return {name: column[index] for name, column in self.batch.items()}
        if isinstance(self.batch, tuple):
            return tuple(column[index] for column in self.batch)
        return self.batch[index]

    def _columns(self) -> Any:
        if isinstance(self.batch, dict):
            return self.batch.values()
        return self.batch if isinstance(self.batch, tuple) else [self.batch]


def made(preset: Preset, rows: int) -> tuple[Any, Dataset]:
    """Return a preset's module and so many windows, the same ones at every call."""
    torch.manual_seed(0)
    module, batch_of = preset.make()
    return module, Windows(batch_of(rows))


def device_for(where: tuple[str, str]) -> Device:
    name = torch.cuda.get_device_name() if where[0] == "cuda" else "CPU"
    return Device(where[0], 1, name, where[1], "as on a T4")


def trained(
    preset: Preset, ends: list[int], deterministic: bool | None, where: tuple[str, str] = ON_CARD, most: int = 32
) -> dict[str, torch.Tensor]:
    """Train in sessions that end at these steps; return weights and buffers."""
    with tempfile.TemporaryDirectory() as folder:
        for end in ends:
            batch = min(preset.batch_size, most)
            module, windows = made(preset, 2 * batch)
            data = DataLoader(windows, batch, shuffle=True)
            session = TrialSession("preset", Path(folder), 7, device_for(where), Budget(None))
            fit(session, module, data, max_steps=end, save_every=None, deterministic=deterministic)
    return {name: value.detach().cpu() for name, value in module.state_dict().items()}


def largest_difference(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> tuple[float, str]:
    """Return the largest difference of two states, and the name of its tensor; inf where it cannot be computed."""
    worst, place = 0.0, ""
    for name in one.keys() | other.keys():
        if name not in one or name not in other or one[name].shape != other[name].shape:
            return float("inf"), name
        if torch.equal(one[name], other[name]):
            continue
        apart = float((one[name].double() - other[name].double()).abs().max())
        if not apart <= worst:  # also where it is not a number
            worst, place = apart, name
    return worst, place


def stopped_rows(preset: Preset, where: tuple[str, str] = ON_CARD, twice: bool = False) -> list[Row]:
    """Return whether a training that was stopped in the middle has the bits of one that was not.

    With `twice` it is also trained with the kernels that torch takes by itself, whose sums differ from run to run.
    """
    rows, name = [], f"{preset.name}, {where[1]}, stopped at step {STOP} of {STEPS}"
    try:
        whole, parts = (trained(preset, ends, True, where) for ends in ([STEPS], [STOP, STEPS]))
    except RuntimeError as error:
        if "deterministic" not in str(error):
            raise
        rows.append(Row(f"{name}: deterministic", float("inf"), "", target="equal", met=False,
                        note=f"refused by torch: {str(error).splitlines()[0][:200]}"))  # fmt: skip
    else:
        apart, place = largest_difference(whole, parts)
        rows.append(Row(f"{name}: largest difference", apart, "", target="0 with deterministic kernels",
                        met=apart == 0.0, note=place))  # fmt: skip
    if twice:
        whole, parts, again = (trained(preset, ends, None, where) for ends in ([STEPS], [STOP, STEPS], [STEPS]))
        (apart, place), (noise, _) = largest_difference(whole, parts), largest_difference(whole, again)
        rows.append(Row(f"{name}: the same, kernels as they come", apart, "", "the same training once more", noise,
                        note=place))  # fmt: skip
    return rows


def killed_rows(preset: Preset, where: tuple[str, str] = ON_CARD, steps: int = KILLED_STEPS) -> list[Row]:
    """Return whether a training that was killed by SIGKILL, its disk wiped, has the bits of one that was not."""
    from tests.runtime.training.training_support import checkpoint_of, digest

    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        root, draw, before, twice = Path(folder), random.Random(0), 0, 0
        # all start at once and import; each waits for its turn
        whole, *sessions = (
            Session(root, name, preset, where, steps) for name in ["whole", *map(str, range(KILLS + 1))]
        )
        stack.callback(lambda: [one.kill() for one in (whole, *sessions)])
        whole.go(root / "whole-store")
        whole.end()
        for session in sessions:
            session.go(root / "store")
            if session is not sessions[-1]:
                session.wait_for(before + draw.randint(2, max(2, (steps - before) // 2)))
                session.kill()
            session.end()
            twice += max(0, before + 1 - min(session.steps(), default=before + 1))
            before = max(session.steps(), default=before)
            if session is not sessions[-1]:
                shutil.rmtree(session.disk, ignore_errors=True)
        same = digest(checkpoint_of(whole.disk)) == digest(checkpoint_of(sessions[-1].disk))
        kills = sum(one.process.exitcode == -signal.SIGKILL for one in sessions)
    return [
        Row(f"{preset.name}, {where[1]}, {steps} steps, SIGKILLs with the disk wiped", float(kills), "kills",
            target=f"{KILLS} kills, equal bits", met=same and kills == KILLS,
            note=f"{'equal' if same else 'OTHER BITS'}; steps done twice {twice}")
    ]  # fmt: skip


def proved_rows(preset: Preset, where: tuple[str, str] = ON_CARD, **options: Any) -> list[Row]:
    """Return what `session.prove` says of a preset on the card."""
    from nbkit.runtime.training.proving.proof import prove

    module, windows = made(preset, 8 * preset.batch_size)
    data = DataLoader(windows, preset.batch_size, shuffle=True)
    with tempfile.TemporaryDirectory() as folder:
        session = TrialSession("preset", Path(folder), 7, device_for(where), Budget(None))
        report = prove(session, module, data, deterministic=True, limit="4min", **options)
    return [
        Row(f"{preset.name}, {where[1]}: session.prove", report.seconds, "s", target="exact, < 120 s",
            met=report.exact and report.seconds < 120, note=report.words()[:400])
    ]  # fmt: skip


class Session:
    """One session of a training, in a fresh interpreter that imports and then waits for its turn."""

    def __init__(self, root: Path, name: str, preset: Preset, where: tuple[str, str], steps: int) -> None:
        self.disk, self.log, self.error = root / f"disk-{name}", root / f"{name}.log", root / f"{name}.error"
        spawn = multiprocessing.get_context("spawn")
        self._turn, theirs = spawn.Pipe()
        arguments = (cloudpickle.dumps(preset), where, steps, self.disk, self.log, self.error, theirs)
        self.process = spawn.Process(target=_train, args=arguments)
        self.process.start()

    def go(self, store: Path) -> None:
        self._turn.send(store)

    def steps(self) -> list[int]:
        lines = self.log.read_text("utf-8").splitlines() if self.log.is_file() else []
        events = [json.loads(line) for line in lines if line.endswith("}")]
        return [event["step"] for event in events if event["e"] == "step"]

    def wait_for(self, step: int, seconds: float = 240.0) -> None:
        end = time.monotonic() + seconds
        while self.process.is_alive() and max(self.steps(), default=0) < step and time.monotonic() < end:
            time.sleep(0.002)

    def kill(self) -> None:
        """Send SIGKILL to it and to its workers."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.kill()

    def end(self) -> None:
        self.process.join()
        if self.process.exitcode not in (0, -signal.SIGKILL):
            said = self.error.read_text("utf-8") if self.error.is_file() else f"code {self.process.exitcode}"
            raise RuntimeError(f"a session ended: {said}")


def _train(pickled: bytes, where: tuple[str, str], steps: int, disk: Path, log: Path, error: Path, turn: Any) -> None:
    from tests.runtime.training.training_support import FakeSession

    os.setpgid(0, 0)
    os.environ["NBKIT_JOURNAL"] = str(log)
    preset = pickle.loads(pickled)
    session = FakeSession(disk, turn.recv())
    try:
        session.device = device_for(where)
        module, windows = made(preset, 8 * preset.batch_size)
        # by name: a process that was spawned would have its workers imported anew, for 5 s an epoch
        data = DataLoader(windows, preset.batch_size, shuffle=True, num_workers=2, multiprocessing_context="fork")
        fit(session, module, data, max_steps=steps, save_every="0.2s", deterministic=True)
    except Exception as wrong:
        error.write_text(f"{type(wrong).__name__}: {wrong}", "utf-8")
        raise
