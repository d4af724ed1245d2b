"""Search over sizes: a grid of networks, several seeds each, one row of a manifest a training.

A row says all that a trial depends on, so a trial that was killed is done again with the same result.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nbkit.neuro.neurofm.scaling_laws.sweet_spot import SweetSpot, find_sweet_spot

MEAN_RATE = "every unit's mean rate"


@dataclass(frozen=True)
class SearchSettings:
    """What is searched; the defaults are the seed's grid on 10 recordings."""

    dims: tuple[int, ...] = (128, 256)
    blocks: tuple[int, ...] = (4, 8)
    seeds: tuple[int, ...] = (0, 1, 2)
    recordings: int = 10
    judged: int = 4  # recordings that are scored, on time that is held out
    epochs: int = 20

    @classmethod
    def free(cls) -> SearchSettings:
        """The seed's grid, for one 16 GB card."""
        return cls()

    @classmethod
    def smoke(cls) -> SearchSettings:
        """For seconds on two CPU cores."""
        return cls(dims=(16, 32), blocks=(1, 2), seeds=(0, 1), recordings=2, judged=2, epochs=3)


def trial_row(
    experiment: str, *, dim: int, blocks: int, latents: int, recordings: int, judged: int, seed: int, epochs: int
) -> dict[str, Any]:
    """Return one row of a manifest: a training and all that it depends on, beside the settings that all share."""
    heads = max(2, min(8, dim // 32))
    key = f"{experiment}-d{dim}-b{blocks}-l{latents}-n{recordings}-s{seed}"
    return {
        "key": key, "experiment": experiment, "dim": dim, "blocks": blocks, "latents": latents, "heads": heads,
        "recordings": recordings, "judged": judged, "seed": seed, "epochs": epochs,
    }  # fmt: skip


def search_rows(settings: SearchSettings) -> list[dict[str, Any]]:
    """Return one row per training of the grid: all configurations of a seed come before the next seed.

    Raises
    ------
    ValueError
        Where more recordings are scored than there are.
    """
    s = settings
    if not 1 <= s.judged <= s.recordings:
        raise ValueError(f"{s.judged} recordings are scored of {s.recordings}; score 1 to {s.recordings} of them.")
    return [
        trial_row("search", dim=dim, blocks=blocks, latents=max(8, dim // 4), recordings=s.recordings, judged=s.judged,
                  seed=seed, epochs=s.epochs)
        for seed in s.seeds for dim in s.dims for blocks in s.blocks
    ]  # fmt: skip


@dataclass(frozen=True)
class SearchReport:
    """What the trials that are done say.

    Attributes
    ----------
    spot : SweetSpot
        Scores are bits a spike, compute PFLOP.
    rows : list of dict
        For a session's results: name, value, unit, baseline, baseline_is.
    words : str
        A table and what is still missing.
    """

    spot: SweetSpot
    rows: list[dict[str, Any]]
    words: str


def report_search(trials: Sequence[Mapping[str, Any]], asked: int) -> SearchReport:
    """Compare the configurations of the trials that are done.

    Parameters
    ----------
    trials : sequence of mapping
        As `nbkit.neuro.neurofm.trial.read_trials` gives them.
    asked : int
        Trials of the whole grid.
    """
    if not trials:
        return SearchReport(
            SweetSpot("none yet", "none yet", "no trial is done", ()), [], f"no trial of {asked} is done"
        )
    runs = [{"name": config_name(t), "compute": t["compute"], "score": t["bits_per_spike"]} for t in trials]
    spot = find_sweet_spot(runs)
    best = max(spot.configurations, key=lambda one: one.score)
    chosen = next(one for one in spot.configurations if one.name == spot.name)
    rows = [
        {"name": "best_bits_per_spike", "value": best.score, "unit": "bit/spike", "baseline": 0.0,
         "baseline_is": MEAN_RATE},
        {"name": "sweet_spot_bits_per_spike", "value": chosen.score, "unit": "bit/spike", "baseline": 0.0,
         "baseline_is": MEAN_RATE},
    ]  # fmt: skip
    width = max(len("configuration"), *(len(one.name) for one in spot.configurations))
    lines = [f"{'configuration':<{width}}  seeds  bit/spike  +- error  PFLOP of a training"]
    for one in spot.configurations:
        mark = "  <- take this" if one.name == spot.name else ""
        lines.append(
            f"{one.name:<{width}}  {one.seeds:>5}  {one.score:>9.4f}  {one.error:>8.4f}  {one.compute:.4g}{mark}"
        )
    left = f"{asked - len(trials)} of {asked} trials are still to do" if len(trials) < asked else "all trials are done"
    return SearchReport(spot, rows, "\n".join([*lines, f"{spot.reason}; {left}"]))


def config_name(trial: Mapping[str, Any]) -> str:
    """Name a configuration by width, Mamba blocks and latents."""
    return f"d{trial['dim']} b{trial['blocks']} l{trial['latents']}"
