"""An order of the data that the training itself changes is refused at the save, with the remedy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning
import pytest
import torch
from torch.utils.data import DataLoader, WeightedRandomSampler

from nbkit.runtime.errors import UsageError
from tests.runtime.training.exact.sessions import one_session
from tests.runtime.training.training_support import Points, Tiny, checkpoint_of

pytestmark = pytest.mark.train


class Data(lightning.LightningDataModule):
    def __init__(self, weighted: bool) -> None:
        super().__init__()
        self.points = Points(36)
        self.sampler = WeightedRandomSampler(torch.ones(36), 36) if weighted else None

    def train_dataloader(self) -> DataLoader:
        return DataLoader(self.points, 4, sampler=self.sampler, shuffle=None if self.sampler else True)


class Changing(Tiny):
    """Changes the weights of the sampler, or adds an item, at one step."""

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        data = self.trainer.datamodule
        if self.global_step == 6 and data.sampler is not None:
            data.sampler.weights[3] = 5.0
        elif self.global_step == 6:
            data.points.x, data.points.y = (torch.cat([t, t[:1]]) for t in (data.points.x, data.points.y))
        return super().training_step(batch, batch_idx)


@pytest.mark.parametrize(
    ("weighted", "words"), [(True, "weights of its WeightedRandomSampler"), (False, r"Points\): 36 -> 37")]
)
def test_what_the_training_changes_of_the_order_is_refused_at_the_save(
    weighted: bool, words: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=f"The training itself has changed .*{words}.*earlier checkpoints"):
        one_session(tmp_path, Changing(), Data(weighted), steps=8, max_steps=14)
    assert checkpoint_of(tmp_path)["global_step"] == 1
