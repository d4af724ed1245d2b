"""A DataLoader that can start at any batch.

The order of an epoch and the random numbers of every item are functions of (seed, epoch, index), so the whole state of
a loader is the pair (epoch, batch). Starting at batch b slices the list of indices and reads no data. The number of
workers has no influence.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Generator, Iterator, Mapping
from functools import cached_property
from typing import Any

import numpy as np
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    Sampler,
    SequentialSampler,
    WeightedRandomSampler,
)
from torch.utils.data.distributed import DistributedSampler

from nbkit.runtime.errors import UsageError
from nbkit.runtime.training.draws import grouped_batches, order, seed_batch, weighted_order
from nbkit.runtime.training.held.collated import watched
from nbkit.runtime.training.held.items import SeededItems, said_in_worker
from nbkit.runtime.training.sameness.contents import different, numbers_of, same_numbers
from nbkit.runtime.training.sameness.functions import changed_function, described_function

_ALLOWED = (
    "Allowed for training is one torch DataLoader over a dataset with __len__ and __getitem__, with shuffle=True, "
    "shuffle=False, a WeightedRandomSampler, or a batch sampler with groups (an integer for each item), whose batches "
    "are of one group"
)


class ResumableLoader:
    """Iterate over the batches of a plain DataLoader's dataset in a derived order, starting at any batch.

    It has ``state_dict`` and ``load_state_dict``, so Lightning treats it as resumable.

    Parameters
    ----------
    plain : DataLoader
        The user's loader; its dataset, collate function, batch size, workers and other options are kept.
    seed : int
    rank, world_size : int
        The share of every epoch that this process sees, split as DistributedSampler splits it.
    training : bool
        False for validation: every pass is the same, whatever the epoch.
    accept_changes : bool
        Continue even if the items, their order, the batch size or number of processes differ from the checkpoint.
    contents : dict or None
        Sketch of some items, from `nbkit.runtime.training.sameness.contents`, to be compared with the checkpoint's.
    say : callable or None
        Prints one line.

    Raises
    ------
    UsageError
        If the order of the loader cannot be derived.
    """

    def __init__(
        self,
        plain: DataLoader,
        seed: int,
        *,
        rank: int = 0,
        world_size: int = 1,
        training: bool = True,
        accept_changes: bool = False,
        contents: dict[str, Any] | None = None,
        say: Callable[[str], object] | None = None,
    ) -> None:
        self.seed, self.training, self.accept_changes = seed, training, accept_changes
        self.contents, self.say = contents or {}, say
        self.epoch = self.start = 0
        # called with the number of every batch before it is fetched; set by `Checkpointing`
        self.before_batch: Callable[[int], None] = lambda number: None
        self.ends: Callable[[int], bool] = lambda number: False  # whether an iteration is over before a batch
        self.sampled = False  # whether a part is read, in the order of epoch 0
        self.failed = False  # whether the last iteration ended with an error raised by the dataset
        self._indices = _Indices(plain, seed, rank, world_size)
        # a DataLoader with a batch sampler of its own has no batch_size
        batches = plain.batch_sampler if self._indices.kind == "grouped" else plain
        self._places = _Places(self._indices, batches.batch_size, batches.drop_last, self)
        self._inner = _rebuilt(plain, self._places, seed, training)
        self.collate = described_function(plain.collate_fn)
        self._running: Generator[Any, None, None] | None = None

    # Lightning and modules look these up on a loader
    @property
    def dataset(self) -> Dataset:
        return self._inner.dataset.dataset

    @property
    def batch_size(self) -> int:
        return self._places.batch_size

    @property
    def num_workers(self) -> int:
        return self._inner.num_workers

    @property
    def batch_sampler(self) -> Sampler:
        """Return the batch sampler; Lightning calls ``set_epoch`` on its ``sampler``, which is this loader."""
        return self._places

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch of the next iteration."""
        self.epoch = epoch

    def __len__(self) -> int:
        """Return the number of batches in a whole epoch, wherever the next iteration starts."""
        return self._places.whole()

    def __iter__(self) -> Iterator[Any]:
        self.close()
        self._running = self._iterate()
        return self._running

    def _iterate(self) -> Generator[Any, None, None]:
        # the body of a generator runs at the first next(): workers start when epoch and batch are known
        epoch, start = self.epoch, self.start
        batches: Iterator[Any] | None = None
        # not "for batch in batches": the number of the batch is part of its seed
        for number in range(start, len(self)):
            self.before_batch(number)
            if self.ends(number):
                break
            if batches is None:
                batches = iter(self._inner)  # after the state is as it was: workers start with a copy of it
            try:
                batch = next(batches)
            except BaseException as error:
                self.failed = True
                if said := said_in_worker(error):
                    raise UsageError(said) from None
                raise
            # the next iteration starts at the beginning again, even if this one is left half-way
            self.start = 0
            if self.training:
                seed_batch(self.seed, epoch, number, self._indices.rank)
            yield batch

    def sample(self, ends: Callable[[int, int], bool]) -> None:
        """Read the items in the shuffled order of epoch 0, and end every iteration where a function says so."""
        self.sampled = self._indices.fixed = True
        if self._indices.groups is None:
            self._indices.kind = "shuffled"
        self.ends = lambda number: ends(number, len(self))

    def close(self) -> None:
        """Stop the workers of an iteration that was not finished."""
        if self._running is not None:
            self._running.close()
            self._running = None

    def end(self) -> None:
        """Stop all workers, including persistent ones that wait for another epoch."""
        self.close()
        self._inner._iterator = None  # torch keeps persistent workers here until the loader itself is deleted

    @property
    def global_batch(self) -> int:
        """Number of samples in one batch of all processes together."""
        return self.batch_size * self._indices.world_size

    def identity(self) -> dict[str, Any]:
        """Return the values that a position inside an epoch depends on."""
        return {
            "samples": len(self._indices.dataset),
            "batch_size": self.batch_size,
            "world_size": self._indices.world_size,
            "seed": self.seed,
            "drop_last": self._places.drop_last,
            **self._indices.rule,
        }

    def state_dict(self) -> dict[str, Any]:
        place = {"epoch": self.epoch, "batch": self.start}
        return {**place, **self.identity(), "contents": self.contents, "collate_fn": self.collate}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Start the next iteration at ``state["epoch"]`` and ``state["batch"]``.

        Raises
        ------
        UsageError
            If the order of the items differs from that of the checkpoint.
        """
        now = self.identity()
        changed = [
            f"{name} {_shown(state[name])} -> {_shown(now[name])}"
            for name in now
            if name in state and not same_numbers(state[name], now[name])
        ]
        changed += different(state.get("contents", {}), self.contents)
        changed += changed_function("collate_fn", state.get("collate_fn"), self.collate)
        joined, before = self.global_batch, state.get("batch_size", 0) * state.get("world_size", 1)
        if self.accept_changes and state.get("world_size", 1) != now["world_size"] and before != joined:
            raise UsageError(
                f"The checkpoint was trained by {state['world_size']} process(es) with a batch_size of "
                f"{state['batch_size']}: {before} samples per step. Now {now['world_size']} process(es) with "
                f"{now['batch_size']} take {joined} per step, so its position in epoch {state['epoch']} is not valid "
                "here. Choose a batch_size that gives "
                f"{before} again, start as many processes as before, or start over with fresh=True. The checkpoint is "
                "untouched."
            )
        if changed and not self.accept_changes:
            raise UsageError(
                f"The data differ from those of the checkpoint: {', '.join(changed)}. Its position in epoch "
                f"{state['epoch']} is not valid here. Set them back (a random_split or shuffle in your code needs a "
                "generator with a seed), continue in the new order with accept_changes=True, or start over with fresh="
                "True; in a notebook RESUME = 'accept' or 'fresh', in a terminal --accept-changes or --fresh. The "
                "checkpoint is untouched."
            )
        if changed and self.say is not None:
            self.say(f"Resuming in epoch {state['epoch']} with changed data: {', '.join(changed)}")
        if state["batch"] >= len(self):
            raise UsageError(
                f"The checkpoint is at batch {state['batch']} of an epoch that now has {len(self)} batches. Use the "
                "data that it was trained on, or start over with fresh=True. The checkpoint is untouched."
            )
        self.epoch, self.start = state["epoch"], state["batch"]


class _Indices:
    """The indices of an epoch in its derived order: the share of this process."""

    def __init__(self, plain: DataLoader, seed: int, rank: int, world_size: int) -> None:
        self.kind = _kind(plain)
        self.dataset, self.sampler = plain.dataset, plain.sampler
        self.seed, self.rank, self.world_size = seed, rank, world_size
        self.groups = np.asarray(plain.batch_sampler.groups, "<i8") if self.kind == "grouped" else None
        if self.groups is not None and self.groups.shape != (len(self.dataset),):
            raise UsageError(
                f"The batch sampler has groups of shape {self.groups.shape} for {len(self.dataset)} items; it needs "
                "one integer for each item. Nothing was trained."
            )
        self.fixed = False  # whether every epoch has the order of the first

    def __len__(self) -> int:
        total = self.sampler.num_samples if self.kind == "weighted" else len(self.dataset)
        return -(-total // self.world_size)

    @cached_property
    def rule(self) -> dict[str, Any]:
        """Return what the order of the items depends on, besides their number and the seed."""
        if self.groups is not None:
            return {"order": self.kind, "groups": hashlib.blake2b(self.groups.tobytes(), digest_size=8).hexdigest()}
        if self.kind != "weighted":
            return {"order": self.kind}
        drawn = {"drawn": self.sampler.num_samples, "replacement": self.sampler.replacement}
        return {"order": self.kind, "weights": numbers_of(self.sampler.weights.numpy()), **drawn}

    def of(self, epoch: int) -> np.ndarray:
        n = len(self.dataset)
        if self.kind == "shuffled":
            whole = order(self.seed, epoch, n)
        elif self.kind == "weighted":
            weights, count = self.sampler.weights.numpy(), self.sampler.num_samples
            whole = weighted_order(self.seed, epoch, weights, count, self.sampler.replacement)
        else:
            whole = np.arange(n)
        if self.world_size == 1:
            return whole
        # as DistributedSampler does: padded from the beginning, then every world_size-th index
        # np.resize repeats the array from its beginning until the length is reached
        return np.resize(whole, len(self) * self.world_size)[self.rank :: self.world_size]

    def count(self, size: int, drop_last: bool) -> int:
        """Return the number of batches in an epoch of this process."""
        if self.groups is not None:
            own = np.unique(self.groups, return_counts=True)[1]
            whole = int((own // size if drop_last else -(-own // size)).sum())
            return -(-whole // self.world_size)
        return len(self) // size if drop_last else -(-len(self) // size)

    def batches(self, epoch: int, size: int, drop_last: bool) -> list[np.ndarray]:
        """Return the indices of each batch of this process in an epoch."""
        count, epoch = self.count(size, drop_last), 0 if self.fixed else epoch
        if self.groups is not None:
            whole = grouped_batches(self.seed, epoch, self.groups, size, drop_last)
            # whole batches go to the processes in turn, padded from the beginning
            return [whole[(place * self.world_size + self.rank) % len(whole)] for place in range(count)]
        indices = self.of(epoch)
        return [indices[batch * size : (batch + 1) * size] for batch in range(count)]


class _Places(Sampler):
    """Batches of (epoch, index) pairs, starting at the loader's batch."""

    def __init__(self, indices: _Indices, batch_size: int, drop_last: bool, loader: ResumableLoader) -> None:
        self.indices, self.batch_size, self.drop_last = indices, batch_size, drop_last
        self.loader = self.sampler = loader

    def whole(self) -> int:
        return self.indices.count(self.batch_size, self.drop_last)

    def __len__(self) -> int:
        return self.whole() - self.loader.start

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        epoch = self.loader.epoch
        batches = self.indices.batches(epoch, self.batch_size, self.drop_last)
        for batch in range(self.loader.start, self.whole()):
            yield [(epoch, index) for index in batches[batch].tolist()]


