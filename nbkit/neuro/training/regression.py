"""Regression of one or more targets per window, scored as in the challenge.

Targets are learned in units of their standard deviation in the training set. `val_nrmse` is computed over the whole
validation set at once, never averaged over batches; predicting the mean scores 1.0, and a new model begins there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from nbkit.neuro.challenge.metrics import nrmse
from nbkit.neuro.training.window_module import WindowModule

MONITOR = "val_nrmse"


class WindowRegressor(WindowModule):
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

    monitor = MONITOR

    def __init__(
        self,
        settings: Any,
        ch_names: Sequence[str],
        sfreq: float,
        scales: Sequence[tuple[float, float]],
        targets: Sequence[str],
        target: str,
    ) -> None:
        super().__init__(settings, ch_names, sfreq, target)
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
        self.targets = tuple(targets)
        self.register_buffer("target_mean", torch.tensor([float(mean) for mean, _ in scales]))
        self.register_buffer("target_deviation", torch.tensor([float(deviation) for _, deviation in scales]))
        self._sums: Tensor | None = None

    def outputs(self, windows: Tensor) -> Tensor:
        """Return all predicted targets in units of their training deviation, shape (batch, targets).

        Parameters
        ----------
        windows : Tensor of shape (batch, channels, time)
            In uV.
        """
        raise NotImplementedError

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

    def weight(self, batch: Mapping[str, Tensor]) -> Tensor:
        return torch.stack([torch.isfinite(batch[name]) for name in self.targets]).sum()

    def predicted(self, windows: Tensor) -> Tensor:
        """Return the predicted scored target, shape (batch,), in its own unit."""
        return self(windows)[:, 0]

    def validation_scores(self, true: Tensor, predicted: Tensor) -> dict[str, float]:
        return {MONITOR: nrmse(true.cpu(), predicted.cpu())}

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

    @property
    def _scored(self) -> int:
        return self.targets.index(self.target)


def begin_at_mean(head: nn.Linear) -> nn.Linear:
    """Initialise a last layer in place with tiny weights, so that the model begins at the mean, and return it."""
    nn.init.trunc_normal_(head.weight, std=2e-5)
    nn.init.zeros_(head.bias)
    return head


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
