"""The validation data of a training, described so that two sessions can compare them.

The best checkpoint, an early stop and some schedules are chosen by scores, and scores over two different sets are not
comparable. So number, batches, order and a few items of the validation data are recorded while something is chosen by
them, in the same way and as cheaply as those of the training data.
"""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader, IterableDataset

from nbkit.runtime.training.loader import ResumableLoader
from nbkit.runtime.training.same_training import differences
from nbkit.runtime.training.sameness.contents import different, draw_contents
from nbkit.runtime.training.sameness.functions import changed_function, described_function

_LONGEST_S = 3.0  # of drawing items, after which those of further loaders are not drawn
_APART = ("contents", "collate_fn")  # compared with a tolerance

Facts = dict[str, dict[str, Any]]
"""By the name of the loader: number of items, size and order of the batches, a few items, the collate function."""


def validation_facts(trainer: Any, seed: int, say: Callable[[str], object]) -> Facts:
    """Return what a receipt records of the validation data; empty without any.

    Parameters
    ----------
    trainer : lightning.Trainer
        Has fetched its loaders.
    seed : int
    say : callable
        Prints one line.
    """
    restores = type(trainer.datamodule).state_dict is not LightningDataModule.state_dict
    facts: Facts = {}
    began = time.monotonic()
    for name, loader in _loaders(trainer.val_dataloaders, "validation"):
        facts[name] = _batches(loader)
        # a DataModule that restores a state of its own may give other items by now
        if restores or not isinstance(loader, ResumableLoader | DataLoader):
            continue
        facts[name]["collate_fn"] = _collate(loader)
        if not isinstance(loader.dataset, IterableDataset) and time.monotonic() - began < _LONGEST_S:
            facts[name]["contents"], why = draw_contents(loader.dataset, seed)
            if why:
                say(f"The content of the {name} data is not compared from session to session: {why}.")
    return facts


def changed_validation(before: Facts, now: Facts) -> list[str]:
    """Return how the validation data of two sessions differ, in words; what one of them does not know is no change."""
    if before.keys() != now.keys():
        return [f"validation data: {', '.join(before) or 'none'} -> {', '.join(now) or 'none'}"]
    found = []
    for name, then in before.items():
        present = now[name]
        known = (then.keys() & present.keys()) - set(_APART)
        found += [
            *differences(
                {f"{name}.{key}": then[key] for key in known}, {f"{name}.{key}": present[key] for key in known}
            ),
            *(f"{name}: {words}" for words in different(then.get("contents", {}), present.get("contents", {}))),
            *changed_function(f"{name}.collate_fn", then.get("collate_fn"), present.get("collate_fn")),
        ]
    return found


def _loaders(given: Any, name: str) -> Iterator[tuple[str, Any]]:
    if isinstance(given, Mapping):
        for key, part in given.items():
            yield from _loaders(part, f"{name}[{key!r}]")
    elif isinstance(given, list | tuple):
        for number, part in enumerate(given):
            yield from _loaders(part, f"{name}[{number}]")
    elif given is not None:
        yield name, given


def _batches(loader: Any) -> dict[str, Any]:
    """Return the number of items of a loader, and the size and order of its batches."""
    if isinstance(loader, ResumableLoader):
        known = loader.identity() | ({"order": "drawn, for a part of the set"} if loader.sampled else {})
        return {key: known[key] for key in ("samples", "batch_size", "drop_last", "order", "groups") if key in known}
    if not isinstance(loader, DataLoader):
        return {"kind": type(loader).__qualname__}
    batches = loader.batch_sampler
    found: dict[str, Any] = {
        "order": type(loader.sampler).__qualname__,
        "drop_last": getattr(batches, "drop_last", False),
    }
    found["batch_size"] = loader.batch_size or getattr(batches, "batch_size", None)
    groups = getattr(batches, "groups", None)
    if groups is not None:
        found["groups"] = hashlib.blake2b(np.asarray(groups, "<i8").tobytes(), digest_size=8).hexdigest()
    with contextlib.suppress(TypeError):  # a stream has no length
        found["samples"] = len(loader.dataset)
    return found


def _collate(loader: Any) -> dict[str, Any]:
    return loader.collate if isinstance(loader, ResumableLoader) else described_function(loader.collate_fn)
