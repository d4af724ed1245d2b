"""Which channels a trained network uses: how much worse it predicts when one of them is exchanged between windows.

Each channel, in turn, gets the signal of another test window, and the network predicts again. What it does not use, or
what its neighbours hold too, costs nothing; so this is the network's use of a channel, and not where a source is. In a
dense net a channel goes together with those within 3 cm, which see almost the same. The test is over people whom the
network never saw; after random changes of sign of each person's rises, the largest of all channels is chance.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Subset

from nbkit.neuro.signals.positions import places
from nbkit.neuro.training.scores.paired import DRAWS, mean_interval
from nbkit.neuro.training.window_module import WindowModule

MOST = 256  # test windows, of all people alike: the cost is channels times windows
NEAR_M = 0.03  # channels this close together are exchanged together
_LEVEL = 0.05
_ALL_UP_TO = 12  # people up to whom all changes of sign are tried


@dataclass(frozen=True)
class ChannelUse:
    """How much the error of a network on test subjects rises when a channel is exchanged between windows.

    Attributes
    ----------
    ch_names : tuple of str
    unit : str
        Of the error: nat (cross-entropy with balanced classes), or variances of the target (squared error).
    rise, low, high : ndarray of shape (channels,)
        Mean over people, and its 95 % interval.
    shuffled : ndarray of shape (channels,)
        The same rise where the targets are shuffled, so that there is nothing to lose.
    reached : float
        Rise that the largest of all channels exceeds by chance in 5 % of draws.
    error, nothing : float
        Error of the network with all channels as they are, and of one that knows nothing.
    people, windows : int
    together : int
        Largest number of channels that were exchanged together.
    """

    ch_names: tuple[str, ...]
    unit: str
    rise: np.ndarray
    low: np.ndarray
    high: np.ndarray
    shuffled: np.ndarray
    reached: float
    error: float
    nothing: float
    people: int
    windows: int
    together: int

    @property
    def beside(self) -> str:
        """The error with all channels, beside that of knowing nothing, in words."""
        return f"the error with all is {self.error:.4g}, of knowing nothing {self.nothing:.4g}"

    def words(self, most: int = 3) -> list[str]:
        """Return a line for each of the most used channels, and one that states what chance reaches."""
        order = np.argsort(-self.rise, kind="stable")[:most]
        lines = [
            f"the network without {self.ch_names[one]}: error + {self.rise[one]:.3g} "
            f"[{self.low[one]:.3g}, {self.high[one]:.3g}] {self.unit}"
            for one in order
        ]
        above = int((self.rise > self.reached).sum())
        return [
            *lines,
            f"the largest of {len(self.rise)} channels exceeds {self.reached:.3g} by chance in 5 % of draws; {above} "
            f"are above it ({self.people} people, {self.windows} windows; {self.beside})"
            + ("; five people or more are needed" if self.people < 5 else ""),
        ]


@torch.no_grad()
def channel_use(module: WindowModule, data: Any, most: int = MOST, seed: int = 2025) -> ChannelUse:
    """Return which channels a finetuned network uses on its test subjects.

    Parameters
    ----------
    module : WindowModule
        A regressor or a classifier; it predicts on its device.
    data : WindowData
        The windows are cropped as they are scored.
    most : int
        Largest number of windows.
    seed : int
        Of what windows exchange.
    """
    rows = _rows(data.test_dataset.subjects, most)
    parts = list(DataLoader(Subset(data.batched(data.test_dataset), rows.tolist()), 64))
    windows, target = (torch.cat([part[name] for part in parts]) for name in ("window", module.target))
    people = np.unique(data.test_dataset.subjects[rows], return_inverse=True)[1]
    rng = np.random.default_rng(seed)
    true, other = target.numpy(), _shuffled(target.numpy(), people, rng)
    circle = rng.permutation(len(rows))
    donor = np.empty(len(rows), int)
    donor[circle] = np.roll(circle, 1)  # never a window's own
    was = module.training
    module.eval()
    groups = near(data.ch_names)
    plain, changed = _predicted(module, windows), []
    for group in groups:
        without = windows.clone()
        without[:, group] = windows[donor][:, group]
        changed.append(_predicted(module, without))
    module.train(was)
    error, several = _errors(plain, true), plain.ndim == 2
    rises = np.stack([_of_people(_errors(one, true) - error, people) for one in changed])
    control = np.stack([_of_people(_errors(one, other) - _errors(plain, other), people) for one in changed])
    ends = np.array([mean_interval(row) for row in rises])
    return ChannelUse(
        tuple(data.ch_names), "nat" if several else "variances of the target", rises.mean(1), *ends.T,
        control.mean(1), largest_by_chance(rises, seed), float(_of_people(error, people).mean()),
        float(np.log(plain.shape[1])) if several else 1.0, rises.shape[1], len(rows), max(map(len, groups)),
    )  # fmt: skip


def near(ch_names: Sequence[str], within: float = NEAR_M) -> list[list[int]]:
    """Return the channels that are exchanged with each channel: itself, and those within a distance in m."""
    known = places(ch_names)
    every = np.stack([known.get(name, np.full(3, np.nan)) for name in ch_names])
    apart = np.linalg.norm(every[:, None] - every[None], axis=-1)
    return [sorted({one, *np.flatnonzero(apart[one] <= within).tolist()}) for one in range(len(ch_names))]


def largest_by_chance(rises: np.ndarray, seed: int = 2025) -> float:
    """Return the mean rise that the largest of several channels exceeds by chance in 5 % of draws.

    Parameters
    ----------
    rises : ndarray of shape (channels, people)
    seed : int
    """
    count = rises.shape[1]
    if count <= _ALL_UP_TO:
        signs = 1.0 - 2.0 * (np.arange(2**count)[:, None] >> np.arange(count) & 1)
    else:
        signs = np.random.default_rng(seed).choice((1.0, -1.0), size=(DRAWS, count))
    drawn = (signs @ rises.T / count).max(axis=1)
    return float(np.quantile(drawn, 1 - _LEVEL, method="higher"))


def _rows(subjects: np.ndarray, most: int) -> np.ndarray:
    """Return windows of all subjects alike, spread over each one's."""
    each = max(1, most // len(np.unique(subjects)))
    found = []
    for name in np.unique(subjects):
        mine = np.flatnonzero(subjects == name)
        found.append(mine[np.unique(np.linspace(0, len(mine) - 1, min(each, len(mine))).astype(int))])
    return np.concatenate(found)


def _predicted(module: WindowModule, windows: Tensor) -> np.ndarray:
    parts = [module.predicted(part.to(module.device)).float().cpu() for part in windows.split(64)]
    return torch.cat(parts).double().numpy()


def _errors(predicted: np.ndarray, true: np.ndarray) -> np.ndarray:
    """Return the error of each window; the classes weigh the same together."""
    if predicted.ndim == 1:
        return (predicted - true) ** 2 / max(float(np.var(true)), 1e-12)
    number = true.astype(int)
    counts = np.bincount(number, minlength=predicted.shape[1])
    weight = len(number) / (np.count_nonzero(counts) * counts[number])
    return -weight * np.log(predicted[np.arange(len(number)), number].clip(1e-12))


def _of_people(values: np.ndarray, people: np.ndarray) -> np.ndarray:
    return np.bincount(people, values) / np.bincount(people)


def _shuffled(target: np.ndarray, people: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return the targets shuffled within people, or between people where each has one."""
    mixed = target.copy()
    inside = [np.flatnonzero(people == one) for one in np.unique(people)]
    if all(np.ptp(target[rows]) == 0 for rows in inside):
        for rows, value in zip(inside, rng.permutation([target[rows[0]] for rows in inside]), strict=True):
            mixed[rows] = value
        return mixed
    for rows in inside:
        mixed[rows] = rng.permutation(target[rows])
    return mixed
