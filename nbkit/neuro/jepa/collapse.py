"""How much of the latent space is in use.

An objective whose targets are the model's own latents can be met by latents that say nothing. That shows in the
effective rank (Roy and Vetterli 2007; Garrido et al. 2023, https://arxiv.org/abs/2210.02885) and in the standard
deviation over windows, both of centred latents, never in the loss.
"""

from __future__ import annotations

import torch
from torch import Tensor

LEAST_RANK = 3.0  # of 96: less than a dimension a block
LEAST_CONTRAST = 0.01


class LatentMoments:
    """Gather mean and covariance of latents, batch by batch, whatever their number.

    Parameters
    ----------
    dim : int
    """

    def __init__(self, dim: int, device: torch.device | str = "cpu") -> None:
        self.count = 0
        self.origin: Tensor | None = None  # the first batch's mean: sums about it round little
        self.total = torch.zeros(dim, dtype=torch.float64, device=device)
        self.products = torch.zeros(dim, dim, dtype=torch.float64, device=device)

    def add(self, latents: Tensor) -> None:
        """Take latents of shape (batch, dim) in."""
        latents = latents.detach().double()
        self.origin = latents.mean(0) if self.origin is None else self.origin
        latents = latents - self.origin
        self.count += len(latents)
        self.total += latents.sum(0)
        self.products += latents.T @ latents

    @property
    def covariance(self) -> Tensor:
        """Of shape (dim, dim)."""
        mean = self.total / self.count
        return self.products / self.count - torch.outer(mean, mean)

    @property
    def variance(self) -> Tensor:
        """Of shape (dim,)."""
        return self.covariance.diagonal().clamp_min(0)

    @property
    def spread(self) -> float:
        """The standard deviation over windows, averaged over latents."""
        return float(self.variance.sqrt().mean())

    @property
    def contrast(self) -> float:
        """The standard deviation over windows by the latents' own size, from 0 (all windows alike) to 1."""
        variance = self.variance.sum()
        size = variance + (self.origin + self.total / self.count).square().sum()
        return float((variance / size.clamp_min(1e-300)).sqrt())

    def effective_rank(self, block: slice = slice(None)) -> float:
        """Return the effective rank of all latents or of a block, from 0 (nothing varies) to their number."""
        return rank_of(self.covariance[block, block])


def effective_rank(latents: Tensor) -> float:
    """Return the exponential of the entropy of centred latents' normalised singular values.

    Parameters
    ----------
    latents : Tensor of shape (windows, dim)
    """
    moments = LatentMoments(latents.shape[1], latents.device)
    moments.add(latents)
    return moments.effective_rank()


def rank_of(covariance: Tensor) -> float:
    """Return the effective rank of what has a covariance, (dim, dim); 0 where nothing varies."""
    values = torch.linalg.eigvalsh(covariance).clamp_min(0)
    values = torch.where(values > 1e-12 * values.max(), values, 0).sqrt()  # below it the sums' rounding begins
    total = values.sum()
    if not total > 0:
        return 0.0
    share = values / total
    return float(torch.exp(-torch.xlogy(share, share).sum()))


def collapsed(rank: float, contrast: float) -> str:
    """Return what is wrong with latents of an effective rank and a contrast, "" where nothing is."""
    if rank >= LEAST_RANK and contrast >= LEAST_CONTRAST:
        return ""
    return (
        f"The latents have collapsed: effective rank {rank:.2f} (at least {LEAST_RANK:g} is asked), windows differ by "
        f"{contrast:.2%} of the latents' size (at least {LEAST_CONTRAST:.0%}). A low loss means nothing now. Take the "
        "objective ema_variance or ema_vicreg, a lower rate, or more windows."
    )
