"""Vector quantisation: nearest codes, and a codebook updated by moving averages.

Distances and updates are computed in float32, also under autocast. A training step never waits for a value from the
GPU: counts stay on the device until a caller reads them.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_CELLS = 1 << 26  # distances computed at once: 256 MiB of float32


class Quantised(NamedTuple):
    """Result of quantising vectors.

    Attributes
    ----------
    vectors : Tensor of shape (..., d)
        The nearest codes; gradients pass unchanged to the input (straight-through).
    indices : Tensor of shape (...)
        Indices of the codes.
    loss : Tensor of shape ()
        Commitment loss: ``beta`` times the mean squared distance between the input and its codes.
    """

    vectors: Tensor
    indices: Tensor
    loss: Tensor


@torch.no_grad()
def nearest_code(vectors: Tensor, codebook: Tensor, *, cosine: bool = False) -> Tensor:
    """Find the nearest code of each vector.

    Parameters
    ----------
    vectors : Tensor of shape (n, d)
    codebook : Tensor of shape (K, d)
    cosine : bool
        Compare angles instead of Euclidean distances.

    Returns
    -------
    indices : Tensor of shape (n,)
        int64; the lowest index if several codes are equally near.
    """
    with torch.autocast(vectors.device.type, enabled=False):
        vectors, codebook = vectors.float(), codebook.float()
        # |v - c|^2 = |v|^2 - 2 (v.c - |c|^2 / 2): |v| does not change which code is nearest, nor does it for angles.
        codes = F.normalize(codebook, dim=1) if cosine else codebook
        shift = None if cosine else -0.5 * codebook.square().sum(dim=1)
        rows = max(1, _CELLS // len(codebook))
        parts = [_closeness(part, codes, shift).argmax(dim=1) for part in vectors.split(rows)]
    return torch.cat(parts) if parts else vectors.new_zeros(0, dtype=torch.long)


def _closeness(vectors: Tensor, codes: Tensor, shift: Tensor | None) -> Tensor:
    return vectors @ codes.T if shift is None else torch.addmm(shift, vectors, codes.T)


def straight_through(vectors: Tensor, codes: Tensor) -> Tensor:
    """Return ``codes``, and pass gradients to ``vectors`` (Bengio et al. 2013, arXiv:1308.3432)."""
    return vectors + (codes - vectors).detach()


def code_counts(indices: Tensor, size: int) -> Tensor:
    """Count how often each of ``size`` codes occurs, without waiting for the GPU.

    Returns
    -------
    counts : Tensor of shape (size,)
        float32; exact below 2**24.
    """
    ones = torch.ones(indices.numel(), device=indices.device)
    return torch.zeros(size, device=indices.device).index_add_(0, indices.reshape(-1), ones)


def perplexity(counts: Tensor) -> Tensor:
    """Compute the perplexity of a codebook: the exponential of the entropy of its use.

    It is the number of equally used codes that would hold the same information.

    Parameters
    ----------
    counts : Tensor of shape (K,)
        Number of uses of each code.

    Returns
    -------
    perplexity : Tensor of shape ()
        From 1 (only one code is used) to K; 0 if nothing was counted.
    """
    counts = counts.double()
    share = counts / counts.sum().clamp(min=1e-12)
    entropy = -torch.xlogy(share, share).sum()
    return torch.where(counts.sum() > 0, entropy.exp(), 0.0).float()


def unused(counts: Tensor) -> Tensor:
    """Return the number of codes that were never used, shape ()."""
    return (counts == 0).sum()


@torch.no_grad()
def kmeans(vectors: Tensor, clusters: int, iterations: int = 10, *, cosine: bool = False) -> tuple[Tensor, Tensor]:
    """Cluster vectors by Lloyd's algorithm, starting from randomly chosen vectors.

    Parameters
    ----------
    vectors : Tensor of shape (n, d)
    clusters, iterations : int
    cosine : bool
        Cluster by angle.

    Returns
    -------
    means : Tensor of shape (clusters, d)
        Of unit length if ``cosine``. With fewer vectors than clusters, some vectors are drawn twice.
    counts : Tensor of shape (clusters,)
        Vectors of each cluster in the last assignment.
    """
    with torch.autocast(vectors.device.type, enabled=False):
        vectors = F.normalize(vectors.float(), dim=1) if cosine else vectors.float()
        enough = len(vectors) >= clusters
        draw = torch.randperm(len(vectors)) if enough else torch.randint(len(vectors), (clusters,))
        means = vectors[draw[:clusters].to(vectors.device)]
        counts = vectors.new_zeros(clusters)
        for _ in range(iterations):
            nearest = nearest_code(vectors, means, cosine=cosine)
            counts = code_counts(nearest, clusters)
            found = torch.zeros_like(means).index_add_(0, nearest, vectors) / counts.clamp(min=1)[:, None]
            found = F.normalize(found, dim=1) if cosine else found
            means = torch.where(counts[:, None] > 0, found, means)
    return means, counts


def _over_ranks(sums: Tensor) -> Tensor:
    """Sum over all devices of a distributed run, so that all update their codes in the same way."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.all_reduce(sums)
    return sums


