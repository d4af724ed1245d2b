"""Transformer that predicts all tokens of the next scale at once, from the scales before it.

The prediction of a token does not depend on tokens of its own or later scales: the inputs of scale k are computed from
the sum of codes up to scale k - 1, and attention is causal over scales. Generation with the cache computes the same
result as the full pass, but only for the new tokens.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nbkit.neuro.bandvar.tokens.scales import block_causal_mask, scale_of_token, scale_slices
from nbkit.neuro.nn.fused import attend


class KeyValueCache:
    """Keys and values of the tokens that one attention layer has processed."""

    def __init__(self) -> None:
        self.keys: Tensor | None = None
        self.values: Tensor | None = None

    def extend(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Append the keys and values of new tokens, each (batch, heads, tokens, width), and return those of all."""
        if self.keys is not None:
            keys, values = torch.cat([self.keys, keys], dim=2), torch.cat([self.values, values], dim=2)
        self.keys, self.values = keys, values
        return keys, values


class Attention(nn.Module):
    """Multi-head self-attention with one projection, ``qkv``, for queries, keys and values.

    With ``normed``, queries and keys have length 1, and each head learns its temperature: the products cannot grow.
    """

    def __init__(self, width: int, heads: int, normed: bool = False) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"{width=} is not a multiple of {heads=}; each head gets width / heads features.")
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.log_scale = nn.Parameter(torch.full((heads, 1, 1), math.log(4.0))) if normed else None

    def forward(self, hidden: Tensor, mask: Tensor | None = None, cache: KeyValueCache | None = None) -> Tensor:
        """Compute self-attention.

        Parameters
        ----------
        hidden : Tensor of shape (batch, tokens, width)
        mask : bool Tensor of shape (tokens, tokens), optional
            True where the token of a row may attend to the token of a column.
        cache : KeyValueCache, optional
            Keys and values of earlier tokens; the new ones are appended.

        Returns
        -------
        attended : Tensor of shape (batch, tokens, width)
        """
        batch, tokens, width = hidden.shape
        split = self.qkv(hidden).view(batch, tokens, 3, self.heads, width // self.heads)
        queries, keys, values = split.permute(2, 0, 3, 1, 4)
        if self.log_scale is not None:
            scale = self.log_scale.clamp_max(math.log(100.0)).exp() * (width // self.heads) ** 0.5
            queries, keys = F.normalize(queries, dim=-1) * scale, F.normalize(keys, dim=-1)
        if cache is not None:
            keys, values = cache.extend(keys, values)
        seen = attend(queries, keys, values, mask)
        return self.out(seen.transpose(1, 2).reshape(batch, tokens, width))


class Block(nn.Module):
    """Transformer block with adaptive layer normalisation (AdaLN).

    Attention and feed-forward part are each normalised, then shifted, scaled and gated by the condition (Peebles and
    Xie 2022, https://arxiv.org/abs/2212.09748).
    """

    def __init__(self, width: int, heads: int, drop_path: float, shared: bool, normed: bool = False) -> None:
        super().__init__()
        self.attention = Attention(width, heads, normed)
        self.feed_forward = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(approximate="tanh"), nn.Linear(4 * width, width)
        )
        self.norm = nn.LayerNorm(width, eps=1e-6, elementwise_affine=False)
        self.drop_path = drop_path
        # shared: the transformer has one modulation layer for all blocks, and each block adds a learned offset
        self.modulation = None if shared else nn.Sequential(nn.SiLU(), nn.Linear(width, 6 * width))
        self.offset = nn.Parameter(torch.zeros(1, 6, width)) if shared else None

    def forward(
        self, hidden: Tensor, condition: Tensor, mask: Tensor | None = None, cache: KeyValueCache | None = None
    ) -> Tensor:
        """Apply the block to ``hidden`` of shape (batch, tokens, width) and return the same shape.

        ``condition`` has shape (batch, width), or (batch, 6, width) if the modulation is shared.
        """
        if self.modulation is not None:
            six = self.modulation(condition).unflatten(-1, (6, -1))
        else:
            six = condition + self.offset
        gate1, gate2, scale1, scale2, shift1, shift2 = six[:, :, None].unbind(1)
        seen = self.attention(torch.addcmul(shift1, self.norm(hidden), 1 + scale1), mask, cache)
        hidden = torch.addcmul(hidden, seen, self._kept(gate1, hidden))
        thought = self.feed_forward(torch.addcmul(shift2, self.norm(hidden), 1 + scale2))
        return torch.addcmul(hidden, thought, self._kept(gate2, hidden))

    def _kept(self, gate: Tensor, hidden: Tensor) -> Tensor:
        """Apply stochastic depth: drop the branch for some windows of a batch (Huang et al. 2016, arXiv:1603.09382)."""
        if not self.training or self.drop_path == 0:
            return gate
        kept = torch.rand(len(hidden), 1, 1, device=hidden.device) >= self.drop_path
        return gate * kept / (1 - self.drop_path)


class NextScaleTransformer(nn.Module):
    """Transformer over scales of tokens, conditioned on class, subject and task.

    Parameters
    ----------
    lengths : sequence of int
        Number of tokens of each scale.
    codes, latent_width : int
        Number and width of the codes in the codebook of the tokenizer.
    conditions : sequence of int
        Numbers of classes, subjects and tasks; 0 is added to each for "unspecified".
    depth : int
        Number of blocks and of heads; the width is ``64 * depth``.
    drop_path : float
        Stochastic depth in training: probability of dropping a branch in the last block, rising linearly from 0 in the
        first.
    shared_modulation : bool
        Use one AdaLN layer for all blocks, which saves a third of the weights.
    modulation_init, gate_init : float
        Factors on the initial AdaLN weights: ``modulation_init`` for scales and shifts, ``gate_init`` for gates. With
        gates near 0, each block starts as the identity.
    normed_attention : bool
        Normalise queries and keys (see `Attention`).
    """

    def __init__(
        self,
        lengths: Sequence[int],
        codes: int,
        latent_width: int,
        conditions: Sequence[int],
        depth: int = 8,
        drop_path: float = 0.0,
        shared_modulation: bool = False,
        modulation_init: float = 0.5,
        gate_init: float = 1e-5,
        normed_attention: bool = False,
    ) -> None:
        super().__init__()
        self.lengths, self.codes, self.depth = tuple(lengths), codes, depth
        self.slices = scale_slices(self.lengths)
        width = self.width = 64 * depth
        self.conditions = nn.ModuleList(nn.Embedding(count + 1, width) for count in conditions)
        self.word = nn.Linear(latent_width, width)
        self.start = nn.Parameter(torch.empty(1, self.lengths[0], width))
        self.position = nn.Parameter(torch.empty(1, sum(self.lengths), width))
        self.level = nn.Embedding(len(self.lengths), width)
        rates = torch.linspace(0, drop_path, depth).tolist()
        self.blocks = nn.ModuleList(Block(width, depth, rate, shared_modulation, normed_attention) for rate in rates)
        self.shared = nn.Sequential(nn.SiLU(), nn.Linear(width, 6 * width)) if shared_modulation else None
        self.last_norm = nn.LayerNorm(width, eps=1e-6, elementwise_affine=False)
        self.last_modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 2 * width))
        self.head = nn.Linear(width, codes)
        self.register_buffer("mask", block_causal_mask(self.lengths), persistent=False)
        self.register_buffer("scale_of", scale_of_token(self.lengths), persistent=False)
        self._first_weights(modulation_init, gate_init)

    def condition(self, chosen: Tensor) -> Tensor:
        """Return the embedding, (batch, width), of (class, subject, task) numbers, int64 of shape (batch, 3)."""
        return sum(table(column) for table, column in zip(self.conditions, chosen.unbind(1), strict=True))

    def forward(self, inputs: Tensor, chosen: Tensor) -> Tensor:
        """Predict every scale from the ones before it.

        Parameters
        ----------
        inputs : Tensor of shape (batch, tokens - lengths[0], latent_width)
            Inputs from `BandQuantizer.next_inputs`; the last scales may be left out.
        chosen : Tensor of shape (batch, 3)
            Numbers of class, subject and task; 0 means "unspecified".

        Returns
        -------
        logits : Tensor of shape (batch, tokens, codes)
        """
        condition = self.condition(chosen)
        hidden = self._embedded(inputs, condition, 0)
        tokens = hidden.shape[1]
        return self._through(hidden, condition, self.mask[:tokens, :tokens])

    def forward_scale(
        self, inputs: Tensor | None, chosen: Tensor, scale: int, caches: Sequence[KeyValueCache]
    ) -> Tensor:
        """Predict one scale, with the earlier scales in the caches.

        Parameters
        ----------
        inputs : Tensor of shape (batch, lengths[scale], latent_width) or None
            Inputs of this scale; None for scale 0.
        chosen : Tensor of shape (batch, 3)
            Numbers of class, subject and task; 0 means "unspecified".
        scale : int
            Index of the scale, from 0.
        caches : sequence of KeyValueCache
            One for each block; see `caches`.

        Returns
        -------
        logits : Tensor of shape (batch, lengths[scale], codes)
        """
        condition = self.condition(chosen)
        if inputs is None:
            inputs = self.start.new_zeros(len(chosen), 0, self.word.in_features)
        # No mask: the tokens of a scale may attend to their whole scale and to everything in the cache.
        return self._through(self._embedded(inputs, condition, scale), condition, None, caches)

    def caches(self) -> list[KeyValueCache]:
        """Return an empty cache for each block."""
        return [KeyValueCache() for _ in self.blocks]

    def _embedded(self, inputs: Tensor, condition: Tensor, first_scale: int) -> Tensor:
        hidden = self.word(inputs)
        begin = self.slices[first_scale].start
        if first_scale == 0:
            hidden = torch.cat([condition[:, None] + self.start, hidden], dim=1)
        place = slice(begin, begin + hidden.shape[1])
        return hidden + self.position[:, place] + self.level(self.scale_of[place])

    def _through(
        self, hidden: Tensor, condition: Tensor, mask: Tensor | None, caches: Sequence[KeyValueCache | None] = ()
    ) -> Tensor:
        given = condition if self.shared is None else self.shared(condition).unflatten(-1, (6, -1))
        for block, cache in zip(self.blocks, caches or [None] * self.depth, strict=True):
            hidden = block(hidden, given, mask, cache)
        scale, shift = self.last_modulation(condition)[:, None].chunk(2, dim=-1)
        return self.head(self.last_norm(hidden) * (1 + scale) + shift)

    def _first_weights(self, modulation_init: float, gate_init: float) -> None:
        spread = (1 / (3 * self.width)) ** 0.5
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=spread)
                nn.init.zeros_(module.bias)
            elif isinstance(module, nn.Embedding):
                nn.init.trunc_normal_(module.weight, std=spread)
        nn.init.trunc_normal_(self.start, std=spread)
        nn.init.trunc_normal_(self.position, std=spread)
        with torch.no_grad():
            self.head.weight.mul_(0.02)  # start with nearly equal probabilities for all codes
            self.last_modulation[-1].weight.mul_(modulation_init)
            layers = [block.modulation[-1] for block in self.blocks if block.modulation is not None]
            for layer in layers + ([self.shared[-1]] if self.shared is not None else []):
                layer.weight[: 2 * self.width].mul_(gate_init)
                layer.weight[2 * self.width :].mul_(modulation_init)
            for block in self.blocks:
                if block.offset is not None:
                    nn.init.trunc_normal_(block.offset, std=spread)
                    block.offset[:, :2].mul_(gate_init)
                    block.offset[:, 2:].mul_(modulation_init)
                block.attention.out.weight.div_((2 * self.depth) ** 0.5)
                block.feed_forward[-1].weight.div_((2 * self.depth) ** 0.5)
