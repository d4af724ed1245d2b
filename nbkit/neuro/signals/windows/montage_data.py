"""Training and validation windows of several montages, in batches of one montage each.

Every window is used; only batches are kept apart, because windows of other channels do not fit into one Tensor. A batch
names its channels. One assignment of subjects to sides holds for the whole store, so no subject is on two sides, also
if it has recordings of two montages.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
from torch.utils.data import BatchSampler, DataLoader, Dataset, default_collate

from nbkit.neuro.signals.assignment import SHARES, SIDES, assign
from nbkit.neuro.signals.windows.montages import Montage, group_by_montage
from nbkit.neuro.signals.windows.shards import WindowShards
from nbkit.neuro.signals.windows.window_data import place_of


class MontageWindows(Dataset):
    """Windows of several `WindowShards`, one after the other; each sample names its channels.

    Parameters
    ----------
    parts : sequence of WindowShards
        One for each montage, the one of most windows first; some may be empty.
    """

    def __init__(self, parts: Sequence[WindowShards]) -> None:
        self.parts = tuple(parts)
        self.montage_of = np.repeat(np.arange(len(self.parts)), [len(part) for part in self.parts])
        self._begins = np.cumsum([0, *(len(part) for part in self.parts)])

    def __len__(self) -> int:
        return len(self.montage_of)

    def __getitem__(self, index: int) -> dict[str, Any]:
        montage = int(self.montage_of[index])
        part = self.parts[montage]
        return {**part[int(index - self._begins[montage])], "ch_names": part.ch_names}

    @property
    def subjects(self) -> np.ndarray:
        """Name of the subject of each window."""
        return np.concatenate([part.subjects for part in self.parts])


class MontageBatches(BatchSampler):
    """Batches of windows of one montage each.

    ``groups`` tells nbkit's loop the montage of each window; it derives the order of the batches from the seed and the
    epoch, and a training resumes exactly. Elsewhere, this sampler draws the order itself.

    Parameters
    ----------
    groups : int array of shape (windows,)
        Montage of each window.
    batch_size : int
    generator : torch.Generator, optional
        For a new order in each epoch; None keeps the order of the windows.
    """

    drop_last = False

    def __init__(self, groups: np.ndarray, batch_size: int, generator: torch.Generator | None = None) -> None:
        self.groups, self.batch_size, self.generator = np.asarray(groups), batch_size, generator

    def __len__(self) -> int:
        return int((-(-np.unique(self.groups, return_counts=True)[1] // self.batch_size)).sum())

    def __iter__(self) -> Iterator[list[int]]:
        def shuffled(values: np.ndarray) -> np.ndarray:
            return values if self.generator is None else values[torch.randperm(len(values), generator=self.generator)]

        batches = []
        for group in np.unique(self.groups):
            own = shuffled(np.flatnonzero(self.groups == group))
            batches += [own[begin : begin + self.batch_size] for begin in range(0, len(own), self.batch_size)]
        for place in shuffled(np.arange(len(batches))):
            yield batches[place].tolist()


def collate_montage(samples: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return a batch of windows of one montage, with its ``ch_names`` once.

    Raises
    ------
    ValueError
        If the samples have different channels.
    """
    names = {tuple(sample["ch_names"]) for sample in samples}
    if len(names) > 1:
        raise ValueError(
            f"A batch holds windows of {len(names)} montages ({', '.join(str(len(n)) for n in names)} channels). Load "
            "them with MontageBatches."
        )
    batch = default_collate([{k: v for k, v in sample.items() if k != "ch_names"} for sample in samples])
    return {**batch, "ch_names": names.pop()}


