"""Scaling experiments: the same network on more recordings, and larger networks on the same recordings.

Every training is scored on the same held-out minutes of the same recordings, and all trainings train on these
recordings; only the number of additional recordings differs. Otherwise a curve would compare recordings and not their
number. The number of epochs is constant, as in the original plan, so that twice the recordings mean twice the steps:
the curves show the joint effect of more data and more steps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nbkit.ground.fields import checked
from nbkit.neuro.neurofm.scaling_laws.power_law import INCONCLUSIVE, Verdict, judge
from nbkit.neuro.neurofm.scaling_laws.sweet_spot import SweetSpot, find_sweet_spot
from nbkit.neuro.neurofm.search import MEAN_RATE, UNIT, config_name, trial_row, unit_of


@checked
@dataclass(frozen=True)
class ScalingSettings:
    """Settings of the scaling experiments. The defaults are experiments 1 and 2 of the original plan."""

    sizes: tuple[int, ...] = (5, 10, 20, 40)  # numbers of recordings
    model_sizes: tuple[tuple[int, int], ...] = ((64, 16), (128, 32), (256, 64), (512, 128))  # dim, latents
    data_model: tuple[int, int] = (128, 32)  # dim, latents of the data experiment
    blocks: int = 4
    model_recordings: int = 20
    seeds: tuple[int, ...] = (0, 1, 2)
    epochs: int = 20
    next_size: int = 80
    worth: float = 0.01  # gain in bit/spike that makes the next size worthwhile
    level: float = 0.9  # of the intervals

    @classmethod
    def free(cls) -> ScalingSettings:
        """Return the sizes of the original plan, for one GPU with 16 GB."""
        return cls()

    @classmethod
    def smoke(cls) -> ScalingSettings:
        """Return settings for a run of a few seconds on two CPU cores."""
        return cls(
            sizes=(2, 4, 8), model_sizes=((16, 8), (32, 8)), data_model=(32, 8), blocks=1, model_recordings=2,
            seeds=(0, 1), epochs=2, next_size=16,
        )  # fmt: skip


def scaling_rows(settings: ScalingSettings) -> list[dict[str, Any]]:
    """Return one row for each training of both experiments, ordered by seed (see `trial_row`).

    The scored recordings are those of the smallest size.

    Raises
    ------
    ValueError
        If the model experiment has fewer recordings than are scored.
    """
    s, judged = settings, min(settings.sizes)
    if s.model_recordings < judged:
        raise ValueError(
            f"model_recordings is {s.model_recordings}; it must be at least {judged}, the number of scored recordings "
            "(the smallest of sizes)."
        )
    rows = []
    for seed in s.seeds:
        rows += [
            trial_row("data", dim=s.data_model[0], blocks=s.blocks, latents=s.data_model[1], recordings=size,
                      judged=judged, seed=seed, epochs=s.epochs)
            for size in sorted(s.sizes)
        ]  # fmt: skip
        rows += [
            trial_row("model", dim=dim, blocks=s.blocks, latents=latents, recordings=s.model_recordings, judged=judged,
                      seed=seed, epochs=s.epochs)
            for dim, latents in s.model_sizes
        ]  # fmt: skip
    return rows


@dataclass(frozen=True)
class ScalingReport:
    """Results of the completed trainings.

    Attributes
    ----------
    sizes, losses : ndarray of shape (runs,)
        Numbers of recordings and losses of the data experiment; losses are Poisson deviances in bit/spike.
    mean_rate_loss : float
        Loss of the mean-rate model on the same windows, in bit/spike.
    verdict : Verdict
        Whether more recordings help.
    spot : SweetSpot
        Of the model experiment; without configurations before its first training is done.
    rows : list of dict
        For the results of a session: name, value, unit, baseline, baseline_is.
    words : str
        Summary in a few lines.
    unit : str
        Unit of the losses.
    """

    sizes: np.ndarray
    losses: np.ndarray
    mean_rate_loss: float
    verdict: Verdict
    spot: SweetSpot
    rows: list[dict[str, Any]]
    words: str
    unit: str = UNIT

    def curve(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray] | None:
        """Return sizes up to the next size, the fitted loss there, and the ends of its interval; None without a fit."""
        if self.verdict.law is None:
            return None
        at = np.geomspace(self.sizes.min(), self.verdict.next_size, 60)
        return at, *self.verdict.law.predict(at)

    def prediction(self) -> tuple[float, float, float, float] | None:
        """Return the next size, the expected loss there, and the ends of its interval; None without a fit."""
        if self.verdict.law is None:
            return None
        at = [self.verdict.next_size]
        return self.verdict.next_size, *(float(part[0]) for part in self.verdict.law.predict(at))

    def drawn(self) -> dict[str, Any]:
        """Return what the figure draws beside the losses: curve, prediction, law, loss of mean rates, and the unit."""
        return {"curve": self.curve(), "prediction": self.prediction(), "law": self.law,
                "baseline": self.mean_rate_loss, "unit": self.unit}  # fmt: skip

    @property
    def law(self) -> str:
        """The fitted power law as text; empty without a fit, or with one at its bound."""
        fit = self.verdict.law
        if fit is None:
            return ""
        low, high = fit.alpha_interval
        return f"{fit.a:.3g} n^-{fit.alpha:.3g} + {fit.c:.3g}; exponent {low:.2g} to {high:.2g}"


def report_scaling(trials: Sequence[Mapping[str, Any]], settings: ScalingSettings, asked: int) -> ScalingReport:
    """Evaluate the completed trainings.

    Parameters
    ----------
    trials : sequence of mapping
        Results from `nbkit.neuro.neurofm.trial.read_trials`; those of other experiments are ignored.
    settings : ScalingSettings
    asked : int
        Number of trainings of both experiments.

    Returns
    -------
    report : ScalingReport
    """
    data = [t for t in trials if t["experiment"] == "data"]
    models = [t for t in trials if t["experiment"] == "model"]
    sizes, losses = np.array([t["recordings"] for t in data], float), np.array([t["loss"] for t in data], float)
    baseline = float(np.mean([t["mean_rate_loss"] for t in data])) if data else float("nan")
    next_size = max(settings.next_size, 2 * max(sizes, default=1))
    unit, verdict = unit_of(trials), judge(
        sizes, losses, next_size=next_size, worth=settings.worth, level=settings.level
    )  # fmt: skip
    best = min((float(losses[sizes == size].mean()) for size in np.unique(sizes)), default=float("nan"))
    if verdict.fit is not None and baseline - best < settings.worth:
        reason = (
            f"no size predicts masked units better than mean rates by {settings.worth:g} (loss {best:.4g} against "
            f"{baseline:.4g}), so nothing was learnt that could level off: train longer first"
        )
        verdict = Verdict(INCONCLUSIVE, reason, None, next_size, settings.worth)
    runs = [{"name": config_name(t), "compute": t["compute"], "score": t["bits_per_spike"]} for t in models]
    spot = (
        find_sweet_spot(runs)
        if runs
        else SweetSpot("none yet", "none yet", "no training of this experiment is done", ())
    )

    rows = []
    for size in np.unique(sizes):
        here = losses[sizes == size]
        rows.append({"name": f"loss_{size:g}_recordings", "value": float(here.mean()), "unit": unit,
                     "baseline": baseline, "baseline_is": MEAN_RATE})  # fmt: skip
    if verdict.fit is not None and (verdict.law is not None or verdict.verdict != INCONCLUSIVE):
        worth = {
            "unit": unit,
            "baseline": verdict.worth,
            "baseline_is": "gain that makes the next size worthwhile",
        }
        if verdict.law is not None:
            rows.append({"name": "alpha", "value": verdict.law.alpha, "unit": "1", "baseline": 0.0,
                         "baseline_is": "the number of recordings has no effect"})  # fmt: skip
        rows += [
            {"name": "gain_at_next_low", "value": verdict.gain_low, **worth},
            {"name": "gain_at_next_high", "value": verdict.gain_high, **worth},
        ]  # fmt: skip
    if spot.configurations:
        chosen = next(one for one in spot.configurations if one.name == spot.name)
        rows.append({"name": "sweet_spot_bits_per_spike", "value": chosen.score, "unit": unit, "baseline": 0.0,
                     "baseline_is": MEAN_RATE})  # fmt: skip
    done = len(data) + len(models)
    lines = [verdict.words, f"sweet spot: {spot.name} ({spot.reason})"]
    lines.append(f"{done} of {asked} trainings are done" + ("; all results are from these" if done < asked else ""))
    return ScalingReport(sizes, losses, baseline, verdict, spot, rows, "\n".join(lines), unit)
