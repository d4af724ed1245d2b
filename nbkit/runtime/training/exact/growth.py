"""Buffers that grow during a training, such as a memory bank, and tensors that a later session would not have.

A grown buffer is given its saved shape before the weights are loaded. Only a buffer that had another shape when its
training began is treated so: a model that was built with another shape is still another model.
"""

from __future__ import annotations

from typing import Any

import torch

from nbkit.runtime.errors import UsageError

Shapes = dict[str, list[int] | None]


def shapes(module: Any) -> Shapes:
    """Return the shape of every tensor of a module's state; a lazy parameter has none yet."""
    lazy = torch.nn.parameter.UninitializedTensorMixin
    return {
        name: None if isinstance(value, lazy) else list(value.shape)
        for name, value in module.state_dict(keep_vars=True).items()
        if isinstance(value, torch.Tensor)
    }


def grown(module: Any, first: Shapes) -> Shapes:
    """Return the buffers that have another shape than when the session began, with that first shape; None for none.

    Raises
    ------
    UsageError
        If parameters have come, gone or changed their shape: a later session could not load them.
    """
    now, buffers = shapes(module), dict(module.named_buffers())
    lazy = {name for name, shape in first.items() if shape is None}
    changed = {name for name in set(now) | set(first) if now.get(name) != first.get(name)} - lazy
    other = sorted(name for name in changed if name not in buffers)
    if other:
        shown = ", ".join(other[:8]) + (f" and {len(other) - 8} more" if len(other) > 8 else "")
        raise UsageError(
            f"The module has other parameters than when its training began: {shown}. A later session could not load "
            "them, so nothing was saved; earlier checkpoints are unchanged. Create all parameters in __init__ or "
            "configure_model and freeze those that join later (requires_grad = False)."
        )
    return {name: first.get(name) for name in sorted(changed)}


def give_saved_shapes(module: Any, state: dict[str, Any], saved: Shapes, came: Shapes) -> None:
    """Give grown buffers the shape of a checkpoint, so that it can be loaded.

    Parameters
    ----------
    state : dict
        The ``state_dict`` of the checkpoint.
    saved : dict
        The names of the grown buffers, with the shapes that the session of the checkpoint began with.
    came : dict
        The shapes that this session began with.
    """
    for name, first in saved.items():
        if came.get(name) != first or name not in state:
            continue  # another model, which the loading itself reports
        path, _, leaf = name.rpartition(".")
        owner = module.get_submodule(path)
        here = owner._buffers.get(leaf)
        device = here.device if here is not None else module.device
        owner.register_buffer(leaf, torch.empty_like(state[name], device=device))
