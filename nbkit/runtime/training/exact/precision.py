"""Weights with more digits than the module is built with, so that loading them loses none.

Lightning converts a module to double precision only after it has loaded the weights of a checkpoint into it.
"""

from __future__ import annotations

from typing import Any

import torch


def widen(trainer: Any) -> None:
    """Convert a module that is trained in double precision before anything is loaded into it or copied from it."""
    if trainer.precision == "64-true":
        trainer.lightning_module.double()


def give_saved_precision(module: Any, state: dict[str, Any]) -> None:
    """Give every tensor of a module the precision of the ``state_dict`` of a checkpoint where that is higher."""
    for name, here in module.state_dict(keep_vars=True).items():
        saved = state.get(name)
        if isinstance(here, torch.nn.parameter.UninitializedTensorMixin) or not _floats(here, saved):
            continue
        if torch.finfo(saved.dtype).eps < torch.finfo(here.dtype).eps:
            here.data = here.data.to(saved.dtype)


def _floats(*values: Any) -> bool:
    return all(isinstance(value, torch.Tensor) and value.is_floating_point() for value in values)
