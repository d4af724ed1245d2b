"""Quantisation of a window's coefficients, band by band: every token codes a group of them by its own codebook.

All tokens of a band belong to it alone, so the sum over the tokens of the first bands is these bands and nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nbkit.neuro.bandvar.tokens.scales import scale_slices
from nbkit.neuro.bandvar.tokens.transform import BandBasis, fit_codes


@dataclass(frozen=True)
class Quantized:
    """Result of a quantisation.

    Attributes
    ----------
    tokens : Tensor of shape (batch, tokens)
        Code numbers, band after band.
    partial_sums : list of Tensor of shape (batch, width, 1)
        The coded coefficients of the bands up to each scale, zero for the later ones. Gradients reach the codes.
    loss : Tensor
        Mean squared distance of the coefficients from their codes, in units of their variance.
    """

    tokens: Tensor
    partial_sums: list[Tensor]
    loss: Tensor


class BandQuantizer(nn.Module):
    """Replace each group of coefficients by its nearest code.

    Parameters
    ----------
    codes : int
        Codes of each token.
    lengths : sequence of int
        Tokens of each band.
    sizes : sequence of int
        Coefficients of each token, band after band.
    """

    def __init__(self, codes: int, lengths: Sequence[int], sizes: Sequence[int]) -> None:
        super().__init__()
        if len(sizes) != sum(lengths):
            raise ValueError(f"Got the sizes of {len(sizes)} tokens for {sum(lengths)} tokens.")
        self.codes, self.lengths, self.sizes = codes, tuple(lengths), tuple(int(size) for size in sizes)
        self.width, self.most = sum(self.sizes), max(self.sizes)  # coefficients; of one token
        self.slices = scale_slices(self.lengths)
        self.codebook = nn.Parameter(torch.zeros(len(sizes), codes, self.most))
        self.register_buffer("spread", torch.ones(self.width))
        ends = np.cumsum(self.sizes)
        members = np.full((len(sizes), self.most), self.width)  # the last place is empty
        for token, (end, size) in enumerate(zip(ends, self.sizes, strict=True)):
            members[token, :size] = np.arange(end - size, end)
        slots = np.concatenate([token * self.most + np.arange(size) for token, size in enumerate(self.sizes)])
        self.register_buffer("members", torch.from_numpy(members), persistent=False)
        self.register_buffer("slots", torch.from_numpy(slots), persistent=False)
        self._ends = [int(ends[place.stop - 1]) for place in self.slices]

    @torch.no_grad()
    def fit(
        self, bases: Sequence[BandBasis], samples: np.ndarray, seed: int, count: int = 20_000, rounds: int = 8
    ) -> None:
        """Set spreads and codebooks from the coefficients of training windows, (windows, width)."""
        draws = np.random.default_rng(seed)
        self.spread.copy_(torch.from_numpy(np.concatenate([basis.spread for basis in bases])))
        for token, size in enumerate(self.sizes):
            group = samples[:, self.members[token, :size].cpu().numpy()]
            made = fit_codes(group, self.codes, draws, count, rounds)
            self.codebook[token, :, :size] = torch.from_numpy(made).to(self.codebook)

    def forward(self, latents: Tensor) -> Quantized:
        """Quantise coefficients of shape (batch, width)."""
        grouped = F.pad(latents, (0, 1))[:, self.members]  # (batch, tokens, most)
        tokens = self._nearest(grouped)
        whole = self._coded(tokens, 0)
        loss = ((whole - latents) / self.spread).square().mean()
        return Quantized(tokens, self._cut(whole, len(self.lengths)), loss)

    def embed(self, chosen: Tensor, scale: int) -> Tensor:
        """Return the coefficients of one band's codes (batch, length), (batch, width, 1); zero for the other bands."""
        return self._coded(chosen, scale)[:, :, None]

    @torch.no_grad()
    def partial_sums(self, tokens: Tensor) -> list[Tensor]:
        """Return the coefficients after each complete band of ``tokens`` (batch, tokens), each (batch, width, 1)."""
        complete = sum(place.stop <= tokens.shape[1] for place in self.slices)
        if not complete:
            return []
        return self._cut(self._coded(tokens[:, : self.slices[complete - 1].stop], 0), complete)

    @torch.no_grad()
    def next_inputs(self, tokens: Tensor) -> Tensor:
        """Return the inputs of the generator for all scales except the first, (batch, tokens - lengths[0], width).

        The input of a scale is computed from the true tokens of the scales before it.
        """
        sums = self.partial_sums(tokens)[: len(self.lengths) - 1]
        return torch.cat([self.pooled(summed, scale + 1) for scale, summed in enumerate(sums)], dim=1)

    def pooled(self, latents: Tensor, scale: int) -> Tensor:
        """Return the coefficients so far, in units of their spread, once for each token: (batch, length, width)."""
        return (latents[:, :, 0] / self.spread)[:, None].expand(-1, self.lengths[scale], -1)

    def _nearest(self, grouped: Tensor) -> Tensor:
        book = self.codebook.detach().float()
        products = torch.einsum("btd,tkd->btk", grouped.detach().float(), book)
        return (0.5 * book.square().sum(dim=-1) - products).argmin(dim=-1)

    def _coded(self, chosen: Tensor, scale: int) -> Tensor:
        """Return the coefficients (batch, width) of the codes of complete bands, from ``scale`` on."""
        first, count = self.slices[scale].start, chosen.shape[1]
        rows = torch.arange(first, first + count, device=chosen.device) * self.codes + chosen
        given = F.embedding(rows, self.codebook.flatten(0, 1)).flatten(1)  # (batch, count * most)
        begin = self._ends[scale - 1] if scale else 0
        end = begin + sum(self.sizes[first : first + count])
        made = given.index_select(1, self.slots[begin:end] - first * self.most)
        return F.pad(made, (begin, self.width - end))

    def _cut(self, whole: Tensor, complete: int) -> list[Tensor]:
        return [F.pad(whole[:, :end], (0, self.width - end))[:, :, None] for end in self._ends[:complete]]
