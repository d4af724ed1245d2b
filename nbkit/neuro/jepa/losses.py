"""Unweighted terms of the pretraining objective, and their values for an uninformed baseline.

If the latent space shrinks, every squared error becomes small. Compare an error with the variance of its own targets.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch.nn.functional as F
from torch import Tensor

from nbkit.neuro.jepa.encoder import BLOCKS, EVENT, STATE, TRAIT


def temporal_terms(guess: Tensor, target: Tensor, past: Tensor, future: Tensor) -> dict[str, Tensor]:
    """Compute the mean squared error of each block's prediction, and the change of the trait latents.

    Parameters
    ----------
    guess, target : Tensor of shape (batch, steps, 96)
        Predicted and actual latents of the second half; no gradient reaches ``target``.
    past, future : Tensor of shape (batch, steps, 96)
        The encoder's latents of the first and second half.

    Returns
    -------
    terms : dict
        Keys ``state``, ``event``, ``trait`` and ``stability``.
    """
    target = target.detach()
    errors = {name: F.mse_loss(guess[..., block], target[..., block]) for name, block in BLOCKS.items()}
    trait = [latents[..., TRAIT].mean(dim=1) for latents in (past, future)]
    return {**errors, "stability": F.mse_loss(*trait)}


def variance_hinge(latents: Tensor, wanted: float = 1.0) -> Tensor:
    """Compute how far the standard deviations of the latents over a batch fall below ``wanted``, on average.

    This is the variance term of VICReg (Bardes et al. 2022, https://arxiv.org/abs/2105.04906, eq. 1).

    Parameters
    ----------
    latents : Tensor of shape (batch, latents)
    wanted : float
        Standard deviation above which a latent costs nothing.

    Returns
    -------
    hinge : Tensor of shape ()
    """
    spread = (latents.var(dim=0, correction=0) + 1e-4).sqrt()
    return F.relu(wanted - spread).mean()


def shared_variance(latents: Tensor) -> Tensor:
    """Compute the sum of the squared covariances of all pairs of latents, divided by the number of latents.

    This is the covariance term of VICReg (Bardes et al. 2022, eq. 3). Without it, all latents may vary as one.

    Parameters
    ----------
    latents : Tensor of shape (batch, latents)

    Returns
    -------
    covariance : Tensor of shape ()
    """
    centred = latents - latents.mean(dim=0)
    covariance = centred.T @ centred / max(1, len(latents) - 1)
    return (covariance.square().sum() - covariance.diagonal().square().sum()) / latents.shape[1]


def weigh(terms: Mapping[str, Tensor], weights: Mapping[str, float]) -> Tensor:
    """Return the weighted sum of the terms."""
    return sum(weights[name] * value for name, value in terms.items())


def by_mean(variance: Tensor, weights: Mapping[str, float]) -> Tensor:
    """Return the loss of a baseline that always predicts the mean latent.

    Its trait latents differ within a window as much as between windows.

    Parameters
    ----------
    variance : Tensor of shape (96,)
        Variance of each target latent over windows.
    weights : mapping
        Weights of ``state``, ``event``, ``trait`` and ``stability``.

    Returns
    -------
    loss : Tensor of shape ()
    """
    state, event, trait = (variance[block].mean() for block in (STATE, EVENT, TRAIT))
    strangers = 2 * trait
    return weigh({"state": state, "event": event, "trait": trait, "stability": strangers}, weights)
