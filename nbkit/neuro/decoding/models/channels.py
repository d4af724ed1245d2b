"""Map a recording's channels to those of a model.

A channel of the model comes from the channel of the same name, from the same site under its other name, from the
difference of two channels (bipolar derivation), or from its neighbours by spherical splines; otherwise an error is
raised. No channel is padded, and channels of the recording that are not used are named.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from nbkit.neuro.decoding.models.splines import spline_weights
from nbkit.neuro.signals.intake.ch_names import TWINS, electrode
from nbkit.neuro.signals.positions import TEN_FIVE, angle, directions

FARTHEST = 30.0  # degrees from an interpolated channel to the nearest recorded one: the spacing of the 10-20 system
ELSEWHERE = 40.0  # degrees from a site of the 10-20 system above which names must belong to another naming scheme
FEWEST = 8  # recorded channels with positions that spline interpolation needs


@dataclass(frozen=True)
class Treatment:
    """Source of one of the model's channels.

    Parameters
    ----------
    ch_name : str
        Name of the model's channel.
    how : {"same", "alias", "bipolar", "interpolated"}
    source : str
        The recording's channel or channels; the nearest channel if it is interpolated.
    degrees : float
        Angle to the nearest recorded channel, if it is interpolated.
    """

    ch_name: str
    how: str
    source: str
    degrees: float = 0.0


@dataclass(frozen=True)
class ChannelPlan:
    """Mapping of a recording's channels to those of a model.

    Parameters
    ----------
    sources, targets : tuple of str
        Channels of the recording and of the model.
    matrix : ndarray of shape (targets, sources)
        Weights of the sources in each target.
    treatments : tuple of Treatment
        Source of each target.
    unused : tuple of str
        Channels of the recording that are not used.
    """

    sources: tuple[str, ...]
    targets: tuple[str, ...]
    matrix: np.ndarray
    treatments: tuple[Treatment, ...]
    unused: tuple[str, ...]

    def apply(self, windows: np.ndarray) -> np.ndarray:
        """Return the model's channels, shape (windows, targets, time), of windows of shape (windows, sources, time)."""
        if self._picks is not None:
            return windows[:, self._picks]
        return self.matrix.astype(windows.dtype) @ windows

    @cached_property
    def said(self) -> tuple[str, ...]:
        """Description of the mapping, which names every channel that is not simply copied."""
        counts = Counter(treatment.how for treatment in self.treatments)
        words = [f"{counts['same']} of {len(self.targets)} channels by name"]
        for how, verb in (("alias", "under another name"), ("bipolar", "as differences")):
            if counts[how]:
                pairs = ", ".join(f"{t.ch_name} = {t.source}" for t in self.treatments if t.how == how)
                words.append(f"{counts[how]} {verb} ({pairs})")
        if counts["interpolated"]:
            far = ", ".join(f"{t.ch_name} ({t.degrees:.0f})" for t in self.treatments if t.how == "interpolated")
            words.append(f"{counts['interpolated']} interpolated (degrees to the nearest channel: {far})")
        if self.unused:
            words.append(f"{len(self.unused)} of the recording not used ({', '.join(self.unused)})")
        return tuple(words)

    @cached_property
    def _picks(self) -> list[int] | None:
        """Indices of the sources if every target is a copy of one source, because copying is exact; else None."""
        ones = (self.matrix == 1).sum(1) == 1
        if ones.all() and (self.matrix != 0).sum() == len(self.targets):
            return [int(row.argmax()) for row in self.matrix]
        return None