def _rebuilt(plain: DataLoader, places: _Places, seed: int, training: bool) -> DataLoader:
    return DataLoader(
        items := SeededItems(plain.dataset, plain.collate_fn, seed, training),
        batch_sampler=places,
        num_workers=plain.num_workers,
        collate_fn=watched(plain.collate_fn, items) if training else plain.collate_fn,
        pin_memory=plain.pin_memory,
        timeout=plain.timeout,
        worker_init_fn=plain.worker_init_fn,
        multiprocessing_context=plain.multiprocessing_context,
        generator=None,
        prefetch_factor=plain.prefetch_factor,
        persistent_workers=plain.persistent_workers,
    )


def _kind(plain: Any) -> str:
    """Return how a loader orders its items: ``sequential``, ``shuffled``, ``weighted`` or ``grouped``."""
    if not isinstance(plain, DataLoader) or type(plain).__iter__ is not DataLoader.__iter__:
        own = " with an __iter__ of its own" if isinstance(plain, DataLoader) else ""
        raise UsageError(f"train_dataloader returned {_a(plain)}{own}. {_ALLOWED}. Nothing was trained.")
    if isinstance(plain.dataset, IterableDataset):
        raise UsageError(
            f"The training data are an IterableDataset ({type(plain.dataset).__name__}), whose position cannot be "
            f"restored after a kill. {_ALLOWED}. Nothing was trained."
        )
    if hasattr(plain.batch_sampler, "groups") and hasattr(plain.batch_sampler, "batch_size"):
        return "grouped"
    if plain.batch_size is None or type(plain.batch_sampler) is not BatchSampler:
        raise UsageError(
            f"The DataLoader has the batch sampler {_a(plain.batch_sampler)}, whose order nbkit cannot derive. "
            f"{_ALLOWED} and a batch_size. Nothing was trained."
        )
    sampler = plain.sampler
    if type(sampler) is SequentialSampler:
        return "sequential"
    if type(sampler) is RandomSampler and not sampler.replacement and sampler.num_samples == len(plain.dataset):
        return "shuffled"
    if isinstance(sampler, DistributedSampler):
        return "shuffled" if sampler.shuffle else "sequential"
    if type(sampler) is WeightedRandomSampler:
        return "weighted"
    raise UsageError(
        f"The DataLoader has the sampler {_a(sampler)}, whose order nbkit cannot derive. {_ALLOWED}. Nothing was "
        "trained."
    )


