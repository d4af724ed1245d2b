"""A state that fetching or moving a batch changes is saved as of the moment before that batch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from nbkit.runtime.training.fit import fit
from tests.runtime.training.training_support import FakeSession, Tiny, TinyData, checkpoint_of, digest

STEPS = 22
HOOKS = ("on_before_batch_transfer", "transfer_batch_to_device", "on_after_batch_transfer")


def counting_data(hook: str) -> TinyData:
    class Counting(TinyData):
        """Counts its batches in a hook and scales them by the count; saves the count as Lightning says."""

        def __init__(self) -> None:
            super().__init__()
            self.seen = 0

        def state_dict(self) -> dict[str, Any]:
            return {"batches": self.seen}

        def load_state_dict(self, state: dict[str, Any]) -> None:
            self.seen = state["batches"]

    def counted(self: Any, batch: Any, *args: Any) -> Any:
        if self.trainer.training:
            self.seen += 1
        x, y = batch
        return x * (1 + 0.01 * self.seen), y

    setattr(Counting, hook, counted)
    return Counting()


class Normalizing(Tiny):
    """Keeps a running mean of its inputs in a buffer, in the hook that follows the transfer."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(4))

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        x, y = batch
        self.mean.mul_(0.9).add_(0.1 * x.mean(0))
        return x - self.mean, y


def trained(folder: Path, make: Any, stops: list[int | None]) -> dict[str, Any]:
    """Train in sessions that are stopped after so many steps each; return the last checkpoint."""
    for steps in stops:
        module, data = make()
        report = fit(FakeSession(folder, steps=steps), module, data, max_steps=STEPS, save_every=None)
    assert report.complete
    return checkpoint_of(folder)


MAKE = {
    **{f"DataModule counts in {hook}": (lambda hook=hook: (Tiny(), counting_data(hook))) for hook in HOOKS},
    "buffer that follows the inputs": lambda: (Normalizing(), TinyData()),
}


@pytest.mark.parametrize("kind", MAKE)
def test_state_counts_no_batch_twice(kind: str, tmp_path: Path) -> None:
    whole = trained(tmp_path / "whole", MAKE[kind], [None])
    stopped = trained(tmp_path / "stopped", MAKE[kind], [1, 8, 4, None])
    assert stopped.get("Counting") == whole.get("Counting")
    assert digest(stopped) == digest(whole)
