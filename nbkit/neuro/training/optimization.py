"""Shared parts of trainings: steps per epoch, weight decay, gradient clipping, early stopping, checks of batches."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import lightning
import torch
from torch import Tensor, nn

from nbkit.neuro.training.rates import cosine_rate

T = TypeVar("T")


def counted(settings: T, batches: int) -> T:
    """Return settings with lengths in steps, computed from lengths in epochs and the batches per epoch.

    ``steps``, ``warmup_steps`` and ``patience_steps`` that are already set (above 0) are kept.

    Raises
    ------
    ValueError
        If an epoch has no batch.
    """
    if batches < 1:
        raise ValueError(
            f"An epoch has {batches} batches: the training data hold fewer windows than one batch of "
            f"{settings.batch_size}. Use more windows or a smaller batch_size."  # type: ignore[attr-defined]
        )
    given: Any = settings
    return replace(
        given,
        steps=given.steps or given.epochs * batches,
        warmup_steps=given.warmup_steps or round(given.warmup_epochs * batches),
        patience_steps=given.patience_steps or given.patience_epochs * batches,
    )


def make_optimizer(
    module: nn.Module, settings: Any, depth_of: Callable[[str], int] | None = None, depths: int = 0
) -> dict[str, Any]:
    """Return AdamW with its learning-rate schedule, as ``configure_optimizers`` returns it.

    Weight decay is applied to matrices only; biases, norms, scales and embeddings (weights whose names end in
    ``_embed`` or ``_token``) are excluded. With ``depth_of`` and ``layer_decay`` below 1, the learning rate is
    multiplied by ``layer_decay`` for each layer from the head down (Bao et al. 2022, arXiv:2106.08254).

    Raises
    ------
    ValueError
        If ``settings.steps`` is not known yet.
    """
    if settings.steps < 1:
        raise ValueError(
            "The number of steps is 0, so there is no schedule. Call counted(settings, batches) first, with the "
            "batches of an epoch."
        )
    groups: dict[tuple[int, bool], list[Tensor]] = {}
    for name, weight in module.named_parameters():
        if weight.requires_grad:
            decays = weight.ndim > 1 and not name.endswith(("_embed", "_token"))
            groups.setdefault((depth_of(name) if depth_of else depths, decays), []).append(weight)
    layer_decay = getattr(settings, "layer_decay", 1.0)
    optimizer = torch.optim.AdamW(
        [
            {
                "params": weights,
                "lr": settings.lr * layer_decay ** (depths - depth),
                "weight_decay": settings.weight_decay if decays else 0.0,
            }
            for (depth, decays), weights in sorted(groups.items(), key=lambda item: item[0])
        ],
        lr=settings.lr,
        betas=settings.betas,
    )

    def factor(step: int) -> float:
        return cosine_rate(step, settings.steps, settings.warmup_steps, settings.min_lr / settings.lr)

    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


class Patience(lightning.Callback):
    """Callback that ends a training whose validation has not improved for a number of steps.

    Its state is saved in the checkpoint, so the count goes on in the next session.

    Parameters
    ----------
    monitor : str
        Name of a metric that is better when smaller.
    steps : int
        Number of optimizer steps.
    """

    def __init__(self, monitor: str, steps: int) -> None:
        self.monitor, self.steps = monitor, steps
        self.best, self.best_step = math.inf, 0

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        if trainer.sanity_checking or self.monitor not in trainer.callback_metrics:
            return
        value = float(trainer.callback_metrics[self.monitor])
        if value < self.best:
            self.best, self.best_step = value, trainer.global_step
        elif trainer.global_step - self.best_step >= self.steps:
            trainer.should_stop = True

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best, "best_step": self.best_step}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best, self.best_step = state_dict["best"], state_dict["best_step"]


def check_batch(batch: Mapping[str, Any], columns: Sequence[str] = ()) -> None:
    """Raise an error that names the recording if a batch has a value that is not finite.

    Call it before the batch is moved to the accelerator, so that the check causes no synchronisation there.

    Raises
    ------
    ValueError
        If a window contains NaN or infinity, or a target is missing.
    """
    windows = batch["window"]
    finite = torch.isfinite(windows).flatten(1).all(dim=1)
    for name in columns:
        finite = finite & torch.isfinite(torch.as_tensor(batch[name]).float())
    if finite.all():
        return
    place = int((~finite).nonzero()[0])
    whose = ", ".join(
        f"{name} {_plain(batch[name][place])}" for name in ("recording", "subject", "index") if name in batch
    )
    missing = [n for n in columns if not math.isfinite(float(batch[n][place]))]
    what = f"no {missing[0]}" if missing else "samples that are NaN or infinite"
    raise ValueError(
        f"A window of {whose or f'row {place} of a batch'} has {what}; nothing was trained on it. "
        "Leave the window out when the shards are written, or add its value."
    )


def _plain(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else value


class ClippedModule(lightning.LightningModule):
    """Module whose gradients are clipped to the norm ``settings.grad_clip``; 0 turns clipping off.

    The trainer's own ``gradient_clip_val`` has priority over the settings.
    """

    settings: Any
    seen: tuple[str, ...] = ()  # subjects of training and validation and of earlier phases, see `signals.seen`

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        clip = gradient_clip_val or self.settings.grad_clip
        if clip:
            self.clip_gradients(optimizer, clip, gradient_clip_algorithm or "norm")
