"""Loss terms of phases 2 and 3, and their weights.

Terms are means over valid steps and outputs: the padding of a window, the first seconds without a teacher prediction,
and vertices without signal do not count. The weights are those of the seed project and need not sum to 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from nbkit.ground.fields import checked


@checked
@dataclass(frozen=True)
class LossWeights:
    """Weights of the loss terms; a term with weight 0 is not computed."""

    bold: float = 0.0  # MSE against the fMRI
    teacher: float = 0.0  # MSE against the teacher
    pseudo: float = 0.0  # MSE against the pseudo-labels of an earlier student
    feature: float = 0.0  # 1 - cosine against the teacher's block 4
    temporal: float = 0.0  # SmoothL1 of the differences between steps
    parcels: float = 0.0  # MSE of parcel means
    aux: float = 0.01  # the routers' balance and z-loss

    @classmethod
    def distill(cls) -> LossWeights:
        """Return the weights of phase 2."""
        return cls(teacher=0.60, feature=0.20, temporal=0.10, parcels=0.05, aux=0.01)

    @classmethod
    def fmri(cls) -> LossWeights:
        """Return the weights of phase 3."""
        return cls(bold=0.40, teacher=0.30, feature=0.10, temporal=0.10, parcels=0.05, aux=0.01)

    @classmethod
    def fmri_pseudo(cls) -> LossWeights:
        """Return the weights of phase 3 with pseudo-labels: 0.4 fMRI, 0.3 teacher, 0.2 student.

        The other 0.1 is divided in phase 3's proportions.
        """
        return cls(bold=0.40, teacher=0.30, pseudo=0.20, feature=0.04, temporal=0.04, parcels=0.02, aux=0.01)

    @classmethod
    def sprint_distill(cls) -> LossWeights:
        """Return the weights of the two-day sprint's distillation."""
        return cls(teacher=0.70, temporal=0.20, feature=0.10, aux=0.01)

    @classmethod
    def sprint_fmri(cls) -> LossWeights:
        """Return the weights of the two-day sprint's fMRI phase."""
        return cls(bold=0.50, teacher=0.30, temporal=0.20, aux=0.01)

    def total(self, terms: Mapping[str, Tensor]) -> Tensor:
        """Return the weighted sum of terms, by name.

        Raises
        ------
        ValueError
            If a term has no weight.
        """
        weights = asdict(self)
        unknown = sorted(set(terms) - set(weights))
        if unknown:
            raise ValueError(f"There is no weight for {', '.join(unknown)}; the terms are {', '.join(weights)}.")
        return sum(weights[name] * term for name, term in terms.items())


def masked_mse(
    predicted: Tensor, target: Tensor, valid: Tensor, weight: Tensor | None = None, keep: Tensor | None = None
) -> Tensor:
    """Compute the mean squared error over valid steps and kept vertices.

    Parameters
    ----------
    predicted, target : Tensor of shape (batch, time, vertices)
    valid : Tensor of shape (batch, time), bool
    weight : Tensor of shape (batch,), optional
        Weight of each sample's error; the mean still divides by the number of valid steps.
    keep : Tensor of shape (batch, vertices), bool, optional
        Vertices with signal.

    Returns
    -------
    loss : Tensor of shape ()
    """
    return _mean(_over_kept((predicted.float() - target.float()).square(), keep), valid, weight)


def temporal_loss(
    predicted: Tensor, target: Tensor, valid: Tensor, weight: Tensor | None = None, keep: Tensor | None = None
) -> Tensor:
    """Return the SmoothL1 loss, shape (), of differences between steps, where both steps are valid.

    The parameters are those of `masked_mse`.
    """
    error = F.smooth_l1_loss(predicted.float().diff(dim=1), target.float().diff(dim=1), reduction="none")
    return _mean(_over_kept(error, keep), valid[:, 1:] & valid[:, :-1], weight)


def feature_loss(student: Tensor, teacher: Tensor, valid: Tensor, weight: Tensor | None = None) -> Tensor:
    """Return the mean of 1 - cosine, shape (), between projected fused features and the teacher's.

    Parameters
    ----------
    student, teacher : Tensor of shape (batch, time, features)
    valid : Tensor of shape (batch, time), bool
    weight : Tensor of shape (batch,), optional
        See `masked_mse`.
    """
    return _mean(1 - F.cosine_similarity(student.float(), teacher.float(), dim=-1), valid, weight)


def parcel_means(values: Tensor, parcel: Tensor, n_parcels: int) -> Tensor:
    """Average vertices by parcel.

    Parameters
    ----------
    values : Tensor of shape (..., vertices)
    parcel : Tensor of shape (vertices,), int
        Parcel of each vertex, from 0; below 0 for none.
    n_parcels : int

    Returns
    -------
    means : Tensor of shape (..., n_parcels)
        Zero for a parcel without vertices.
    """
    inside = (parcel >= 0).to(values.dtype)
    index = parcel.clamp_min(0)
    count = torch.zeros(n_parcels, dtype=values.dtype, device=values.device).index_add(0, index, inside)
    sums = torch.zeros(*values.shape[:-1], n_parcels, dtype=values.dtype, device=values.device)
    return sums.index_add(-1, index, values * inside) / count.clamp_min(1)


def _over_kept(error: Tensor, keep: Tensor | None) -> Tensor:
    """Return the mean over kept vertices, shape (batch, time)."""
    if keep is None:
        return error.mean(-1)
    return (error * keep[:, None]).sum(-1) / keep.sum(-1).clamp_min(1)[:, None]


def _mean(error: Tensor, valid: Tensor, weight: Tensor | None) -> Tensor:
    counted = valid.to(error.dtype)
    weighed = counted if weight is None else counted * weight.to(error.dtype)[:, None]
    return (torch.where(valid, error, 0.0) * weighed).sum() / counted.sum().clamp_min(1)