def plan_channels(
    ch_names: Sequence[str],
    targets: Sequence[str],
    *,
    positions: Mapping[str, Sequence[float]] | None = None,
    template: str | None = None,
    model: str = "the model",
    farthest: float = FARTHEST,
) -> ChannelPlan:
    """Return the mapping of a recording's channels to those of a model.

    Parameters
    ----------
    ch_names : sequence of str
        Channels of the recording.
    targets : sequence of str
        Channels of the model; "A-B" is the difference of A and B.
    positions, template
        Positions of the recording's channels, see `directions`.
    model : str
        Name of the model, for messages.
    farthest : float
        Largest angle between an interpolated channel and the nearest recorded one, in degrees.

    Returns
    -------
    plan : ChannelPlan

    Raises
    ------
    ValueError
        If a name occurs twice, or a target is neither recorded nor can be interpolated from its neighbours.
    """
    laid = directions(ch_names, positions, template)
    where = _by_name(ch_names, laid, positions)
    ends = {
        target: [electrode(target)] if _at(electrode(target), where) else electrode(target).split("-")
        for target in targets
    }
    neighbours = _Neighbours(laid, farthest, [name for names in ends.values() for name in names])
    ways = {name: _at(name, where) or neighbours.near(name) for names in ends.values() for name in names}
    lacking = {target: why for target, names in ends.items() for name in names if isinstance(why := ways[name], str)}
    if lacking:
        raise ValueError(_refusal(model, targets, lacking, ch_names, neighbours))
    rows = neighbours.rows([name for name, way in ways.items() if way[0] == "interpolated"], ch_names)
    for name, (how, *_) in ways.items():
        if how != "interpolated":
            rows[name] = np.zeros(len(ch_names))
            rows[name][_at(name, where)[1]] = 1
    matrix = np.stack(
        [rows[names[0]] if len(names) == 1 else rows[names[0]] - rows[names[1]] for names in ends.values()]
    )
    treatments = tuple(_treatment(target, names, ways, ch_names) for target, names in ends.items())
    unused = tuple(name for place, name in enumerate(ch_names) if not matrix[:, place].any())
    return ChannelPlan(tuple(ch_names), tuple(targets), matrix, treatments, unused)


def reachable(
    ch_names: Sequence[str],
    targets: Sequence[str],
    positions: Mapping[str, Sequence[float]] | None = None,
    template: str | None = None,
) -> list[str]:
    """Return the targets that are recorded or can be interpolated, in their order."""
    laid = directions(ch_names, positions, template)
    where = _by_name(ch_names, laid, positions)
    neighbours = _Neighbours(laid, FARTHEST, [electrode(target) for target in targets])
    return [t for t in targets if _at(electrode(t), where) or not isinstance(neighbours.near(electrode(t)), str)]


class _Neighbours:
    """Channels with known positions, and spline interpolation from them."""

    def __init__(self, laid: Mapping[str, np.ndarray], farthest: float, sites: Sequence[str]) -> None:
        self.laid, self.farthest = laid, farthest
        self.sites = directions(sites)  # all at once: "E1" has a position only together with the net's other names

    def near(self, name: str) -> tuple[str, str, float] | str:
        """Return the channel nearest to a site and its angle in degrees, or the reason why interpolation fails."""
        place = self.sites.get(name)
        if place is None:
            return "its position on the head is not known"
        if len(self.laid) < FEWEST:
            return f"splines need {FEWEST} channels with positions, there are {len(self.laid)}"
        nearest = min(self.laid, key=lambda ch: angle(self.laid[ch], place))
        degrees = angle(self.laid[nearest], place)
        if degrees > self.farthest:
            return f"{nearest} is nearest, {degrees:.0f} degrees away"
        return "interpolated", nearest, degrees

    def rows(self, names: Sequence[str], ch_names: Sequence[str]) -> dict[str, np.ndarray]:
        """Return the weights of all channels at these positions, one row for each."""
        if not names:
            return {}
        weights = np.zeros((len(names), len(ch_names)))
        columns = [list(ch_names).index(name) for name in self.laid]
        weights[:, columns] = spline_weights(list(self.laid.values()), [self.sites[name] for name in names])
        return dict(zip(names, weights, strict=True))


def _by_name(
    ch_names: Sequence[str], laid: Mapping[str, np.ndarray], positions: Mapping[str, Sequence[float]] | None
) -> dict[str, int]:
    """Return the channels' indices by their plain names; empty if the names belong to another naming scheme.

    Example: A1 is at the vertex in BioSemi's scheme and at the left ear in the 10-20 system, so in a BioSemi recording
    names do not determine positions.
    """
    twice = [name for name, count in Counter(map(electrode, ch_names)).items() if count > 1]
    if not len(ch_names) or twice:
        seen = f"{', '.join(twice[:6])} more than once" if twice else "no channel"
        raise ValueError(f"The recording has {seen}; pass every channel once, with a unique name.")
    usual = directions([electrode(name) for name in ch_names], template=TEN_FIVE)
    off = {
        name: round(angle(laid[name], usual[electrode(name)]))
        for name in ch_names
        if name in laid and electrode(name) in usual and angle(laid[name], usual[electrode(name)]) > ELSEWHERE
    }
    given = {electrode(name) for name in positions or {}}
    wrong = [f"{name} ({degrees} degrees)" for name, degrees in off.items() if electrode(name) in given]
    if wrong:
        raise ValueError(
            f"By the positions given, {', '.join(wrong[:6])} are not where the 10-20 system has them. Pass x to the "
            "right, y to the front and z up (MNE's head frame), or use other names."
        )
    return {} if off else {electrode(name): place for place, name in enumerate(ch_names)}


