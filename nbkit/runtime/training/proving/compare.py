"""Comparison of an interrupted training with the same one in one go: the first step and the first name that differ."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_MISSING = "nothing"
# what a training is; the rest, such as a logged throughput, may depend on the clock without any harm
_TRAINED = ("batch", "result", "modules", "frozen", "weight", "buffer", "optimizer", "scheduler", "global_step")


@dataclass(frozen=True)
class Difference:
    """The first place where two trainings differ.

    Attributes
    ----------
    step, epoch, batch : int
        Optimizer steps done before it, and the place in the data.
    name : str
        What differs, such as ``weight net.0.weight`` or ``batch[0]``.
    in_one_go, with_stops : str
        Both values, or checksums of them.
    resumed_at : tuple of int or None
        Epoch and batch at which the session had resumed.
    others : tuple of str
        What else differs at the same place.
    """

    step: int
    epoch: int
    batch: int
    name: str
    in_one_go: str
    with_stops: str
    resumed_at: tuple[int, int] | None = None
    others: tuple[str, ...] = ()

    @property
    def trained(self) -> bool:
        """Whether the training itself differs, not only a metric or a callback's state."""
        return bool(self.trained_names)

    @property
    def trained_names(self) -> set[str]:
        """The names that are part of the training."""
        return {name for name in (self.name, *self.others) if name.startswith(_TRAINED)}


Records = Sequence[Mapping[str, Any]]


def by_place(records: Records) -> dict[tuple[Any, ...], Mapping[str, Any]]:
    """Return the records of a run by their place and moment; the last one where a batch was done twice."""
    return {(*record["place"], record["when"]): record for record in records}


def first_difference(
    whole: Records, sessions: Iterable[Records], ignored: Iterable[str] = ()
) -> tuple[Difference, Mapping[str, Any]] | None:
    """Return where the sessions of an interrupted run first differ from the whole run, and that session's first record.

    Parameters
    ----------
    whole : records
    sessions : records of each session, in order
    ignored : names
        Those that differ between two uninterrupted runs, too.
    """
    expected, ignored = by_place(whole), set(ignored)
    minor = None
    for records in sessions:
        for record in records:
            one = expected.get((*record["place"], record["when"]))
            if one is None:
                one = {"values": {}, "step": record["step"], "place": record["place"]}
            found = _differing(one.get("values", {}), record.get("values", {}), ignored)
            if found:
                difference = _difference(found, one, record, records[0])
                if difference.trained:
                    return difference, records[0]
                minor = minor or (difference, records[0])
    return minor


def final_difference(
    whole: Mapping[str, Any], stopped: Mapping[str, Any], ignored: Iterable[str] = ()
) -> Difference | None:
    """Return what differs between the last checkpoints of both runs."""
    found = _differing(whole["final"], stopped["final"], set(ignored))
    if not found:
        return None
    place = {"step": whole["step"], "place": (-1, -1)}
    return _difference(found, {**place, "values": whole["final"]}, {**place, "values": stopped["final"]}, None)


def differing_names(one: Records, other: Records) -> set[str]:
    """Return all names that differ anywhere between two runs."""
    expected, found = by_place(one), set()
    for key, record in by_place(other).items():
        found |= set(_differing(expected.get(key, {}).get("values", {}), record.get("values", {}), set()))
    return found


def _differing(one: Mapping[str, str], other: Mapping[str, str], ignored: set[str]) -> list[str]:
    names = [*one, *(name for name in other if name not in one)]
    return [name for name in names if name not in ignored and one.get(name) != other.get(name)]


def _difference(
    names: list[str], one: Mapping[str, Any], record: Mapping[str, Any], first: Mapping[str, Any] | None
) -> Difference:
    names = sorted(names, key=lambda name: not name.startswith(_TRAINED))
    return Difference(
        step=record["step"],
        epoch=record["place"][0],
        batch=record["place"][1],
        name=names[0],
        in_one_go=one.get("values", {}).get(names[0], _MISSING),
        with_stops=record.get("values", {}).get(names[0], _MISSING),
        resumed_at=tuple(first["place"]) if first is not None else None,
        others=tuple(names[1:8]),
    )
