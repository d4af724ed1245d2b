"""Training, validation and test windows, split by subject.

No subject is on two sides; this is checked after each split. The side of a subject depends only on the seed and the
subjects' names.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from nbkit.neuro.signals.assignment import SHARES, SIDES, assign, parsed_fold
from nbkit.neuro.signals.windows.shards import WindowShards
from nbkit.neuro.signals.windows.targets import choose_target

CHALLENGE_CROP_SEED = 42  # as in the challenge's start kit


def check_no_leak(*sides: WindowShards, split: str = "subject") -> None:
    """Raise if two sides share a subject (or, with ``split="recording"``, a file).

    Raises
    ------
    ValueError
        With the name that is on two sides.
    """
    seen: dict[str, int] = {}
    for number, side in enumerate(sides):
        names = side.subjects if split == "subject" else [str(side.paths[i]) for i in np.unique(side.shard_of)]
        for name in sorted({str(name) for name in names}):
            if seen.setdefault(name, number) != number:
                raise ValueError(
                    f"Leak: {split} {name} is in {SIDES[seen[name]]} and in {SIDES[number]}; scores would be too "
                    "high. Split again with WindowData."
                )


def challenge_crops(shard_of: np.ndarray, room: int, seed: int = CHALLENGE_CROP_SEED) -> np.ndarray:
    """Return the start of each window's crop as in the challenge's scoring, which seeds a generator for each recording.

    Parameters
    ----------
    shard_of : int array of shape (windows,)
        Recording of each window.
    room : int
        Largest possible start, in samples.
    seed : int

    Returns
    -------
    starts : int array of shape (windows,)
        In samples.
    """
    starts = np.zeros(len(shard_of), int)
    generators: dict[int, random.Random] = {}
    for position, shard in enumerate(shard_of):
        starts[position] = generators.setdefault(int(shard), random.Random(seed)).randint(0, room)
    return starts


class CroppedWindows(Dataset):
    """Cropped windows of `WindowShards`: at random starts for training, else at fixed ones.

    Parameters
    ----------
    shards : WindowShards
    crop : int
        Samples to keep.
    random_starts : bool
        True draws a new start on each access, from torch's generator; False uses `challenge_crops`.
    """

    def __init__(self, shards: WindowShards, crop: int, random_starts: bool) -> None:
        if not 1 <= crop <= shards.n_times:
            raise ValueError(f"Cannot take {crop=} samples of windows of {shards.n_times}; give 1 to {shards.n_times}.")
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
    """Lightning data module of training, validation and test windows without a common subject.

    Parameters
    ----------
    paths : path or sequence of path
        Shards (see `WindowShards`).
    batch_size : int
    columns : sequence of str
        Numeric columns in each batch. Windows with NaN in one of them (a missing target) are left out and counted in
        ``missing``.
    may_miss : sequence of str
        Further columns in each batch, which may be NaN; the model must handle that.
    split : {"subject", "recording", "auto"}
        Unit of the split. ``auto``: the subject if there are several, else the recording.
    fractions : (train, val, test)
        Shares of the subjects; 0 for no test side. All phases have the same assignment, see `assign`.
    fold : str, optional
        "2/4": the subjects of the second of four parts are the test side.
    seed : int
        Seed of the split, and of the order of training windows in a plain loader.
    num_workers : int
    purpose : str, optional
        Kind of windows, if recordings were cut for several purposes (see `WindowShards`).
    crop : int, optional
        Samples to keep of each window: at random starts in training, at fixed ones elsewhere.
    target : str, optional
        Any column of the windows, given as ``target`` in batches: texts, and whole numbers of few values, as class
        numbers with the names ``classes``; other numbers as they are. None: the column of that name.
    classes : sequence of str, optional
        Classes of the target to use, in order; () for all. Windows of other classes are left out and counted in
        ``others``. None: no classes, whole numbers of few values are predicted as numbers too.
    """

    def __init__(
        self,
        paths: str | Path | Sequence[str | Path],
        batch_size: int = 64,
        *,
        columns: Sequence[str] = ("target",),
        may_miss: Sequence[str] = (),
        split: str = "subject",
        fractions: Sequence[float] = SHARES,
        fold: str | None = None,
        seed: int = 2025,
        num_workers: int = 0,
        crop: int | None = None,
        purpose: str | None = None,
        target: str | None = None,
        classes: Sequence[str] | None = (),
    ) -> None:
        super().__init__()
        if classes and target is None:
            raise ValueError(f"CLASSES={list(classes)} without a TARGET; name the column that holds them, as label.")
        if split not in ("subject", "recording", "auto"):
            raise ValueError(f"Unknown {split=}; it may be subject, recording or auto.")
        self.paths, self.batch_size, self.columns = paths, batch_size, tuple(columns)
        self.may_miss = tuple(may_miss)
        self.split, self.fractions, self.fold, self.seed = split, tuple(fractions), fold, seed
        parsed_fold(fold)
        self.num_workers, self.crop, self.purpose = num_workers, crop, purpose
        self.target, self._wanted = target, None if classes is None else tuple(classes)
        self.missing = self.others = 0
        self._classes: tuple[str, ...] = ()
        self._sides: tuple[WindowShards, ...] | None = None

    def setup(self, stage: str | None = None) -> None:
        """Open, split and check the shards; later calls do nothing."""
        if self._sides is not None:
            return
        kept = self._with_values(self._opened())
        if self.split == "auto":
            self.split = "subject" if len(set(kept.subjects)) > 1 else "recording"
        names = kept.subjects if self.split == "subject" else np.array([place_of(p) for p in kept.paths])[kept.shard_of]
        sides = assign(names.tolist(), self.fractions, self.seed, self.fold)
        self._sides = tuple(kept.subset(np.isin(names, sorted(side))) for side in sides)
        check_no_leak(*self._sides, split=self.split)
        self._check_classes()

    def _opened(self) -> WindowShards:
        """Return all windows that have the target, with their columns."""
        columns = (*self.columns, *self.may_miss)
        if self.target is None:
            return WindowShards(self.paths, columns, self.purpose)
        every = WindowShards(self.paths, (), self.purpose)
        chosen = choose_target(every, self.target, self._wanted)
        self.missing, self.others, self._classes = chosen.missing, chosen.others, chosen.classes
        return every.subset(chosen.rows).carrying(columns, target=chosen.values)

    def _with_values(self, every: WindowShards) -> WindowShards:
        whole = np.ones(len(every), bool)
        for name in self.columns:
            whole &= np.isfinite(every.column(name).astype(float))
        self.missing += int((~whole).sum())
        if not whole.any():
            raise ValueError(
                f"None of {len(every)} windows has {' and '.join(self.columns)}. Check column(...) of the shards, or "
                "cut windows of subjects that have it."
            )
        return every.subset(whole)

    def _check_classes(self) -> None:
        train = self._sides[0]
        there = set(train.column("target").tolist()) if self._classes else set()
        lost = [name for number, name in enumerate(self._classes) if number not in there]
        if lost:
            self._sides, subjects = None, len(set(train.subjects))
            raise ValueError(
                f"No training window is of class {', '.join(lost)} of {self.target}: all its windows are of the "
                f"subjects for validation and test ({subjects} subjects are left for training). Use another seed, a "
                "larger first share of FRACTIONS, more subjects, name classes to use in CLASSES, or predict numbers "
                "with CLASSES = None."
            )

    @property
    def seen(self) -> tuple[str, ...]:
        """Subjects (or recordings) of training and validation, which a checkpoint names, see `signals.seen`."""
        self.setup()
        names = {str(name) for side in self._sides[:2] for name in side.subjects}
        return tuple(sorted(names))

    @property
    def test_subjects(self) -> tuple[str, ...]:
        """Subjects of the test side, sorted; () without one."""
        self.setup()
        return tuple(sorted({str(name) for side in self._sides[2:] for name in side.subjects}))

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the target's classes, by their number in batches; () for a target of numbers."""
        self.setup()
        return self._classes

    def class_weights(self) -> tuple[float, ...]:
        """Return a weight per class, so that all weigh the same in training; their mean over its windows is 1."""
        counts = np.bincount(self.train_dataset.column("target").astype(int), minlength=len(self.classes))
        return tuple((counts.sum() / (len(counts) * counts)).tolist())

    def say_target(self, value: float) -> str:
        """Return a target of a batch in words: its class, or its value."""
        name = self.target or "target"
        return f"{name} {self.classes[int(value)]}" if self.classes else f"{name} {float(value):.2f}"

    @property
    def train_dataset(self) -> WindowShards:
        """Training windows, not cropped."""
        return self._side(0)

    @property
    def val_dataset(self) -> WindowShards:
        return self._side(1)

    @property
    def test_dataset(self) -> WindowShards:
        return self._side(2)

    @property
    def n_chans(self) -> int:
        """Number of channels."""
        return self.train_dataset.n_chans

    @property
    def n_times(self) -> int:
        """Samples of a window in a batch, after the crop."""
        return self.crop or self.train_dataset.n_times

    @property
    def sfreq(self) -> float:
        """Sampling rate, in Hz."""
        return self.train_dataset.sfreq

    @property
    def ch_names(self) -> tuple[str, ...]:
        return self.train_dataset.ch_names

    def describe(self, key: str = "data", default: str = "real") -> str:
        """Return a fact of the training shards, such as ``data``: "real", or the kind of synthetic data."""
        return self.train_dataset.fact(key, default)

    def target_scale(self, column: str = "target") -> tuple[float, float]:
        """Return mean and population standard deviation of a column over training windows with a value."""
        values = self.train_dataset.column(column).astype(float)
        values = values[np.isfinite(values)]
        if not len(values):
            raise ValueError(f"No training window has {column}; leave it out of the targets, or use other subjects.")
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
        """Return the dataset for a loader: the windows, cropped if ``crop`` is set."""
        return shards if self.crop is None else CroppedWindows(shards, self.crop, random_starts=training)

    def _side(self, number: int) -> WindowShards:
        self.setup()
        if number >= len(self._sides) or not len(self._sides[number]):
            raise ValueError(f"There is no {SIDES[number]} side: its share in {self.fractions=} is 0.")
        return self._sides[number]


def place_of(path: Path) -> str:
    """Return a name of a recording that does not depend on the session's folder: item folder and file."""
    return "/".join(path.parts[-2:])
