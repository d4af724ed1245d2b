"""The one assignment of subjects to training, validation and test that all phases of a store share.

A subject's place on the line from 0 to 1 is a hash of its name and the seed. The test side is the beginning of the
line, then come validation and training. The place does not depend on who else is there, so a subject of the test side
in one phase is on the test side in all others, also where a phase has only some of the subjects or a larger test side.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

SIDES = ("train", "val", "test")
FEW = 50  # names below which sides are counted off
SHARES = (0.8, 0.1, 0.1)  # of train, validation and test, in all phases that do not say otherwise


def plain_name(name: object) -> str:
    """Return a subject's name as text, the same for 4, "4" and "04": manifests hold text, calls often numbers."""
    text = str(name)
    return str(int(text)) if text.isdecimal() else text


def place_on_line(name: object, seed: int = 2025) -> float:
    """Return a subject's place on the line, from 0 to below 1."""
    digest = hashlib.sha256(f"{seed}:{plain_name(name)}".encode()).digest()
    return int.from_bytes(digest[:6], "big") / 2**48


def assign(
    names: Iterable[object], shares: Sequence[float] = SHARES, seed: int = 2025, fold: str | None = None
) -> tuple[set[str], ...]:
    """Assign names to sides by their places on the line.

    Fewer than 50 names are counted off along the line instead, because in a small set the places alone could leave a
    side too small. The order is the same, but a side then depends on how many there are.

    Parameters
    ----------
    names : iterable
        Names of subjects, or of other groups; repeated names count once.
    shares : sequence of float
        Share of each side, the training side first; they sum to 1. A side with a share above 0 gets at least one name.
    seed : int
        Seed of the places.
    fold : str, optional
        "2/4": the second of four parts of the line is the last side, so that each subject is there once in four
        trainings. Its share is then 1/4, whatever ``shares`` says.

    Returns
    -------
    sides : tuple of set of str

    Raises
    ------
    ValueError
        If the shares do not sum to 1, the fold is none, or there are fewer names than sides.
    """
    if min(shares) < 0 or abs(sum(shares) - 1) > 1e-6 or shares[0] == 0:
        raise ValueError(f"Invalid {shares=}: no shares that sum to 1; give some, such as (0.8, 0.1, 0.1).")
    number, count = parsed_fold(fold)
    begin, part = (number - 1) / count, 1 / count
    later = [*shares[1:-1], part if fold else shares[-1]][::-1]
    places = {str(name): place_on_line(name, seed) for name in names}
    order = sorted(places, key=lambda name: (places[name], name))
    few = len(order) < FEW
    if few:
        places = {name: (rank + 0.5) / len(order) for rank, name in enumerate(order)}
    if fold:
        places = {name: (place - begin) % 1.0 for name, place in places.items()}
        order = sorted(order, key=lambda name: (places[name], name))
    wanted = [share > 0 for share in later]
    if len(order) <= sum(wanted):
        raise ValueError(
            f"Too few: {len(order)} groups ({', '.join(sorted(order)[:8])}) cannot be split as {tuple(shares)}: "
            "every side needs at least one. Use more recordings, or split='recording' if all are of one subject."
        )
    sides: list[set[str]] = []
    start, edge = 0, 0.0
    for number, share in enumerate(later):
        edge += share
        if few and not (fold and not sides):
            stop = start + round(share * len(order))
        else:
            stop = sum(places[name] < edge for name in order)
        most = len(order) - 1 - sum(wanted[number + 1 :])  # leave the sides after it someone
        stop = min(max(stop, start + 1), most) if share > 0 else start
        sides.append(set(order[start:stop]))
        start = stop
    return set(order[start:]), *sides[::-1]


def parsed_fold(fold: str | None) -> tuple[int, int]:
    """Return number and count of a fold such as "2/4"; (1, 1) for None.

    Raises
    ------
    ValueError
        If the text is no fold.
    """
    if fold is None:
        return 1, 1
    first, _, second = str(fold).partition("/")
    if not (first.isdecimal() and second.isdecimal() and 1 <= int(first) <= int(second) and int(second) > 1):
        raise ValueError(f"FOLD={fold!r} is no part of the subjects; give one such as '2/4', or None.")
    return int(first), int(second)
