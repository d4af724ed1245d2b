"""Groups of stored recordings with the same channels, sampling rate and length of windows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from nbkit.neuro.signals.windows.shards import shard_heads


@dataclass(frozen=True)
class Montage:
    """Recordings whose windows fit into one batch.

    Parameters
    ----------
    ch_names : tuple of str
    sfreq : float
        In Hz.
    n_times : int
        Samples of a window.
    windows : int
        Windows of all recordings.
    paths : tuple of Path
        The files of their indices, sorted by name.
    """

    ch_names: tuple[str, ...]
    sfreq: float
    n_times: int
    windows: int
    paths: tuple[Path, ...]

    def __str__(self) -> str:
        few = ", ".join(self.ch_names[:4]) + (f" ... {self.ch_names[-1]}" if len(self.ch_names) > 4 else "")
        return (
            f"{len(self.ch_names)} channels ({few}) x {self.n_times} samples at {self.sfreq:g} Hz, "
            f"{self.windows} windows of {len(self.paths)} recordings"
        )


def group_by_montage(paths: Sequence[str | Path] | str | Path, purpose: str | None = None) -> list[Montage]:
    """Return the montages of stored recordings, the one with most windows first.

    Parameters
    ----------
    paths : path or sequence of path
        Files or folders of shards, see `WindowShards`.
    purpose : str, optional
        Kind of windows.
    """
    groups: dict[tuple[tuple[str, ...], float, int], list[tuple[int, Path]]] = {}
    for head in shard_heads(paths, purpose):
        groups.setdefault((head.ch_names, head.sfreq, head.shape[2]), []).append((head.shape[0], head.path))
    found = [
        Montage(*kind, sum(count for count, _ in members), tuple(path for _, path in members))
        for kind, members in groups.items()
    ]
    return sorted(found, key=lambda montage: (-montage.windows, montage.ch_names))


def largest_montage(
    paths: Sequence[str | Path] | str | Path, purpose: str | None = None, say: Callable[[str], None] = print
) -> Montage:
    """Return the montage of most windows; the others are left out and named.

    Parameters
    ----------
    paths : path or sequence of path
        Files or folders of shards, see `WindowShards`.
    purpose : str, optional
        Kind of windows.
    say : callable
        Prints one line if there are others.
    """
    first, *others = group_by_montage(paths, purpose)
    if others:
        say(f"Several montages are stored. Used: {first}. Left out: {'; '.join(map(str, others))}.")
    return first
