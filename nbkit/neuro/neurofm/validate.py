"""Comparison of a trained model with other decoders (phase 50): the optimal decoder, a Wiener filter and a GRU.

Every decoder predicts the same bins of the same held-out windows of one recording. The baselines are fitted to the
training windows of that recording. The optimal decoder knows the true tuning and exists for simulated recordings only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader

from nbkit.neuro.neurofm.baselines import (
    BayesianDirection,
    angle_error_deg,
    fit_gru,
    fit_wiener,
    r2_score,
    windows_of,
)
from nbkit.neuro.neurofm.data.batches import SIDES, SpikeData, SpikeWindows, collate
from nbkit.neuro.neurofm.network.losses import bits_per_spike, poisson_nll
from nbkit.neuro.neurofm.pretrain import Pretrainer, rotating_mask
from nbkit.neuro.signals.spikes.synthetic import optimal_velocity
from nbkit.neuro.signals.spikes.windows import SpikeShard

OPTIMAL, MODEL, WIENER, GRU, BAYES, MEAN = "best possible", "NeuroFM", "Wiener", "GRU", "Bayes", "mean"


@dataclass(frozen=True)
class DecoderScore:
    """Score of one decoder on one recording.

    Attributes
    ----------
    recording, decoder : str
    r2 : float
        Fraction of variance decoded; 0 for the mean.
    angle_deg : float
        Median absolute error of an angle in degrees; NaN if the behaviour is not an angle. Chance level is 90 if all
        directions are equally frequent, otherwise the error of the decoder "mean", a constant prediction.
    """

    recording: str
    decoder: str
    r2: float
    angle_deg: float = float("nan")


@torch.no_grad()
def decode(module: Pretrainer, windows: SpikeWindows, batch_size: int = 32) -> dict[str, np.ndarray]:
    """Return the decoded behaviour of each recording by name.

    Each array has shape (windows, bins, dims), in the order of the windows and the unit of the behaviour.
    """
    module.eval()
    found: dict[str, list[np.ndarray]] = {}
    for batch in DataLoader(windows, batch_size, collate_fn=collate):
        batch = {name: value.to(module.device) for name, value in batch.items()}
        answer = module.model.in_units(module(batch).behaviour.float(), batch["task"]).cpu().numpy()
        for row, recording, task in zip(answer, batch["recording"].tolist(), batch["task"].tolist(), strict=True):
            if task:
                name, dims = module.table.recordings[recording].name, module.table.tasks[task - 1].dims
                found.setdefault(name, []).append(row[:, :dims])
    return {name: np.stack(rows) for name, rows in found.items()}


@torch.no_grad()
def held_out_bits(module: Pretrainer, windows: SpikeWindows, batch_size: int = 32) -> dict[str, float]:
    """Return the bit/spike above mean rates of each recording by name.

    Each unit is masked once and predicted from the other units.

    Parameters
    ----------
    module : Pretrainer
    windows : SpikeWindows
        Held-out windows. The mean rates are those of the training windows.
    batch_size : int
    """
    module.eval()
    ratio, sums = module.settings.mask_ratio, {}
    for batch in DataLoader(windows, batch_size, collate_fn=collate):
        batch = {name: value.to(module.device) for name, value in batch.items()}
        counts = batch["counts"].double()
        mean_rate = module.model.book.mean_log_counts(batch["unit"]).double()[:, None].expand_as(counts)
        by_mean = poisson_nll(mean_rate, counts)
        ours = torch.zeros_like(counts)
        for turn in range(max(2, round(1 / ratio))):
            hidden = rotating_mask(batch["slot"], batch["present"], ratio, turn)
            nll = poisson_nll(module(batch, hidden).log_counts.double(), counts)
            ours = torch.where(hidden[:, None], nll, ours)
        there = batch["present"][:, None]
        rows = torch.stack([(part * there).sum(dim=(1, 2)) for part in (ours, by_mean, counts)], dim=1)
        for recording, row in zip(batch["recording"].tolist(), rows, strict=True):
            name = module.table.recordings[recording].name
            sums[name] = sums.get(name, 0) + row
    return {name: float(bits_per_spike(*row)) for name, row in sums.items()}


def compare_decoders(
    module: Pretrainer, data: SpikeData, side: str = "test", *, lag_s: float = 0.3, gru_steps: int = 400
) -> list[DecoderScore]:
    """Return the scores of all decoders on each recording that has a behaviour.

    Parameters
    ----------
    module : Pretrainer
    data : SpikeData
    side : {"test", "val"}
        Windows to score on.
    lag_s : float
        Time used by the Wiener filter before and after each bin, in s.
    gru_steps : int
        Training steps of the GRU.
    """
    ours, scores = decode(module, data.side(side)), []
    for shard, sides in zip(data.shards, data.windows, strict=True):
        if shard.name not in ours:
            continue
        seen, asked = windows_of(shard, sides[0]), windows_of(shard, sides[SIDES.index(side)])
        lags = min(shard.n_bins - 1, max(1, round(lag_s / shard.bin_s)))
        answers = {
            MODEL: ours[shard.name],
            WIENER: fit_wiener(*seen, lags=lags)(asked[0]),
            GRU: fit_gru(*seen, steps=gru_steps).decode_windows(asked[0]),
            MEAN: np.broadcast_to(np.nanmean(seen[1], axis=(0, 1)), asked[1].shape),
        }
        if shard.circular:
            answers[BAYES] = _bayes(*seen, asked[0])
        if _is_simulated(shard):
            truth = [shard.truth(name) for name in ("tuning", "base", "tau_s")]
            answers[OPTIMAL] = optimal_velocity(asked[0], shard.bin_s, *truth[:2], float(truth[2]))
        scores += [_score(shard, name, asked[1], answer) for name, answer in answers.items()]
    return scores


def mean_scores(scores: Sequence[DecoderScore]) -> dict[str, float]:
    """Return the mean R2 of each decoder over recordings, in a fixed order of decoders."""
    order = (OPTIMAL, MODEL, GRU, WIENER, BAYES, MEAN)
    return {
        name: float(np.mean([score.r2 for score in scores if score.decoder == name]))
        for name in order
        if any(score.decoder == name for score in scores)
    }


def result_rows(scores: Sequence[DecoderScore], bits: Mapping[str, float]) -> list[dict[str, Any]]:
    """Return the results of a session as rows with name, value, unit, baseline and baseline_is."""
    rows, means = [], mean_scores(scores)
    for name, rival in ((MODEL, WIENER), (GRU, WIENER), (WIENER, MEAN), (OPTIMAL, MEAN)):
        if name in means and rival in means:
            rows.append(
                {"name": f"test_r2_{_key(name)}", "value": means[name], "unit": "1", "baseline": means[rival],
                 "baseline_is": {WIENER: "a Wiener filter on the same windows", MEAN: "mean of the behaviour"}[rival]}
            )  # fmt: skip
    for score in scores:
        if np.isfinite(score.angle_deg):
            name = f"test_angle_error_{_key(score.decoder)}_{score.recording}"
            rows.append(
                {"name": name, "value": score.angle_deg, "unit": "deg", "baseline": 90.0, "baseline_is": "chance"}
            )
    if bits:
        rows.append(
            {"name": "test_bits_per_spike", "value": float(np.mean([*bits.values()])), "unit": "bit/spike",
             "baseline": 0.0, "baseline_is": "mean rate of each unit in training"}
        )  # fmt: skip
    return rows


def _bayes(counts: np.ndarray, behaviour: np.ndarray, asked: np.ndarray) -> np.ndarray:
    angle = np.arctan2(behaviour[..., 1], behaviour[..., 0]).ravel()
    found = BayesianDirection(counts.reshape(-1, counts.shape[2]), angle)(asked)
    return np.stack([np.cos(found), np.sin(found)], axis=-1)


def _score(shard: SpikeShard, name: str, truth: np.ndarray, answer: np.ndarray) -> DecoderScore:
    r2, error = r2_score(truth, answer), float("nan")
    if shard.circular:
        known = np.isfinite(truth).all(axis=-1)
        angles = [np.arctan2(part[known][:, 1], part[known][:, 0]) for part in (answer, truth)]
        error = float(np.median(angle_error_deg(*angles)))
    return DecoderScore(shard.name, name, r2, error)


def _is_simulated(shard: SpikeShard) -> bool:
    with np.load(shard.path) as file:
        return "truth_tuning" in file.files


def _key(decoder: str) -> str:
    return {OPTIMAL: "best_possible"}.get(decoder, decoder.lower())
