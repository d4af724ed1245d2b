"""Finetuning from pretrained and from random weights at once, on the same batches for the same steps.

What pretraining is worth shows only beside the same network without it at an equal budget. The twin sees every batch
that its pretrained sister sees and stays a stranger to it: no weight, gradient norm or optimizer state is shared. A
checkpoint's ``state_dict`` is the pretrained model's alone, so `Regressor.from_checkpoint` reads it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import lightning
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from nbkit.neuro.labram.finetune import Regressor, layer_of, predict
from nbkit.neuro.nn.schedule import make_optimizer
from nbkit.neuro.signals.challenge import nrmse, nrmse_interval, score_rows
from nbkit.neuro.signals.power_ridge import PowerRidge, log_band_powers

SCRATCH = "val_nrmse_scratch"
_TWIN = "twin."


class ComparedRegressor(Regressor):
    """A `Regressor` with a twin that begins from random weights; takes what it takes and is built as it is.

    Attributes
    ----------
    twin : Regressor
        Of the same settings and shape.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.twin = Regressor(*args, **kwargs)
        self._twins: list[tuple[Tensor, Tensor]] = []

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_save_checkpoint(checkpoint)
        weights = checkpoint["state_dict"]
        names = [name for name in weights if name.startswith(_TWIN)]
        checkpoint["labram_scratch"] = {name.removeprefix(_TWIN): weights.pop(name) for name in names}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["state_dict"].update({_TWIN + n: w for n, w in checkpoint["labram_scratch"].items()})

    def training_step(self, batch: Mapping[str, Tensor], batch_idx: int) -> Tensor:
        loss = super().training_step(batch, batch_idx)
        target = (batch[self.target].float() - self.target_mean) / self.target_deviation
        twins = F.mse_loss(self.twin._standard(batch["window"])[:, 0], target)
        self.log("train_loss_scratch", twins)
        return loss + twins

    def on_validation_epoch_start(self) -> None:
        super().on_validation_epoch_start()
        self._twins = []

    def validation_step(self, batch: Mapping[str, Tensor], batch_idx: int) -> None:
        super().validation_step(batch, batch_idx)
        self._twins.append((self.twin(batch["window"])[:, 0].double(), batch[self.target].double()))

    def on_validation_epoch_end(self) -> None:
        super().on_validation_epoch_end()
        if self._twins:
            predicted, true = (torch.cat(parts).cpu() for parts in zip(*self._twins, strict=True))
            self.log(SCRATCH, nrmse(true, predicted))
        self._twins = []

    def configure_optimizers(self) -> dict[str, Any]:
        depth = self.settings.depth
        return make_optimizer(self, self.settings, lambda name: layer_of(name.removeprefix(_TWIN), depth), depth + 1)

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        clip = gradient_clip_val or self.settings.grad_clip
        twins = list(self.twin.parameters())
        known = {id(weight) for weight in twins}
        own = [weight for weight in self.parameters() if id(weight) not in known]
        for weights in (own, twins) if clip else ():  # one norm over both would tie them
            torch.nn.utils.clip_grad_norm_(weights, clip)


@dataclass(frozen=True)
class HeldOut:
    """Scores on test subjects, and what they are made of.

    Attributes
    ----------
    rows : list of dict
        For a session's results: name, value, unit, baseline, baseline_is.
    scores : dict of str to float
        NRMSE by model, for a figure.
    intervals : dict of str to (low, high)
        Bootstrapped over subjects.
    target, prediction : array of shape (windows,)
        The best checkpoint's.
    subjects : array of shape (windows,)
    """

    rows: list[dict[str, Any]]
    scores: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    target: np.ndarray
    prediction: np.ndarray
    subjects: np.ndarray


def score_held_out(
    name: str, best: Regressor, module: ComparedRegressor, data: lightning.LightningDataModule
) -> HeldOut:
    """Score models on the test subjects: the best checkpoint, both at the last step, a ridge, and the constant.

    Parameters
    ----------
    name : str
        Of the main score.
    best : Regressor
        Of the best validation.
    module : ComparedRegressor
        After its last step: sister and twin at an equal budget.
    data : WindowData
    """
    prediction, target = (part.numpy() for part in predict(best, data.test_dataloader()))
    subjects, train_mean = data.test_dataset.subjects, data.target_scale(best.target)[0]
    predictions = {
        "pretrained, best validation": prediction,
        "pretrained, last step": predict(module, data.test_dataloader())[0].numpy(),
        "from scratch, last step": predict(module.twin, data.test_dataloader())[0].numpy(),
        "ridge on band powers": _ridge(data, best.target),
        "constant, training mean": np.full(len(target), train_mean),
    }
    scores = {model: nrmse(target, predicted) for model, predicted in predictions.items()}
    intervals = {model: nrmse_interval(target, predicted, subjects) for model, predicted in predictions.items()}
    low, high = intervals["pretrained, best validation"]
    others = {
        "last": scores["pretrained, last step"], "scratch_last": scores["from scratch, last step"],
        "ridge": scores["ridge on band powers"], "low": low, "high": high,
    }  # fmt: skip
    rows = score_rows(name, target, prediction, train_mean, others=others)
    return HeldOut(rows, scores, intervals, target, prediction, subjects)


def _ridge(data: Any, column: str) -> np.ndarray:
    """The ridge on the very crops that the networks are scored on; in training on fixed crops, too."""
    train, test = data.train_dataset, data.test_dataset
    powers = [
        np.concatenate([log_band_powers(batch["window"].numpy(), data.sfreq) for batch in loader])
        for loader in (_in_order(data, train), _in_order(data, test))
    ]
    target = train.column(column).astype(float)
    return PowerRidge().fit(powers[0], target, train.subjects).predict(powers[1])


def _in_order(data: Any, shards: Any) -> torch.utils.data.DataLoader:
    return torch.utils.data.DataLoader(data.batched(shards), 256)
