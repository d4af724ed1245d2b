"""Comparison of a trained model with other decoders (phase 50).

Every decoder predicts the same bins of the same held-out windows of one recording. The rivals are fitted to the
training windows of that recording. The optimal decoder knows the true tuning and exists for simulated recordings only.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader

from nbkit.neuro.neurofm.data.batches import SIDES, SpikeData, SpikeWindows, collate
from nbkit.neuro.neurofm.decoders.rivals import BAYES, GRU, LDA, MEAN, WIENER, rivals_of, windows_of
from nbkit.neuro.neurofm.decoders.scores import DecoderScore, difference, score_decoding
from nbkit.neuro.neurofm.masked_units import Bits
from nbkit.neuro.neurofm.pretrain import Pretrainer
from nbkit.neuro.signals.spikes.synthetic import optimal_velocity
from nbkit.neuro.signals.spikes.windows import SpikeShard
from nbkit.neuro.training.scores.paired import beside

OPTIMAL, MODEL = "best possible", "NeuroFM"
ORDER = (OPTIMAL, MODEL, GRU, WIENER, BAYES, LDA, MEAN)


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
def states_of(module: Pretrainer, windows: SpikeWindows, batch_size: int = 32) -> np.ndarray:
    """Return the states of the bins of all windows, (windows, bins, dim), with every unit seen."""
    module.eval()
    found = []
    for batch in DataLoader(windows, batch_size, collate_fn=collate):
        batch = {name: value.to(module.device) for name, value in batch.items()}
        found.append(module(batch).states.float().cpu().numpy())
    return np.concatenate(found)


def compare_decoders(
    module: Pretrainer,
    data: SpikeData,
    side: str = "test",
    *,
    lag_s: float = 0.3,
    gru_steps: int = 400,
    time_left: Callable[[], float] | None = None,
    say: Callable[[str], None] = print,
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
    time_left : callable, optional
        Returns the seconds that are left. A recording is not begun if the slowest so far would not end in time.
    say : callable
        Prints the names of the recordings that were not compared.
    """
    ours, scores, slowest, left = decode(module, data.side(side)), [], 0.0, []
    for shard, sides in zip(data.shards, data.windows, strict=True):
        if shard.name not in ours:
            continue
        if time_left is not None and time_left() < 1.2 * slowest:
            left.append(shard.name)
            continue
        began = time.monotonic()
        train, asked = sides[0], sides[SIDES.index(side)]
        counts, truth = windows_of(shard, asked, train)
        answers = {MODEL: ours[shard.name]} | rivals_of(shard, train, asked, lag_s=lag_s, gru_steps=gru_steps)
        if _is_simulated(shard):
            known = [shard.truth(name) for name in ("tuning", "base", "tau_s")]
            answers[OPTIMAL] = optimal_velocity(counts, shard.bin_s, *known[:2], float(known[2]))
        scores += [score_decoding(shard, name, truth, answer) for name, answer in answers.items()]
        slowest = max(slowest, time.monotonic() - began)
    if left:
        say(f"The time was up before the decoders of {', '.join(left)} were compared; run the notebook again for them.")
    return scores


def mean_scores(scores: Sequence[DecoderScore]) -> dict[str, float]:
    """Return the mean R2, or accuracy of classes, of each decoder over recordings, in a fixed order of decoders."""
    known = [score for score in scores if np.isfinite(score.value)]
    return {
        name: float(np.mean([score.value for score in known if score.decoder == name]))
        for name in ORDER
        if any(score.decoder == name for score in known)
    }


def comparison(scores: Sequence[DecoderScore], level: float = 0.9) -> str:
    """Return a table: each recording's decoders with score, median error, and the network's difference from each."""
    lines = ["recording  decoder  score  median error  NeuroFM minus this decoder"]
    for name in dict.fromkeys(score.recording for score in scores):
        own = {score.decoder: score for score in scores if score.recording == name}
        for decoder in ORDER:
            if decoder not in own:
                continue
            score = own[decoder]
            what = "accuracy" if score.is_classes else "R2"
            error = "" if np.isnan(score.error) else f"{score.error:.3g} {score.unit}"
            gap = "" if decoder == MODEL else difference(own[MODEL], score, level).words
            lines.append(f"{name}  {decoder}  {what} {score.value:.3f}  {error or '-'}  {gap}".rstrip())
    return "\n".join(lines)


