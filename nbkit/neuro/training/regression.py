"""Regression of one or more targets per window, scored as in the challenge.

Targets are learned in units of their standard deviation in the training set. `val_nrmse` is computed over the whole
validation set at once, never averaged over batches; predicting the mean scores 1.0, and a new model begins there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import lightning
import torch
from torch import Tensor, nn

from nbkit.neuro.training.optimization import ClippedModule, Patience, check_batch, make_optimizer

MONITOR = "val_nrmse"


class WindowRegressor(ClippedModule):
    """Base class that predicts one or more targets of a window; subclasses define the network in `outputs`.

    Parameters
    ----------
    settings : dataclass
        With lengths in steps, see `counted`; ``grad_clip``, ``patience_steps`` and what `make_optimizer` uses are read.
    ch_names : sequence of str
    sfreq : float
        Sampling frequency, in Hz.
    scales : sequence of (float, float)
        Mean and standard deviation of each target in the training set; the network learns in these units.
    targets : sequence of str
        Columns of the batches to predict; NaN means missing, and does not count in the loss.
    target : str
        The target that is scored; it must never be missing.

    Raises
    ------
    ValueError
        If a target does not vary, or the scored target is not one of ``targets``.
    """

    layers = 0  # number of the head's layer, used by systems with layer decay, see `layer_of`

    def __init__(
        self,
        settings: Any,
        ch_names: Sequence[str],
        sfreq: float,
        scales: Sequence[tuple[float, float]],
        targets: Sequence[str],
        target: str,
    ) -> None:
        super().__init__()
        if target not in targets or len(scales) != len(targets):
            raise ValueError(
                f"Got {target=}, {targets=} and {len(scales)} scales; there must be one scale per target, and the "
                "scored target must be one of the targets."
            )
        flat = [name for name, (_, deviation) in zip(targets, scales, strict=True) if not deviation > 0]
        if flat:
            raise ValueError(
                f"{', '.join(flat)}: the training targets do not differ ({scales=}), so there is nothing to predict. "
                "Use windows with different targets."
            )
        self.settings, self.ch_names, self.sfreq = settings, tuple(ch_names), float(sfreq)
        self.targets, self.target = tuple(targets), target
        self.register_buffer("target_mean", torch.tensor([float(mean) for mean, _ in scales]))
        self.register_buffer("target_deviation", torch.tensor([float(deviation) for _, deviation in scales]))
        self.n_times: int | None = None  # samples per window in training
        self._sums: Tensor | None = None

    def outputs(self, windows: Tensor) -> Tensor:
        """Return all predicted targets in units of their training deviation, shape (batch, targets).

        Parameters
        ----------
        windows : Tensor of shape (batch, channels, time)
            In uV.
        """
        raise NotImplementedError

    def layer_of(self, name: str) -> int:
        """Return the layer that a weight belongs to, from 0 at the input to ``layers`` at the head."""
        return self.layers

    def configure_callbacks(self) -> list[lightning.Callback]:
        steps = self.settings.patience_steps
        return [Patience(MONITOR, steps)] if steps else []

    def on_before_batch_transfer(self, batch: Mapping[str, Any], dataloader_idx: int) -> Mapping[str, Any]:
        check_batch(batch, (self.target,))
        self.n_times = int(batch["window"].shape[-1])
        return batch

    def forward(self, windows: Tensor) -> Tensor:
        """Return the predicted scored target, shape (batch, 1), in its own unit.

        Parameters
        ----------
        windows : Tensor of shape (batch, channels, time)
            In uV.
        """
        scored = slice(self._scored, self._scored + 1)
        return self.outputs(windows)[:, scored] * self.target_deviation[scored] + self.target_mean[scored]

    def loss(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Return the mean squared error over all targets that are not missing, in units of their training variances."""
        true = torch.stack([batch[name].float() for name in self.targets], dim=1)
        there = torch.isfinite(true)
        standard = (torch.where(there, true, self.target_mean) - self.target_mean) / self.target_deviation
        error = (self.outputs(batch["window"]) - standard).square()
        return (error * there).sum() / there.sum()

    def training_step(self, batch: Mapping[str, Tensor], batch_idx: int) -> Tensor:
        loss = self.loss(batch)
        self.log("train_loss", loss, prog_bar=True)
        return loss

    def on_validation_epoch_start(self) -> None:
        self._sums = None

    def validation_step(self, batch: Mapping[str, Tensor], batch_idx: int) -> None:
        mean = self.target_mean[self._scored]
        true = batch[self.target].double() - mean
        error = self(batch["window"])[:, 0].double() - mean - true
        sums = torch.stack([torch.ones_like(true), error.square(), true, true.square()]).sum(dim=1)
        self._sums = sums if self._sums is None else self._sums + sums

    def on_validation_epoch_end(self) -> None:
        if self._sums is None:
            return
        count, error, first, second = self.all_gather(self._sums).reshape(-1, 4).sum(dim=0)
        spread = (second / count - (first / count).square()).sqrt()  # population value, as in the challenge's metric
        rmse = (error / count).sqrt()
        self.log_dict(
            {
                MONITOR: (rmse / spread).float(),
                "val_rmse": rmse.float(),
                "val_nrmse_training_mean": ((second / count).sqrt() / spread).float(),
            }
        )

    def configure_optimizers(self) -> dict[str, Any]:
        return make_optimizer(self, self.settings, self.layer_of, self.layers)

    @property
    def _scored(self) -> int:
        return self.targets.index(self.target)


def begin_at_mean(head: nn.Linear) -> nn.Linear:
    """Initialise a last layer in place with tiny weights, so that the model begins at the mean, and return it."""
    nn.init.trunc_normal_(head.weight, std=2e-5)
    nn.init.zeros_(head.bias)
    return head


@torch.no_grad()
def predict(module: WindowRegressor, batches: Any) -> tuple[Tensor, Tensor]:
    """Return predictions and true values of all windows, shape (windows,) each, in the target's unit."""
    was = module.training
    module.eval()
    pairs = [(module(b["window"].to(module.device))[:, 0].cpu(), b[module.target].float()) for b in batches]
    module.train(was)
    predicted, true = (torch.cat(parts) for parts in zip(*pairs, strict=True))
    return predicted, true


def score_rows(history: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return a session's result rows: the last and the best validation score, each with its unit and baseline.

    The list is empty before the first validation.
    """
    logged = [row for row in history if MONITOR in row]
    if not logged:
        return []
    best = min(logged, key=lambda row: row[MONITOR])
    constant = "constant: the validation targets' own mean"
    return [
        {"name": MONITOR, "value": logged[-1][MONITOR], "unit": "1", "baseline": 1.0, "baseline_is": constant},
        {"name": "best_val_nrmse", "value": best[MONITOR], "unit": "1", "baseline": best["val_nrmse_training_mean"],
         "baseline_is": "constant: the training targets' mean; the best of many validations is no held-out score"},
    ]  # fmt: skip
