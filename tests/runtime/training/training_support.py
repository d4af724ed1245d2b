"""Small trainings, sessions and killable processes for the training tests.

The model is tiny and touches everything that could go wrong in a resume: dropout, batch norm, a stateful scheduler,
metrics by step and by epoch, augmentation from all three global generators.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import multiprocessing
import os
import pickle
import random
import signal
import sys
import time
import traceback
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from nbkit.runtime.budget import Budget
from nbkit.runtime.store.folder import FolderStore
from nbkit.runtime.training.fit import fit


@dataclass(frozen=True)
class TinySettings:
    width: int = 8
    lr: float = 1e-2
    max_steps: int = 40


class Tiny(lightning.LightningModule):
    """A regression with dropout, batch norm, AdamW and a scheduler by step."""

    def __init__(self, settings: TinySettings | None = None, pause: float = 0.0) -> None:
        super().__init__()
        self.settings, self.pause = settings or TinySettings(), pause
        # weights are the user's to seed, and the checkpoint's from the first save on
        generator = torch.random.get_rng_state()
        torch.manual_seed(7)
        width = self.settings.width
        self.net = torch.nn.Sequential(
            torch.nn.Linear(4, width), torch.nn.BatchNorm1d(width), torch.nn.Dropout(0.2), torch.nn.Linear(width, 1)
        )
        torch.random.set_rng_state(generator)

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        x, y = batch
        if self.pause:
            time.sleep(self.pause)
        loss = torch.nn.functional.mse_loss(self.net(x + 0.01 * torch.randn_like(x)).squeeze(-1), y)
        self.log("loss", loss, on_step=True, on_epoch=True, prog_bar=True)
        self.log("largest", loss, on_epoch=True, on_step=False, reduce_fx="max")
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        x, y = batch
        # noise in the validation: a resumed run must draw the same
        noisy = x + 0.01 * torch.randn_like(x)
        self.log("val_loss", torch.nn.functional.mse_loss(self.net(noisy).squeeze(-1), y))

    def on_train_epoch_end(self) -> None:
        self.log("epochs", float(self.current_epoch))

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.AdamW(self.parameters(), lr=self.settings.lr)
        scheduler = torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(optimizer, T_0=11)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


class Points(Dataset):
    """n points of a linear map; augmented by all three global generators if asked."""

    def __init__(self, n: int, augment: bool = False, log: str | None = None) -> None:
        generator = torch.Generator().manual_seed(3)
        self.x = torch.randn(n, 4, generator=generator)
        self.y = self.x @ torch.tensor([1.0, -2.0, 0.5, 0.0])
        self.augment, self.log = augment, log

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        if self.log and multiprocessing.parent_process() is None:  # not where a few items are drawn to be compared
            with open(self.log, "a") as file:
                file.write(f"{index}\n")
        x = self.x[index]
        if self.augment:
            x = x * random.uniform(0.9, 1.1) + float(np.random.normal(0, 0.05)) + 0.05 * torch.randn(4)
        return x, self.y[index]


class TinyData(lightning.LightningDataModule):
    def __init__(
        self,
        n: int = 36,
        batch_size: int = 4,
        workers: int = 0,
        validation: bool = False,
        augment: bool = False,
        shuffle: bool = True,
        log: str | None = None,
    ) -> None:
        super().__init__()
        self.train, self.batch_size, self.workers, self.shuffle = Points(n, augment, log), batch_size, workers, shuffle
        if validation:
            self.val_dataloader = lambda: DataLoader(Points(12, augment), batch_size=4, num_workers=0)

    def train_dataloader(self) -> DataLoader:
        return DataLoader(self.train, batch_size=self.batch_size, shuffle=self.shuffle, num_workers=self.workers)


class DirectOutbox:
    """Stores at once, in the calling thread."""

    def __init__(self, store: Any) -> None:
        self.store = store

    def send(self, files: list[tuple[Path, str]], label: str, then: Any = None) -> None:
        for path, name in files:
            self.store.put(path, name)
        if then:
            then()

    def waiting(self) -> list[str]:
        return []

    def beside(self) -> bool:
        return False


LONG_S = 1e6  # on a session's own clock: far more than any real save or batch


@dataclass
class FakeSession:
    """What fit uses of a session, and nothing else.

    Parameters
    ----------
    folder : Path
    store, slug, seed, limit, id
        As in a real session.
    steps : int or None
        Number of optimizer steps after which no further one fits. The session's clock stands still until then, so the
        speed of the machine plays no part; what follows the last step, such as a validation, still has its time.
    """

    folder: Path
    store: Any = None
    slug: str = "tiny"
    seed: int = 2025
    limit: float | None = None
    said: list[str] = field(default_factory=list)
    id: str = "test"
    steps: int | None = None
    rendezvous: Any = None

    def __post_init__(self) -> None:
        self.folder = Path(self.folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        if self.store is not None and not hasattr(self.store, "put"):
            self.store = FolderStore(self.store)
        self.outbox = DirectOutbox(self.store) if self.store is not None else None
        self.now = 0.0
        if self.steps is None:
            self.budget = Budget(self.limit)
        else:
            self.budget = Budget(LONG_S, clock=lambda: self.now)
        self.device = SimpleNamespace(accelerator="cpu", count=1, name="CPU", precision="32-true", reason="test")
        self.events: list[dict[str, Any]] = []

    def say(self, text: str) -> None:
        self.said.append(text)

    def journal(self, event: str, **fields: Any) -> None:
        line = {"t": time.time(), "e": event, **fields}
        self.events.append(line)
        if event == "step" and len(self.steps_done()) == self.steps:
            self.now += self.budget.left() - 1.0
        path = os.environ.get("NBKIT_JOURNAL")
        if path:
            handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
            os.write(handle, (json.dumps(line) + "\n").encode())
            os.close(handle)

    def steps_done(self) -> list[int]:
        return [event["step"] for event in self.events if event["e"] == "step"]


class StopAt(lightning.Callback):
    """Ask for the stop as a wall would."""

    def __init__(self, session: FakeSession, step: int) -> None:
        self.session, self.step = session, step

    def on_train_batch_end(self, trainer: lightning.Trainer, *_: Any) -> None:
        if trainer.global_step == self.step:
            self.session.budget.request_stop("wall")


def checkpoint_of(folder: Path, which: int = -1) -> dict[str, Any]:
    """Load a checkpoint of a session's folder as it is on disk."""
    path = sorted(Path(folder, "checkpoints").glob("step-*.ckpt"))[which]
    return torch.load(path, weights_only=True)