def _at(name: str, where: Mapping[str, int]) -> tuple[str, int] | None:
    """Return how a channel is recorded (under its name or an alias) and its index; None if it is not recorded."""
    for how, known in (("same", name), ("alias", TWINS.get(name, name))):
        if known in where:
            return how, where[known]
    return None


def _treatment(target: str, names: Sequence[str], ways: Mapping[str, tuple], ch_names: Sequence[str]) -> Treatment:
    sources = [way[1] if way[0] == "interpolated" else ch_names[way[1]] for way in (ways[name] for name in names)]
    degrees = max((way[2] for way in (ways[name] for name in names) if way[0] == "interpolated"), default=0.0)
    if len(names) == 1:
        return Treatment(target, ways[names[0]][0], sources[0], degrees)
    ends = [f"{name} interpolated" if ways[name][0] == "interpolated" else source
            for name, source in zip(names, sources, strict=True)]  # fmt: skip
    return Treatment(target, "bipolar", " - ".join(ends), degrees)


def _refusal(
    model: str, targets: Sequence[str], lacking: Mapping[str, str], ch_names: Sequence[str], neighbours: _Neighbours
) -> str:
    first = "; ".join(f"{name}: {why}" for name, why in list(lacking.items())[:4])
    strange = [name for name in ch_names if name not in neighbours.laid]
    known = f"; no position is known of {', '.join(strange[:6])}" if strange else ""
    return (
        f"{model} needs {len(targets)} channels and {len(lacking)} of them are missing ({first}). The recording has "
        f"{len(ch_names)}: {', '.join(map(str, ch_names[:8]))}{' ...' if len(ch_names) > 8 else ''}{known}. A channel "
        f"must be recorded under its name, or be interpolated from {FEWEST} or more channels with positions, at most "
        f"{neighbours.farthest:.0f} degrees from the nearest. Rename the channels, pass their positions, or choose a "
        "model with another montage (list_foundation_models)."
    )


def choose_channels(
    ch_names: Sequence[str],
    known: Sequence[str],
    standard: Sequence[str],
    *,
    positions: Mapping[str, Sequence[float]] | None = None,
    template: str | None = None,
    model: str = "the model",
) -> list[str]:
    """Return the subset of a model's channels that fits a recording best.

    If the model knows at least half of the recording's channels by name, these channels are returned in the recording's
    order; otherwise the model's standard channels that can be interpolated.

    Parameters
    ----------
    ch_names : sequence of str
        Channels of the recording.
    known, standard : sequence of str
        All channels that the model knows, and the subset to use if it does not know the recording's names.
    positions, template
        See `directions`.
    model : str
        Name of the model, for messages.

    Raises
    ------
    ValueError
        If neither the name nor the position of a channel is known, or the standard channels cannot be interpolated.
    """
    laid = directions(ch_names, positions, template)
    where = _by_name(ch_names, laid, positions)
    rows = {electrode(name): name for name in known}
    found = {ch_names[at]: rows.get(name) or rows.get(TWINS.get(name, "")) for name, at in where.items()}
    strange = [name for name in ch_names if found.get(name) is None and name not in laid]
    if strange:
        raise ValueError(
            f"{model} does not know the channels {', '.join(strange[:8])}, and their positions are not known. Leave "
            f"out what is not EEG, rename the rest (it knows {', '.join(list(known)[:6])} ...), or pass positions= or "
            "template=."
        )
    named = list(dict.fromkeys(name for name in found.values() if name is not None))
    if 2 * len(named) >= len(ch_names):
        return named
    near = reachable(ch_names, standard, positions, template)
    if len(near) < FEWEST:
        raise ValueError(
            f"{model} knows {len(named)} of the recording's {len(ch_names)} channels by name, and {len(near)} of its "
            f"{len(standard)} standard ones are near enough to be interpolated; {FEWEST} are needed. Rename the "
            "channels, or pass montage= with the names of the model's channels to use."
        )
    return near
