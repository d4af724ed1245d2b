"""Tokenizer that converts EEG windows to tokens and back, band by band.

Inputs and outputs are in uV; the scaling is a buffer. Each band is coded by tokens of its own, in a basis of its own
whose courses in time are those of the band: the first scale is the first band, the second scale adds the second, and so
on, and no band holds frequencies of another.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from nbkit.neuro.bandvar.tokens.quantizer import BandQuantizer, Quantized
from nbkit.neuro.bandvar.tokens.transform import BandBasis, fit_bases


class BandTokenizer(nn.Module):
    """Bases of the bands, a quantizer of their coefficients, and patterns over channels that training refines.

    Parameters
    ----------
    channels, time_steps : int
        Size of a window.
    codes : int
        Codes of each token.
    lengths : sequence of int
        Tokens of each band.
    courses : sequence of int
        Courses in time of each band's basis.
    sizes : sequence of int
        Coefficients of each token, band after band.
    """

    def __init__(
        self,
        channels: int,
        time_steps: int,
        codes: int,
        lengths: Sequence[int],
        courses: Sequence[int],
        sizes: Sequence[int],
    ) -> None:
        super().__init__()
        self.channels, self.time_steps = channels, time_steps
        self.lengths, self.courses = tuple(lengths), tuple(courses)
        self.quantizer = BandQuantizer(codes, lengths, sizes)
        self.register_buffer("band_rms", torch.ones(len(self.lengths)))  # uV
        ends = [0, *self.quantizer._ends]
        self.bounds = list(zip(ends, ends[1:], strict=False))  # of each band among the coefficients
        for band, ((begin, end), count) in enumerate(zip(self.bounds, self.courses, strict=True)):
            self.register_buffer(f"patterns_{band}", torch.eye(channels))
            self.register_buffer(f"courses_{band}", torch.zeros(count, time_steps))
            self.register_buffer(f"places_{band}", torch.zeros(end - begin, dtype=torch.long))
        self.mixing = nn.ParameterList(nn.Parameter(torch.eye(channels)) for _ in self.lengths)

    @classmethod
    def fitted(
        cls, levels: np.ndarray, codes: int, tokens: int, scale: Sequence[float], seed: int = 0, samples: int = 20_000
    ) -> BandTokenizer:
        """Build a tokenizer from training windows.

        Parameters
        ----------
        levels : array of shape (windows, bands, channels, time)
            Cumulative bands of training windows, in uV.
        codes : int
        tokens : int
            Tokens of a window, over all bands.
        scale : sequence of float
            Root mean square of each band in the training windows, in uV.
        seed : int
            Seed of the codebooks.
        samples : int
            Samples that each codebook is fitted to.
        """
        rms = np.asarray(scale, np.float32)
        bands = np.diff(levels, axis=1, prepend=0.0) / rms[:, None, None]
        bases = fit_bases(bands, tokens, codes)
        sizes = np.concatenate([basis.sizes for basis in bases])
        lengths, courses = [len(basis.sizes) for basis in bases], [len(basis.courses) for basis in bases]
        made = cls(levels.shape[2], levels.shape[3], codes, lengths, courses, sizes.tolist())
        made.set_scale(scale)
        made._take(bases)
        kept = [basis.coefficients(bands[:, n])[:, basis.places] for n, basis in enumerate(bases)]
        made.quantizer.fit(bases, np.concatenate(kept, axis=1), seed, samples)
        return made

    @torch.no_grad()
    def _take(self, bases: Sequence[BandBasis]) -> None:
        for number, basis in enumerate(bases):
            for name in ("patterns", "courses", "places"):
                getattr(self, f"{name}_{number}").copy_(torch.from_numpy(np.ascontiguousarray(getattr(basis, name))))
            self.mixing[number].copy_(getattr(self, f"patterns_{number}"))

    def set_scale(self, scale: Sequence[float]) -> None:
        """Set the scaling, so that all bands are numbers near 1.

        Parameters
        ----------
        scale : sequence of float
            Root mean square (RMS) of each band in the training windows, in uV.
        """
        rms = torch.as_tensor(scale, dtype=torch.float32)
        if rms.shape != self.band_rms.shape or not (torch.isfinite(rms) & (rms > 0)).all():
            raise ValueError(f"{scale=} must be a positive number for each of {len(self.lengths)} bands: RMS in uV.")
        self.band_rms.copy_(rms)

    @property
    def rms(self) -> Tensor:
        """Root mean square of the whole signal, in uV."""
        return self.band_rms.square().sum().sqrt()

    def quantize(self, levels: Tensor) -> Quantized:
        """Code cumulative bands of shape (batch, bands, channels, time), in uV."""
        wanted = (len(self.lengths), self.channels, self.time_steps)
        if levels.shape[1:] != wanted:
            raise ValueError(
                f"The windows have (bands, channels, time) = {tuple(levels.shape[1:])}; this tokenizer was built for "
                f"{wanted}. Give windows created with the settings of its training."
            )
        bands = single_bands(levels.float()) / self.band_rms[:, None, None]
        parts = []
        for number in range(len(self.lengths)):
            turned = getattr(self, f"patterns_{number}").T @ bands[:, number] @ getattr(self, f"courses_{number}").T
            parts.append(turned.flatten(1).index_select(1, getattr(self, f"places_{number}")))
        return self.quantizer(torch.cat(parts, dim=1))

    @torch.no_grad()
    def encode(self, levels: Tensor) -> Tensor:
        """Return the tokens, int64 (batch, tokens), of cumulative bands (batch, bands, channels, time) in uV."""
        return self.quantize(levels).tokens

    def decode_sum(self, summed: Tensor, scale: int) -> Tensor:
        """Decode coefficients to the bands up to ``scale``.

        Parameters
        ----------
        summed : Tensor of shape (batch, width, 1)
            Coefficients of the bands up to ``scale``.
        scale : int
            Index of the last band, from 0.

        Returns
        -------
        bands : Tensor of shape (batch, scale + 1, channels, time)
            In uV; their sum is the cumulative band.
        """
        bands = []
        for number, (begin, end) in enumerate(self.bounds[: scale + 1]):
            flat = summed.new_zeros(len(summed), self.channels * self.courses[number])
            flat = flat.index_copy(1, getattr(self, f"places_{number}"), summed[:, begin:end, 0])
            turned = flat.unflatten(1, (self.channels, -1))
            bands.append(self.mixing[number] @ turned @ getattr(self, f"courses_{number}"))
        return torch.stack(bands, dim=1) * self.band_rms[: scale + 1, None, None]

    @torch.no_grad()
    def decode(self, tokens: Tensor) -> Tensor:
        """Decode tokens to cumulative bands.

        Parameters
        ----------
        tokens : Tensor of shape (batch, tokens)
            Tokens of all scales, or of the first complete scales.

        Returns
        -------
        levels : Tensor of shape (batch, scales, channels, time)
            In uV, each decoded from the tokens up to its scale. With all tokens, ``levels[:, -1]`` is the whole signal.
        """
        sums = self.quantizer.partial_sums(tokens)
        if not sums:
            raise ValueError(
                f"Got {tokens.shape[1]} tokens; give at least the {self.lengths[0]} tokens of the first scale."
            )
        return self.decode_sum(sums[-1], len(sums) - 1).cumsum(dim=1)


def single_bands(levels: Tensor) -> Tensor:
    """Return the single bands of cumulative bands, both of shape (batch, bands, channels, time)."""
    return torch.cat([levels[:, :1], levels[:, 1:] - levels[:, :-1]], dim=1)
