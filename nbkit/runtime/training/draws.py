"""Random numbers that are derived from the seed and a position, never stored.

Every random number of a training is a function of the seed and a position: (epoch) for the order, (epoch, index) for an
item, (epoch, batch) for a step, and also the rank if several processes train together. There is no generator state to
store, so none can be lost, and a session that starts anywhere draws what an uninterrupted run would have drawn there.
"""

from __future__ import annotations

import hashlib
import random
import struct
import sys
from typing import Any

import numpy as np


def derive(word: str, *position: int) -> bytes:
    """Return 32 bytes that depend only on a word and on integers, not on the platform or on ``hash()``.

    Parameters
    ----------
    word : str
        The purpose of the numbers; different words give independent numbers at the same position.
    *position : int
        For example seed, epoch and index; each fits into 64 bits.
    """
    packed = struct.pack(f"<{len(position)}q", *position)
    return hashlib.blake2b(packed, digest_size=32, person=word.encode()[:16]).digest()


def order(seed: int, epoch: int, n: int) -> np.ndarray:
    """Return the order of the items in an epoch.

    Returns
    -------
    indices : array of shape (n,), int64
        A permutation of 0 .. n - 1.
    """
    return _legacy("order", seed, epoch).permutation(n)


def weighted_order(seed: int, epoch: int, weights: np.ndarray, count: int, replacement: bool) -> np.ndarray:
    """Return the weighted draws of one epoch.

    Parameters
    ----------
    weights : array of shape (n,)
        Non-negative, not all 0.
    count : int
        Draws in an epoch.
    replacement : bool
        Whether an item may be drawn twice.

    Returns
    -------
    indices : array of shape (count,), int64
    """
    generator = _legacy("weighted", seed, epoch)
    weights = np.asarray(weights, dtype=np.float64)
    if replacement:
        edges = np.cumsum(weights)
        return np.searchsorted(edges, generator.random_sample(count) * edges[-1], side="right").astype(np.int64)
    # Efraimidis and Spirakis (2006), doi:10.1016/j.ipl.2005.11.003: the largest u^(1/w) are a weighted draw
    with np.errstate(divide="ignore"):
        keys = np.log(generator.random_sample(len(weights))) / weights
    return np.argsort(-keys, kind="stable")[:count].astype(np.int64)


def grouped_batches(seed: int, epoch: int, groups: np.ndarray, size: int, drop_last: bool = False) -> list[np.ndarray]:
    """Return the batches of one epoch, each of items of one group; every item is in one batch.

    Parameters
    ----------
    groups : int array of shape (n,)
        Group of each item.
    size : int
        Items of a batch. The last batch of each group has the rest, or is left out with ``drop_last``.

    Returns
    -------
    batches : list of int64 array
        Indices of items, in the order of the epoch.
    """
    whole = order(seed, epoch, len(groups))
    batches = []
    for group in np.unique(groups):
        own = whole[groups[whole] == group]
        last = len(own) // size * size if drop_last else len(own)
        batches += [own[begin : begin + size] for begin in range(0, last, size)]
    return [batches[place] for place in _legacy("batches", seed, epoch).permutation(len(batches))]


def seed_item(seed: int, epoch: int, index: int) -> None:
    """Seed the global generators for one item of the training data, in a worker or in the main process."""
    _seed_all(derive("item", seed, epoch, index))


def seed_epoch(seed: int, epoch: int, rank: int = 0) -> None:
    """Seed the global generators for the hooks at the start of an epoch."""
    _seed_all(derive("epoch", seed, epoch, *_others(rank)))


def seed_batch(seed: int, epoch: int, batch: int, rank: int = 0) -> None:
    """Seed the global generators for what Lightning does with a batch between loading it and the step."""
    _seed_all(derive("batch", seed, epoch, batch, *_others(rank)))


def seed_step(seed: int, epoch: int, batch: int, rank: int = 0) -> None:
    """Seed the global generators for one training step (dropout, masks, noise)."""
    _seed_all(derive("step", seed, epoch, batch, *_others(rank)))


def _others(rank: int) -> tuple[int, ...]:
    # rank 0 draws what a single process draws
    return (rank,) if rank else ()


def seed_validation(seed: int, loader: int, batch: int) -> None:
    """Seed the global generators for one validation batch, equally in every validation."""
    _seed_all(derive("validation", seed, loader, batch))


def seed_validation_item(seed: int, epoch: int, index: int) -> None:
    """Seed the global generators for one item of the validation data, equally in every epoch."""
    _seed_all(derive("validation item", seed, index))


def _legacy(word: str, *position: int) -> Any:
    # numpy guarantees the stream of RandomState, but not that of Generator, and a host may update numpy mid-training
    return np.random.RandomState(np.frombuffer(derive(word, *position), dtype="<u4"))


def _seed_all(material: bytes) -> None:
    for_python, for_numpy, for_torch = material[:16], material[16:20], material[20:28]
    random.seed(int.from_bytes(for_python, "little"))
    np.random.seed(int.from_bytes(for_numpy, "little"))
    torch = sys.modules.get("torch")
    if torch is None:
        return
    number = int.from_bytes(for_torch, "little") >> 1
    # torch.manual_seed also seeds all other backends, which costs 100 us per call; training uses only these two
    torch.default_generator.manual_seed(number)
    if torch.cuda.is_initialized() and not torch.cuda._is_in_bad_fork():
        torch.cuda.manual_seed(number)
