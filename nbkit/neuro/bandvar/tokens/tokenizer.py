"""Tokenizer that converts EEG windows to tokens and back.

Inputs and outputs are in uV; the scaling is a buffer. The only input of the decoder is the sum of codes. From the sum
up to scale k it decodes bands 0 to k only, so that the tokens up to scale k decode to a cumulative band. Later scales
also refine the bands before theirs.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from nbkit.neuro.bandvar.tokens.quantizer import MultiScaleQuantizer, Quantized
from nbkit.neuro.bandvar.tokens.scales import SAMPLES_A_LATENT, scale_lengths
from nbkit.neuro.signals.bands import Band


class BandTokenizer(nn.Module):
    """Convolutional autoencoder with a multi-scale quantizer between encoder and decoder.

    Parameters
    ----------
    channels, time_steps : int
        Size of a window; ``time_steps`` must be a multiple of 10 samples.
    bands : sequence of (l_freq, h_freq)
        Band edges in Hz; each band is one token scale.
    codes, latent_width : int
        Number and width of the codes in the codebook.
    width : int
        Features of the convolutions.
    blocks : int
        Residual blocks in the encoder and in the decoder.
    rank : int
        Number of sources that are mixed into the channels of each band.
    beta, restart_below : float
        See `MultiScaleQuantizer`.
    """

    def __init__(
        self,
        channels: int,
        time_steps: int,
        bands: Sequence[Band],
        codes: int = 4096,
        latent_width: int = 32,
        width: int = 256,
        blocks: int = 2,
        rank: int = 24,
        beta: float = 0.25,
        restart_below: float = 0.05,
    ) -> None:
        super().__init__()
        self.channels, self.time_steps = channels, time_steps
        self.lengths = scale_lengths(time_steps, bands)
        bands_in, rank = len(self.lengths), min(rank, channels)
        self.encoder = nn.Sequential(
            nn.Conv1d(bands_in * channels, bands_in * rank, 1, groups=bands_in),  # sources of each band
            nn.Conv1d(bands_in * rank, width, 15, stride=5, padding=5),
            nn.GELU(),
            nn.Conv1d(width, width, 4, stride=2, padding=1),
            *[_Residual(width) for _ in range(blocks)],
            nn.Conv1d(width, latent_width, 1),
            _UnitLatents(),
        )
        self.quantizer = MultiScaleQuantizer(codes, latent_width, self.lengths, beta, restart_below)
        self.widen = nn.Conv1d(latent_width, width, 3, padding=1)
        self.scale = nn.Embedding(len(self.lengths), width)
        self.decoder = nn.Sequential(*[_Residual(width) for _ in range(blocks)])
        self.heads = nn.ModuleList(_BandHead(width, rank, channels) for _ in self.lengths)
        self.register_buffer("band_rms", torch.ones(len(self.lengths)))  # uV

    def set_scale(self, scale: Sequence[float]) -> None:
        """Set the scaling, so that the network works on numbers near 1.

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
        """Encode and quantise cumulative bands of shape (batch, bands, channels, time), in uV.

        The input of the network is single bands, each in units of its RMS: gamma is fifty times weaker than delta and
        would otherwise be ignored.
        """
        wanted = (len(self.lengths), self.channels, self.time_steps)
        if levels.shape[1:] != wanted:
            raise ValueError(
                f"The windows have (bands, channels, time) = {tuple(levels.shape[1:])}; this tokenizer was built for "
                f"{wanted}. Give windows created with the settings of its training."
            )
        return self.quantizer(self.encoder((single_bands(levels) / self.band_rms[:, None, None]).flatten(1, 2)))

    @torch.no_grad()
    def encode(self, levels: Tensor) -> Tensor:
        """Return the tokens, int64 (batch, tokens), of cumulative bands (batch, bands, channels, time) in uV."""
        return self.quantize(levels).tokens

    def decode_sum(self, summed: Tensor, scale: int) -> Tensor:
        """Decode a sum of codes to the bands up to ``scale``.

        Parameters
        ----------
        summed : Tensor of shape (batch, width, latents)
            Sum of codes up to ``scale``.
        scale : int
            Index of the last scale, from 0.

        Returns
        -------
        bands : Tensor of shape (batch, scale + 1, channels, time)
            In uV; their sum is the cumulative band.
        """
        hidden = self.decoder(self.widen(summed) + self.scale.weight[scale][None, :, None])
        bands = torch.stack([head(hidden) for head in self.heads[: scale + 1]], dim=1)
        return bands * self.band_rms[: scale + 1, None, None]

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
        return torch.stack([self.decode_sum(summed, scale).sum(dim=1) for scale, summed in enumerate(sums)], dim=1)


def single_bands(levels: Tensor) -> Tensor:
    """Return the single bands of cumulative bands, both of shape (batch, bands, channels, time)."""
    return torch.cat([levels[:, :1], levels[:, 1:] - levels[:, :-1]], dim=1)


class _UnitLatents(nn.Module):
    """Scale the latents of each window to a root mean square of 1; otherwise they drift away from the codes."""

    def forward(self, latents: Tensor) -> Tensor:
        return latents / (latents.square().mean(dim=(1, 2), keepdim=True) + 1e-6).sqrt()


class _BandHead(nn.Module):
    """Decode latent features to one band: each latent gives 20 samples of a few sources, mixed into channels."""

    def __init__(self, width: int, rank: int, channels: int) -> None:
        super().__init__()
        # Segments overlap by half, so that there are no visible borders.
        self.sources = nn.ConvTranspose1d(width, rank, 2 * SAMPLES_A_LATENT, SAMPLES_A_LATENT, SAMPLES_A_LATENT // 2)
        self.mix = nn.Conv1d(rank, channels, 1)

    def forward(self, hidden: Tensor) -> Tensor:
        return self.mix(self.sources(hidden))


class _Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.GroupNorm(8 if width % 8 == 0 else 1, width),
            nn.GELU(),
            nn.Conv1d(width, width, 3, padding=1),
            nn.GELU(),
            nn.Conv1d(width, width, 1),
        )

    def forward(self, hidden: Tensor) -> Tensor:
        return hidden + self.body(hidden)
