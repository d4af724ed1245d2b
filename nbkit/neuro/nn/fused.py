"""Scaled dot-product attention that stays on the fused kernels, whatever the width of a head.

In half precision, the memory-efficient kernel takes widths of a multiple of 8 only, and the flash kernel needs compute
capability 8.0. LaBraM's heads are 20 wide: on a T4 torch would fall back to the composite form, which keeps every
attention map in float32.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

WIDTH = 8  # half-precision kernels take heads that are a multiple of this wide


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None = None,
    *,
    dropout: float = 0.0,
    scale: float | None = None,
    pad: bool | None = None,
) -> Tensor:
    """Compute scaled dot-product attention, with heads padded by zeros where a fused kernel needs it.

    Zeros add nothing to the scores, and the padded part of the values is cut off again, so the result is the same.

    Parameters
    ----------
    query, key, value : Tensor of shape (batch, heads, tokens, width)
    mask : Tensor, optional
        As `torch.nn.functional.scaled_dot_product_attention` takes it.
    dropout : float
        Dropout rate of the attention weights.
    scale : float, optional
        Factor of the scores; by default ``width ** -0.5``, with the width before padding.
    pad : bool, optional
        Whether to pad; by default on a CUDA device only.

    Returns
    -------
    mixed : Tensor of shape (batch, heads, tokens, width)
    """
    wide = value.shape[-1]
    if query.is_cuda if pad is None else pad:
        scale = query.shape[-1] ** -0.5 if scale is None else scale
        query, key, value = (_padded(each) for each in (query, key, value))
    mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=dropout, scale=scale)
    return mixed if mixed.shape[-1] == wide else mixed[..., :wide]


def _padded(heads: Tensor) -> Tensor:
    missing = -heads.shape[-1] % WIDTH
    return F.pad(heads, (0, missing)) if missing else heads
