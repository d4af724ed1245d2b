"""The objective's terms, unweighted, and what they would be for a model that knows nothing of a window.

A latent space that shrinks makes every squared error small, so an error is read only beside the variance of its own
targets.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch.nn.functional as F
from torch import Tensor

from nbkit.neuro.jepa.encoder import BLOCKS, EVENT, STATE, TRAIT


def temporal_terms(guess: Tensor, target: Tensor, past: Tensor, future: Tensor) -> dict[str, Tensor]:
    """Return the mean squared error of each block's guess, and how far the trait moved.

    Parameters
    ----------
    guess, target : Tensor of shape (batch, steps, 96)
        Of the future's latents; no gradient reaches ``target``.
    past, future : Tensor of shape (batch, steps, 96)
        The encoder's own.

    Returns
    -------
    terms : dict
        ``state``, ``event``, ``trait`` and ``stability``.
    """
    target = target.detach()
    errors = {name: F.mse_loss(guess[..., block], target[..., block]) for name, block in BLOCKS.items()}
    trait = [latents[..., TRAIT].mean(dim=1) for latents in (past, future)]
    return {**errors, "stability": F.mse_loss(*trait)}


def variance_hinge(latents: Tensor, wanted: float = 1.0) -> Tensor:
    """Return how much the latents' standard deviations over a batch miss ``wanted``, on average.

    The variance term of VICReg (Bardes et al. 2022, https://arxiv.org/abs/2105.04906, eq. 1).

    Parameters
    ----------
    latents : Tensor of shape (batch, latents)
    """
    spread = (latents.var(dim=0, correction=0) + 1e-4).sqrt()
    return F.relu(wanted - spread).mean()


def shared_variance(latents: Tensor) -> Tensor:
    """Return how much latents vary together over a batch: the squared covariances of all pairs, summed, a latent.

    The covariance term of VICReg (Bardes et al. 2022, eq. 3): without it all latents may vary as one.

    Parameters
    ----------
    latents : Tensor of shape (batch, latents)
    """
    centred = latents - latents.mean(dim=0)
    covariance = centred.T @ centred / max(1, len(latents) - 1)
    return (covariance.square().sum() - covariance.diagonal().square().sum()) / latents.shape[1]


def weigh(terms: Mapping[str, Tensor], weights: Mapping[str, float]) -> Tensor:
    """Return the weighted sum of all terms."""
    return sum(weights[name] * value for name, value in terms.items())


def by_mean(variance: Tensor, weights: Mapping[str, float]) -> Tensor:
    """Return the loss of guessing the mean latent always, with traits no more alike in a window than between two.

    Parameters
    ----------
    variance : Tensor of shape (96,)
        Of each target latent over windows.
    weights : mapping
        Of ``state``, ``event``, ``trait`` and ``stability``.
    """
    state, event, trait = (variance[block].mean() for block in (STATE, EVENT, TRAIT))
    strangers = 2 * trait
    return weigh({"state": state, "event": event, "trait": trait, "stability": strangers}, weights)
