"""A recording's channels to a model's, each by a named way or not at all.

A channel of the model comes from the channel of that name, from the same site under its other name, from the difference
of two (bipolar derivations), from its neighbours by spherical splines, or the plan is refused. Nothing is padded, and
nothing of the recording is left out without being named.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from nbkit.neuro.decoding.models.positions import ALIASES, TEN_FIVE, angle, directions, plain
from nbkit.neuro.decoding.models.splines import spline_weights

FARTHEST = 30.0  # degrees from an interpolated channel to the nearest recorded one: within the spacing of the 10-20
ELSEWHERE = 40.0  # degrees from a site of the 10-20 system: further off, names are another scheme's
FEWEST = 8  # recorded channels with positions that splines are laid through


@dataclass(frozen=True)
class Treatment:
    """Where a channel of the model comes from.

    Parameters
    ----------
    ch_name : str
        The model's.
    how : {"same", "alias", "bipolar", "interpolated"}
    source : str
        The recording's channel or channels; of an interpolated one the nearest.
    degrees : float
        To the nearest recorded channel, where it is interpolated.
    """

    ch_name: str
    how: str
    source: str
    degrees: float = 0.0


@dataclass(frozen=True)
class ChannelPlan:
    """How the channels of a recording become those of a model.

    Parameters
    ----------
    sources, targets : tuple of str
        The recording's and the model's channels.
    matrix : ndarray of shape (targets, sources)
    treatments : tuple of Treatment
        Of each target.
    unused : tuple of str
        Channels of the recording that go into none.
    """

    sources: tuple[str, ...]
    targets: tuple[str, ...]
    matrix: np.ndarray
    treatments: tuple[Treatment, ...]
    unused: tuple[str, ...]

    def apply(self, windows: np.ndarray) -> np.ndarray:
        """Return the model's channels, of shape (windows, targets, time)."""
        if self._picks is not None:
            return windows[:, self._picks]
        return self.matrix.astype(windows.dtype) @ windows

    @cached_property
    def said(self) -> tuple[str, ...]:
        """What was done, in words: every channel that is not simply itself is named."""
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
        """Where every target is one source as it is, the sources' places: copying loses no bit."""
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
    """Plan how a recording's channels become a model's.

    Parameters
    ----------
    ch_names : sequence of str
        The recording's.
    targets : sequence of str
        The model's; "A-B" is the difference of A and B.
    positions, template
        Of the recording's channels, see `directions`.
    model : str
        Its name, for errors.
    farthest : float
        From a channel that is interpolated to the nearest recorded one, in degrees.

    Returns
    -------
    plan : ChannelPlan

    Raises
    ------
    ValueError
        If a name comes twice, or if a target has neither a channel of its name nor neighbours to be interpolated from.
    """
    laid = directions(ch_names, positions, template)
    where = _by_name(ch_names, laid, positions)
    ends = {target: [plain(target)] if _at(plain(target), where) else plain(target).split("-") for target in targets}
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
    """Return the targets that a plan would not refuse, in their order."""
    laid = directions(ch_names, positions, template)
    where = _by_name(ch_names, laid, positions)
    neighbours = _Neighbours(laid, FARTHEST, [plain(target) for target in targets])
    return [t for t in targets if _at(plain(t), where) or not isinstance(neighbours.near(plain(t)), str)]


class _Neighbours:
    """The channels whose place is known, and splines through them."""

    def __init__(self, laid: Mapping[str, np.ndarray], farthest: float, sites: Sequence[str]) -> None:
        self.laid, self.farthest = laid, farthest
        self.sites = directions(sites)  # of all at once: E1 says where it is only beside the net's other names

    def near(self, name: str) -> tuple[str, str, float] | str:
        """The channel nearest to a place on the head, or why nothing can be interpolated there."""
        place = self.sites.get(name)
        if place is None:
            return "its place on the head is not known"
        if len(self.laid) < FEWEST:
            return f"splines need {FEWEST} channels with positions, there are {len(self.laid)}"
        nearest = min(self.laid, key=lambda ch: angle(self.laid[ch], place))
        degrees = angle(self.laid[nearest], place)
        if degrees > self.farthest:
            return f"{nearest} is nearest, {degrees:.0f} degrees away"
        return "interpolated", nearest, degrees

    def rows(self, names: Sequence[str], ch_names: Sequence[str]) -> dict[str, np.ndarray]:
        """What each channel adds to these places, each a row over all channels."""
        if not names:
            return {}
        weights = np.zeros((len(names), len(ch_names)))
        columns = [list(ch_names).index(name) for name in self.laid]
        weights[:, columns] = spline_weights(list(self.laid.values()), [self.sites[name] for name in names])
        return dict(zip(names, weights, strict=True))


