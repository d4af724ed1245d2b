"""Positions of electrodes on the head, as directions from its centre.

They come from names (10-05 system, EGI's nets) or from given positions. Every montage is first aligned to the axes of
the head (nasion, ears), so an EGI net and the 10-20 system can be compared: sites with the same name are about 7
degrees apart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np

from nbkit.neuro.signals.intake.ch_names import electrode, is_between_references, parts

TEN_FIVE = "standard_1005"  # MNE's name for the 10-05 system on a template head, until MNE 1.13
# EGI's nets by the range of their highest electrode number, without and with the reference.
_EGI = {(32, 33): "GSN-HydroCel-32", (64, 65): "GSN-HydroCel-65_1.0", (124, 129): "GSN-HydroCel-129",
        (250, 257): "GSN-HydroCel-257"}  # fmt: skip


def directions(
    ch_names: Sequence[str],
    positions: Mapping[str, Sequence[float]] | None = None,
    template: str | None = None,
) -> dict[str, np.ndarray]:
    """Return the direction of every channel with a known position.

    Parameters
    ----------
    ch_names : sequence of str
    positions : mapping of str to (x, y, z), optional
        In any unit, with x to the right and y to the front (MNE's head frame); used for all channels that it contains.
    template : str, optional
        One of MNE's built-in montages, for channels that are not in ``positions``; by default chosen from the names.

    Returns
    -------
    directions : dict of str to ndarray of shape (3,)
        Unit vectors, by the names as they were given.

    Raises
    ------
    ValueError
        If a given position is not three finite numbers, or the template is unknown.
    """
    known = {}
    given = {electrode(name): np.asarray(place, float) for name, place in (positions or {}).items()}
    wrong = [name for name, place in given.items() if place.shape != (3,) or not np.isfinite(place).all()]
    if wrong:
        raise ValueError(f"The positions of {', '.join(wrong[:6])} are not three finite numbers; pass x, y and z.")
    if given:
        middle = _middle(np.stack(list(given.values())))
        known.update({name: _unit(place - middle) for name, place in given.items()})
    net = _net_of(ch_names)
    for name in [template] if template else [net, TEN_FIVE] if net else [TEN_FIVE]:
        for ch, place in _template(_own_name(name)).items():
            known.setdefault(ch, place)
    return {name: known[electrode(name)] for name in ch_names if electrode(name) in known}


def head_places(found: Mapping[str, np.ndarray]) -> dict[str, list[float]]:
    """Return positions on the template head, in m: from the 10-05 system, or from the direction for other names.

    Parameters
    ----------
    found : mapping of str to ndarray of shape (3,)
        See `directions`.
    """
    import mne

    template = mne.channels.make_standard_montage(_own_name(TEN_FIVE)).get_positions()["ch_pos"]
    own = {electrode(name): place for name, place in template.items()}
    middle = _middle(np.stack(list(own.values())))
    radius = np.linalg.norm(np.stack(list(own.values())) - middle, axis=1).mean()
    return {
        name: [float(x) for x in own.get(electrode(name), middle + radius * direction)]
        for name, direction in found.items()
    }


def places(ch_names: Sequence[str]) -> dict[str, np.ndarray]:
    """Return the places of the channels that have one, in m in the head frame, by the names as they were given."""
    ends = {name: parts(name) for name in ch_names}
    found = head_places(directions([*ch_names, *(end for pair in ends.values() if len(pair) == 2 for end in pair)]))
    known = {name: np.asarray(found[name], float) for name in ch_names if name in found}
    for name, pair in ends.items():
        if (
            len(pair) == 2
            and name not in known
            and not is_between_references(name)
            and all(end in found for end in pair)
        ):
            known[name] = np.mean([found[end] for end in pair], axis=0)
    return known


def angle(one: np.ndarray, other: np.ndarray) -> float:
    """Return the angle between two directions, in degrees."""
    return float(np.degrees(np.arccos(np.clip(one @ other, -1, 1))))


def _net_of(ch_names: Sequence[str]) -> str | None:
    """Return the EGI net that has these names, or None if there is none or more than one."""
    numbers = {
        int(electrode(name)[1:]) for name in ch_names if electrode(name)[:1] == "E" and electrode(name)[1:].isdigit()
    }
    for (least, most), net in _EGI.items():
        if numbers and least <= max(numbers) <= most and len(numbers) > least // 2:
            return net
    return None


@lru_cache
def _template(name: str) -> dict[str, np.ndarray]:
    import mne

    montage = mne.channels.transform_to_head(mne.channels.make_standard_montage(name))
    places = {electrode(ch): place for ch, place in montage.get_positions()["ch_pos"].items()}
    middle = _middle(np.stack(list(places.values())))
    found = {ch: _unit(place - middle) for ch, place in places.items()}
    if name.endswith("-129") or name.endswith("-257"):
        found.setdefault("E" + name.rsplit("-", 1)[1], found["CZ"])  # in some files the reference has a number
    return found


def _own_name(template: str) -> str:
    """Return a montage's name in the installed version of MNE."""
    import mne

    names = mne.channels.get_builtin_montages()
    renamed = template.replace("standard_", "colin27_")
    if template not in names and renamed not in names:
        raise ValueError(f"MNE has no montage {template!r}; it has {', '.join(names)}.")
    return renamed if renamed in names else template


def _middle(places: np.ndarray) -> np.ndarray:
    """Return the centre of the sphere fitted to the positions; with few positions, the centre of a standard head."""
    radius = np.linalg.norm(places, axis=1).mean()
    if len(places) < 16:
        return np.array([0.0, 0.15, 0.4]) * radius
    system = np.c_[2 * places, np.ones(len(places))]
    return np.linalg.lstsq(system, (places**2).sum(1), rcond=None)[0][:3]


def _unit(place: np.ndarray) -> np.ndarray:
    return place / np.linalg.norm(place)
