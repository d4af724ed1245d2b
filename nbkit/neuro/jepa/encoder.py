"""The encoder of windows of EEG to 96 latents: 24 of a trait, 36 of a state, 36 of an event.

Which latents are which stands here and nowhere else. Signals come in uV; any number of samples goes in, and the Fourier
layers see the same band in Hz.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from nbkit.neuro.nn.spectral import FourierNetwork
from nbkit.neuro.nn.ssm import BidirectionalMamba, RMSNorm
from nbkit.neuro.training.weights import LoadReport, held, load_strictly, part_of, settings_from

TRAIT, STATE, EVENT = slice(0, 24), slice(24, 60), slice(60, 96)
BLOCKS = {"trait": TRAIT, "state": STATE, "event": EVENT}
LATENTS = EVENT.stop
KIND = "jepa_pretrain"  # what a checkpoint calls a pretraining's own facts


@dataclass(frozen=True)
class EncoderSettings:
    """Sizes of the encoder; the defaults are the seed's.

    Parameters
    ----------
    n_chans : int
    sfreq : float
        In Hz.
    fmax, mode_spacing : float
        Band of the Fourier layers and the distance of their modes, in Hz.
    fourier_dim, fourier_layers : int
    dim, layers, d_state, d_conv, expand : int
        Of the Mamba stacks, one forwards and one backwards.
    heads : int
        Of the pooling attention.
    unit_uv : float
        Signals are divided by it, in uV, so that they come in at about 1.
    """

    n_chans: int = 129
    sfreq: float = 100.0
    fmax: float = 50.0
    mode_spacing: float = 1.0
    fourier_dim: int = 64
    fourier_layers: int = 2
    dim: int = 64
    layers: int = 4
    d_state: int = 16
    d_conv: int = 4
    expand: int = 2
    heads: int = 4
    unit_uv: float = 10.0

    @classmethod
    def full(cls) -> EncoderSettings:
        """The seed's."""
        return cls()

    @classmethod
    def free(cls) -> EncoderSettings:
        """The seed's too: it is small enough for one 16 GB card."""
        return cls()

    @classmethod
    def smoke(cls) -> EncoderSettings:
        """For seconds on two CPU cores: the same code, smaller."""
        return cls(n_chans=32, fourier_dim=32, dim=32, layers=1)


class Encoder(nn.Module):
    """Give the 96 latents of windows.

    A bias a channel, Fourier layers over time, a linear map of the channels, Mamba blocks both ways, a norm, attention
    of the mean step to all steps, and a linear map.

    Parameters
    ----------
    settings : EncoderSettings

    Attributes
    ----------
    dim : int
        Latents, 96.
    """

    dim = LATENTS

    def __init__(self, settings: EncoderSettings) -> None:
        super().__init__()
        s = self.settings = settings
        if s.dim % s.heads:
            raise ValueError(f"dim={s.dim} is not divided by heads={s.heads}; give a multiple.")
        self.channel_bias = nn.Parameter(torch.zeros(s.n_chans))
        self.fourier = FourierNetwork(
            s.n_chans, s.n_chans, s.fourier_dim, s.fourier_layers, s.sfreq, s.fmax, s.mode_spacing
        )
        self.channels = nn.Conv1d(s.n_chans, s.dim, 1)
        self.time = BidirectionalMamba(s.dim, s.layers, s.d_state, s.d_conv, s.expand)
        self.norm = RMSNorm(
            s.dim
        )  # blocks add up, and what comes out of them is small at the start: so are the latents
        self.pool = nn.MultiheadAttention(s.dim, s.heads, batch_first=True)
        self.out = nn.Linear(s.dim, self.dim)

    def forward(self, windows: Tensor) -> Tensor:
        """Return one vector a window.

        Parameters
        ----------
        windows : Tensor of shape (batch, channels, time)
            In uV.

        Returns
        -------
        latents : Tensor of shape (batch, 96)
        """
        steps = self.steps(windows)
        pooled, _ = self.pool(steps.mean(dim=1, keepdim=True), steps, steps, need_weights=False)
        return self.out(pooled[:, 0])

    def sequence(self, windows: Tensor) -> Tensor:
        """Return the latents of every sample, before any pooling, of shape (batch, time, 96)."""
        return self.out(self.steps(windows))

    def steps(self, windows: Tensor) -> Tensor:
        """Return what the Mamba stacks make of every sample, normalised, of shape (batch, time, dim)."""
        if windows.dim() != 3 or windows.shape[1] != self.settings.n_chans:
            raise ValueError(
                f"Windows of shape {tuple(windows.shape)}; this encoder takes (batch, {self.settings.n_chans}, time). "
                "Give windows of the channels it was made for."
            )
        x = windows / self.settings.unit_uv + self.channel_bias[:, None]
        return self.norm(self.time(self.channels(self.fourier(x)).transpose(1, 2)))


def pretrained_encoder(path: str | Path) -> tuple[Encoder, LoadReport]:
    """Build the encoder that a pretraining's checkpoint holds, all of its weights or none.

    Returns
    -------
    encoder : Encoder
    report : LoadReport
        How many weights were matched.

    Raises
    ------
    FileNotFoundError, ValueError
        If there is no such checkpoint, or it holds something else.
    """
    made, weights = held(path, KIND)
    encoder = Encoder(settings_from(EncoderSettings, {"settings": made["encoder"]}, path))
    return encoder, load_strictly(encoder, part_of(weights, "encoder."), path)
