"""The checks of resuming on a card, on the processor: they find what is the same and what is not."""

from __future__ import annotations

import pytest
import torch

from tests.gpu import resumed
from tests.gpu.presets import Preset
from tests.runtime.training.training_support import Tiny

CPU = ("cpu", "32-true")


class Forgetful(Tiny):
    """Scales its loss by a list that no later session finds."""

    seen: list[int] = []

    def training_step(self, batch, batch_idx):
        self.seen.append(batch_idx)
        return super().training_step(batch, batch_idx) * len(self.seen)


def _preset(kind: type = Tiny, pause: float = 0.0) -> Preset:
    def make():
        return kind(pause=pause), lambda rows: (torch.randn(rows, 4), torch.randn(rows))

    return Preset("tiny", make, 8)


@pytest.mark.train
def test_a_stopped_training_is_equal_and_one_that_forgets_is_not() -> None:
    first, second = resumed.stopped_rows(_preset(), CPU, twice=True)
    assert first.met is True and first.value == 0.0 and (second.value, second.alternative_value) == (0.0, 0.0)
    Forgetful.seen.clear()
    (first,) = resumed.stopped_rows(_preset(Forgetful), CPU)
    assert first.met is False and first.value > 0 and first.note


@pytest.mark.train
def test_a_killed_training_is_equal() -> None:
    (row,) = resumed.killed_rows(_preset(pause=0.02), CPU, steps=30)
    assert row.met is True and row.value == resumed.KILLS, row


@pytest.mark.train
def test_a_training_is_proved() -> None:
    (row,) = resumed.proved_rows(_preset(), CPU, steps=8, stops=2)
    assert row.met is True and row.note.startswith("Exact: 8 steps"), row


OTHERS = [{"a": torch.ones(3)}, {"b": torch.ones(2)}, {"a": torch.tensor([1.0, float("nan")])}]


@pytest.mark.parametrize("other", OTHERS)
def test_what_cannot_be_compared_is_a_difference(other: dict) -> None:
    apart, place = resumed.largest_difference({"a": torch.ones(2)}, other)
    assert apart != 0.0 and place


def test_the_rows_of_a_batch_are_its_windows() -> None:
    for batch in (torch.arange(6).view(3, 2), (torch.arange(3), torch.ones(3)), {"x": torch.arange(3)}):
        windows = resumed.Windows(batch)
        assert len(windows) == 3
        assert torch.utils.data.default_collate([windows[0], windows[1]]) is not None
