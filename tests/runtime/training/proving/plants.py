"""Trainings with one planted fault each: what differs after a resume is held where no checkpoint reaches.

They are small and otherwise alike: the step takes a factor from somewhere, or the data do.
"""

from __future__ import annotations

import functools
import itertools
import multiprocessing
import os
import tempfile
import threading
import time
import uuid
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from tests.runtime.training.proving import elsewhere

COUNTED = 0
CACHE: dict[str, float] = {}


class Plain(lightning.LightningModule):
    """A linear regression without a fault; the others change its factor or its parts."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.random.get_rng_state()
        torch.manual_seed(7)
        self.net = torch.nn.Linear(4, 1)
        torch.random.set_rng_state(generator)

    def factor(self) -> float:
        return 1.0

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        loss = self.factor() * self.net(batch).square().mean()
        self.log("loss", loss)
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val_loss", self.net(batch).square().mean())

    def configure_optimizers(self) -> Any:
        return torch.optim.Adam(self.parameters(), lr=0.01)


class Rows(Dataset):
    """Rows that depend on their index only."""

    def __len__(self) -> int:
        return 32

    def __getitem__(self, index: int) -> torch.Tensor:
        return torch.randn(4, generator=torch.Generator().manual_seed(index)) + self.shift(index)

    def shift(self, index: int) -> float:
        return 0.0


class Data(lightning.LightningDataModule):
    def __init__(self, rows: Dataset | None = None, collate: Any = None) -> None:
        super().__init__()
        self.rows, self.collate = rows or Rows(), collate

    def train_dataloader(self) -> DataLoader:
        return DataLoader(self.rows, batch_size=4, shuffle=True, collate_fn=self.collate)

    def val_dataloader(self) -> DataLoader:
        return DataLoader(Rows(), batch_size=8)


# -- state of the process ---------------------------------------------------------------------------------------------


class GlobalCounter(Plain):
    def factor(self) -> float:
        global COUNTED
        COUNTED += 1
        return 1.0 + 0.01 * COUNTED


class GlobalCache(Plain):
    def factor(self) -> float:
        CACHE.setdefault("first", float(self.net.weight.detach().sum()))  # of the first step of this process
        return 1.0 + 0.1 * CACHE["first"]


class CachedMethod(Plain):
    @functools.lru_cache(maxsize=1)  # noqa: B019
    def first_norm(self) -> float:
        return float(self.net.weight.detach().norm())

    def factor(self) -> float:
        return 1.0 + self.first_norm()


class Environment(Plain):
    def factor(self) -> float:
        os.environ["PLANTED_STEP"] = str(int(os.environ.get("PLANTED_STEP", "0")) + 1)
        return 1.0 + 0.01 * int(os.environ["PLANTED_STEP"])


class FileOnDisk(Plain):
    def factor(self) -> float:
        path = Path(tempfile.gettempdir(), "planted")
        number = len(path.read_bytes()) if path.exists() else 0
        path.write_bytes(b"." * (number + 1))
        return 1.0 + 0.01 * number


class OtherModule(Plain):
    def factor(self) -> float:
        return 1.0 + 0.1 * elsewhere.noise()


class OtherModulesNumber(Plain):
    def factor(self) -> float:
        elsewhere.STEPS += 1
        return 1.0 + 0.01 * elsewhere.STEPS


class FunctionAttribute(Plain):
    def factor(self) -> float:
        elsewhere.rarely_written(os.devnull)  # a file that is written only is no cause
        return 1.0 + 0.01 * elsewhere.remembered()


# -- what a hook at the start of an epoch sets -------------------------------------------------------------------------


class LossSwapped(Plain):
    """Another part, function or object from epoch 1 on."""

    later: Any = torch.nn.Tanh

    def __init__(self) -> None:
        super().__init__()
        self.shape: Any = torch.nn.Identity() if self.later is torch.nn.Tanh else abs

    def on_train_epoch_start(self) -> None:
        if self.current_epoch == 1:
            self.shape = self.later() if isinstance(self.later, type) else self.later

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        return self.shape(super().training_step(batch, batch_idx))


class Halved:
    def __call__(self, loss: torch.Tensor) -> torch.Tensor:
        return loss / 2


class ObjectSwapped(LossSwapped):
    later = Halved


class FunctionSwapped(LossSwapped):
    later = staticmethod(torch.tanh)


def counted_collate() -> Any:
    """Return a collate function with a counter in its closure."""
    count = 0

    def collate(rows: list[torch.Tensor]) -> torch.Tensor:
        nonlocal count
        count += 1
        return torch.stack(rows) * (1.0 + 0.01 * count)

    return collate


# -- state that is outside of the state_dict ---------------------------------------------------------------------------


class HiddenMomentum(torch.optim.SGD):
    """An optimizer whose warm-up counts in an attribute."""

    def __init__(self, parameters: Any) -> None:
        super().__init__(parameters, lr=0.01)
        self.warm = itertools.count(1)

    def step(self, closure: Any = None) -> Any:
        for group in self.param_groups:
            group["lr"] = 0.001 * min(next(self.warm), 1000)
        return super().step(closure)


class WrappedOptimizer(Plain):
    def configure_optimizers(self) -> Any:
        return HiddenMomentum(self.parameters())


class Slots:
    """An average that is kept beside the weights."""

    __slots__ = ("average",)


AVERAGE = Slots()


class HiddenAverage(Plain):
    """A mean of the weights that pulls at the training, in an object that no state_dict has."""

    def factor(self) -> float:
        now = self.net.weight.detach().clone()
        AVERAGE.average = 0.9 * getattr(AVERAGE, "average", now) + 0.1 * now
        return 1.0 + float(AVERAGE.average.norm())


# -- not repeatable ----------------------------------------------------------------------------------------------------


class Clock(Rows):
    def shift(self, index: int) -> float:
        return 0.01 * (time.time_ns() % 1000)


class Entropy(Rows):
    def shift(self, index: int) -> float:
        return uuid.uuid4().int % 1000 / 1000


class Unseeded(Rows):
    def shift(self, index: int) -> float:
        return float(np.random.default_rng().normal())


class Hashes(Rows):
    def shift(self, index: int) -> float:
        return 0.1 * list({"delta", "theta", "alpha", "beta", "gamma"}).index("alpha")


class Racing(Rows):
    """A background thread counts while the items are read in the training."""

    def __init__(self) -> None:
        self.ticks: Any = None

    def shift(self, index: int) -> float:
        if multiprocessing.current_process().daemon:
            return 0.0  # where contents are compared before a resume, which would be refused now and then
        if self.ticks is None:
            self.ticks = [0]
            threading.Thread(target=self._tick, daemon=True).start()
        return 1e-3 * self.ticks[0]

    def _tick(self) -> None:
        while True:
            self.ticks[0] += 1
            time.sleep(1e-4)


# name: (module, data, kind of the cause, what the cause must name)
PLANTS: dict[str, tuple[Any, Any, str, str]] = {
    "a counter in a global": (GlobalCounter, Data, "process", "COUNTED"),
    "a cache in a global": (GlobalCache, Data, "process", "CACHE"),
    "a cached method": (CachedMethod, Data, "process", "first_norm"),
    "an environment variable": (Environment, Data, "environment", "PLANTED_STEP"),
    "a file on disk": (FileOnDisk, Data, "file", "FileOnDisk.factor"),
    "a number of another module": (OtherModulesNumber, Data, "process", "elsewhere.STEPS"),
    "an object that a hook swaps": (ObjectSwapped, Data, "epoch start", "module.shape"),
    "a closure in collate_fn": (Plain, lambda: Data(collate=counted_collate()), "process", "count"),
    "an optimizer with a counter": (WrappedOptimizer, Data, "optimizer", "warm"),
    "an average beside the weights": (HiddenAverage, Data, "process", "AVERAGE"),
    "the clock in the data": (Plain, lambda: Data(Clock()), "clock", "time_ns in Clock.shift"),
    "uuid in the augmentation": (Plain, lambda: Data(Entropy()), "entropy", "uuid4 in Entropy.shift"),
    "an unseeded generator": (Plain, lambda: Data(Unseeded()), "unseeded", "default_rng in Unseeded.shift"),
    "the order of a set": (Plain, lambda: Data(Hashes()), "hash", "Hashes.shift"),
    "a thread": (Plain, lambda: Data(Racing()), "thread", "Thread in Racing.shift"),
}
