"""Collate functions that keep something from one batch to the next, such as a count of their own.

In the process that trains, what they keep is saved. In workers each has its own, and no later session could go on from
there: then two calls with the same items give two different batches, which is refused before the first step.
"""

from __future__ import annotations

import copy
import os
import random
import types
from typing import Any

import numpy as np
import torch
from torch.utils.data import get_worker_info

from nbkit.runtime.errors import UsageError
from nbkit.runtime.training.held.generators import digest_of
from nbkit.runtime.training.held.values import NotPlain, digest, form_of, value_of


class Collated:
    """The user's collate function; the first batch of every worker tells whether it keeps something.

    Parameters
    ----------
    collate : callable
    items : SeededItems
        Knows the generators that are seeded before an item.
    """

    def __init__(self, collate: Any, items: Any) -> None:
        self.collate, self.items = collate, items
        self._checked: int | None = None  # process that has checked it

    def __call__(self, rows: list[Any]) -> Any:
        if self._checked == os.getpid() or get_worker_info() is None:
            return self.collate(rows)
        self._checked = os.getpid()
        before = digest_of([self.collate])
        drawn = random.getstate(), np.random.get_state(), torch.get_rng_state()
        held = [(generator, form_of(generator)) for generator in self.items._generators]
        try:
            kept = copy.deepcopy(rows)
        except Exception:  # whatever a user's own item raises: then nothing can be compared
            return self.collate(rows)
        batch = self.collate(rows)
        if digest_of([self.collate]) != before:
            random.setstate(drawn[0])
            np.random.set_state(drawn[1])
            torch.set_rng_state(drawn[2])
            for generator, form in held:
                value_of(form, generator)
            self._compare(batch, self.collate(kept))
        return batch

    def _compare(self, batch: Any, again: Any) -> None:
        try:
            same = digest(form_of(batch)) == digest(form_of(again))
        except NotPlain:
            return
        if not same:
            raise UsageError(
                f"collate_fn ({type(self.collate).__name__}) gave two different batches of the same items: it keeps "
                "something from one batch to the next, and each worker keeps its own, so that no later session could "
                "go on from there. Let a batch depend on its items and on random numbers only, or take num_workers=0, "
                "where what it keeps is saved. Nothing was trained in this session."
            )


def watched(collate: Any, items: Any) -> Any:
    """Return a collate function that is checked in workers; one of a library as it is."""
    of_torch = isinstance(collate, types.FunctionType) and str(collate.__module__).startswith("torch.")
    return collate if of_torch else Collated(collate, items)


def collate_of(loader: Any) -> Any:
    """Return the user's collate function of a loader; None without one."""
    found = getattr(getattr(loader, "_inner", loader), "collate_fn", None)
    return found.collate if isinstance(found, Collated) else found
