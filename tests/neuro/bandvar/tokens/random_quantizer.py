"""A quantizer with random codes, for tests of what is built on it."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from nbkit.neuro.bandvar.tokens.quantizer import BandQuantizer


def random_quantizer(lengths: Sequence[int], codes: int = 16, size: int = 1) -> BandQuantizer:
    """Return a quantizer whose tokens code ``size`` coefficients each."""
    made = BandQuantizer(codes, lengths, [size] * sum(lengths)).eval()
    torch.nn.init.normal_(made.codebook)
    return made
