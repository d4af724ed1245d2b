"""Several targets, one of them scored: units, missing ones, and what is refused."""

from __future__ import annotations

from dataclasses import dataclass

import lightning
import pytest
import torch
from torch import Tensor, nn

from nbkit.neuro.training.regression import WindowRegressor, begin_at_mean
from nbkit.neuro.training.window_module import predict


@dataclass(frozen=True)
class Settings:
    lr: float = 0.05
    min_lr: float = 0.01
    weight_decay: float = 0.0
    betas: tuple[float, float] = (0.9, 0.99)
    grad_clip: float = 1.0
    steps: int = 60
    warmup_steps: int = 1
    patience_steps: int = 0


class Linear(WindowRegressor):
    """A linear map of each channel's mean."""

    def __init__(self, scales, targets=("a", "b"), target="b") -> None:
        super().__init__(Settings(), ("E1", "E2"), 10.0, scales, targets, target)
        self.head = begin_at_mean(nn.Linear(2, len(targets)))

    def outputs(self, windows: Tensor) -> Tensor:
        return self.head(windows.mean(dim=-1))


def batch(count: int = 40, seed: int = 0) -> dict[str, Tensor]:
    draws = torch.Generator().manual_seed(seed)
    hidden = torch.randn(count, 2, generator=draws)
    return {"window": hidden[..., None].expand(-1, -1, 10), "a": 5 + 2 * hidden[:, 0], "b": -1 + 0.5 * hidden[:, 1]}


SCALES = ((5.0, 2.0), (-1.0, 0.5))


def test_the_scored_target_is_predicted_in_its_own_unit():
    module = Linear(SCALES)
    given = batch()
    assert torch.allclose(module(given["window"]), torch.full((40, 1), -1.0), atol=1e-2)
    nn.init.eye_(module.head.weight)
    torch.testing.assert_close(module(given["window"])[:, 0], given["b"])
    predicted, true = predict(module, [given])
    torch.testing.assert_close(predicted, true)


def test_the_loss_is_in_training_variances_and_passes_over_what_is_missing():
    module, given = Linear(SCALES), batch()
    standard = torch.stack([(given["a"] - 5) / 2, (given["b"] + 1) / 0.5], 1)
    torch.testing.assert_close(module.loss(given), (module.outputs(given["window"]) - standard).square().mean())
    given["a"][::2] = float("nan")
    error = (module.outputs(given["window"]) - standard).square()
    known = torch.cat([error[1::2, 0], error[:, 1]])
    loss = module.loss(given)
    torch.testing.assert_close(loss, known.mean())
    loss.backward()
    assert torch.isfinite(module.head.weight.grad).all()


def test_a_missing_scored_target_is_refused_and_others_are_not():
    module, given = Linear(SCALES), batch()
    given["a"][3] = float("nan")
    assert module.on_before_batch_transfer(given, 0) is given and module.n_times == 10
    given["b"][3] = float("nan")
    with pytest.raises(ValueError, match="has no b"):
        module.on_before_batch_transfer(given, 0)


def test_what_teaches_nothing_is_refused():
    with pytest.raises(ValueError, match="a: the training targets do not differ"):
        Linear(((5.0, 0.0), (0.0, 1.0)))
    with pytest.raises(ValueError, match="scored target must be one of the targets"):
        Linear(SCALES, target="c")


def test_it_learns_what_is_there():
    lightning.seed_everything(0, verbose=False)
    module, given = Linear(SCALES), batch(64)
    rows = [{name: value[i] for name, value in given.items()} for i in range(64)]
    loader = torch.utils.data.DataLoader(rows, 16)
    trainer = lightning.Trainer(
        accelerator="cpu", max_steps=60, logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(module, loader, loader)
    assert trainer.callback_metrics["val_nrmse"] < 0.2
