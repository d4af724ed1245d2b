"""The transformer that LaBraM's tokenizer and student share.

A window becomes one token a channel and patch, channel by channel, after a class token. Modules have the published
files' names, so that a key map of a few words loads them (see `hub`).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nbkit.neuro.labram.channels import TABLES
from nbkit.neuro.nn.attention import Block, init_weights

TIME_ROWS = 16  # patches that have a time embedding, as published
MICROVOLTS = 100.0  # the network's unit: uV / 100, as published


def cut_patches(windows: Tensor, patch: int) -> Tensor:
    """Cut windows into patches, and scale uV to the network's unit.

    Parameters
    ----------
    windows : Tensor of shape (batch, channels, time)
        In uV.
    patch : int
        Samples.

    Returns
    -------
    patches : Tensor of shape (batch, channels, patches, patch)

    Raises
    ------
    ValueError
        If a window does not hold a whole number of patches.
    """
    if windows.ndim != 3 or windows.shape[-1] % patch or windows.shape[-1] == 0:
        raise ValueError(
            f"Windows of shape {tuple(windows.shape)} are not (batch, channels, time) with a multiple of {patch} "
            f"samples; cut them to {max(1, windows.shape[-1] // patch) * patch} samples or set another patch."
        )
    return (windows.float() / MICROVOLTS).unflatten(2, (-1, patch))


class TemporalConv(nn.Module):
    """Features of each patch: three convolutions over its samples, and a projection where they are not ``dim`` wide.

    A patch of 200 samples leaves 8 x 25 = 200 features, the published width; one of 100 leaves 104.
    """

    def __init__(self, patch: int, dim: int, filters: int = 8) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, filters, (1, 15), stride=(1, 8), padding=(0, 7))
        self.norm1 = nn.GroupNorm(4, filters)
        self.conv2 = nn.Conv2d(filters, filters, (1, 3), padding=(0, 1))
        self.norm2 = nn.GroupNorm(4, filters)
        self.conv3 = nn.Conv2d(filters, filters, (1, 3), padding=(0, 1))
        self.norm3 = nn.GroupNorm(4, filters)
        width = filters * ((patch - 1) // 8 + 1)
        self.proj = nn.Identity() if width == dim else nn.Linear(width, dim)

    def forward(self, patches: Tensor) -> Tensor:
        """Return (batch, channels * patches, dim) for (batch, channels, patches, samples)."""
        x = patches.flatten(1, 2).unsqueeze(1)  # (batch, 1, tokens, samples)
        for conv, norm in ((self.conv1, self.norm1), (self.conv2, self.norm2), (self.conv3, self.norm3)):
            x = F.gelu(norm(conv(x)))
        return self.proj(x.permute(0, 2, 3, 1).flatten(2))  # features in the order (time, filter)


class CodeEmbed(nn.Module):
    """Tokens of codes: what the decoder has in the patches' place."""

    def __init__(self, code_dim: int, dim: int) -> None:
        super().__init__()
        self.proj = nn.Linear(code_dim, dim)

    def forward(self, codes: Tensor) -> Tensor:
        """Return (batch, tokens, dim) for (batch, tokens, code_dim)."""
        return self.proj(codes)


class NeuralTransformer(nn.Module):
    """Tokens of patches (or codes), with places, through a transformer.

    Parameters
    ----------
    patch : int
        Samples of a patch; not looked at where ``code_dim``.
    depth, dim, heads, mlp_ratio
        Of the transformer.
    table : str
        Of channels (see `channels`).
    code_dim : int
        Above 0, the input is codes of this length: a decoder.
    filters : int
        Of the temporal convolution.
    qkv_bias, qk_norm, layer_scale, dropout, drop_path
        See `Block`; ``drop_path`` grows to this over the depth.
    """

    def __init__(
        self,
        patch: int,
        depth: int,
        dim: int = 200,
        heads: int = 10,
        *,
        mlp_ratio: float = 4.0,
        table: str = "egi_129",
        code_dim: int = 0,
        filters: int = 8,
        qkv_bias: bool = False,
        qk_norm: bool = True,
        layer_scale: float = 0.1,
        dropout: float = 0.0,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        self.patch, self.dim, self.table = patch, dim, table
        self.patch_embed = CodeEmbed(code_dim, dim) if code_dim else TemporalConv(patch, dim, filters)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.pos_embed = nn.Parameter(torch.zeros(1, len(TABLES[table]) + 1, dim))
        self.time_embed = nn.Parameter(torch.zeros(1, TIME_ROWS, dim))
        self.blocks = nn.ModuleList(
            Block(
                dim, heads, mlp_ratio=mlp_ratio, qkv_bias=qkv_bias, qk_norm=qk_norm, layer_scale=layer_scale,
                dropout=dropout, drop_path=drop_path * place / max(1, depth - 1),
            )
            for place in range(depth)
        )  # fmt: skip
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        init_weights(self)
        for token in (self.cls_token, self.pos_embed, self.time_embed):
            nn.init.trunc_normal_(token, std=0.02)

    def forward(self, inputs: Tensor, rows: Tensor) -> Tensor:
        """Return the features of a class token and all others.

        Parameters
        ----------
        inputs : Tensor of shape (batch, channels, patches, samples), or (batch, tokens, code_dim)
        rows : Tensor of shape (channels,)
            Of the channels in the table (see `channel_rows`).

        Returns
        -------
        features : Tensor of shape (batch, 1 + channels * patches, dim)
        """
        return self.trunk(self.patch_embed(inputs), rows)

    def trunk(self, tokens: Tensor, rows: Tensor) -> Tensor:
        """Add class token and places to tokens of shape (batch, channels * patches, dim), and transform them."""
        batch, count, _ = tokens.shape
        patches = count // len(rows)
        if patches > TIME_ROWS:
            raise ValueError(
                f"Windows of {patches} patches; there are time embeddings for {TIME_ROWS}. Cut shorter windows."
            )
        places = self.pos_embed[0, rows][:, None] + self.time_embed[0, None, :patches]  # (channels, patches, dim)
        first = (self.cls_token[0] + self.pos_embed[0, :1]).expand(batch, 1, -1)
        # Under autocast tokens are in half precision, places are not: what all blocks add to stays in float32.
        x = torch.cat([first, tokens + places.flatten(0, 1)], dim=1)
        for block in self.blocks:
            x = block(x)
        return self.norm(x)
