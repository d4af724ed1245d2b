"""Training, validation and test windows, split by subject.

No subject is on two sides; that is checked after every split, not only arranged. Which side a subject is on depends on
the seed and the subjects' names alone.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from nbkit.neuro.signals.windows.shards import WindowShards

SIDES = ("train", "val", "test")
CHALLENGE_CROP_SEED = 42  # the start kit's


def split_groups(
    groups: Sequence[str], fractions: Sequence[float] = (0.8, 0.1, 0.1), seed: int = 2025
) -> tuple[set[str], ...]:
    """Share groups out to sides; each side with a fraction gets at least one.

    Parameters
    ----------
    groups : sequence of str
        Names; one that comes twice counts once.
    fractions : sequence of float
        A share a side, summing to 1; the first side takes what rounding leaves.
    seed : int
        Another seed draws another split.

    Raises
    ------
    ValueError
        If fractions do not sum to 1, or there are fewer groups than sides.
    """
    if min(fractions) < 0 or abs(sum(fractions) - 1) > 1e-6 or fractions[0] == 0:
        raise ValueError(f"{fractions=} are no shares; give some that sum to 1, such as (0.8, 0.1, 0.1).")
    names = sorted(set(groups), key=lambda name: hashlib.sha256(f"{seed}:{name}".encode()).digest())
    counts = [max(1, round(share * len(names))) if share > 0 else 0 for share in fractions[1:]]
    if sum(counts) >= len(names):
        raise ValueError(
            f"{len(names)} groups ({', '.join(sorted(names)[:8])}) cannot be shared out as {tuple(fractions)}: every "
            "side needs one at least. Read more recordings, or split='recording' where all are of one subject."
        )
    sides, begin = [], 0
    for count in counts:
        sides.append(set(names[begin : begin + count]))
        begin += count
    return set(names[begin:]), *sides


def check_no_leak(*sides: WindowShards, split: str = "subject") -> None:
    """Refuse sides that share a subject (or, with ``split="recording"``, a file).

    Raises
    ------
    ValueError
        Naming what is on two sides.
    """
    seen: dict[str, int] = {}
    for number, side in enumerate(sides):
        names = side.subjects if split == "subject" else [str(side.paths[i]) for i in np.unique(side.shard_of)]
        for name in sorted({str(name) for name in names}):
            if seen.setdefault(name, number) != number:
                raise ValueError(
                    f"Leak: {split} {name} is in {SIDES[seen[name]]} and in {SIDES[number]}; a score on it would mean "
                    "nothing. Split again with WindowData."
                )


def challenge_crops(shard_of: np.ndarray, room: int, seed: int = CHALLENGE_CROP_SEED) -> np.ndarray:
    """Return each window the crop that the challenge's scoring gives it: a fresh generator a recording, read in order.

    Parameters
    ----------
    shard_of : int array of shape (windows,)
        The recording of each window.
    room : int
        Last start that fits, in samples.

    Returns
    -------
    starts : int array of shape (windows,), in samples
    """
    starts = np.zeros(len(shard_of), int)
    generators: dict[int, random.Random] = {}
    for position, shard in enumerate(shard_of):
        starts[position] = generators.setdefault(int(shard), random.Random(seed)).randint(0, room)
    return starts


class CroppedWindows(Dataset):
    """Windows of `WindowShards`, cropped: where torch's generator says in training, else at fixed places.

    Parameters
    ----------
    shards : WindowShards
    crop : int
        Samples kept.
    random_starts : bool
        True draws a place each time; False takes `challenge_crops`.
    """

    def __init__(self, shards: WindowShards, crop: int, random_starts: bool) -> None:
        if not 1 <= crop <= shards.n_times:
            raise ValueError(f"{crop=} samples of windows of {shards.n_times}; give 1 to {shards.n_times}.")
        self.shards, self.crop = shards, crop
        self._room = shards.n_times - crop
        self._starts = None if random_starts else challenge_crops(shards.shard_of, self._room)

    def __len__(self) -> int:
        return len(self.shards)

    def __getitem__(self, index: int) -> dict[str, Any]:
        sample = self.shards[index]
        start = int(torch.randint(self._room + 1, ())) if self._starts is None else int(self._starts[index])
        sample["window"] = sample["window"][:, start : start + self.crop]
        return sample


class WindowData(lightning.LightningDataModule):
    """Windows for training, validation and test, no subject on two sides.

    Parameters
    ----------
    paths : path or sequence of path
        Shards (see `WindowShards`).
    batch_size : int
    columns : sequence of str
        Numbers that come with every window; windows where one is NaN (a missing target) are left out and counted in
        ``missing``.
    may_miss : sequence of str
        Numbers that come with every window, too, and may be NaN: a model says what it does without.
    split : {"subject", "recording", "auto"}
        What stays together. ``auto``: by subject where there are several, else by recording.
    fractions : (train, val, test)
        Shares of the subjects; 0 for no test side.
    seed : int
        Of the split; it also orders a plain loader's training windows.
    num_workers : int
    purpose : str, optional
        Which windows, where recordings were cut for several purposes (see `WindowShards`).
    crop : int, optional
        Samples kept of each window: at a place drawn from torch's generator in training, fixed elsewhere.
    """

    def __init__(
        self,
        paths: str | Path | Sequence[str | Path],
        batch_size: int = 64,
        *,
        columns: Sequence[str] = ("target",),
        may_miss: Sequence[str] = (),
        split: str = "subject",
        fractions: Sequence[float] = (0.8, 0.1, 0.1),
        seed: int = 2025,
        num_workers: int = 0,
        crop: int | None = None,
        purpose: str | None = None,
    ) -> None:
        super().__init__()
        if split not in ("subject", "recording", "auto"):
            raise ValueError(f"{split=} is unknown; it may be subject, recording or auto.")
        self.paths, self.batch_size, self.columns = paths, batch_size, tuple(columns)
        self.may_miss = tuple(may_miss)
        self.split, self.fractions, self.seed = split, tuple(fractions), seed
        self.num_workers, self.crop, self.purpose = num_workers, crop, purpose
        self.missing = 0
        self._sides: tuple[WindowShards, ...] | None = None

    def setup(self, stage: str | None = None) -> None:
        """Open, split and check the shards; a second call does nothing."""
        if self._sides is not None:
            return
        every = WindowShards(self.paths, (*self.columns, *self.may_miss), self.purpose)
        whole = np.ones(len(every), bool)
        for name in self.columns:
            whole &= np.isfinite(every.column(name).astype(float))
        self.missing = int((~whole).sum())
        if not whole.any():
            raise ValueError(
                f"None of {len(every)} windows has {' and '.join(self.columns)}; look at column(...) of the shards, or "
                "cut windows of subjects that have it."
            )
        kept = every.subset(whole)
        if self.split == "auto":
            self.split = "subject" if len(set(kept.subjects)) > 1 else "recording"
        names = kept.subjects if self.split == "subject" else np.array([_place(p) for p in kept.paths])[kept.shard_of]
        sides = split_groups(names.tolist(), self.fractions, self.seed)
        self._sides = tuple(kept.subset(np.isin(names, sorted(side))) for side in sides)
        check_no_leak(*self._sides, split=self.split)

    @property
    def train_dataset(self) -> WindowShards:
        """Whole training windows, uncropped."""
        return self._side(0)

    @property
    def val_dataset(self) -> WindowShards:
        return self._side(1)

    @property
    def test_dataset(self) -> WindowShards:
        return self._side(2)

    @property
    def n_chans(self) -> int:
        """Channels a window."""
        return self.train_dataset.n_chans

    @property
    def n_times(self) -> int:
        """Samples a window as a batch has it, after the crop."""
        return self.crop or self.train_dataset.n_times

    @property
    def sfreq(self) -> float:
        """Samples a second, in Hz."""
        return self.train_dataset.sfreq

    @property
    def ch_names(self) -> tuple[str, ...]:
        return self.train_dataset.ch_names

    def describe(self, key: str = "data", default: str = "real") -> str:
        """Return what the training shards say of themselves, such as ``data``: "real", or what stands in."""
        return self.train_dataset.fact(key, default)

    def target_scale(self, column: str = "target") -> tuple[float, float]:
        """Return mean and population standard deviation of a column over the training windows that have it."""
        values = self.train_dataset.column(column).astype(float)
        values = values[np.isfinite(values)]
        if not len(values):
            raise ValueError(f"No training window has {column}; leave it out of the targets, or take other subjects.")
        return float(values.mean()), float(values.std())

    def train_dataloader(self) -> DataLoader:
        order = torch.Generator().manual_seed(self.seed)
        windows = self.batched(self.train_dataset, training=True)
        return DataLoader(windows, self.batch_size, shuffle=True, generator=order, num_workers=self.num_workers)

    def val_dataloader(self) -> DataLoader:
        return DataLoader(self.batched(self.val_dataset), self.batch_size, num_workers=self.num_workers)

    def test_dataloader(self) -> DataLoader:
        return DataLoader(self.batched(self.test_dataset), self.batch_size, num_workers=self.num_workers)

    def batched(self, shards: WindowShards, training: bool = False) -> Dataset:
        """Return what a loader reads: the windows, cropped where ``crop`` is set."""
        return shards if self.crop is None else CroppedWindows(shards, self.crop, random_starts=training)

    def _side(self, number: int) -> WindowShards:
        self.setup()
        if number >= len(self._sides) or not len(self._sides[number]):
            raise ValueError(f"There is no {SIDES[number]} side: {self.fractions=} gives it nothing.")
        return self._sides[number]


def _place(path: Path) -> str:
    """A recording's name wherever a session puts its files: the item's folder and the file."""
    return "/".join(path.parts[-2:])
