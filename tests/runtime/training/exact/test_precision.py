"""A training in double precision loses no digit in a resume, wherever its layers are made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning.pytorch.callbacks as theirs
import pytest
import torch

from nbkit.runtime.training.exact.precision import give_saved_precision
from tests.runtime.training.training_support import FakeSession, Tiny, TinyData, checkpoint_of, digest, fit


class Late(Tiny):
    """Makes its last layer in setup, as modules do that look at the data first."""

    def setup(self, stage: str) -> None:
        torch.manual_seed(3)
        self.net[3] = torch.nn.Linear(8, 1)


def trained(folder: Path, kind: type, steps: list[int | None], **options: Any) -> dict[str, Any]:
    for own in steps:
        session = FakeSession(folder, steps=own)
        callbacks = [theirs.EMAWeightAveraging(decay=0.9)] if options.get("averages") else []
        fit(session, kind(), TinyData(), max_steps=12, precision="64-true", callbacks=callbacks)
    return checkpoint_of(folder)


@pytest.mark.parametrize("averages", [False, True])
@pytest.mark.parametrize("kind", [Tiny, Late])
def test_double_precision_resumes_with_all_digits(kind: type, averages: bool, tmp_path: Path) -> None:
    whole = trained(tmp_path / "whole", kind, [None], averages=averages)
    parts = trained(tmp_path / "parts", kind, [5, 4, None], averages=averages)
    assert whole["state_dict"]["net.0.weight"].dtype == torch.float64
    assert digest(parts) == digest(whole)


def test_only_more_digits_are_given_and_the_same_tensors_stay() -> None:
    module = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2))
    before = dict(module.state_dict(keep_vars=True))
    saved = {name: value.double() if value.is_floating_point() else value for name, value in before.items()}
    saved["0.bias"] = before["0.bias"].half()
    give_saved_precision(module, saved)
    assert module[0].weight.dtype == module[1].running_mean.dtype == torch.float64
    assert module[0].bias.dtype == torch.float32 and module[0].weight is before["0.weight"]