def digest(checkpoint: dict[str, Any]) -> str:
    """Return the SHA-256 of weights, optimizer state, schedulers and logged metrics, bit for bit."""
    sha = hashlib.sha256()
    what = (
        checkpoint["state_dict"],
        checkpoint["optimizer_states"],
        checkpoint["lr_schedulers"],
        checkpoint["nbkit"]["history"],
        checkpoint["global_step"],
    )
    _feed(sha, what)
    return sha.hexdigest()


def _feed(sha: Any, value: Any) -> None:
    if isinstance(value, torch.Tensor):
        sha.update(f"{value.dtype}{tuple(value.shape)}".encode() + value.contiguous().numpy().tobytes())
    elif isinstance(value, dict):
        for key in value:
            sha.update(repr(key).encode())
            _feed(sha, value[key])
    elif isinstance(value, list | tuple):
        sha.update(f"[{len(value)}".encode())
        for item in value:
            _feed(sha, item)
    else:
        sha.update(repr(value).encode())


# -- processes that can be killed ------------------------------------------------------------------------------------


@dataclass
class Outcome:
    """How a child ended: its result, its error's text, or the signal."""

    result: Any = None
    error: str | None = None
    signal: int | None = None


class Child:
    """A forked process that runs one function; torch and lightning are imported already, so it costs milliseconds."""

    def __init__(self, function: Any, *args: Any, **kwargs: Any) -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        read, write = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(read)
            os.setpgid(0, 0)
            # as in a fresh process, whatever the test runner inherited or an earlier test left
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            answer: tuple[str, Any]
            try:
                with open(os.devnull, "w") as null, contextlib.redirect_stderr(null), contextlib.redirect_stdout(null):
                    torch.set_num_threads(1)
                    answer = ("result", function(*args, **kwargs))
            except BaseException as error:
                answer = ("error", f"{type(error).__name__}: {error}\n{traceback.format_exc()}")
            with os.fdopen(write, "wb") as pipe:
                pipe.write(pickle.dumps(answer))
            os._exit(0)
        os.close(write)
        self._pipe = os.fdopen(read, "rb")

    def kill(self) -> None:
        """SIGKILL the process and its DataLoader workers, as a host does."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)

    def alive(self) -> bool:
        return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None

    def end(self) -> Outcome:
        """Wait for it and say how it ended."""
        _, status = os.waitpid(self.pid, 0)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)  # workers whose parent was killed
        raw = self._pipe.read()
        self._pipe.close()
        if os.WIFSIGNALED(status):
            return Outcome(signal=os.WTERMSIG(status))
        kind, value = pickle.loads(raw)
        return Outcome(**{kind: value})


def run_child(function: Any, *args: Any, **kwargs: Any) -> Any:
    """Run a function in a child and give its result; raises where it failed."""
    outcome = Child(function, *args, **kwargs).end()
    assert outcome.error is None and outcome.signal is None, outcome
    return outcome.result


def train_tiny(folder: Path, store: Path | None = None, **options: Any) -> Any:
    """Train the tiny model in one session; every option of data, model, session and fit by its own name."""
    data = TinyData(**{k: options.pop(k) for k in list(options) if k in _DATA})
    settings = TinySettings(**{k: options.pop(k) for k in list(options) if k in _SETTINGS})
    session = FakeSession(Path(folder), store, **{k: options.pop(k) for k in list(options) if k in _SESSION})
    module = Tiny(settings, options.pop("pause", 0.0))
    report = fit(session, module, data, **options)
    return SimpleNamespace(report=report, said=session.said, events=session.events, state=_plain_state(module))


def _plain_state(module: Any) -> dict[str, Any]:
    return {name: value.numpy().copy() for name, value in module.state_dict().items()}


_DATA = ("n", "batch_size", "workers", "validation", "augment", "shuffle", "log")
_SETTINGS = ("width", "lr")
_SESSION = ("limit", "steps", "seed", "slug")


def journal_of(path: Path) -> list[dict[str, Any]]:
    """Read a journal; a torn last line is left out."""
    events = []
    with contextlib.suppress(FileNotFoundError):
        for line in Path(path).read_text().splitlines():
            with contextlib.suppress(json.JSONDecodeError):
                events.append(json.loads(line))
    return events


def train_with_kills(
    folder: Path,
    kills: int,
    rng: random.Random,
    when: Any = None,
    most: int = 60,
    train: Any = train_tiny,
    **options: Any,
) -> tuple[int, list[dict[str, Any]]]:
    """Train in sessions, SIGKILL the first ones, until it is complete.

    Parameters
    ----------
    when : callable or None
        Gets (events of this session, kills so far) and says whether to kill now; None kills after a random number of
        steps of each session.
    train : callable
        What a session runs; gets (folder, **options).
    """
    journal = Path(folder) / "journal.jsonl"
    done, changing = 0, options.get("workers") == "changed"
    for number in range(most):
        if changing:
            options["workers"] = (2, 0)[number % 2]
        before = len(journal_of(journal))
        os.environ["NBKIT_JOURNAL"] = str(journal)
        try:
            child = Child(train, folder, **options)
        finally:
            del os.environ["NBKIT_JOURNAL"]
        if done < kills:
            after_steps = rng.randint(1, 9)
            while child.alive():
                events = journal_of(journal)[before:]
                steps = sum(event["e"] == "step" for event in events)
                if when(events, done) if when else steps >= after_steps:
                    child.kill()
                    break
                time.sleep(0.001)
        outcome = child.end()
        assert outcome.error is None, outcome.error
        done += outcome.signal == signal.SIGKILL
        if outcome.signal is None and outcome.result.report.complete:
            return done, journal_of(journal)
    raise AssertionError(f"not complete after {most} sessions and {done} kills")


# -- cells of the exact-resume matrix --------------------------------------------------------------------------------

WORKERS, VALIDATION, AUGMENT = (0, 2, "changed"), (False, True), (False, True)
PLACES, ACCUMULATE = ("mid-epoch", "last batch", "once an epoch"), (1, 4)
BATCHES, EPOCHS = 9, 8  # 36 points by 4; with 4 batches a step the last step of an epoch takes one batch only


@dataclass(frozen=True)
class Cell:
    """One way of training and being killed."""

    workers: int | str
    validation: bool
    augment: bool
    place: str
    accumulate: int

    @property
    def steps_per_epoch(self) -> int:
        return -(-BATCHES // self.accumulate)

    @property
    def options(self) -> dict[str, Any]:
        """What fit and the data need; the last step lies inside an epoch."""
        return {
            "max_steps": EPOCHS * self.steps_per_epoch + 1,
            "validation": self.validation,
            "augment": self.augment,
            "accumulate_grad_batches": self.accumulate,
            "monitor": "val_loss" if self.validation else None,
        }

    @property
    def reference(self) -> Cell:
        """The cell whose uninterrupted run must come out the same: workers and saves play no part."""
        return Cell(0, self.validation, self.augment, "none", self.accumulate)


def uninterrupted(folder: Path, cell: Cell) -> str:
    """Return the digest of a run without a kill and without a save before the end."""
    run_child(train_tiny, folder, save_every=None, **cell.reference.options)
    return digest(checkpoint_of(folder))


def killed(folder: Path, cell: Cell, kills: int, rng: random.Random) -> tuple[str, int, list[dict[str, Any]]]:
    """Return the digest of a run killed so many times, the kills, and the journal."""
    every_batch = cell.place == "mid-epoch"
    longest = 5 if cell.accumulate == 1 else 2  # steps of a session: all kills must find a training that still goes on
    target = [rng.randint(1, longest)]

    def when(events: list[dict[str, Any]], done: int) -> bool:
        steps = [event["step"] for event in events if event["e"] == "step"]
        saved = [event["step"] for event in events if event["e"] == "saved"]
        if cell.place == "last batch":
            # the state after an epoch's last batch is on disk, or is just being written
            ended = [s for s in steps[1:] if s % cell.steps_per_epoch == 0]
            hit = bool(saved) and bool(ended) and (rng.random() < 0.3 or saved[-1] >= ended[-1])
        elif cell.place == "once an epoch":
            hit = bool(saved) and sum(s > saved[-1] for s in steps) >= min(target[0], cell.steps_per_epoch - 1)
        else:
            hit = bool(saved) and len(steps) > target[0]
        if hit:
            target[0] = rng.randint(1, longest)
        return hit

    done, events = train_with_kills(
        folder,
        kills,
        rng,
        when,
        workers=cell.workers,
        save_every=0.0001 if every_batch else None,
        save_each_epoch=not every_batch,
        pause=0.003,
        **cell.options,
    )
    return digest(checkpoint_of(folder)), done, events
