"""Split recordings into training and validation.

A group (a subject, or a run of one subject) is on one side only, so overlapping windows never leak. The side depends
only on the seed and the names of the groups, not on their order.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from nbkit.neuro.signals.assignment import assign, plain_name

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
        Share of the subjects for validation, see `assign`; each side gets at least one.
    seed : int
        Seed of the assignment.
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
    return _split(list(rows), lambda row: plain_name(row["subject"]), "subject", val_fraction, seed, val)


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
        return _split(rows, lambda row: plain_name(row["run"]), "run", val_fraction, seed, val)
    return _split(rows, _subject_and_run, "run", val_fraction, seed, None)


def split_recordings(rows: Iterable[Row], val_fraction: float = 0.2, seed: int = 2025) -> tuple[list[Row], list[Row]]:
    """Split rows by subject if there are several subjects, else by run.

    Returns
    -------
    train, val : list of mapping
    """
    rows = list(rows)
    if len({plain_name(row["subject"]) for row in rows}) > 1:
        return split_by_subject(rows, val_fraction, seed)
    return split_by_run(rows, val_fraction, seed)


def _subject_and_run(row: Row) -> str:
    return f"{plain_name(row['subject'])}/{plain_name(row['run'])}"


def _split(rows, group_of, what, val_fraction, seed, val):
    groups = sorted({group_of(row) for row in rows})
    if val is not None:
        chosen = {plain_name(name) for name in val}
        unknown = sorted(chosen - set(groups))
        if unknown:
            raise ValueError(f"No {what} {', '.join(unknown)} among the {len(groups)} there are: {', '.join(groups)}.")
    else:
        if not 0 < val_fraction < 1:
            raise ValueError(f"Invalid {val_fraction=}; give a share between 0 and 1, such as 0.2.")
        chosen = assign(groups, (1 - val_fraction, val_fraction), seed)[1] if len(groups) > 1 else set(groups)
    if not chosen or len(chosen) >= len(groups):
        raise ValueError(
            f"There are {len(groups)} {what}(s) ({', '.join(groups) or 'none'}), which cannot be split with "
            f"{len(chosen)} for validation: both sides need at least one. Use more recordings, or split by another "
            "group."
        )
    return [r for r in rows if group_of(r) not in chosen], [r for r in rows if group_of(r) in chosen]
