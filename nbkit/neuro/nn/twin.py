"""Training from pretrained and from random weights at once, on the same batches for the same steps.

What pretraining is worth shows only beside the same network without it at an equal budget. The twin sees every batch
that its pretrained sister sees and stays a stranger to it: no weight, gradient norm or optimizer state is shared. A
checkpoint's ``state_dict`` is the pretrained model's alone, so the class without a twin reads it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from nbkit.neuro.nn.regression import WindowRegressor
from nbkit.neuro.signals.challenge import nrmse

SCRATCH = "val_nrmse_scratch"
_TWIN = "twin."


class WithTwin(WindowRegressor):
    """Beside a regressor, its twin that begins from random weights; takes what the regressor takes.

    ``class Compared(WithTwin, Regressor): alone = Regressor`` is all that a system writes.

    Attributes
    ----------
    alone : type
        The regressor without a twin.
    twin : WindowRegressor
        Of the same settings and shape.
    """

    alone: type[WindowRegressor]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.twin = self.alone(*args, **kwargs)
        self._twins: list[tuple[Tensor, Tensor]] = []

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_save_checkpoint(checkpoint)
        weights = checkpoint["state_dict"]
        names = [name for name in weights if name.startswith(_TWIN)]
        checkpoint["scratch_twin"] = {name.removeprefix(_TWIN): weights.pop(name) for name in names}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["state_dict"].update({_TWIN + n: w for n, w in checkpoint["scratch_twin"].items()})

    def training_step(self, batch: Mapping[str, Tensor], batch_idx: int) -> Tensor:
        loss = super().training_step(batch, batch_idx)
        twins = self.twin.loss(batch)
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

    def layer_of(self, name: str) -> int:
        return super().layer_of(name.removeprefix(_TWIN))

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