def _by_name(
    ch_names: Sequence[str], laid: Mapping[str, np.ndarray], positions: Mapping[str, Sequence[float]] | None
) -> dict[str, int]:
    """The channels' places in the recording under their plain names; none where the names are another scheme's.

    BioSemi's A1 is at the vertex, the 10-20 system's at the left ear: there no name says where a channel is.
    """
    twice = [name for name, count in Counter(map(plain, ch_names)).items() if count > 1]
    if not len(ch_names) or twice:
        seen = f"{', '.join(twice[:6])} more than once" if twice else "no channel"
        raise ValueError(f"The recording has {seen}; give every channel once, by a name of its own.")
    usual = directions([plain(name) for name in ch_names], template=TEN_FIVE)
    off = {
        name: round(angle(laid[name], usual[plain(name)]))
        for name in ch_names
        if name in laid and plain(name) in usual and angle(laid[name], usual[plain(name)]) > ELSEWHERE
    }
    given = {plain(name) for name in positions or {}}
    wrong = [f"{name} ({degrees} degrees)" for name, degrees in off.items() if plain(name) in given]
    if wrong:
        raise ValueError(
            f"By the positions given, {', '.join(wrong[:6])} lie elsewhere than the 10-20 system has them. Give x to "
            "the right, y to the front and z up (MNE's head frame), or other names."
        )
    return {} if off else {plain(name): place for place, name in enumerate(ch_names)}


def _at(name: str, where: Mapping[str, int]) -> tuple[str, int] | None:
    """How and where a channel is recorded: under its name, or its site's other one."""
    for how, known in (("same", name), ("alias", ALIASES.get(name, name))):
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
        f"{model} needs {len(targets)} channels and {len(lacking)} of them cannot be had ({first}). The recording has "
        f"{len(ch_names)}: {', '.join(map(str, ch_names[:8]))}{' ...' if len(ch_names) > 8 else ''}{known}. A channel "
        f"may be there by its name or be interpolated from {FEWEST} or more channels with positions, at most "
        f"{neighbours.farthest:.0f} degrees from the nearest. Rename the channels, give their positions, or take a "
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
    """Return those of a model's channels that a recording is best shown as.

    They are the recording's own where the model knows at least half of them by name, in the recording's order; else
    those of the model's standard ones that can be interpolated.

    Parameters
    ----------
    ch_names : sequence of str
        The recording's.
    known, standard : sequence of str
        All that the model knows, and those it is given where the recording's names are none of them.
    positions, template
        See `directions`.
    model : str
        Its name, for errors.

    Raises
    ------
    ValueError
        If a channel is known neither by its name nor by its place, or if the standard channels cannot be interpolated.
    """
    laid = directions(ch_names, positions, template)
    where = _by_name(ch_names, laid, positions)
    rows = {plain(name): name for name in known}
    found = {ch_names[at]: rows.get(name) or rows.get(ALIASES.get(name, "")) for name, at in where.items()}
    strange = [name for name in ch_names if found.get(name) is None and name not in laid]
    if strange:
        raise ValueError(
            f"{model} does not know the channels {', '.join(strange[:8])} and nothing says where they are. Leave out "
            f"what is no EEG, rename the rest (it knows {', '.join(list(known)[:6])} ...), or give positions= or "
            "template=."
        )
    named = list(dict.fromkeys(name for name in found.values() if name is not None))
    if 2 * len(named) >= len(ch_names):
        return named
    near = reachable(ch_names, standard, positions, template)
    if len(near) < FEWEST:
        raise ValueError(
            f"{model} knows {len(named)} of the recording's {len(ch_names)} channels by name, and {len(near)} of its "
            f"{len(standard)} standard ones lie near enough to be interpolated; {FEWEST} are needed. Rename the "
            "channels, or give montage= with the names that the model is to see."
        )
    return near
