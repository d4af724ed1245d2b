"""The order in which the dimensions of weights and buffers lie in memory, where the training has changed it.

Sums are taken in that order, so that a network which a hook has made ``channels_last`` gives other last digits. Weights
are loaded into whatever order the module is built with; one that it did not have then is set after that.
"""

from __future__ import annotations

from typing import Any

import torch

from nbkit.runtime.training.snapshot import strides_of

Layouts = dict[str, list[int]]


def layouts(module: Any) -> Layouts:
    """Return the strides of every tensor of a module's state."""
    return {name: list(strides_of(tensor)) for name, tensor in _tensors(module).items()}


def changed_layouts(module: Any, first: Layouts, known: Layouts) -> Layouts:
    """Return the strides that differ from those that the session began with, and those that it was given.

    Parameters
    ----------
    first : dict
        What the session began with.
    known : dict
        What the checkpoint gave that the session resumed from.
    """
    return {name: now for name, now in layouts(module).items() if name in known or first.get(name, now) != now}


def put_back_layouts(module: Any, saved: Layouts) -> None:
    """Set the strides of the tensors of a module as in a checkpoint."""
    tensors = _tensors(module)
    for name, strides in saved.items():
        tensor = tensors.get(name)
        if tensor is None or len(strides) != tensor.dim() or list(strides_of(tensor)) == strides:
            continue
        # it stays the same object, which optimizers know
        like = torch.empty_strided(tensor.shape, strides, dtype=tensor.dtype, device=tensor.device)
        tensor.data = like.copy_(tensor.data)


def _tensors(module: Any) -> dict[str, torch.Tensor]:
    lazy = torch.nn.parameter.UninitializedTensorMixin
    return {
        name: value
        for name, value in module.state_dict(keep_vars=True).items()
        if isinstance(value, torch.Tensor) and value.layout is torch.strided and not isinstance(value, lazy)
    }
