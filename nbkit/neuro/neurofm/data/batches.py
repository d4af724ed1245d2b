"""Batches of windows from several recordings, with padding for different numbers of units.

Recordings are split in time into training, validation and test, with unused gaps between them. `hold_out_recordings`
holds out whole recordings before any window is read. Means, scales and mean rates are computed from the observed bins
of training windows only.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from nbkit.neuro.neurofm.network.units import NO_TASK, RecordingUnits, Task, UnitTable
from nbkit.neuro.signals.assignment import assign
from nbkit.neuro.signals.spikes.binned import TRACE
from nbkit.neuro.signals.spikes.windows import SpikeShard, split_time

SIDES = ("train", "val", "test")
_LARGEST = 8.0  # largest standardised value of a trace; a single artefact must not dominate a window


def hold_out_recordings(
    paths: Sequence[str | Path], fraction: float = 0.25, seed: int = 2025
) -> tuple[list[Path], list[Path]]:
    """Split whole recordings and return the paths for pretraining and the held-out paths (about 15 and 5 of 20).

    If the recordings are of several subjects, no subject is on both sides; else they are split by name. A subject's
    side is that of all phases, see `assign`.
    """
    shards = [SpikeShard(path) for path in paths]
    several = len({shard.subject for shard in shards if shard.subject}) > 1
    groups = [(shard.subject or shard.name) if several else shard.name for shard in shards]
    held = assign(groups, (1 - fraction, fraction), seed)[1]
    by_name = sorted(zip(groups, shards, strict=True), key=lambda pair: pair[1].name)
    sides = [[Path(shard.path) for group, shard in by_name if (group in held) is wanted] for wanted in (False, True)]
    return sides[0], sides[1]


class SpikeWindows(Dataset):
    """Windows of several recordings, each with the window that follows it.

    Parameters
    ----------
    shards : sequence of SpikeShard
    windows : sequence of int array
        Numbers of the windows to use, for each shard.
    table : UnitTable
        With all of these recordings.
    max_units : int, optional
        From windows with more units, draw this many with torch's generator; by default all units are used.
    shift : bool
        Start each window at a bin drawn with torch's generator, where the following window belongs to the side too: so
        few windows become many different ones.

    Raises
    ------
    ValueError
        If the table does not have a recording, or has other units for it.
    """

    def __init__(
        self,
        shards: Sequence[SpikeShard],
        windows: Sequence[np.ndarray],
        table: UnitTable,
        max_units: int | None = None,
        shift: bool = False,
    ) -> None:
        self.shards, self.max_units, self.shift = list(shards), max_units, shift
        self.places = [(n, int(w)) for n, chosen in enumerate(windows) for w in chosen]
        self._inside = [np.isin(np.arange(len(s)), chosen) for s, chosen in zip(shards, windows, strict=True)]
        self._facts, self._scales = [], []
        for shard in self.shards:
            known = table.find(shard.name)
            if known.unit_ids != shard.unit_ids:
                raise ValueError(
                    f"Recording {shard.name} has {shard.n_units} units, {', '.join(shard.unit_ids[:3])} ...; the table "
                    f"has {len(known.unit_ids)} for it, {', '.join(known.unit_ids[:3])} .... Give a recording with "
                    "other units another name."
                )
            number = [*table.offsets].index(shard.name)
            self._facts.append(
                {
                    "recording": number, "kind": table.kind_id(known.kind), "task": table.task_id(known.task),
                    "snr": known.snr, "offset": table.offsets[shard.name], "trace": bool(known.scales),
                }
            )  # fmt: skip
            self._scales.append((np.array(known.mean_counts), np.array(known.scales)) if known.scales else None)
        self.dims = table.most_dims

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: int) -> dict[str, Any]:
        number, window = self.places[index]
        shard, facts = self.shards[number], self._facts[number]
        units = np.arange(shard.n_units)
        if self.max_units is not None and len(units) > self.max_units:
            units = torch.randperm(len(units))[: self.max_units].sort().values.numpy()
        following = self._following(number, window)
        first = int(torch.randint(shard.n_bins, ())) if self.shift and following >= 0 else 0
        after = following if first == 0 else self._following(number, following)
        row = [window, following, after] if first else [window, following]
        has_next = after >= 0
        behaviour = np.full((shard.n_bins, self.dims), np.nan, np.float32)
        if facts["task"]:
            behaviour[:, : shard.behaviour.shape[2]] = _cut(shard.behaviour, row, first)
        activity, observed = self._activity(number, row, first, units)
        ahead = self._activity(number, row[1:], first, units) if has_next else (activity, observed)
        return {
            "counts": activity,
            "observed": observed,
            "next_counts": ahead[0],
            "next_observed": ahead[1],
            "unit": torch.from_numpy(facts["offset"] + units),
            "slot": torch.from_numpy(units),
            "behaviour": torch.from_numpy(behaviour),
            "has_next": has_next,
            "start": float(shard.starts[window]) + first * shard.bin_s,
            **{name: facts[name] for name in ("recording", "kind", "task", "snr", "trace")},
        }

    def _following(self, number: int, window: int) -> int:
        """Return the window after a window, or -1 if this side has no later one."""
        after = int(self.shards[number].next_window[window])
        return after if after >= 0 and self._inside[number][after] else -1

    def _activity(self, number: int, row: list[int], first: int, units: np.ndarray) -> tuple[Tensor, Tensor]:
        """Return counts, or standardised traces, (bins, units), and which were observed, (bins, units or 1)."""
        shard, scales = self.shards[number], self._scales[number]
        activity = _cut(shard.counts, row, first)[:, units].astype(np.float32)
        observed = _cut(shard.observed, row, first)
        if scales is not None:
            activity = ((activity - scales[0][units]) / scales[1][units]).clip(-_LARGEST, _LARGEST)
        chosen = observed[:, units] if observed.shape[1] > 1 else np.array(observed)  # a copy: the file is read-only
        return torch.from_numpy(activity.astype(np.float32)), torch.from_numpy(chosen)


def collate(samples: Sequence[dict[str, Any]]) -> dict[str, Tensor]:
    """Stack windows to a batch.

    Units are padded to the largest number in the batch; ``present`` (batch, units) is False for padding. ``observed``
    and ``next_observed`` are left out if everything was observed, and ``trace`` if no window holds a trace.
    """
    most = max(len(sample["unit"]) for sample in samples)

    def padded(name: str, axis: int) -> Tensor:
        parts = []
        for sample in samples:
            part = sample[name]
            shape = [*part.shape]
            shape[axis] = most - shape[axis]
            parts.append(torch.cat([part, part.new_zeros(shape)], dim=axis))
        return torch.stack(parts)

    lengths = torch.tensor([len(sample["unit"]) for sample in samples])
    batch = {"counts": padded("counts", 1), "next_counts": padded("next_counts", 1), "unit": padded("unit", 0)}
    batch |= {"slot": padded("slot", 0), "present": torch.arange(most) < lengths[:, None]}
    batch["behaviour"] = torch.stack([sample["behaviour"] for sample in samples])
    masks = {name: [sample[name] for sample in samples] for name in ("observed", "next_observed")}
    if not all(bool(part.all()) for parts in masks.values() for part in parts):
        for name, parts in masks.items():
            wide = [part.expand(-1, count) for part, count in zip(parts, lengths.tolist(), strict=True)]
            batch[name] = torch.stack([torch.nn.functional.pad(part, (0, most - part.shape[1])) for part in wide])
    if any(sample["trace"] for sample in samples):
        batch["trace"] = torch.tensor([sample["trace"] for sample in samples])
    for name in ("recording", "kind", "task", "has_next"):
        batch[name] = torch.tensor([sample[name] for sample in samples])
    for name in ("snr", "start"):
        batch[name] = torch.tensor([sample[name] for sample in samples], dtype=torch.float32)
    return batch


class SpikeData(lightning.LightningDataModule):
    """Training, validation and test windows of recordings.

    Parameters
    ----------
    paths : path or sequence of path
        Files of windows (see `nbkit.neuro.signals.spikes.windows`).
    batch_size : int
        Windows in a batch.
    fractions : (train, val, test)
        Fractions of the time of each recording, in this order; 0 leaves a side out.
    gap_s : float
        Unused time between sides, in s.
    blocks : int
        Parts of each recording that are split one by one; see `split_time`.
    max_units : int, optional
        Largest number of units in a training window.
    limit_train : int, optional
        Use only the first ``limit_train`` training windows of each recording, for few-shot curves.
    table : UnitTable, optional
        Table of a model; recordings that it lacks are added at its end. By default a table of these recordings is
        created.
    shift : bool
        Start training windows at bins drawn at random; see `SpikeWindows`.
    num_workers : int
        Worker processes of each loader.
    seed : int
        Seed of the order of training windows.

    Raises
    ------
    ValueError
        If recordings differ in bins, a task differs in its dims, or a task has no training data.
    """

    def __init__(
        self,
        paths: str | Path | Sequence[str | Path],
        batch_size: int = 8,
        *,
        fractions: Sequence[float] = (0.7, 0.15, 0.15),
        gap_s: float = 2.0,
        blocks: int = 1,
        max_units: int | None = None,
        limit_train: int | None = None,
        table: UnitTable | None = None,
        shift: bool = False,
        num_workers: int = 0,
        seed: int = 2025,
    ) -> None:
        super().__init__()
        files = [paths] if isinstance(paths, (str, Path)) else paths
        # Sorted by name, so that the order does not depend on the folder to which a session copied the files.
        self.shards = sorted((SpikeShard(path) for path in files), key=lambda shard: shard.name)
        if not self.shards:
            raise ValueError(
                "No file of spike windows was given; create windows first (prepare_recordings, or bin_recording and "
                "write_windows)."
            )
        _check_alike(self.shards)
        self.batch_size, self.max_units, self.shift = batch_size, max_units, shift
        self.num_workers, self.seed = num_workers, seed
        sides = [split_time(shard, fractions, gap_s, blocks) for shard in self.shards]
        self.windows: list[tuple[np.ndarray, ...]] = [(side[0][:limit_train], *side[1:]) for side in sides]
        own = [self._units_of(n, table) for n in range(len(self.shards))]
        if table is None:
            table = UnitTable(own, self._tasks())
        else:
            table = table.with_recordings([units for units in own if units.name not in table.offsets])
        self.table = table

    @property
    def n_bins(self) -> int:
        return self.shards[0].n_bins

    @property
    def bin_s(self) -> float:
        return self.shards[0].bin_s

    def describe(self) -> str:
        """Return the data labels of the recordings: "real", or the label of synthetic stand-in data."""
        return "; ".join(dict.fromkeys(shard.data for shard in self.shards))

    def side(self, name: str) -> SpikeWindows:
        """Return the windows of a side: "train", "val" or "test"."""
        number = SIDES.index(name)
        windows = [sides[number] for sides in self.windows]
        if not sum(map(len, windows)):
            raise ValueError(
                f"There is no {name} side: it has 0 windows. Give it a larger fraction, or give longer recordings."
            )
        training = name == "train"
        return SpikeWindows(
            self.shards, windows, self.table, self.max_units if training else None, self.shift and training
        )

    def train_dataloader(self) -> DataLoader:
        order = torch.Generator().manual_seed(self.seed)
        return self._loader("train", shuffle=True, generator=order)

    def val_dataloader(self) -> DataLoader:
        return self._loader("val")

    def test_dataloader(self) -> DataLoader:
        return self._loader("test")

    def _loader(self, side: str, **options: Any) -> DataLoader:
        return DataLoader(self.side(side), self.batch_size, collate_fn=collate, num_workers=self.num_workers, **options)

    def _units_of(self, number: int, table: UnitTable | None) -> RecordingUnits:
        shard, train = self.shards[number], self.windows[number][0]
        chosen = train if len(train) else np.arange(len(shard))
        seen, scales = np.broadcast_to(shard.observed[chosen], shard.counts[chosen].shape), ()
        total, bins = np.where(seen, shard.counts[chosen], 0).sum(axis=(0, 1), dtype=float), seen.sum(axis=(0, 1))
        if shard.activity == TRACE:
            means = total / np.maximum(bins, 1)
            spread = np.where(seen, (shard.counts[chosen] - means) ** 2, 0).sum(axis=(0, 1)) / np.maximum(bins, 1)
            scales = tuple(np.sqrt(spread).clip(min=1e-6).tolist())
        else:
            # Add half a spike, so that the mean rate of a silent unit is low but not 0.
            means = (total + 0.5) / (bins + 1)
        task = shard.task or NO_TASK
        if table is not None and task not in [known.name for known in table.tasks]:
            task = NO_TASK
        kind = f"{shard.species}/{shard.modality}" + (f"/{TRACE}" if scales else "")
        return RecordingUnits(shard.name, shard.unit_ids, tuple(means.tolist()), kind, task, shard.snr, scales)

    def _tasks(self) -> list[Task]:
        tasks = []
        for name in dict.fromkeys(shard.task for shard in self.shards if shard.task):
            having = [n for n, shard in enumerate(self.shards) if shard.task == name]
            first, dims = self.shards[having[0]], {self.shards[n].behaviour.shape[2] for n in having}
            kinds = {self.shards[n].classes for n in having}
            if len(kinds) > 1:
                each = "; ".join(", ".join(kind) for kind in sorted(kinds))
                raise ValueError(
                    f"Task {name!r} has different classes in different recordings: {each}. Give different behaviours "
                    "different names."
                )
            if len(dims) > 1:
                raise ValueError(
                    f"Task {name!r} has {sorted(dims)} dims in different recordings; they must be equal. Give "
                    "different behaviours different names."
                )
            values = np.concatenate(
                [self.shards[n].behaviour[self.windows[n][0]].reshape(-1, *dims).astype(float) for n in having]
            )
            mean, spread = np.nanmean(values, axis=0), np.nanstd(values, axis=0)
            if not np.isfinite(mean).all():
                raise ValueError(
                    f"Task {name!r} has no value in any training window. Change the fractions, or leave the task out."
                )
            tasks.append(
                Task(
                    name, first.behaviour_unit, tuple(mean.tolist()), tuple(np.maximum(spread, 1e-6).tolist()),
                    first.circular,
                )
            )  # fmt: skip
        return tasks


def _check_alike(shards: Sequence[SpikeShard]) -> None:
    first = shards[0]
    for shard in shards:
        if shard.n_bins != first.n_bins or abs(shard.bin_s - first.bin_s) > 1e-9:
            raise ValueError(
                f"Recording {shard.name} has windows of {shard.n_bins} bins of {shard.bin_s:g} s, {first.name} has "
                f"windows of {first.n_bins} bins of {first.bin_s:g} s; they must be equal. Create the windows again "
                "with the same settings."
            )


def _cut(values: np.ndarray, row: Sequence[int], first: int) -> np.ndarray:
    """Return one window of consecutive windows, from a bin of the first of them on."""
    if first == 0:
        return values[row[0]]
    return np.concatenate([values[row[0], first:], values[row[1], :first]])
