"""Finetuning on any target: its data, and its scores on test subjects.

The challenge's own target, a column of numbers and a column of classes go the same way, so a notebook's cells serve
all three.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import lightning

from nbkit.neuro.signals.windows.montages import largest_montage
from nbkit.neuro.signals.windows.window_data import WindowData
from nbkit.neuro.training.held_out.classes import HeldOutClasses, score_held_out_classes
from nbkit.neuro.training.held_out.values import HeldOut, score_held_out
from nbkit.neuro.training.rivals import WithRivals
from nbkit.neuro.training.window_module import WindowModule

CHALLENGE_S = 2.0  # length of the challenge's windows


def finetuning_data(
    paths: str | Path | Sequence[str | Path],
    batch_size: int,
    challenge: int,
    target: str | None = None,
    classes: Sequence[str] | None = (),
    *,
    crop: int | None = None,
    may_miss: Sequence[str] = (),
    say: Callable[[str], None] = print,
    **options: Any,
) -> WindowData:
    """Return the windows for a finetuning, split by subject.

    If there are several montages, the one of most windows is used, and the others are named.

    Parameters
    ----------
    paths : path or sequence of path
        Outputs of 10_eeg_windows.
    batch_size : int
    challenge : {1, 2}
        Windows that were cut for it are used, or those that serve any purpose.
    target : str, optional
        A column of the windows; None for the challenge's own target.
    classes : sequence of str, optional
        Classes of the target to use; () for all, None to predict numbers.
    crop : int, optional
        Samples of a window; by default 2 s for the challenge's target, as scored there, and else the whole window.
    may_miss : sequence of str
        The challenge's further targets; not used for another target.
    say : callable
        Prints one line about what is left out.
    **options
        Further arguments of `WindowData`.
    """
    purpose = f"challenge{challenge}"
    montage = largest_montage(paths, purpose, say)
    if target is None:
        options["may_miss"] = tuple(may_miss)
        crop = crop or round(CHALLENGE_S * montage.sfreq)
    return WindowData(
        montage.paths, batch_size, purpose=purpose, crop=crop, target=target, classes=classes, **options
    )  # fmt: skip


def say_windows(data: WindowData) -> str:
    """Return the numbers of windows by side, the shape of one, and what was left out, as lines."""
    sides = (data.train_dataset, data.val_dataset, data.test_dataset)
    counts = " + ".join(str(len(side)) for side in sides)
    lines = [f"{counts} windows (training + validation + test), {data.n_chans} channels x {data.n_times} samples"]
    lines[0] += f" at {data.sfreq:g} Hz; data: {data.describe()}"
    lines.append(f"left out: {data.missing} without the target, {data.others} of other classes")
    if data.classes:
        every = [side.column("target").astype(int) for side in sides]
        each = [" + ".join(str(int((side == n).sum())) for side in every) for n in range(len(data.classes))]
        lines.append("classes: " + ", ".join(f"{n} ({c})" for n, c in zip(data.classes, each, strict=True)))
    return "\n".join(lines)


def score_finetuned(
    challenge: int, best: WindowModule, module: WithRivals, data: lightning.LightningDataModule
) -> HeldOut | HeldOutClasses:
    """Score a finetuning on its test subjects, see `score_held_out` and `score_held_out_classes`.

    The scores are named for the challenge, or for the target's column.
    """
    if data.classes:
        return score_held_out_classes(f"{data.target}_test", best, module, data)
    return score_held_out(f"{data.target or f'challenge{challenge}'}_test_nrmse", best, module, data)
