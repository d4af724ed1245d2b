"""Gradients clipped as the settings say, so that a checkpoint's settings carry the clipping with them."""

from __future__ import annotations

from typing import Any

import lightning
import torch


class ClippedModule(lightning.LightningModule):
    """Clip gradients by their norm to ``settings.grad_clip``; 0 clips nothing.

    What is given to the trainer (``gradient_clip_val``) wins over the settings.
    """

    settings: Any

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        clip = gradient_clip_val or self.settings.grad_clip
        if clip:
            self.clip_gradients(optimizer, clip, gradient_clip_algorithm or "norm")
