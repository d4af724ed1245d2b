"""Reconstruction scores of a tokenizer, beside a linear tokenizer with the same number of bits."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch

from nbkit.neuro.bandvar.data import BandData
from nbkit.neuro.bandvar.tokens.equal_rate_pca import EqualRatePCA, explained
from nbkit.neuro.bandvar.tokens.tokenizer_training import TokenizerTraining, mean_perplexity, uses_of
from nbkit.neuro.signals.bands import band_names


def bits_a_window(module: TokenizerTraining) -> float:
    """Return the number of bits that the tokens of a window can hold: tokens times log2(codes)."""
    return sum(module.tokenizer.lengths) * math.log2(module.settings.codes)


def coding_rows(module: TokenizerTraining, data: BandData, limit: int = 1000) -> list[dict[str, Any]]:
    """Compute the scores of a tokenizer on validation windows.

    Parameters
    ----------
    module : TokenizerTraining
    data : BandData
        The PCA is fitted to its training windows; the scores are those of its validation windows.
    limit : int
        Largest number of windows used of either side, evenly spaced.

    Returns
    -------
    rows : list of dict
        With name, value, unit, baseline and baseline_is. ``r2`` (whole signal) and ``r2_<band>`` are from all tokens;
        their baseline is a PCA with the same number of bits. ``r2_to_<band>`` is the cumulative band from the tokens up
        to its scale; its baseline is predicting zero. ``perplexity`` and ``bits_a_window`` follow.
    """
    bits = bits_a_window(module)
    fitted = data.train_dataset.stack(limit)
    linear = EqualRatePCA(bits).fit(_bands(fitted))
    levels = data.val_dataset.stack(limit)
    tokens, coded, cumulative = _through(module, levels)
    true = _bands(levels)
    ours, whole = explained(true, coded)
    theirs, their_whole = explained(true, linear.reconstruct(true))
    pca = f"PCA with {linear.bits} bits per window, fitted to {len(fitted)} training windows"
    row = {"unit": "1", "baseline_is": pca}
    rows = [{"name": "r2", "value": whole, "baseline": their_whole, **row}]
    names = band_names(module.bands)
    for name, mine, other in zip(names, ours, theirs, strict=True):
        rows.append({"name": f"r2_{name}", "value": mine, "baseline": other, **row})
    to_each = 1 - ((cumulative - levels) ** 2).mean(axis=(0, 2, 3)) / (levels**2).mean(axis=(0, 2, 3))
    for name, share in zip(names, to_each, strict=True):
        nothing = {"unit": "1", "baseline": 0.0, "baseline_is": "zero: predict 0"}
        rows.append({"name": f"r2_to_{name}", "value": float(share), **nothing})
    used = mean_perplexity(uses_of(tokens, module.settings.codes))
    codes = {"unit": "codes", "baseline": float(module.settings.codes), "baseline_is": "all codes used equally often"}
    rows.append({"name": "perplexity", "value": used, **codes})
    uncoded = {"baseline": 32.0 * levels[0, -1].size, "baseline_is": "the window in float32"}
    return [*rows, {"name": "bits_a_window", "value": bits, "unit": "bit", **uncoded}]


@torch.no_grad()
def _through(module: TokenizerTraining, levels: np.ndarray) -> tuple[torch.Tensor, np.ndarray, np.ndarray]:
    """Return the tokens, the single bands decoded from all tokens, and the cumulative bands scale by scale."""
    was_training = module.training
    tokenizer = module.eval().tokenizer
    tokens, bands, cumulative = [], [], []
    for part in torch.from_numpy(levels).to(module.device).split(64):
        found = tokenizer.encode(part)
        bands.append(tokenizer.decode_sum(tokenizer.quantizer.partial_sums(found)[-1], len(module.bands) - 1).cpu())
        cumulative.append(tokenizer.decode(found).cpu())
        tokens.append(found.cpu())
    module.train(was_training)
    return torch.cat(tokens), torch.cat(bands).numpy(), torch.cat(cumulative).numpy()


def _bands(levels: np.ndarray) -> np.ndarray:
    return np.diff(levels, axis=1, prepend=0.0)
