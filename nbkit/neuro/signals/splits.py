"""Split recordings into training and validation.

A group (a subject, or a run of one subject) is on one side only, so overlapping windows never leak. The side depends
only on the seed and the names of the groups, not on their order.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Row = Mapping[str, Any]


def split_by_subject(
    rows: Iterable[Row], val_fraction: float = 0.2, seed: int = 2025, val: Sequence[str] | None = None
) -> tuple[list[Row], list[Row]]:
    """Split rows so that no subject is on both sides.

    Parameters
    ----------
    rows : iterable of mapping
        Rows with a ``subject``.
    val_fraction : float
        Share of the subjects for validation; each side gets at least one.
    seed : int
        Seed of the draw.
    val : sequence of str, optional
        Names of the validation subjects, instead of a draw.

    Returns
    -------
    train, val : list of mapping
        In the order of ``rows``.

    Raises
    ------
    ValueError
        If there are fewer than two subjects, or ``val`` names one that is not there.
    """
    return _split(list(rows), lambda row: _text(row["subject"]), "subject", val_fraction, seed, val)


def split_by_run(
    rows: Iterable[Row], val_fraction: float = 0.2, seed: int = 2025, val: Sequence[str] | None = None
) -> tuple[list[Row], list[Row]]:
    """Split rows so that no run of a subject is on both sides.

    Parameters
    ----------
    rows : iterable of mapping
        Rows with a ``subject`` and a ``run``.
    val_fraction, seed
        As in `split_by_subject`, over the (subject, run) pairs.
    val : sequence of str, optional
        Names of the validation runs of all subjects, instead of a draw.

    Returns
    -------
    train, val : list of mapping

    Raises
    ------
    ValueError
        If there are fewer than two runs, or ``val`` names one that is not there.
    """
    rows = list(rows)
    if val is not None:
        return _split(rows, lambda row: _text(row["run"]), "run", val_fraction, seed, val)
    return _split(rows, lambda row: f"{_text(row['subject'])}/{_text(row['run'])}", "run", val_fraction, seed, None)


def split_recordings(rows: Iterable[Row], val_fraction: float = 0.2, seed: int = 2025) -> tuple[list[Row], list[Row]]:
    """Split rows by subject if there are several subjects, else by run.

    Returns
    -------
    train, val : list of mapping
    """
    rows = list(rows)
    if len({_text(row["subject"]) for row in rows}) > 1:
        return split_by_subject(rows, val_fraction, seed)
    return split_by_run(rows, val_fraction, seed)


def _split(rows, group_of, what, val_fraction, seed, val):
    groups = sorted({group_of(row) for row in rows})
    if val is not None:
        chosen = {_text(name) for name in val}
        unknown = sorted(chosen - set(groups))
        if unknown:
            raise ValueError(f"No {what} {', '.join(unknown)} among the {len(groups)} there are: {', '.join(groups)}.")
    else:
        if not 0 < val_fraction < 1:
            raise ValueError(f"Invalid {val_fraction=}; give a share between 0 and 1, such as 0.2.")
        count = min(max(1, round(val_fraction * len(groups))), len(groups) - 1)
        chosen = set(sorted(groups, key=lambda g: hashlib.sha256(f"{seed}:{g}".encode()).digest())[:count])
    if not chosen or len(chosen) >= len(groups):
        raise ValueError(
            f"There are {len(groups)} {what}(s) ({', '.join(groups) or 'none'}), which cannot be split with "
            f"{len(chosen)} for validation: both sides need at least one. Use more recordings, or split by another "
            "group."
        )
    return [r for r in rows if group_of(r) not in chosen], [r for r in rows if group_of(r) in chosen]


def _text(value: Any) -> str:
    """Return the same text for 4, "4" and "04": manifests hold text, calls often have numbers."""
    text = str(value)
    return str(int(text)) if text.isdecimal() else text