def _shown(value: Any) -> str:
    return f"with mean {value[0]:.4g} and spread {value[1]:.4g}" if isinstance(value, list) else str(value)


def _a(thing: object) -> str:
    return f"a {type(thing).__module__}.{type(thing).__qualname__}"


def resumable_validation(loaders: Any, seed: int, ends: Callable[[int, int], bool] | None = None) -> Any:
    """Return validation loaders whose items draw the same random numbers in every pass, with any number of workers.

    Only plain sequential loaders over a dataset with indices are rebuilt, and with ``ends`` those in batches of one
    group each; all others are returned unchanged.

    Parameters
    ----------
    loaders : DataLoader, or list or tuple of them
    seed : int
    ends : callable, optional
        Whether a pass is over before a batch, by its number and that of all batches. A single loader is then read in
        an order drawn from the seed, the same in every pass.
    """
    if isinstance(loaders, list | tuple):
        return [resumable_validation(loader, seed) for loader in loaders]
    grouped = ends is not None and getattr(getattr(loaders, "batch_sampler", None), "groups", None) is not None
    if (
        type(loaders) is DataLoader
        and type(loaders.sampler) is SequentialSampler
        and (grouped or type(loaders.batch_sampler) is BatchSampler)
        and not isinstance(loaders.dataset, IterableDataset)
    ):
        loader = ResumableLoader(loaders, seed, training=False)
        if ends is not None:
            loader.sample(ends)
        return loader
    return loaders
