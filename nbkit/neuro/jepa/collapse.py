"""Detect collapse of the latent space.

If the targets of an objective are the model's own latents, constant latents can satisfy it. The loss does not show
this. The effective rank (Roy and Vetterli 2007; Garrido et al. 2023, https://arxiv.org/abs/2210.02885) and the standard
deviation over windows do, both of centred latents.
"""

from __future__ import annotations

import torch
from torch import Tensor

LEAST_RANK = 3.0  # of 96 latents: one dimension per block
LEAST_CONTRAST = 0.01


class LatentMoments:
    """Accumulate mean and covariance of latents batch by batch.

    Parameters
    ----------
    dim : int
        Number of latents.
    device : torch.device or str
    """

    def __init__(self, dim: int, device: torch.device | str = "cpu") -> None:
        self.count = 0
        self.origin: Tensor | None = None  # mean of the first batch; sums of differences from it lose little precision
        self.total = torch.zeros(dim, dtype=torch.float64, device=device)
        self.products = torch.zeros(dim, dim, dtype=torch.float64, device=device)

    def add(self, latents: Tensor) -> None:
        """Add latents of shape (batch, dim)."""
        latents = latents.detach().double()
        self.origin = latents.mean(0) if self.origin is None else self.origin
        latents = latents - self.origin
        self.count += len(latents)
        self.total += latents.sum(0)
        self.products += latents.T @ latents

    @property
    def covariance(self) -> Tensor:
        """Covariance of the latents, shape (dim, dim)."""
        mean = self.total / self.count
        return self.products / self.count - torch.outer(mean, mean)

    @property
    def variance(self) -> Tensor:
        """Variance of each latent, shape (dim,)."""
        return self.covariance.diagonal().clamp_min(0)

    @property
    def spread(self) -> float:
        """Mean over latents of the standard deviation over windows."""
        return float(self.variance.sqrt().mean())

    @property
    def contrast(self) -> float:
        """Standard deviation over windows divided by the size of the latents, from 0 (all windows equal) to 1."""
        variance = self.variance.sum()
        size = variance + (self.origin + self.total / self.count).square().sum()
        return float((variance / size.clamp_min(1e-300)).sqrt())

    def effective_rank(self, block: slice = slice(None)) -> float:
        """Return the effective rank of a block of latents (by default all), from 0 (constant) to their number."""
        return rank_of(self.covariance[block, block])


def effective_rank(latents: Tensor) -> float:
    """Return the effective rank of latents: the exponential of the entropy of their normalised singular values.

    The latents are centred first.

    Parameters
    ----------
    latents : Tensor of shape (windows, dim)
    """
    moments = LatentMoments(latents.shape[1], latents.device)
    moments.add(latents)
    return moments.effective_rank()


def rank_of(covariance: Tensor) -> float:
    """Return the effective rank for a covariance of shape (dim, dim); 0 if nothing varies."""
    values = torch.linalg.eigvalsh(covariance).clamp_min(0)
    values = torch.where(values > 1e-12 * values.max(), values, 0).sqrt()  # smaller values are rounding errors
    total = values.sum()
    if not total > 0:
        return 0.0
    share = values / total
    return float(torch.exp(-torch.xlogy(share, share).sum()))


def collapsed(rank: float, contrast: float) -> str:
    """Return a message if the effective rank or the contrast shows collapse, else "".

    Parameters
    ----------
    rank : float
        Effective rank.
    contrast : float
        See `LatentMoments.contrast`.
    """
    if rank >= LEAST_RANK and contrast >= LEAST_CONTRAST:
        return ""
    return (
        f"The latents have collapsed: effective rank {rank:.2f} (at least {LEAST_RANK:g} is needed), and windows "
        f"differ by {contrast:.2%} of the latents' size (at least {LEAST_CONTRAST:.0%} is needed). A low loss now "
        "means nothing; training continues. Use the objective ema_variance or ema_vicreg, a lower learning rate, or "
        "more windows."
    )
