"""What cannot be exact, found before the first step and refused with its place and what to do instead."""

from __future__ import annotations

from typing import Any

from nbkit.runtime.errors import UsageError
from nbkit.runtime.training.held.places import Walk

REFUSED = {
    "an iterator": "keep the place as a number and make the iterator anew, or give its owner a state_dict and a "
    "load_state_dict",
    "training_step(dataloader_iter)": "take training_step(self, batch, batch_idx)",
}


def check_scan(trainer: Any, walk: Walk) -> None:
    """Raise an error if a training holds what no later session could go on from.

    Raises
    ------
    UsageError
        With the place of the first such thing, and the remedy.
    """
    from lightning.pytorch.utilities.signature_utils import is_param_in_hook_signature

    module = trainer.lightning_module
    if is_param_in_hook_signature(module.training_step, "dataloader_iter", explicit=True):
        raise UsageError(
            f"{type(module).__name__}.training_step takes the iterator of the data (dataloader_iter) and may read any "
            f"number of batches ahead, so that the place of a step is not known. Instead "
            f"{REFUSED['training_step(dataloader_iter)']}. Nothing was trained."
        )
    for place in walk.places:
        if place.kind == "iterator" and not place.quiet and not _saves(walk.holders.get(place.parent)):
            raise UsageError(
                f"{place.path} is a {place.form}, an iterator, whose place no checkpoint can hold: a later session "
                f"would begin it again. Instead {REFUSED['an iterator']}. Nothing was trained in this session."
            )


def _saves(owner: Any) -> bool:
    """Return whether a callback or DataModule saves state of its own, which may be the place of its iterator."""
    from lightning.pytorch import Callback, LightningDataModule, LightningModule

    for kind in (Callback, LightningDataModule, LightningModule):
        if isinstance(owner, kind):
            hooks = ("on_save_checkpoint",) if kind is LightningModule else ("state_dict", "on_save_checkpoint")
            return any(getattr(type(owner), hook, None) is not getattr(kind, hook, None) for hook in hooks)
    return hasattr(owner, "state_dict") and hasattr(owner, "load_state_dict")
