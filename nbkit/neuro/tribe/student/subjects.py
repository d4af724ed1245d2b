"""Subjects as a scale and a shift of shared features, and the exact fit of these for a new subject.

FiLM (Perez et al., 2018, https://arxiv.org/abs/1709.07871) comes directly before the linear map to vertices, so a
prediction is linear in a subject's vectors. A new subject is therefore a ridge regression of 2 x dim unknowns with an
exact solution, and the rest of the model does not change.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn


class FiLM(nn.Module):
    """Scale and shift features with the two vectors of a subject; without a subject, with the mean of all.

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
            Subject numbers; -1, or None for the batch, is the mean of all subjects.
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
        """Append a subject and return its number; existing subjects do not change."""
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
    """Fit the scale and shift that predict a subject's responses best, with regularisation towards given ones.

    With features h and map W, the prediction at time t and vertex v is sum_d W[v, d] (gamma[d] h[t, d] + beta[d]). The
    normal equations are products of W'W and h'h, so their size is 2 dim for any number of vertices.

    Parameters
    ----------
    batches : iterable of (features, bold, valid)
        Features before FiLM, Tensor of shape (time, dim); bold, Tensor of shape (time, vertices); valid, bool Tensor of
        shape (time,). They are read once.
    weight : Tensor of shape (vertices, dim)
        The map to vertices; rows of vertices without signal should be zero.
    gamma, beta : Tensor of shape (dim,)
        Scale and shift to regularise towards: those of the mean subject.
    ridge : float
        Strength of the regularisation, in units of the mean diagonal of the normal equations.

    Returns
    -------
    gamma, beta : Tensor of shape (dim,)

    Raises
    ------
    ValueError
        If no time point is valid.
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
        raise ValueError("There is no valid time to fit a subject to; give at least one window with responses.")
    cross = inner * h[:, None]
    normal = torch.cat([torch.cat([inner * hh, cross], 1), torch.cat([cross.T, inner * times], 1)])
    start = torch.cat([gamma.detach().double().cpu(), beta.detach().double().cpu()])
    pull = ridge * normal.diagonal().mean().clamp_min(1e-12)
    found = torch.linalg.solve(
        normal + pull * torch.eye(2 * dim, dtype=torch.float64), torch.cat([hy, y]) + pull * start
    )
    return found[:dim].to(gamma.dtype), found[dim:].to(beta.dtype)