class MontageData(lightning.LightningDataModule):
    """Lightning data module of windows of all montages of a store.

    A store of one montage gives the samples and the order that `WindowData` gives.

    Parameters
    ----------
    paths : path or sequence of path
        Shards (see `WindowShards`).
    batch_size : int
    purpose, split, fractions, fold, seed, num_workers
        See `WindowData`. Windows of the test side are not used: they belong to later phases.
    misfit : callable, optional
        Of the montage of most windows and another one, returns why the other cannot be trained on with it, or "".
        Those are left out and named.
    say : callable
        Prints one line for each montage that is left out, or has nobody on the training side.
    """

    def __init__(
        self,
        paths: str | Path | Sequence[str | Path],
        batch_size: int = 64,
        *,
        purpose: str | None = None,
        split: str = "auto",
        fractions: Sequence[float] = SHARES,
        fold: str | None = None,
        seed: int = 2025,
        num_workers: int = 0,
        misfit: Callable[[Montage, Montage], str] | None = None,
        say: Callable[[str], None] = print,
    ) -> None:
        super().__init__()
        if split not in ("subject", "recording", "auto"):
            raise ValueError(f"Unknown {split=}; it may be subject, recording or auto.")
        if len(fractions) not in (2, 3):
            raise ValueError(f"{fractions=} must have two or three shares, for training, validation and test.")
        self.batch_size, self.seed, self.num_workers = batch_size, seed, num_workers
        self.montages: list[Montage] = []
        for montage in group_by_montage(paths, purpose):
            why = misfit(self.montages[0], montage) if misfit is not None and self.montages else ""
            if why:
                say(f"Left out: {montage}: {why}")
            else:
                self.montages.append(montage)
        parts = [WindowShards(montage.paths, (), purpose) for montage in self.montages]
        subjects = np.concatenate([part.subjects for part in parts])
        files = np.concatenate([np.array([place_of(p) for p in part.paths])[part.shard_of] for part in parts])
        self.split = ("subject" if len(set(subjects)) > 1 else "recording") if split == "auto" else split
        names = subjects if self.split == "subject" else files
        begins = np.cumsum([0, *(len(part) for part in parts)])
        sides = []
        for chosen in assign(names.tolist(), fractions, seed, fold):
            inside = np.isin(names, sorted(chosen))
            sides.append([part.subset(inside[b : b + len(part)]) for b, part in zip(begins, parts, strict=False)])
        self._sides = tuple(MontageWindows(side) for side in sides)
        for place, montage in enumerate(self.montages):
            if not len(sides[0][place]):
                say(
                    f"Not trained on: {montage}: none of its {self.split}s is on the training side. Use more of them, "
                    "or another FOLD."
                )

    @property
    def train_dataset(self) -> MontageWindows:
        return self._side(0)

    @property
    def val_dataset(self) -> MontageWindows:
        return self._side(1)

    @property
    def seen(self) -> tuple[str, ...]:
        """Subjects of training and validation, which a checkpoint names, see `signals.seen`."""
        return tuple(sorted({str(name) for side in self._sides[:2] for name in side.subjects}))

    @property
    def ch_names(self) -> tuple[str, ...]:
        """Channels of the montage of most windows."""
        return self.montages[0].ch_names

    @property
    def sfreq(self) -> float:
        """Sampling rate of the montage of most windows, in Hz."""
        return self.montages[0].sfreq

    def describe(self, key: str = "data", default: str = "real") -> str:
        """Return a fact of the training shards, such as ``data``; each different one, if montages differ in it."""
        found = dict.fromkeys(part.fact(key, default) for part in self.train_dataset.parts if len(part))
        return "; ".join(found)

    def about_montages(self) -> list[str]:
        """Return a line about each montage: channels, windows, and how many train and validate."""
        counts = [[len(part) for part in side.parts] for side in self._sides]
        return [
            f"{montage}: {counts[0][place]} for training, {counts[1][place]} for validation"
            for place, montage in enumerate(self.montages)
        ]

    def train_dataloader(self) -> DataLoader:
        order = torch.Generator().manual_seed(self.seed)
        windows = self.train_dataset
        if len(self.montages) == 1:
            return DataLoader(
                windows.parts[0], self.batch_size, shuffle=True, generator=order, num_workers=self.num_workers
            )
        batches = MontageBatches(windows.montage_of, self.batch_size, order)
        return DataLoader(windows, batch_sampler=batches, collate_fn=collate_montage, num_workers=self.num_workers)

    def val_dataloader(self) -> DataLoader:
        windows = self.val_dataset
        if len(self.montages) == 1:
            return DataLoader(windows.parts[0], self.batch_size, num_workers=self.num_workers)
        batches = MontageBatches(windows.montage_of, self.batch_size)
        return DataLoader(windows, batch_sampler=batches, collate_fn=collate_montage, num_workers=self.num_workers)

    def _side(self, number: int) -> MontageWindows:
        if not len(self._sides[number]):
            raise ValueError(f"There is no {SIDES[number]} side: its share is 0.")
        return self._sides[number]
