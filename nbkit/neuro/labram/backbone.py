"""Transformer shared by LaBraM's tokenizer and student.

A window becomes a class token followed by one token per channel and patch, channel by channel. Modules are named as in
the published files, so that a few renaming rules load them (see `hub`).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nbkit.neuro.labram.channels import TABLES
from nbkit.neuro.nn.attention import Block, init_weights

TIME_ROWS = 16  # number of time embeddings, as published: the most patches in a window
MICROVOLTS = 100.0  # the network's inputs are in units of 100 uV, as published


def cut_patches(windows: Tensor, patch: int) -> Tensor:
    """Cut windows into patches and scale them from uV to the network's unit of 100 uV.

    Parameters
    ----------
    windows : Tensor of shape (batch, channels, time)
        In uV.
    patch : int
        Samples of a patch.

    Returns
    -------
    patches : Tensor of shape (batch, channels, patches, patch)

    Raises
    ------
    ValueError
        If a window is not a whole number of patches long.
    """
    if windows.ndim != 3 or windows.shape[-1] % patch or windows.shape[-1] == 0:
        raise ValueError(
            f"Windows of shape {tuple(windows.shape)} are not (batch, channels, time) with a multiple of {patch} "
            f"samples; cut them to {max(1, windows.shape[-1] // patch) * patch} samples or set another patch."
        )
    return (windows.float() / MICROVOLTS).unflatten(2, (-1, patch))


class TemporalConv(nn.Module):
    """Features of each patch: three convolutions over its samples, then a projection if they are not ``dim`` wide.

    A patch of 200 samples gives 8 x 25 = 200 features, the published width; one of 100 gives 104.

    Parameters
    ----------
    patch : int
        Samples of a patch.
    dim : int
        Width of a token.
    filters : int
        Channels of the convolutions.
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
        """Return tokens (batch, channels * patches, dim) of patches (batch, channels, patches, samples)."""
        x = patches.flatten(1, 2).unsqueeze(1)  # (batch, 1, tokens, samples)
        for conv, norm in ((self.conv1, self.norm1), (self.conv2, self.norm2), (self.conv3, self.norm3)):
            x = F.gelu(norm(conv(x)))
        return self.proj(x.permute(0, 2, 3, 1).flatten(2))  # features in the order (time, filter)


class CodeEmbed(nn.Module):
    """Linear embedding of codes: the input layer of the decoder, in place of the patches.

    Parameters
    ----------
    code_dim, dim : int
        Length of a code, and width of a token.
    """

    def __init__(self, code_dim: int, dim: int) -> None:
        super().__init__()
        self.proj = nn.Linear(code_dim, dim)

    def forward(self, codes: Tensor) -> Tensor:
        """Return tokens (batch, tokens, dim) of codes (batch, tokens, code_dim)."""
        return self.proj(codes)


class NeuralTransformer(nn.Module):
    """Transformer over tokens of patches (or codes) with channel and time embeddings.

    Parameters
    ----------
    patch : int
        Samples of a patch; unused if ``code_dim`` is above 0.
    depth, dim, heads, mlp_ratio
        Size of the transformer.
    table : str
        Table of channel names (see `channels`).
    code_dim : int
        If above 0, the input is codes of this length, as in the decoder.
    filters : int
        Channels of the temporal convolution.
    qkv_bias, qk_norm, layer_scale, dropout, drop_path
        See `Block`; ``drop_path`` grows linearly over the blocks, from 0 to this value.
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
        """Return the features of the class token and of all other tokens.

        Parameters
        ----------
        inputs : Tensor of shape (batch, channels, patches, samples) or (batch, tokens, code_dim)
        rows : Tensor of shape (channels,)
            Rows of the channels in the table (see `channel_rows`).

        Returns
        -------
        features : Tensor of shape (batch, 1 + channels * patches, dim)
        """
        return self.trunk(self.patch_embed(inputs), rows)

    def trunk(self, tokens: Tensor, rows: Tensor) -> Tensor:
        """Transform tokens after adding the class token and the embeddings of channel and time.

        Parameters
        ----------
        tokens : Tensor of shape (batch, channels * patches, dim)
        rows : Tensor of shape (channels,)

        Returns
        -------
        features : Tensor of shape (batch, 1 + channels * patches, dim)

        Raises
        ------
        ValueError
            If there are more patches than time embeddings.
        """
        batch, count, _ = tokens.shape
        patches = count // len(rows)
        if patches > TIME_ROWS:
            raise ValueError(
                f"Windows have {patches} patches; there are time embeddings for {TIME_ROWS}. Cut shorter windows."
            )
        places = self.pos_embed[0, rows][:, None] + self.time_embed[0, None, :patches]  # (channels, patches, dim)
        first = (self.cls_token[0] + self.pos_embed[0, :1]).expand(batch, 1, -1)
        # Under autocast the tokens are in half precision and the embeddings are not: the residual stream, to which
        # all blocks add, stays in float32.
        x = torch.cat([first, tokens + places.flatten(0, 1)], dim=1)
        for block in self.blocks:
            x = block(x)
        return self.norm(x)