def result_rows(scores: Sequence[DecoderScore], bits: Mapping[str, Bits]) -> list[dict[str, Any]]:
    """Return the results of a session as rows with name, value, unit, baseline and baseline_is."""
    rows: list[dict[str, Any]] = []
    for is_classes, kind in ((False, "r2"), (True, "accuracy")):
        chosen = [score for score in scores if score.is_classes == is_classes and np.isfinite(score.value)]
        means = mean_scores(chosen)
        pairs = [(MODEL, LDA if is_classes else WIENER), (GRU, WIENER), (WIENER, MEAN), (LDA, MEAN), (OPTIMAL, MEAN)]
        made = [
            {"name": f"test_{kind}_{_key(name)}", "value": means[name], "unit": "1", "baseline": means[rival],
             "baseline_is": _WORDS[rival]}
            for name, rival in pairs if name in means and rival in means
        ]  # fmt: skip
        if made and MODEL in means:
            made[0] |= _beside_rivals(chosen)
        rows += made
        if MODEL in means:
            gaps = [_gap_to_best([s for s in chosen if s.recording == name]) for name in _names(chosen)]
            rows.append({"name": f"test_{kind}_over_best_rival", "value": float(np.mean(gaps)), "unit": "1",
                         "baseline": 0.0, "baseline_is": "the best rival of each recording"})  # fmt: skip
    constant = {score.recording: score.error for score in scores if score.decoder == MEAN}
    for score in scores:
        if np.isfinite(score.error) and score.decoder != MEAN:
            name = f"test_{'angle_error' if score.unit == 'deg' else 'error'}_{_key(score.decoder)}_{score.recording}"
            rows.append({"name": name, "value": score.error, "unit": score.unit or "1",
                         "baseline": constant[score.recording], "baseline_is": "a constant prediction"})  # fmt: skip
    for unit, word in (("bit/spike", "spike"), ("bit/sample", "sample")):
        own = [bit for bit in bits.values() if bit.unit == unit]
        for kind, baseline in (("over_training", "training"), ("over_evaluated", "evaluated")) if own else ():
            name = f"test_bits_per_{word}" + ("_nlb" if kind == "over_evaluated" else "")
            value = float(np.mean([getattr(bit, kind) for bit in own]))
            rows.append({"name": name, "value": value, "unit": unit, "baseline": 0.0,
                         "baseline_is": f"mean rate of each unit in the {baseline} windows"})  # fmt: skip
    return rows


_WORDS = {
    WIENER: "a Wiener filter on the same windows",
    LDA: "linear discriminant analysis on the same windows",
    MEAN: "a constant prediction",
}


def _beside_rivals(scores: Sequence[DecoderScore]) -> dict[str, Any]:
    """Return the network's interval and its rivals: over recordings, or for a single one over blocks of its time."""
    names = [name for name in ORDER if name != OPTIMAL and any(score.decoder == name for score in scores)]
    recordings = _names(scores)
    if len(recordings) > 1:
        by_name = {name: [score for score in scores if score.decoder == name] for name in names}
        units = {
            name: np.array([{s.recording: s.value for s in own}.get(one, np.nan) for one in recordings])
            for name, own in by_name.items()
        }
        over = f"{len(recordings)} recordings"
    else:  # the mean over blocks of these values is the score
        units = {score.decoder: score.by_block for score in scores if score.decoder in names}
        over = f"{len(units[MODEL])} blocks of time"
    return {"over": over, **beside(units[MODEL], {name: units[name] for name in names if name != MODEL})}


def _names(scores: Sequence[DecoderScore]) -> list[str]:
    return list(dict.fromkeys(score.recording for score in scores))


def _gap_to_best(scores: Sequence[DecoderScore]) -> float:
    """Return the network's score minus that of the best rival."""
    values = {score.decoder: score.value for score in scores}
    return values[MODEL] - max(value for name, value in values.items() if name not in (MODEL, OPTIMAL))


def _is_simulated(shard: SpikeShard) -> bool:
    with np.load(shard.path) as file:
        return "truth_tuning" in file.files


def _key(decoder: str) -> str:
    return {OPTIMAL: "best_possible"}.get(decoder, decoder.lower())
