"""Vector quantisation: nearest codes, and a codebook that follows its vectors.

Distances and updates are in float32 whatever the autocast around them, and a training step reads nothing back from the
accelerator: counts stay there until somebody asks for a number.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_CELLS = 1 << 26  # distances held at once: 256 MiB of float32


class Quantised(NamedTuple):
    """What a codebook makes of vectors.

    Attributes
    ----------
    vectors : Tensor of shape (..., d)
        The nearest codes; gradients pass to the input as if nothing had happened.
    indices : Tensor of shape (...)
        Which codes.
    loss : Tensor of shape ()
        Commitment: the mean squared distance from the input to its codes.
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
        By the angle between them instead of the Euclidean distance.

    Returns
    -------
    indices : Tensor of shape (n,)
        int64; the lowest where several codes are equally near.
    """
    with torch.autocast(vectors.device.type, enabled=False):
        vectors, codebook = vectors.float(), codebook.float()
        # |v - c|^2 = |v|^2 - 2 (v.c - |c|^2 / 2), and |v| does not choose; nor does it for the angle.
        codes = F.normalize(codebook, dim=1) if cosine else codebook
        shift = None if cosine else -0.5 * codebook.square().sum(dim=1)
        rows = max(1, _CELLS // len(codebook))
        parts = [_closeness(part, codes, shift).argmax(dim=1) for part in vectors.split(rows)]
    return torch.cat(parts) if parts else vectors.new_zeros(0, dtype=torch.long)


def _closeness(vectors: Tensor, codes: Tensor, shift: Tensor | None) -> Tensor:
    return vectors @ codes.T if shift is None else torch.addmm(shift, vectors, codes.T)


def straight_through(vectors: Tensor, codes: Tensor) -> Tensor:
    """Return ``codes`` forwards and let gradients pass to ``vectors`` (Bengio et al. 2013, arXiv:1308.3432)."""
    return vectors + (codes - vectors).detach()


def code_counts(indices: Tensor, size: int) -> Tensor:
    """Count how often each of ``size`` codes occurs, float32 of shape (size,); exact below 2**24, without a sync."""
    ones = torch.ones(indices.numel(), device=indices.device)
    return torch.zeros(size, device=indices.device).index_add_(0, indices.reshape(-1), ones)


def perplexity(counts: Tensor) -> Tensor:
    """Return the number of codes in even use that would hold as much information: exp of the entropy.

    Parameters
    ----------
    counts : Tensor of shape (K,)
        How often each code was used.

    Returns
    -------
    perplexity : Tensor of shape ()
        From 1 (one code does everything) to K; 0 where nothing was counted.
    """
    counts = counts.double()
    share = counts / counts.sum().clamp(min=1e-12)
    entropy = -torch.xlogy(share, share).sum()
    return torch.where(counts.sum() > 0, entropy.exp(), 0.0).float()


def unused(counts: Tensor) -> Tensor:
    """Count the codes that were never used, shape ()."""
    return (counts == 0).sum()


@torch.no_grad()
def kmeans(vectors: Tensor, clusters: int, iterations: int = 10, *, cosine: bool = False) -> tuple[Tensor, Tensor]:
    """Cluster vectors by Lloyd's iterations, from vectors drawn with torch's random numbers.

    Returns
    -------
    means : Tensor of shape (clusters, d)
        On the unit sphere where ``cosine``. With fewer vectors than clusters, some are drawn twice.
    counts : Tensor of shape (clusters,)
        Vectors of each in the last assignment.
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
    """Add up what each device of a training has, so that all move their codes alike."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.all_reduce(sums)
    return sums


class EMACodebook(nn.Module):
    """Codes on the unit sphere that follow the vectors they stand for (van den Oord et al. 2017, arXiv:1711.00937).

    Vectors are normalised first. While training, each code moves towards the mean direction of its vectors by an
    exponential moving average; no gradient reaches it. The first codes are found by k-means, as soon as training
    batches have brought ``init_vectors`` vectors; until then, each batch clusters what there is.

    Parameters
    ----------
    size, dim : int
        Codes, and the length of each.
    decay : float
        Of the moving average.
    beta : float
        Weight of the commitment loss.
    by_use : bool
        False: average the normalised mean of each batch, as LaBraM does, so that a batch in which a code is rare moves
        it as much as one in which it is frequent. True: average the sums of vectors.
    init_vectors : int, optional
        Vectors to cluster at first; ``size`` where not given. 0: no k-means, random directions.
    init_iterations : int
        Of k-means.
    restart_below : float
        Codes whose average use a batch falls below this are put on a random vector of the batch. 0: never.
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
        self.register_buffer("counts", torch.zeros(size))  # uses since `reset_counts`
        self.register_buffer("pool", torch.zeros(wanted, dim))  # vectors for k-means
        self.register_buffer("pooled", torch.zeros((), dtype=torch.long))
        self._pooled: int | None = 0  # `pooled` for the host; None after loading, until it is read back once

    def _load_from_state_dict(self, *arguments: Any, **options: Any) -> None:
        super()._load_from_state_dict(*arguments, **options)
        self._pooled = None

    @property
    def ready(self) -> bool:
        """Whether the codes come from enough vectors."""
        if self._pooled is None:
            self._pooled = int(self.pooled)
        return self._pooled >= len(self.pool)

    def forward(self, vectors: Tensor) -> Quantised:
        """Quantise vectors of shape (..., d); in training mode, let the codes follow them."""
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
        """Take codes of shape (size, d) as they are, and no k-means."""
        self.weight.copy_(F.normalize(weight.float(), dim=1))
        self.running_sum.copy_(self.weight)
        self.running_use.fill_(1.0)
        self._set_pooled(len(self.pool))

    def reset_counts(self) -> None:
        """Begin counting uses anew."""
        self.counts.zero_()

    @torch.no_grad()
    def _prepare(self, flat: Tensor) -> bool:
        """Find the first codes; True where there are some that may follow the batch."""
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
            # The direction of a sum is not changed by its decay, but a sum that underflows has none.
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
