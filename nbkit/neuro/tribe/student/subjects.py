"""Subjects as a scale and a shift of the shared features, and a new subject by those alone.

FiLM (Perez et al., 2018, https://arxiv.org/abs/1709.07871) stands directly before the linear map to vertices, so a
prediction is linear in a subject's numbers: a new subject is a ridge regression of 2 x dim unknowns, solved exactly,
and nothing of the model is touched.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn


class FiLM(nn.Module):
    """Scale and shift features by a subject's two vectors; no subject is the mean of all.

    Parameters
    ----------
    dim, n_subjects : int
    """

    def __init__(self, dim: int, n_subjects: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(n_subjects, dim))
        self.beta = nn.Parameter(torch.zeros(n_subjects, dim))

    def forward(self, x: Tensor, subject: Tensor | None = None) -> Tensor:
        """Return features of the same shape, (batch, time, dim).

        Parameters
        ----------
        x : Tensor of shape (batch, time, dim)
        subject : Tensor of shape (batch,), optional
            Numbers of subjects; -1 stands for the mean of all, as None does.
        """
        if subject is None:
            return self.gamma.mean(0) * x + self.beta.mean(0)
        known = subject.clamp_min(0)
        nobody = (subject < 0)[:, None]
        gamma = torch.where(nobody, self.gamma.mean(0), self.gamma[known])
        beta = torch.where(nobody, self.beta.mean(0), self.beta[known])
        return gamma[:, None] * x + beta[:, None]

    @torch.no_grad()
    def add(self, gamma: Tensor, beta: Tensor) -> int:
        """Append a subject and give its number; those that are there stay as they are."""
        self.gamma = nn.Parameter(torch.cat([self.gamma, gamma[None].to(self.gamma)]))
        self.beta = nn.Parameter(torch.cat([self.beta, beta[None].to(self.beta)]))
        return len(self.gamma) - 1


def fit_subject(
    batches: Iterable[tuple[Tensor, Tensor, Tensor]],
    weight: Tensor,
    gamma: Tensor,
    beta: Tensor,
    ridge: float = 0.1,
) -> tuple[Tensor, Tensor]:
    """Return the scale and shift that predict a subject's responses best, with a pull towards given ones.

    With features h and map W, the prediction at time t and vertex v is sum_d W[v, d] (gamma[d] h[t, d] + beta[d]): the
    normal equations are products of W'W and h'h, so their size is 2 dim whatever the vertices.

    Parameters
    ----------
    batches : iterable of (features, bold, valid)
        Features before FiLM, Tensor of shape (time, dim); bold, Tensor of shape (time, vertices); valid, bool Tensor of
        shape (time,). More than one pass is not needed.
    weight : Tensor of shape (vertices, dim)
        The map to vertices; rows of vertices without signal should be zero.
    gamma, beta : Tensor of shape (dim,)
        Where the pull goes: the mean subject's.
    ridge : float
        Strength of the pull, in units of the mean diagonal of the normal equations.

    Returns
    -------
    gamma, beta : Tensor of shape (dim,)
    """
    w = weight.detach().double().cpu()
    dim, inner = w.shape[1], w.T @ w
    hh = torch.zeros(dim, dim, dtype=torch.float64)
    h, hy, y = (torch.zeros(dim, dtype=torch.float64) for _ in range(3))
    times = 0
    for features, bold, valid in batches:
        kept = valid.bool().cpu()
        f = features.detach().double().cpu()[kept]
        seen = bold.double().cpu()[kept] @ w  # (time, dim)
        hh, h, times = hh + f.T @ f, h + f.sum(0), times + len(f)
        hy, y = hy + (f * seen).sum(0), y + seen.sum(0)
    if times == 0:
        raise ValueError("no valid time to fit a subject by; give at least one window with responses.")
    cross = inner * h[:, None]
    normal = torch.cat([torch.cat([inner * hh, cross], 1), torch.cat([cross.T, inner * times], 1)])
    start = torch.cat([gamma.detach().double().cpu(), beta.detach().double().cpu()])
    pull = ridge * normal.diagonal().mean().clamp_min(1e-12)
    found = torch.linalg.solve(
        normal + pull * torch.eye(2 * dim, dtype=torch.float64), torch.cat([hy, y]) + pull * start
    )
    return found[:dim].to(gamma.dtype), found[dim:].to(beta.dtype)
