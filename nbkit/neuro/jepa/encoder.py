"""Encoder of EEG windows to 96 latents: 24 for trait, 36 for state and 36 for event.

The position of each block of latents is defined only here. Signals are in uV. Windows may have any number of samples;
the Fourier layers see the same band in Hz.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from nbkit.ground.fields import checked
from nbkit.neuro.nn.spectral import FourierNetwork
from nbkit.neuro.nn.ssm import BidirectionalMamba, RMSNorm
from nbkit.neuro.training.weights import LoadReport, held, load_strictly, part_of, settings_from

TRAIT, STATE, EVENT = slice(0, 24), slice(24, 60), slice(60, 96)
BLOCKS = {"trait": TRAIT, "state": STATE, "event": EVENT}
LATENTS = EVENT.stop
KIND = "jepa_pretrain"  # key of the pretraining's settings in a checkpoint


@checked
@dataclass(frozen=True)
class EncoderSettings:
    """Sizes of the encoder; the defaults are those of the seed project.

    Parameters
    ----------
    n_chans : int
        Number of channels.
    sfreq : float
        Sampling rate, in Hz.
    fmax, mode_spacing : float
        Upper end of the Fourier layers' band, and distance of their modes, in Hz.
    fourier_dim, fourier_layers : int
        Width and number of the Fourier layers.
    dim, layers, d_state, d_conv, expand : int
        Sizes of the two Mamba stacks, one per direction.
    heads : int
        Heads of the pooling attention.
    unit_uv : float
        Signals are divided by this value, in uV, so that they have a size of about 1.
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
        """Return the seed project's sizes."""
        return cls()

    @classmethod
    def free(cls) -> EncoderSettings:
        """Return the seed project's sizes, which are small enough for one 16 GB GPU."""
        return cls()

    @classmethod
    def smoke(cls) -> EncoderSettings:
        """Return small sizes for a test of seconds on two CPU cores; the code is the same."""
        return cls(n_chans=32, fourier_dim=32, dim=32, layers=1)


class Encoder(nn.Module):
    """Encoder from windows to 96 latents.

    It consists of a bias per channel, Fourier layers over time, a linear map of the channels, bidirectional Mamba
    blocks, a norm, attention with the mean step as query and all steps as keys, and a linear map.

    Parameters
    ----------
    settings : EncoderSettings

    Attributes
    ----------
    dim : int
        Number of latents, 96.

    Raises
    ------
    ValueError
        If ``dim`` of the settings is not a multiple of ``heads``.
    """

    dim = LATENTS

    def __init__(self, settings: EncoderSettings) -> None:
        super().__init__()
        s = self.settings = settings
        if s.dim % s.heads:
            raise ValueError(f"The width dim={s.dim} is not a multiple of heads={s.heads}; choose a multiple.")
        self.channel_bias = nn.Parameter(torch.zeros(s.n_chans))
        self.fourier = FourierNetwork(
            s.n_chans, s.n_chans, s.fourier_dim, s.fourier_layers, s.sfreq, s.fmax, s.mode_spacing
        )
        self.channels = nn.Conv1d(s.n_chans, s.dim, 1)
        self.time = BidirectionalMamba(s.dim, s.layers, s.d_state, s.d_conv, s.expand)
        self.norm = RMSNorm(s.dim)  # without it, the small initial outputs of the blocks would make small latents
        self.pool = nn.MultiheadAttention(s.dim, s.heads, batch_first=True)
        self.out = nn.Linear(s.dim, self.dim)

    def forward(self, windows: Tensor) -> Tensor:
        """Return the latents of each window.

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
        """Return the latents of each sample, without pooling, of shape (batch, time, 96)."""
        return self.out(self.steps(windows))

    def steps(self, windows: Tensor) -> Tensor:
        """Return the normalised output of the Mamba stacks for each sample, of shape (batch, time, dim)."""
        if windows.dim() != 3 or windows.shape[1] != self.settings.n_chans:
            raise ValueError(
                f"Windows have the shape {tuple(windows.shape)}; this encoder takes (batch, {self.settings.n_chans}, "
                "time). Use windows of the channels that it was built for."
            )
        x = windows / self.settings.unit_uv + self.channel_bias[:, None]
        return self.norm(self.time(self.channels(self.fourier(x)).transpose(1, 2)))


def pretrained_encoder(path: str | Path) -> tuple[Encoder, LoadReport]:
    """Load the encoder of a pretraining checkpoint; all its weights must match.

    Returns
    -------
    encoder : Encoder
    report : LoadReport
        Number of weights that matched.

    Raises
    ------
    FileNotFoundError, ValueError
        If there is no such checkpoint, or it holds something else.
    """
    made, weights = held(path, KIND)
    encoder = Encoder(settings_from(EncoderSettings, {"settings": made["encoder"]}, path))
    return encoder, load_strictly(encoder, part_of(weights, "encoder."), path)
