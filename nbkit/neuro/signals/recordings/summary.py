"""What the intake did to all recordings of a store: in a few lines, and as a table."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from nbkit.neuro.signals.windows.montages import group_by_montage
from nbkit.neuro.signals.windows.shards import shard_heads

_MOST = 6  # names that are listed of each kind


def summarize_intake(facts: Sequence[Mapping[str, Any]], subjects: Sequence[str]) -> list[str]:
    """Return lines about stored recordings: how many, from whom, what was left out or repaired, what readers said.

    Parameters
    ----------
    facts : sequence of mapping
        Facts of each shard (`WindowShards.facts`); those without an intake are only counted.
    subjects : sequence of str
        Subject of each shard or window.
    """
    read = [shard["intake"] for shard in facts if isinstance(shard.get("intake"), Mapping)]
    people = len(set(map(str, subjects)))
    recordings = f"{len(facts)} recording{'s' * (len(facts) != 1)}"
    lines = [f"{recordings} of {people} {'person' if people == 1 else 'people'}"]
    if not read:
        return lines
    hours = sum(float(one["seconds"]) for one in read) / 3600
    counts = sorted({len(one["ch_names"]) for one in read})
    channels = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    units = Counter(map(_unit, read))
    told = next(iter(units)) if len(units) == 1 else _listed(units)
    lines[0] += f", {hours:.2f} h, {channels} EEG channels, unit {told}"
    gaps = sum(len(one["stretches_s"]) > 1 for one in read)
    if gaps:
        lines.append(f"{gaps} recordings have gaps, which no window and no filter crosses")
    for what, field in (("left out", "left_out"), ("bad channels", "bads")):
        found = Counter(name for one in read for name in one[field])
        if found:
            lines.append(f"{what}: {_listed(found)}")
    repaired = sum(len(one["repaired"]) for one in read)
    if repaired:
        lines.append(f"{repaired} of the bad channels were interpolated, the others left out")
    said = Counter(text for one in read for text in one["said"])
    lines += [f"said of {count} recordings: {text}" for text, count in said.most_common(_MOST)]
    return lines


class StoredIntake:
    """The facts of all recordings of a store.

    Parameters
    ----------
    paths : path or sequence of path
        Files or folders of shards, see `WindowShards`.
    purpose : str, optional
        Kind of windows.

    Attributes
    ----------
    facts : list of dict
        Facts of each recording; ``intake`` is the contract that it was read by.
    """

    def __init__(self, paths: Sequence[str | Path] | str | Path, purpose: str | None = None) -> None:
        self._heads = shard_heads(paths, purpose)
        self._montages = group_by_montage(paths, purpose)
        self.facts = [head.facts for head in self._heads]

    def lines(self) -> list[str]:
        """Return lines about the recordings, the montages, and the columns that all windows carry."""
        columns = [name for name in self._heads[0].columns if all(name in head.columns for head in self._heads)]
        data = dict.fromkeys(str(facts.get("data", "real")) for facts in self.facts)
        return [
            *summarize_intake(self.facts, [head.subject for head in self._heads]),
            *map(str, self._montages),
            f"data: {', '.join(data)}; columns of each window: {', '.join(columns) or 'none'}",
        ]

    def rows(self) -> list[dict[str, object]]:
        """Return a row for each recording: whose, what was read, what was left out and why, what was said."""
        return [_row(head) for head in self._heads]


def _unit(read: Mapping[str, Any]) -> str:
    """Return the unit and who declared it; the table of each recording is one kind of table."""
    unit = re.sub(r"\(\S+_channels\.tsv\)", "(channels.tsv)", read["unit"])
    return unit.replace("(mne)", "(as MNE reads it)")


def _row(head: Any) -> dict[str, object]:
    facts = head.facts
    read: Mapping[str, Any] = facts["intake"] if isinstance(facts.get("intake"), Mapping) else {}
    amplitude = list(read.get("amplitude_uv", {}).values())
    repaired = set(read.get("repaired", ()))
    bads = {name: f"{why}; {'interpolated' if name in repaired else 'left out'}" for name, why in
            read.get("bads", {}).items()}  # fmt: skip
    spans = ", ".join(f"{begin:g} to {end:g}" for begin, end in read.get("stretches_s", ()))
    return {
        "recording": facts.get("recording", head.path.parent.name), "subject": head.subject,
        "file": read.get("file", ""), "windows": head.shape[0], "EEG channels": head.shape[1],
        "rate of the file (Hz)": f"{read['sfreq']:g}" if read else "", "length (s)": f"{read['seconds']:g}" if read
        else "", "parts without a gap (s)": spans, "unit": read.get("unit", ""),
        "median amplitude (uV)": f"{median(amplitude):.3g}" if amplitude else "",
        "left out": _reasons(read.get("left_out", {})), "bad channels": _reasons(bads),
        "said": "; ".join(read.get("said", ())),
    }  # fmt: skip


def _reasons(found: Mapping[str, str]) -> str:
    return "; ".join(f"{name} ({why})" for name, why in found.items())


def _listed(found: Counter[str]) -> str:
    words = [f"{name} ({count})" for name, count in found.most_common(_MOST)]
    return ", ".join(words) + (f" and {len(found) - _MOST} more" if len(found) > _MOST else "")