class EMACodebook(nn.Module):
    """Codebook on the unit sphere, updated by a moving average (van den Oord et al. 2017, arXiv:1711.00937).

    Vectors are normalised first. In training, each code moves towards the mean direction of its vectors; no gradient
    reaches it. K-means sets the first codes once training batches have brought ``init_vectors`` vectors; until then,
    each batch clusters the vectors collected so far.

    Parameters
    ----------
    size, dim : int
        Number of codes, and length of each.
    decay : float
        Decay of the moving average.
    beta : float
        Weight of the commitment loss.
    by_use : bool
        False: average the normalised mean of each batch, as LaBraM does, so that a batch moves a code by the same
        amount whether the code is rare or frequent in it. True: average the sums of vectors.
    init_vectors : int, optional
        Number of vectors to cluster at first; ``size`` by default. 0: no k-means, random directions.
    init_iterations : int
        Iterations of k-means.
    restart_below : float
        Codes whose average use per batch falls below this are replaced by a random vector of the batch. 0: never.
    """

    def __init__(
        self,
        size: int,
        dim: int,
        *,
        decay: float = 0.99,
        beta: float = 1.0,
        by_use: bool = False,
        init_vectors: int | None = None,
        init_iterations: int = 10,
        restart_below: float = 0.0,
    ) -> None:
        super().__init__()
        self.size, self.dim, self.decay, self.beta, self.by_use = size, dim, decay, beta, by_use
        self.init_iterations, self.restart_below = init_iterations, restart_below
        wanted = size if init_vectors is None else init_vectors
        self.register_buffer("weight", F.normalize(torch.randn(size, dim), dim=1))
        self.register_buffer("running_sum", self.weight.clone())
        self.register_buffer("running_use", torch.ones(size))
        self.register_buffer("counts", torch.zeros(size))  # uses of each code since `reset_counts`
        self.register_buffer("pool", torch.zeros(wanted, dim))  # vectors collected for k-means
        self.register_buffer("pooled", torch.zeros((), dtype=torch.long))
        self._pooled: int | None = 0  # copy of `pooled` on the host, to avoid a sync; None after loading

    def _load_from_state_dict(self, *arguments: Any, **options: Any) -> None:
        super()._load_from_state_dict(*arguments, **options)
        self._pooled = None

    @property
    def ready(self) -> bool:
        """Whether the codes were set from enough vectors."""
        if self._pooled is None:
            self._pooled = int(self.pooled)
        return self._pooled >= len(self.pool)

    def forward(self, vectors: Tensor) -> Quantised:
        """Quantise vectors of shape (..., d); in training mode, also update the codes.

        Returns
        -------
        quantised : Quantised
        """
        with torch.autocast(vectors.device.type, enabled=False):
            unit = F.normalize(vectors.float(), dim=-1)
            flat = unit.detach().reshape(-1, self.dim)
            learns = self.training and self._prepare(flat)
            indices = nearest_code(flat, self.weight)
            codes = F.embedding(indices, self.weight).view_as(unit)
            used = _over_ranks(code_counts(indices, self.size))
            self.counts.add_(used)
            if learns:
                self._follow(flat, indices, used)
            loss = self.beta * F.mse_loss(unit, codes)
            return Quantised(straight_through(unit, codes), indices.view(vectors.shape[:-1]), loss)

    def take(self, weight: Tensor) -> None:
        """Set the codes to ``weight``, shape (size, d), normalised, and skip k-means."""
        self.weight.copy_(F.normalize(weight.float(), dim=1))
        self.running_sum.copy_(self.weight)
        self.running_use.fill_(1.0)
        self._set_pooled(len(self.pool))

    def reset_counts(self) -> None:
        """Reset the counts of uses to 0."""
        self.counts.zero_()

    @torch.no_grad()
    def _prepare(self, flat: Tensor) -> bool:
        """Set the first codes; return True if the codes may be updated from this batch."""
        if self.ready:
            return True
        pooled = self._pooled or 0
        if pooled == 0 and len(flat) >= len(self.pool):
            vectors, pooled = flat, len(self.pool)
        else:
            taken = flat[: len(self.pool) - pooled]
            self.pool[pooled : pooled + len(taken)] = taken
            pooled += len(taken)
            vectors = self.pool[:pooled]
        means, counts = kmeans(vectors, self.size, self.init_iterations, cosine=True)
        self.weight.copy_(means)
        self.running_sum.copy_(means * counts[:, None])
        self.running_use.copy_(counts)
        self._set_pooled(pooled)
        return self.ready

    def _set_pooled(self, pooled: int) -> None:
        self._pooled = pooled
        self.pooled.fill_(pooled)

    @torch.no_grad()
    def _follow(self, flat: Tensor, indices: Tensor, used: Tensor) -> None:
        sums = _over_ranks(torch.zeros_like(self.weight).index_add_(0, indices, flat))
        self.running_use.lerp_(used, 1 - self.decay)
        self.running_sum.lerp_(sums, 1 - self.decay)
        if self.by_use:
            # Decay does not change the direction of a sum, but a sum that underflows has no direction.
            moved = torch.where(self.running_use[:, None] > 1e-20, F.normalize(self.running_sum, dim=1), self.weight)
        else:
            towards = F.normalize(sums, dim=1)
            moved = F.normalize(torch.lerp(self.weight, towards, 1 - self.decay), dim=1)
            moved = torch.where(used[:, None] > 0, moved, self.weight)
        if self.restart_below > 0:
            dead = self.running_use < self.restart_below
            drawn = flat[torch.randint(len(flat), (self.size,), device=flat.device)]
            moved = torch.where(dead[:, None], drawn, moved)
            self.running_sum.copy_(torch.where(dead[:, None], drawn * self.restart_below, self.running_sum))
            self.running_use.clamp_(min=self.restart_below)
        self.weight.copy_(moved)
