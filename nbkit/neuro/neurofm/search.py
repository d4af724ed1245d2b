"""Search over network sizes: a grid of configurations with several seeds each.

Each training is one row of a manifest. A row has everything on which the training depends, so that a killed trial can
be repeated with the same result.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nbkit.ground.fields import checked
from nbkit.neuro.neurofm.scaling_laws.sweet_spot import SweetSpot, find_sweet_spot

MEAN_RATE = "mean rate of each unit"
UNIT = "bit/spike"


@checked
@dataclass(frozen=True)
class SearchSettings:
    """Settings of the search. The defaults are the grid of the original plan, with 10 recordings."""

    dims: tuple[int, ...] = (128, 256)
    blocks: tuple[int, ...] = (4, 8)
    seeds: tuple[int, ...] = (0, 1, 2)
    recordings: int = 10
    judged: int = 4  # number of scored recordings, on held-out time
    epochs: int = 20

    @classmethod
    def free(cls) -> SearchSettings:
        """Return the grid of the original plan, for one GPU with 16 GB."""
        return cls()

    @classmethod
    def smoke(cls) -> SearchSettings:
        """Return settings for a run of a few seconds on two CPU cores."""
        return cls(dims=(16, 32), blocks=(1, 2), seeds=(0, 1), recordings=2, judged=2, epochs=3)


def trial_row(
    experiment: str, *, dim: int, blocks: int, latents: int, recordings: int, judged: int, seed: int, epochs: int
) -> dict[str, Any]:
    """Return one row of a manifest: everything on which a training depends, except the shared settings.

    Parameters
    ----------
    experiment : str
        Name of the experiment, such as "search", "data" or "model".
    dim, blocks, latents : int
        Width, Mamba blocks and latents of the network.
    recordings, judged : int
        Numbers of training recordings and of scored recordings.
    seed, epochs : int

    Returns
    -------
    row : dict
        The arguments, the number of attention heads (``heads``) and a unique ``key``.
    """
    heads = max(2, min(8, dim // 32))
    key = f"{experiment}-d{dim}-b{blocks}-l{latents}-n{recordings}-s{seed}"
    return {
        "key": key, "experiment": experiment, "dim": dim, "blocks": blocks, "latents": latents, "heads": heads,
        "recordings": recordings, "judged": judged, "seed": seed, "epochs": epochs,
    }  # fmt: skip


def search_rows(settings: SearchSettings) -> list[dict[str, Any]]:
    """Return one row for each training of the grid, ordered by seed (see `trial_row`).

    Raises
    ------
    ValueError
        If more recordings are scored than trained on, or none.
    """
    s = settings
    if not 1 <= s.judged <= s.recordings:
        raise ValueError(f"judged is {s.judged}, with {s.recordings} recordings; it must be from 1 to {s.recordings}.")
    return [
        trial_row("search", dim=dim, blocks=blocks, latents=max(8, dim // 4), recordings=s.recordings, judged=s.judged,
                  seed=seed, epochs=s.epochs)
        for seed in s.seeds for dim in s.dims for blocks in s.blocks
    ]  # fmt: skip


@dataclass(frozen=True)
class SearchReport:
    """Results of the completed trials.

    Attributes
    ----------
    spot : SweetSpot
        Scores are in bit/spike, compute in PFLOP.
    rows : list of dict
        For the results of a session: name, value, unit, baseline, baseline_is.
    words : str
        Table of configurations, and the number of trials that are not done.
    unit : str
        Unit of the scores.
    """

    spot: SweetSpot
    rows: list[dict[str, Any]]
    words: str
    unit: str = UNIT


def report_search(trials: Sequence[Mapping[str, Any]], asked: int) -> SearchReport:
    """Compare the configurations of the completed trials.

    Parameters
    ----------
    trials : sequence of mapping
        Results from `nbkit.neuro.neurofm.trial.read_trials`.
    asked : int
        Number of trials of the whole grid.

    Returns
    -------
    report : SearchReport
    """
    if not trials:
        return SearchReport(
            SweetSpot("none yet", "none yet", "no trial is done", ()), [], f"0 of {asked} trials are done"
        )
    runs = [{"name": config_name(t), "compute": t["compute"], "score": t["bits_per_spike"]} for t in trials]
    spot, unit = find_sweet_spot(runs), unit_of(trials)
    best = max(spot.configurations, key=lambda one: one.score)
    chosen = next(one for one in spot.configurations if one.name == spot.name)
    rows = [
        {"name": "best_bits_per_spike", "value": best.score, "unit": unit, "baseline": 0.0,
         "baseline_is": MEAN_RATE},
        {"name": "sweet_spot_bits_per_spike", "value": chosen.score, "unit": unit, "baseline": 0.0,
         "baseline_is": MEAN_RATE},
    ]  # fmt: skip
    width = max(len("configuration"), *(len(one.name) for one in spot.configurations))
    lines = [f"{'configuration':<{width}}  seeds  {unit}  +- error  PFLOP per training"]
    for one in spot.configurations:
        mark = "  <- sweet spot" if one.name == spot.name else ""
        lines.append(
            f"{one.name:<{width}}  {one.seeds:>5}  {one.score:>9.4f}  {one.error:>8.4f}  {one.compute:.4g}{mark}"
        )
    left = f"{asked - len(trials)} of {asked} trials are not done" if len(trials) < asked else "all trials are done"
    return SearchReport(spot, rows, "\n".join([*lines, f"{spot.reason}; {left}"]), unit)


def unit_of(trials: Sequence[Mapping[str, Any]]) -> str:
    """Return the unit of the scores: bit/spike, bit/sample of traces, or both; older trials say none, of spikes."""
    return " and ".join(dict.fromkeys(str(trial.get("unit", UNIT)) for trial in trials)) or UNIT


def config_name(trial: Mapping[str, Any]) -> str:
    """Return the name of a configuration: width, Mamba blocks and latents."""
    return f"d{trial['dim']} b{trial['blocks']} l{trial['latents']}"
