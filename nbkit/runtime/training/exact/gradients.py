"""Gradients that are pending between two batches.

With automatic optimization, Lightning clears the gradients of the optimized parameters before the first batch of every
accumulation. There nothing is pending, and checkpoints stay small. Everywhere else, and with manual optimization
always, a gradient that a parameter holds may still be used, so that it is saved with the state.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from nbkit.runtime.errors import UsageError
from nbkit.runtime.training.ranks.ranks import Ranks


def at_boundary(trainer: Any, batch: int) -> bool:
    """Return whether Lightning is not in the middle of an accumulation before the given batch."""
    return not trainer.lightning_module.automatic_optimization or batch % trainer.accumulate_grad_batches == 0


def clears_next(trainer: Any, batch: int) -> bool:
    """Return whether Lightning clears the optimized gradients in the given batch before it computes new ones."""
    from lightning.pytorch import LightningModule

    module = trainer.lightning_module
    plain = type(module).optimizer_zero_grad is LightningModule.optimizer_zero_grad
    return bool(module.automatic_optimization and plain and at_boundary(trainer, batch))


def pending(trainer: Any, batch: int) -> dict[str, torch.Tensor]:
    """Return the gradients that an uninterrupted run would still hold when the given batch is trained, by name."""
    cleared: set[int] = set()
    if clears_next(trainer, batch):
        cleared = {
            id(p) for optimizer in trainer.optimizers for group in optimizer.param_groups for p in group["params"]
        }
    return {name: p.grad for name, p in _parameters(trainer) if p.grad is not None and id(p) not in cleared}


def put_back(trainer: Any, saved: dict[str, torch.Tensor]) -> None:
    """Set the gradients to those of a checkpoint."""
    for name, parameter in _parameters(trainer):
        gradient = saved.get(name)
        if gradient is None:
            continue
        if gradient.layout is torch.strided:
            # in the layout of its parameter: sums over it are then taken in the same order
            parameter.grad = torch.empty_like(parameter, dtype=gradient.dtype).copy_(gradient)
        else:
            parameter.grad = gradient.to(parameter.device)


def check_shared(gradients: dict[str, torch.Tensor], ranks: Ranks) -> None:
    """Raise an error if processes hold different pending gradients, of which only those of rank 0 would be saved."""
    if ranks.size == 1:
        return
    sums = ranks.gather({"sum": float(sum(gradient.double().sum() for gradient in gradients.values()))})
    if sums and len({repr(each) for each in sums}) > 1:
        raise UsageError(
            "The processes hold different gradients between two batches (no_sync in manual optimization), which cannot "
            "be saved. Let every backward pass sync, or step before training_step returns. Earlier checkpoints are "
            "unchanged."
        )


def _parameters(trainer: Any) -> Iterator[tuple[str, Any]]:
    seen = set()
    for name, parameter in trainer.lightning_module.named_parameters():
        seen.add(id(parameter))
        yield name, parameter
    # optimizers may also hold tensors that are not parameters of the module
    for number, optimizer in enumerate(trainer.optimizers):
        for index, group in enumerate(optimizer.param_groups):
            for place, parameter in enumerate(group["params"]):
                if id(parameter) not in seen:
                    seen.add(id(parameter))
                    yield f"optimizers.{number}.{index}.{place}", parameter
