"""The target of windows: any column that they carry, as classes or as numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nbkit.neuro.signals.windows.shards import WindowShards

_CLASS_COLUMNS = ("label", "event")  # hold names, even where these are numbers
_MOST_CLASSES = 12  # whole numbers with more values than this are a quantity


@dataclass(frozen=True)
class Target:
    """A column of windows, chosen as the target.

    Parameters
    ----------
    column : str
    classes : tuple of str
        Names of the classes, in order; () for a target of numbers.
    rows : int array
        Windows that have the target (and one of the classes), in order.
    values : array of shape (rows,)
        Class numbers, or values.
    missing : int
        Windows without a value.
    others : int
        Windows of classes that were not asked for.
    numbers : bool
        Whether whole numbers are taken as classes that nobody named.
    """

    column: str
    classes: tuple[str, ...]
    rows: np.ndarray
    values: np.ndarray
    missing: int
    others: int
    numbers: bool = False


def choose_target(
    shards: WindowShards, column: str, classes: Sequence[str] | None = (), among: np.ndarray | None = None
) -> Target:
    """Return a column of windows as the target.

    Texts are classes, and so are whole numbers of few values; other numbers are predicted as they are.

    Parameters
    ----------
    shards : WindowShards
    column : str
    classes : sequence of str, optional
        Classes to use, in their order; by default all of the column, sorted. None: no classes, but the numbers.
    among : bool array of shape (windows,), optional
        Windows to use; by default all.

    Raises
    ------
    ValueError
        If there is no such column, no window has a value, a class does not occur, or there is only one class.
    """
    column = _named(shards, column)
    values = shards.column(column)
    among = np.ones(len(values), bool) if among is None else among
    texts = np.array([as_text(value) for value in values])
    if classes is None and values.dtype.kind == "U":
        raise ValueError(f"{column} holds texts, which are classes and no numbers: {counted(texts)}. Set CLASSES = [].")
    words = classes is not None and (values.dtype.kind == "U" or column in _CLASS_COLUMNS)
    wanted = tuple(as_text(name) for name in classes or ())
    known = texts != "" if words or wanted else np.isfinite(values.astype(float))
    if lost := [name for name in wanted if name not in texts[among]]:
        raise ValueError(
            f"No window has {column} = {', '.join(lost)}, asked for in CLASSES. Its values: {counted(texts)}."
        )
    if len(set(wanted)) < len(wanted):
        raise ValueError(f"CLASSES names a class twice: {', '.join(wanted)}. Name each once.")
    inside = np.isin(texts, wanted) if wanted else np.ones(len(values), bool)
    keep = among & known & inside
    if not keep.any():
        raise ValueError(
            f"No window of {len(values)} has a value of {column!r}; the columns are {', '.join(shards.column_names)}. "
            f"Its values: {counted(texts)}."
        )
    rows = np.flatnonzero(keep)
    left_out = {"missing": int((among & ~known).sum()), "others": int((among & known & ~inside).sum())}
    if classes is None or (not wanted and not words and not _few_whole(values[rows].astype(float))):
        return Target(column, (), rows, values[rows].astype(float), **left_out)
    names = wanted or tuple(sorted(set(texts[rows].tolist())))
    if len(names) < 2:
        raise ValueError(
            f"All windows with a {column} are {names[0]!r}; there is nothing to tell apart. Values: {counted(texts)}."
        )
    number = {name: place for place, name in enumerate(names)}
    of = np.array([number[text] for text in texts[rows]])
    return Target(column, names, rows, of, **left_out, numbers=not (wanted or words))


def _named(shards: WindowShards, column: str) -> str:
    """Return the column of windows for a name; BIDS calls ``trial_type`` what windows hold as ``event`` or ``label``.

    Raises
    ------
    ValueError
        If the windows lie at a stride and have no such column: those of events.tsv come with windows at events.
    """
    names = shards.column_names
    if column == "trial_type" and column not in names:
        column = "event" if "event" in names else "label"
    if column not in names and "event" not in names:
        raise ValueError(
            f"No column {column!r} in the windows; they have {', '.join(names)}. Choose one of these (TARGET in a "
            "notebook). Columns of events.tsv come with windows that lie at events: set EVENTS, in another store."
        )
    return column


def as_text(value: object) -> str:
    """Return a value of a column as text: 1.0 as 1, NaN as nothing."""
    if isinstance(value, float | np.floating):
        return "" if np.isnan(value) else f"{value:g}"
    return str(value)


def counted(texts: Sequence[str] | np.ndarray) -> str:
    """Return the commonest texts with their counts, in words."""
    found = Counter(text or "(none)" for text in np.asarray(texts).tolist()).most_common(8)
    return ", ".join(f"{name}: {count}" for name, count in found)


def _few_whole(numbers: np.ndarray) -> bool:
    return bool((numbers == numbers.round()).all()) and len(np.unique(numbers)) <= _MOST_CLASSES
