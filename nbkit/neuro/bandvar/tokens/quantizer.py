"""Residual quantisation over token scales, with one codebook.

Each scale quantises the residual of the scales before it, and the decoder gets the sum over scales. Everything that
later steps depend on (codes, their use, restarts) is in buffers and weights, and restarts use torch's random generator,
so that a resumed training continues exactly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional as F

from nbkit.neuro.bandvar.tokens.scales import scale_slices
from nbkit.neuro.nn.vq import code_counts, nearest_code

_USE_DECAY = 0.98


@dataclass(frozen=True)
class Quantized:
    """Result of a quantisation.

    Attributes
    ----------
    tokens : Tensor of shape (batch, tokens)
        Code numbers, scale after scale.
    partial_sums : list of Tensor of shape (batch, width, latents)
        Sum of codes after each scale. Gradients reach the codes and, by the straight-through estimator, the encoder.
    loss : Tensor
        Mean over scales of ``beta * MSE(sg f_hat, f) + MSE(f_hat, sg f)``, where ``sg`` stops the gradient.
    """

    tokens: Tensor
    partial_sums: list[Tensor]
    loss: Tensor


class MultiScaleQuantizer(nn.Module):
    """Quantise latents scale by scale, after Tian et al. 2024 (https://arxiv.org/abs/2404.02905), in one dimension.

    At scale k the residual is averaged over equal time intervals to ``lengths[k]`` vectors. Each vector is replaced by
    its nearest code. The codes are interpolated linearly to all latents and smoothed: the mean of themselves and their
    convolution.

    Parameters
    ----------
    codes : int
        Number of codes in the codebook.
    width : int
        Width of a latent.
    lengths : sequence of int
        Number of tokens of each scale; the last is the number of latents.
    beta : float
        Weight of the commitment loss.
    restart_below : float
        A code is dead if it is used less than this fraction of an equal share; it is then set to a residual vector of
        the batch. 0 turns restarts off.
    restart_every : int
        Training steps between checks for dead codes.
    """

    def __init__(
        self,
        codes: int,
        width: int,
        lengths: Sequence[int],
        beta: float = 0.25,
        restart_below: float = 0.05,
        restart_every: int = 20,
    ) -> None:
        super().__init__()
        self.codes, self.width, self.lengths, self.beta = codes, width, tuple(lengths), beta
        self.restart_below, self.restart_every = restart_below, restart_every
        self.slices = scale_slices(self.lengths)
        self.codebook = nn.Parameter(torch.randn(codes, width) / width**0.5)
        self.smooth = nn.ModuleList(nn.Conv1d(width, width, 3, padding=1) for _ in self.lengths)
        self.register_buffer("use", torch.ones(codes))  # running average; 1 is an equal share of the tokens
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))
        self.register_buffer("restarted", torch.zeros((), dtype=torch.long))
        latents = self.lengths[-1]
        for scale, length in enumerate(self.lengths):
            # Matrices in place of F.interpolate, whose backward pass on a GPU is not deterministic.
            area = F.interpolate(torch.eye(latents)[None], size=length, mode="area")[0]
            line = F.interpolate(torch.eye(length)[None], size=latents, mode="linear")[0]
            self.register_buffer(f"area_{scale}", area, persistent=False)  # (latents, length)
            self.register_buffer(f"line_{scale}", line, persistent=False)  # (length, latents)

    def forward(self, latents: Tensor) -> Quantized:
        """Quantise latents of shape (batch, width, latents). In training mode, dead codes are restarted."""
        if self.training and int(self.steps) == 0:
            self._begin_at(latents.detach())
        rest, summed, loss = latents.detach(), torch.zeros_like(latents), latents.new_zeros(())
        tokens, partial_sums, seen = [], [], []
        for scale in range(len(self.lengths)):
            vectors = self.pooled(rest, scale)
            chosen = self._nearest(vectors)
            given = self.embed(chosen, scale)
            summed = summed + given
            rest = rest - given.detach()
            loss = loss + self.beta * F.mse_loss(summed.detach(), latents) + F.mse_loss(summed, latents.detach())
            # The straight-through gradient has only the detail of this scale: what it averages away gets none.
            passed = latents @ getattr(self, f"area_{scale}") @ getattr(self, f"line_{scale}")
            partial_sums.append(summed + (passed - passed.detach()))
            tokens.append(chosen)
            seen.append(vectors.reshape(-1, self.width))
        tokens = torch.cat(tokens, dim=1)
        if self.training:
            self._keep_alive(tokens, torch.cat(seen))
        return Quantized(tokens, partial_sums, loss / len(self.lengths))

    def embed(self, chosen: Tensor, scale: int) -> Tensor:
        """Return the contribution of the codes of one scale (batch, length) to the sum, (batch, width, latents)."""
        codes = F.embedding(chosen, self.codebook).transpose(1, 2)
        wide = codes @ getattr(self, f"line_{scale}")
        return 0.5 * wide + 0.5 * self.smooth[scale](wide)

    @torch.no_grad()
    def partial_sums(self, tokens: Tensor) -> list[Tensor]:
        """Return the sum after each complete scale of ``tokens`` (batch, tokens), each (batch, width, latents)."""
        summed, sums = 0, []
        for scale, place in enumerate(self.slices):
            if place.stop > tokens.shape[1]:
                break
            summed = summed + self.embed(tokens[:, place], scale)
            sums.append(summed)
        return sums

    @torch.no_grad()
    def next_inputs(self, tokens: Tensor) -> Tensor:
        """Return the inputs of the generator for all scales except the first.

        The input of a scale is computed from the true tokens of the scales before it.

        Parameters
        ----------
        tokens : Tensor of shape (batch, tokens)

        Returns
        -------
        inputs : Tensor of shape (batch, tokens - lengths[0], width)
        """
        sums = self.partial_sums(tokens)[: len(self.lengths) - 1]
        return torch.cat([self.pooled(summed, scale + 1) for scale, summed in enumerate(sums)], dim=1)

    def pooled(self, latents: Tensor, scale: int) -> Tensor:
        """Return latents averaged to the length of a scale, (batch, length, width): the vectors that it quantises."""
        return (latents @ getattr(self, f"area_{scale}")).transpose(1, 2)

    def _nearest(self, vectors: Tensor) -> Tensor:
        return nearest_code(vectors.reshape(-1, self.width), self.codebook).reshape(vectors.shape[:-1])

    @torch.no_grad()
    def _begin_at(self, latents: Tensor) -> None:
        """Set the codes to vectors of the first batch: of random codes, nearly all would be dead."""
        vectors = torch.cat([self.pooled(latents, s).reshape(-1, self.width) for s in range(len(self.lengths))])
        self._replace(torch.arange(self.codes, device=latents.device), vectors)

    @torch.no_grad()
    def _keep_alive(self, tokens: Tensor, vectors: Tensor) -> None:
        counts = code_counts(tokens, self.codes)
        if dist.is_initialized():
            dist.all_reduce(counts)  # so that all processes restart the same codes
        self.use.lerp_(counts * (self.codes / counts.sum()), 1 - _USE_DECAY)
        self.steps += 1
        if self.restart_below > 0 and int(self.steps) % self.restart_every == 0:
            dead = torch.nonzero(self.use < self.restart_below)[:, 0]
            self._replace(dead, vectors)
            self.use[dead] = 1.0
            self.restarted += len(dead)

    def _replace(self, dead: Tensor, vectors: Tensor) -> None:
        chosen = vectors[torch.randint(len(vectors), (len(dead),), device=vectors.device)].float()
        spread = vectors.float().std(dim=0)
        self.codebook.data[dead] = chosen + 0.01 * spread * torch.randn_like(chosen)  # noise keeps codes distinct
        if dist.is_initialized():
            dist.broadcast(self.codebook.data, 0)
