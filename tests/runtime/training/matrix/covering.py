"""A small set of cells in which every pair of levels occurs, made greedily and the same for the same seed."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

Row = dict[str, Any]
_TRIES = 12  # candidates for each row; the one with the most new pairs is taken


def covering(
    factors: Mapping[str, Sequence[Any]],
    allowed: Callable[[Row], bool],
    seed: int,
    pairs_of: Callable[[str, str], bool] = lambda a, b: True,
) -> list[Row]:
    """Return rows in which every allowed pair of levels occurs at least once.

    Parameters
    ----------
    factors : mapping of str to levels
    allowed : callable
        Says whether a row, or a part of one, may be.
    seed : int
    pairs_of : callable
        Says which two factors have their pairs covered; of all others every level occurs.
    """
    rng, names = random.Random(seed), list(factors)
    open_pairs: set[tuple[tuple[str, Any], ...]] = set()
    for a, b in itertools.combinations(names, 2):
        for x, y in itertools.product(factors[a], factors[b]) if pairs_of(a, b) else ():
            if allowed({a: x, b: y}):
                open_pairs.add(((a, x), (b, y)))
    open_pairs |= {((name, level),) for name in names for level in factors[name]}
    rows = []
    while open_pairs:
        start = min(open_pairs, key=repr)
        best, most = None, 0
        for _ in range(_TRIES):
            row = _filled(dict(start), factors, names, allowed, open_pairs, rng)
            if row is not None and (new := len(_pairs(row) & open_pairs)) > most:
                best, most = row, new
        if best is None:
            open_pairs.discard(start)  # the pair is allowed by itself, but nothing can be beside it
            continue
        open_pairs -= _pairs(best)
        rows.append(best)
    return rows


def _filled(
    row: Row, factors: Mapping[str, Sequence[Any]], names: list[str], allowed: Any, wanted: set, rng: random.Random
) -> Row | None:
    """Return the row with every factor given: the level that makes the most open pairs, where it is allowed."""
    left = [name for name in names if name not in row]
    rng.shuffle(left)
    for name in left:
        levels = list(factors[name])
        rng.shuffle(levels)
        levels = [level for level in levels if allowed({**row, name: level})]
        if not levels:
            return None
        order = {key: index for index, key in enumerate(names)}

        def gain(level: Any, name: str = name, order: Any = order) -> int:
            found = 0 + (((name, level),) in wanted)
            for other, value in row.items():
                pair = sorted([(name, level), (other, value)], key=lambda one: order[one[0]])
                found += tuple(pair) in wanted
            return found

        row[name] = max(levels, key=gain)
    return {name: row[name] for name in names}


def _pairs(row: Row) -> set:
    items = list(row.items())
    return {(a, b) for a, b in itertools.combinations(items, 2)} | {(one,) for one in items}


def beside(
    parts: Sequence[Row], factors: Mapping[str, Sequence[Any]], allowed: Callable[[Row], bool], seed: int
) -> list[Row]:
    """Return one row for each part; without any one level of the part, the row is allowed.

    Parameters
    ----------
    parts : sequence of rows
        Each of one or some levels that are not allowed.
    factors, allowed, seed
        As in `covering`.
    """
    rng, rows = random.Random(seed), []
    for part in parts:
        row = None
        while row is None or not all(allowed({k: v for k, v in row.items() if k != name}) for name in part):
            row = {name: part.get(name, rng.choice(levels)) for name, levels in factors.items()}
        rows.append(row)
    return rows


def drawn(factors: Mapping[str, Sequence[Any]], allowed: Callable[[Row], bool], seed: int, count: int) -> list[Row]:
    """Return rows drawn at random among the allowed ones."""
    rng, rows = random.Random(seed), []
    while len(rows) < count:
        row = {name: rng.choice(levels) for name, levels in factors.items()}
        if allowed(row):
            rows.append(row)
    return rows
