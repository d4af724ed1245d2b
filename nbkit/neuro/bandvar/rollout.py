"""Rollouts: all bands of a window, each predicted from the prediction before it.

The zero-start rollout is the same for every window, because its input has no information about the window. Only the
delta-conditioned rollout, which starts from the true first band of a window, can follow a recording.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

BY_GROUP = "snr_db_by_group"


@torch.no_grad()
def autoregressive_inference(
    model: nn.Module, num_stages: int, channels: int, time_steps: int, device: str | torch.device = "cpu"
) -> Tensor:
    """Compute the zero-start rollout: start from zeros and predict every stage.

    Parameters
    ----------
    model : nn.Module
        Called with a tensor of shape (1, channels, time), and with the stage if its ``num_stages`` is above 0.
    num_stages : int
        Number of bands.
    channels, time_steps : int
        Size of a window.
    device : str
        Device to compute on.

    Returns
    -------
    rollout : Tensor of shape (stages, channels, time)
        On the CPU, in the unit of the training data (uV).
    """
    start = torch.zeros(1, channels, time_steps)
    return _roll(model, start, range(num_stages), device)[0]


@torch.no_grad()
def delta_conditioned_inference(
    model: nn.Module, first: Tensor | np.ndarray, num_stages: int, device: str | torch.device = "cpu"
) -> Tensor:
    """Compute rollouts that start from the true first band (delta, with the default bands).

    Parameters
    ----------
    model : nn.Module
    first : Tensor of shape (batch, channels, time)
        True first cumulative band of each window, in uV.
    num_stages : int
        Number of bands.
    device : str
        Device to compute on.

    Returns
    -------
    rollout : Tensor of shape (batch, stages, channels, time)
        On the CPU, in uV. Stage 0 is ``first`` itself.
    """
    first = torch.as_tensor(first, dtype=torch.float32)
    rolled = _roll(model, first, range(1, num_stages), device)
    return torch.cat([first[:, None].cpu(), rolled], dim=1) if num_stages > 1 else first[:, None].cpu()


def _roll(model: nn.Module, current: Tensor, stages: Sequence[int], device: str | torch.device) -> Tensor:
    """Predict the stages in order, (batch, len(stages), channels, time), and restore the mode of the model."""
    told = getattr(model, "num_stages", 0) > 0
    was_training = model.training
    model = model.to(device).eval()
    current = current.to(device)
    predicted = []
    for stage in stages:
        current = model(current, stage) if told else model(current)
        predicted.append(current)
    model.train(was_training)
    return torch.stack(predicted, dim=1).cpu() if predicted else current[:, None][:, :0].cpu()


def rollout_scores(rollout: Tensor | np.ndarray, truth: Tensor | np.ndarray, names: Sequence[str]) -> dict[str, float]:
    """Compute the scores of a rollout against the true cumulative bands.

    Parameters
    ----------
    rollout, truth : array of shape (..., stages, channels, time)
        In uV. A rollout without a batch axis is compared with every window of ``truth``.
    names : sequence of str
        Name of each band (see `band_names`).

    Returns
    -------
    scores : dict
        ``stage_mse_<band>`` and ``cumulative_mse`` (their mean over stages) in uV^2; ``snr_db``, the power of the true
        last stage divided by the power of its error, in dB (0 dB: no better than predicting zero; ``inf`` if exact).
    """
    truth = np.asarray(truth, dtype=np.float64)
    rollout = np.broadcast_to(np.asarray(rollout, dtype=np.float64), truth.shape)
    if truth.ndim < 3 or truth.shape[-3] != len(names):
        raise ValueError(
            f"A truth of shape {truth.shape} does not have the {len(names)} stages {', '.join(names)}; give an array "
            f"of shape (..., {len(names)}, channels, time)."
        )
    error = (rollout - truth) ** 2
    by_stage = np.moveaxis(error, -3, 0).reshape(len(names), -1).mean(axis=1)
    scores = {f"stage_mse_{name}": float(value) for name, value in zip(names, by_stage, strict=True)}
    scores["cumulative_mse"] = float(by_stage.mean())
    scores["snr_db"] = snr_db(truth[..., -1, :, :], rollout[..., -1, :, :])
    return scores


def snr_db(truth: np.ndarray, prediction: np.ndarray) -> float:
    """Return the signal-to-noise ratio of a prediction in dB: the power of the truth over the power of the error."""
    power = float(np.mean(np.square(truth, dtype=np.float64)))
    noise = float(np.mean(np.square(np.asarray(prediction, np.float64) - truth)))
    if noise == 0:
        return math.inf
    return 10 * math.log10(power / noise) if power > 0 else -math.inf


def snr_db_by_group(truth: np.ndarray, prediction: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Return the `snr_db` of each group's windows, float64 of shape (groups,).

    Parameters
    ----------
    truth, prediction : array of shape (windows, stages, channels, time)
        In uV; the last stage is compared.
    groups : int array of shape (windows,)
        Number of each window's subject; a subject without a window is NaN.
    """
    truth, prediction = np.asarray(truth)[:, -1], np.asarray(prediction)[:, -1]
    found = np.full(int(groups.max()) + 1, np.nan)
    for group in np.unique(groups):
        here = groups == group
        found[group] = snr_db(truth[here], prediction[here])
    return found


