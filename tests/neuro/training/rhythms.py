"""Windows of two or three classes for tests of classifiers: a 10 Hz rhythm in one of them, or in none."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from nbkit.neuro.signals.windows.shard_writing import write_shard

CH_NAMES = ("E1", "E5", "E9", "Cz")
SFREQ = 40.0


def write_rhythms(
    folder: Path, *, subjects: int = 10, windows: int = 16, planted: bool = True, seed: int = 0, n_times: int = 40
) -> Path:
    """Write a recording per subject; ``label`` is rest (with the rhythm) or task, and shuffled unless planted.

    Every fourth window has no label; ``rt`` is a number that the rhythm's amplitude gives, ``score`` one of three.
    """
    draws = np.random.default_rng(seed)
    time = np.arange(n_times) / SFREQ
    for subject in range(subjects):
        rest = np.arange(windows) % 2 == 0
        size = np.where(rest, 25.0, 2.0) * draws.uniform(0.8, 1.2, windows)
        phase = draws.uniform(0, 2 * np.pi, (windows, 4, 1))
        signal = size[:, None, None] * np.sin(2 * np.pi * 10 * time + phase) + draws.normal(0, 8, (windows, 4, n_times))
        label = np.where(rest, "rest", "task")
        label = label if planted else draws.permutation(label)
        label = np.where(np.arange(windows) % 8 == 7, "", label)
        write_shard(
            folder / f"s{subject:02d}", signal.astype(np.float32), sfreq=SFREQ, ch_names=CH_NAMES,
            subject=f"S{subject:02d}",
            columns={"label": label, "rt": size / 10, "score": np.arange(windows) % 3},
        )  # fmt: skip
    return folder
