"""What a collate function keeps is saved in the process that trains, and refused in workers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from nbkit.runtime.errors import UsageError
from tests.runtime.training.exact.sessions import assert_same, one_session
from tests.runtime.training.training_support import Points, Tiny

pytestmark = pytest.mark.train


class Counts:
    """Scales every batch by the number of batches before it."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, rows: list[Any]) -> Any:
        self.count += 1
        x, y = (torch.stack(part) for part in zip(*rows, strict=True))
        return x * (1 + 0.01 * self.count), y


class Draws(Counts):
    """Adds noise of its own generator and of numpy's, and changes its items in place; the count plays no part."""

    def __init__(self) -> None:
        super().__init__()
        self.generator = np.random.default_rng()

    def __call__(self, rows: list[Any]) -> Any:
        self.count += 1
        noise = self.generator.random() + np.random.random() + float(torch.rand(()))
        for x, _ in rows:
            x.add_(0.1 * noise)
        return torch.stack([x for x, _ in rows]), torch.stack([y for _, y in rows])


class Cloned(Points):
    def __getitem__(self, index: int) -> Any:
        x, y = super().__getitem__(index)
        return x.clone(), y


class Data(lightning.LightningDataModule):
    """Makes its collate function in train_dataloader."""

    def __init__(self, collate: Any, workers: int = 0) -> None:
        super().__init__()
        self.make, self.workers = [collate], workers

    def train_dataloader(self) -> DataLoader:
        return DataLoader(Cloned(36), 4, shuffle=True, collate_fn=self.make[0](), num_workers=self.workers)


def test_a_count_of_a_collate_function_resumes(tmp_path: Path) -> None:
    assert_same(tmp_path, Tiny, data=lambda: Data(Counts), max_steps=14)


def test_a_count_of_a_collate_function_in_workers_is_refused_before_the_first_step(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"collate_fn \(Counts\) gave two different batches.*num_workers=0"):
        one_session(tmp_path, Tiny(), Data(Counts, workers=2), max_steps=14)


def test_random_numbers_of_a_collate_function_in_workers_are_exact(tmp_path: Path) -> None:
    assert_same(tmp_path, Tiny, data=lambda: Data(Draws, workers=1), steps=(5,), max_steps=12)
