"""The four self-supervised tasks of phase 1, on features alone: no fMRI and no teacher.

Each task is a function of fused tokens and a small head. Targets carry no gradient. What a task hides is removed before
the first layer that could use it.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nbkit.neuro.tribe.student.fusion import MODALITIES

CHUNKS = 4
_CONTRAST_DIM = 128
TAU = 0.07


class PretextHeads(nn.Module):
    """Heads of the four tasks; later phases do not use them.

    Parameters
    ----------
    dim : int
        Width of a token.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.reconstruct = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, dim), nn.GELU(), nn.Linear(dim, dim)) for _ in MODALITIES
        )
        self.contrast = nn.Sequential(nn.Linear(dim, dim), nn.GELU(), nn.Linear(dim, min(_CONTRAST_DIM, dim)))
        self.predict = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, dim), nn.GELU(), nn.Linear(dim, dim))
        self.order = nn.Sequential(nn.LayerNorm(2 * dim), nn.Linear(2 * dim, dim), nn.GELU(), nn.Linear(dim, 2))


class Score(NamedTuple):
    """Loss of a task, and a monitor that is easy to interpret."""

    loss: Tensor
    monitor: Tensor


def draw_masks(present: Tensor) -> Tensor:
    """Draw the modalities to hide: one with probability 0.5, two with 0.25, none with 0.25.

    At least one modality of each sample stays visible.

    Parameters
    ----------
    present : Tensor of shape (batch, 3), bool

    Returns
    -------
    shown : Tensor of shape (batch, 3), bool
    """
    hidden = torch.bucketize(torch.rand(len(present), device=present.device), _shares(present.device), right=True)
    hidden = torch.tensor([1, 2, 0], device=present.device)[hidden]
    hidden = torch.minimum(hidden, present.sum(1) - 1)
    order = torch.where(present, torch.rand(present.shape, device=present.device), 2.0).argsort(1).argsort(1)
    return present & (order >= hidden[:, None])


def fixed_masks(present: Tensor) -> Tensor:
    """Hide text in the first sample, audio in the second, video in the third and so on.

    A sample keeps all its modalities if nothing else would be visible.

    Parameters
    ----------
    present : Tensor of shape (batch, 3), bool

    Returns
    -------
    shown : Tensor of shape (batch, 3), bool
    """
    turn = torch.arange(len(present), device=present.device) % len(MODALITIES)
    shown = present & ~F.one_hot(turn, len(MODALITIES)).bool()
    return torch.where(shown.any(1, keepdim=True), shown, present)


def reconstruction(heads: PretextHeads, fused: Tensor, projected: Tensor, hidden: Tensor, seen: Tensor) -> Score:
    """Masked modality reconstruction (MMR): predict the projected tokens of hidden modalities.

    The loss is 0.7 MSE + 0.3 (1 - cosine).

    Parameters
    ----------
    heads : PretextHeads
    fused : Tensor of shape (batch, time, modalities, dim)
        Fused tokens of the masked view.
    projected : Tensor of shape (batch, time, modalities, dim)
        Outputs of the projectors for all modalities.
    hidden : Tensor of shape (batch, modalities), bool
    seen : Tensor of shape (batch, time), bool
        Steps before the end of the run.

    Returns
    -------
    score : Score
        The monitor is the mean cosine.
    """
    told = torch.stack([head(fused[:, :, m]) for m, head in enumerate(heads.reconstruct)], dim=2).float()
    target = projected.detach().float()
    counted = (hidden[:, None] & seen[..., None]).float()
    count = counted.sum().clamp_min(1)
    mse = ((told - target).square().mean(-1) * counted).sum() / count
    cosine = (F.cosine_similarity(told, target, dim=-1) * counted).sum() / count
    nothing = (counted.sum() > 0).float()  # a batch without hidden modalities has no loss
    return Score((0.7 * mse + 0.3 * (1 - cosine)) * nothing, cosine.detach())


