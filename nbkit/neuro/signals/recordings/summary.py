"""What the intake did to all recordings of a store, in a few lines."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

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
    lines = [f"{len(facts)} recordings of {len(set(map(str, subjects)))} people"]
    if not read:
        return lines
    hours = sum(float(one["seconds"]) for one in read) / 3600
    counts = sorted({len(one["ch_names"]) for one in read})
    channels = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    lines[0] += f", {hours:.2f} h, {channels} EEG channels, in {_listed(Counter(one['unit'] for one in read))}"
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


def _listed(found: Counter[str]) -> str:
    words = [f"{name} ({count})" for name, count in found.most_common(_MOST)]
    return ", ".join(words) + (f" and {len(found) - _MOST} more" if len(found) > _MOST else "")
