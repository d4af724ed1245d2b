"""What a sanity check before the training changes is kept, as a later session runs none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.runtime.training.exact.sessions import assert_same
from tests.runtime.training.training_support import Tiny, TinyData

pytestmark = pytest.mark.train


class Checked(Tiny):
    """Keeps something of every validation batch, in several kinds of places."""

    def __init__(self) -> None:
        super().__init__()
        self.seen, self.sums, self.rows = 0, np.zeros(2), [torch.zeros(2)]
        self.generator = np.random.default_rng(1)

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        super().validation_step(batch, batch_idx)
        self.seen += 1
        self.sums += 1
        self.rows[0] += 1
        self.late = getattr(self, "late", 0) + self.generator.integers(5)

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        held = self.seen + self.sums.sum() + float(self.rows[0].sum()) + int(self.late)
        return super().training_step(batch, batch_idx) * (1 + 0.01 * held)


def test_what_a_sanity_check_changes_is_the_same_after_a_resume(tmp_path: Path) -> None:
    options = {"num_sanity_val_steps": 2, "max_steps": 14, "check_val_every_n_epoch": 3}
    assert_same(tmp_path, Checked, data=lambda: TinyData(validation=True), steps=(4,), **options)