def contrast(heads: PretextHeads, masked: Tensor, full: Tensor, seen: Tensor) -> Score:
    """Cross-modal contrast (CMC): find each step of the masked view in the full view (InfoNCE, tau 0.07).

    The positive is the same step of the same sample; all other steps of all samples are negatives.

    Parameters
    ----------
    heads : PretextHeads
    masked, full : Tensor of shape (batch, time, dim)
        Tokens averaged over modalities.
    seen : Tensor of shape (batch, time), bool

    Returns
    -------
    score : Score
        The monitor is the share of steps whose positive ranks first; chance is 1 / (batch * time).
    """
    kept = seen.flatten()
    anchor, other = (F.normalize(heads.contrast(view).float().flatten(0, 1), dim=-1) for view in (masked, full))
    logits = anchor @ other.T / TAU
    logits = logits.masked_fill(~kept[None, :], -torch.inf)
    goal = torch.arange(len(logits), device=logits.device)
    each = F.cross_entropy(torch.where(kept[:, None], logits, 0.0), goal, reduction="none")
    count = kept.sum().clamp_min(1)
    first = ((logits.argmax(1) == goal) & kept).sum() / count
    return Score((each * kept).sum() / count, first.detach())


def next_step(heads: PretextHeads, causal: Tensor, full: Tensor, seen: Tensor) -> Score:
    """Next-token prediction (NTP): predict the next step of the full view from the causal view.

    The loss is 0.5 MSE + 0.5 (1 - cosine).

    Parameters
    ----------
    heads : PretextHeads
    causal : Tensor of shape (batch, time, dim)
        Tokens averaged over modalities, in which no step sees a later one.
    full : Tensor of shape (batch, time, dim)
        Tokens averaged over modalities, in which each step sees all others.
    seen : Tensor of shape (batch, time), bool

    Returns
    -------
    score : Score
        The monitor is the mean cosine.
    """
    told, target = heads.predict(causal[:, :-1]).float(), full[:, 1:].detach().float()
    counted = seen[:, 1:].float()
    count = counted.sum().clamp_min(1)
    mse = ((told - target).square().mean(-1) * counted).sum() / count
    cosine = (F.cosine_similarity(told, target, dim=-1) * counted).sum() / count
    return Score(0.5 * mse + 0.5 * (1 - cosine), cosine.detach())


def draw_orders(samples: int, device: torch.device | str) -> Tensor:
    """Draw a random order of the chunks of each sample, shape (samples, 4)."""
    return torch.rand(samples, CHUNKS, device=device).argsort(1)


def fixed_orders(samples: int) -> Tensor:
    """Return four fixed orders, repeated, shape (samples, 4); half of their neighbours are in the right order."""
    orders = torch.tensor([(0, 1, 2, 3), (3, 2, 1, 0), (1, 0, 3, 2), (2, 3, 0, 1)])
    return orders[torch.arange(samples) % len(orders)]


def shuffle_chunks(values: Tensor, order: Tensor) -> Tensor:
    """Reorder the four chunks of a window.

    Parameters
    ----------
    values : Tensor of shape (batch, time, ...)
        Time must be a multiple of 4.
    order : Tensor of shape (batch, 4)

    Returns
    -------
    shuffled : Tensor
        Of the shape of ``values``.

    Raises
    ------
    ValueError
        If time is not a multiple of 4.
    """
    if values.shape[1] % CHUNKS:
        raise ValueError(
            f"Windows of {values.shape[1]} steps have no {CHUNKS} chunks of equal length; give a multiple of {CHUNKS}."
        )
    chunks = values.unflatten(1, (CHUNKS, -1))
    return chunks[torch.arange(len(values), device=values.device)[:, None], order].flatten(1, 2)


def temporal_order(heads: PretextHeads, shuffled: Tensor, order: Tensor) -> Score:
    """Temporal order prediction (TOP): decide for each two adjacent chunks whether the left one came first.

    Parameters
    ----------
    heads : PretextHeads
    shuffled : Tensor of shape (batch, time, dim)
        Fused tokens of shuffled features, averaged over modalities.
    order : Tensor of shape (batch, 4)

    Returns
    -------
    score : Score
        The monitor is the share of correct decisions; chance is 0.5.
    """
    chunk = shuffled.unflatten(1, (CHUNKS, -1)).mean(2)
    logits = heads.order(torch.cat([chunk[:, :-1], chunk[:, 1:]], dim=-1)).float()
    right = (order[:, :-1] < order[:, 1:]).long()
    told = (logits.argmax(-1) == right).float().mean()
    return Score(F.cross_entropy(logits.flatten(0, 1), right.flatten()), told.detach())


def _shares(device: torch.device) -> Tensor:
    return torch.tensor([0.5, 0.75], device=device)
