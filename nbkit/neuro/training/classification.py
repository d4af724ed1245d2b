"""Classification of windows: cross-entropy with balanced classes, scored over the whole validation set at once.

Every class weighs the same, however rare it is, so knowing nothing gives a loss of log(classes) and a balanced accuracy
of 1 / classes; a new model begins there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics import CatMetric

from nbkit.neuro.training.scores.class_scores import class_scores
from nbkit.neuro.training.window_module import WindowModule

MONITOR = "val_loss"


class WindowClassifier(WindowModule):
    """Base class that tells the classes of windows apart; subclasses define the network in `outputs`.

    Parameters
    ----------
    settings : dataclass
        See `WindowModule`.
    ch_names : sequence of str
    sfreq : float
        Sampling frequency, in Hz.
    classes : sequence of str
        Names of the classes, by their number in batches.
    weights : sequence of float, optional
        Weight of each class in the loss; by default all 1.
    target : str
        Column of the batches with class numbers.

    Raises
    ------
    ValueError
        If there are fewer than two classes, or not one weight per class.
    """

    monitor = MONITOR

    def __init__(
        self,
        settings: Any,
        ch_names: Sequence[str],
        sfreq: float,
        classes: Sequence[str],
        weights: Sequence[float] | None = None,
        target: str = "target",
    ) -> None:
        super().__init__(settings, ch_names, sfreq, target)
        self.classes = tuple(classes)
        weights = [1.0] * len(self.classes) if weights is None else list(weights)
        if len(self.classes) < 2 or len(weights) != len(self.classes):
            raise ValueError(
                f"Got the classes {', '.join(self.classes) or '(none)'} with {len(weights)} weights; give two classes "
                "or more, and one weight for each."
            )
        self.register_buffer("class_weight", torch.tensor(weights, dtype=torch.float32))
        # Joined over all processes when computed; never part of the weights.
        self._true, self._seen = CatMetric(nan_strategy="disable"), CatMetric(nan_strategy="disable")

    def forward(self, windows: Tensor) -> Tensor:
        """Return the probabilities of the classes, shape (batch, classes), for windows in uV."""
        return self.outputs(windows).float().softmax(dim=1)

    def predicted(self, windows: Tensor) -> Tensor:
        return self(windows)

    def loss(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Return the mean cross-entropy of a batch, in which each window weighs as its class does."""
        return F.cross_entropy(self.outputs(batch["window"]).float(), batch[self.target].long(), self.class_weight)

    def weight(self, batch: Mapping[str, Tensor]) -> Tensor:
        return self.class_weight[batch[self.target].long()].sum()

    def on_validation_epoch_start(self) -> None:
        self._forget()

    def validation_step(self, batch: Mapping[str, Tensor], batch_idx: int) -> None:
        self._true.update(batch[self.target].float())
        self._seen.update(self(batch["window"]))

    def on_validation_epoch_end(self) -> None:
        if self._true.update_called:
            self.log_dict(self.validation_scores(self._true.compute(), self._seen.compute()))
        self._forget()  # a checkpoint holds no predictions

    def validation_scores(self, true: Tensor, predicted: Tensor) -> dict[str, float]:
        """Return the weighted cross-entropy and `class_scores` of a validation set; those that are undefined are left
        out."""
        true, predicted = true.long().cpu(), predicted.double().cpu()
        logs = predicted.clamp_min(1e-12).log()
        found = {MONITOR: float(F.nll_loss(logs, true, self.class_weight.double().cpu()))}
        if bool(torch.isfinite(predicted).all()):
            scores = class_scores(true.numpy(), predicted.numpy())
            found |= {f"val_{name}": value for name, value in scores.items() if value == value}
        return found

    def _forget(self) -> None:
        self._true.reset()
        self._seen.reset()
