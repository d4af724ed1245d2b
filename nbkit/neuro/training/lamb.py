"""The optimizer LAMB, which neither torch nor any library of this project has.

You et al. 2020, https://arxiv.org/abs/1904.00962, algorithm 2: Adam's step with decoupled decay, scaled for each tensor
by the norm of its weights over that of the step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor


class Lamb(torch.optim.Optimizer):
    """LAMB, for large batches.

    Parameters
    ----------
    params : iterable
        Weights, or groups of them.
    lr : float
    betas : tuple of float
        Decay of the running means of gradients and of their squares.
    eps : float
    weight_decay : float
        Groups without weight decay are not scaled, as in the reference code of next-scale prediction.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-6,
        weight_decay: float = 0.0,
    ) -> None:
        if lr < 0 or eps < 0 or not all(0 <= beta < 1 for beta in betas):
            raise ValueError(f"{lr=}, {betas=}, {eps=}: lr and eps must not be negative, betas lie in [0, 1).")
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take one step; ``closure``, if given, computes the loss again."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None:
                    weight.add_(self._change(weight, group), alpha=-group["lr"])
        return loss

    def _change(self, weight: Tensor, group: dict[str, Any]) -> Tensor:
        """Return what is subtracted from a weight, before the learning rate."""
        state = self.state[weight]
        if not state:
            state["step"] = torch.zeros(())
            state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(weight), torch.zeros_like(weight)
        first, second = group["betas"]
        state["step"] += 1
        state["exp_avg"].lerp_(weight.grad, 1 - first)
        state["exp_avg_sq"].mul_(second).addcmul_(weight.grad, weight.grad, value=1 - second)
        count = float(state["step"])
        mean, square = state["exp_avg"] / (1 - first**count), state["exp_avg_sq"] / (1 - second**count)
        change = mean / (square.sqrt() + group["eps"])
        if not group["weight_decay"]:
            return change
        change = change + group["weight_decay"] * weight
        size, length = weight.norm(), change.norm()
        return change * torch.where((size > 0) & (length > 0), size / length.clamp_min(1e-30), 1.0)