def rollout_table(
    model: nn.Module,
    truth: Tensor | np.ndarray,
    names: Sequence[str],
    device: str = "cpu",
    groups: np.ndarray | None = None,
) -> dict[str, dict[str, Any]]:
    """Compute the scores of both rollouts of a model, and of the baseline for each.

    Parameters
    ----------
    model : nn.Module
    truth : array of shape (windows, stages, channels, time)
        True cumulative bands, in uV.
    names : sequence of str
        Name of each band.
    device : str
        Device to compute on.
    groups : int array of shape (windows,), optional
        Number of each window's subject.

    Returns
    -------
    table : dict of dict
        The `rollout_scores` of ``zero_start`` and its baseline ``zero`` (predict zero), and of ``delta_conditioned``
        and its baseline ``persistence`` (repeat the true first band); with groups also `BY_GROUP`, the SNR of each.
    """
    truth = torch.as_tensor(np.asarray(truth), dtype=torch.float32)
    windows, stages, channels, time_steps = truth.shape
    from_zero = autoregressive_inference(model, stages, channels, time_steps, device)
    from_delta = torch.cat([delta_conditioned_inference(model, part, stages, device) for part in truth[:, 0].split(32)])
    rollouts = {
        "zero_start": from_zero.expand_as(truth),
        "zero": torch.zeros_like(truth),
        "delta_conditioned": from_delta,
        "persistence": truth[:, :1].expand_as(truth),
    }
    return {name: scored(rollout, truth, names, groups) for name, rollout in rollouts.items()}


def scored(
    rollout: Tensor | np.ndarray, truth: Tensor | np.ndarray, names: Sequence[str], groups: np.ndarray | None
) -> dict[str, Any]:
    """Return the `rollout_scores`, and with groups the SNR of each as `BY_GROUP`."""
    scores: dict[str, Any] = dict(rollout_scores(rollout, truth, names))
    if groups is not None:
        scores[BY_GROUP] = snr_db_by_group(np.asarray(truth), np.asarray(rollout), groups)
    return scores


def rollout_rows(table: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the scores of a `rollout_table` as rows, each with its unit and its baseline.

    Returns
    -------
    rows : list of dict
        With name (``zero_start_stage_mse_delta`` and so on), value, unit, baseline and baseline_is. Infinite scores,
        such as the SNR of an exact prediction, are left out.
    """
    beside = {
        "zero_start": ("zero", "zero: predict 0"),
        "delta_conditioned": ("persistence", "persistence: repeat the true first band"),
    }
    return [
        {"name": f"{kind}_{name}", "value": value, "unit": "dB" if name == "snr_db" else "uV^2",
         "baseline": table[baseline][name], "baseline_is": words}
        for kind, (baseline, words) in beside.items()
        for name, value in table[kind].items()
        if name != BY_GROUP
        if math.isfinite(value) and math.isfinite(table[baseline][name])
    ]  # fmt: skip
