"""Pretrained JEPA as an encoder of windows: its latents.

The encoder describes itself (channel names, sampling rate, length, target layers of LoRA), so that decoding can use it
without knowing this package.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor, nn

from nbkit.neuro.jepa.encoder import KIND, Encoder, pretrained_encoder
from nbkit.neuro.signals.seen import seen_of
from nbkit.neuro.training.weights import held


class Latents(nn.Module):
    """Encoder that returns the latents of windows.

    Parameters
    ----------
    encoder : Encoder
    ch_names : sequence of str
        Channels of the encoder, in order.
    n_times : int
        Samples of a window.
    weights : str
        Description of the loaded weights.
    """

    key = "our_jepa"
    lora_layers = ("in_proj", "out_proj", "q_proj", "k_proj", "v_proj")  # in the Mamba blocks and the pooling attention
    seen: tuple[str, ...] | None = None  # subjects of its training; None: not known

    def __init__(self, encoder: Encoder, ch_names: Sequence[str], n_times: int, weights: str) -> None:
        super().__init__()
        self.encoder, self.ch_names, self.n_times, self.weights = encoder, tuple(ch_names), n_times, weights
        self.sfreq, self.dim = float(encoder.settings.sfreq), encoder.dim

    def forward(self, windows: Tensor) -> Tensor:
        """Return vectors of shape (batch, dim) for windows of shape (batch, channels, time), in uV."""
        return self.encoder(windows)


def encoder_for_decoding(path: str | Path, window: float = 2.0) -> Latents:
    """Load the encoder of a pretraining checkpoint; all its weights must match.

    Parameters
    ----------
    path : str or Path
        The checkpoint.
    window : float
        Length of the windows, in s.

    Returns
    -------
    encoder : Latents
        In evaluation mode.

    Raises
    ------
    FileNotFoundError
        If there is no checkpoint.
    ValueError
        If the file holds something else.
    """
    encoder, report = pretrained_encoder(path)
    made, _ = held(path, KIND)
    latents = Latents(encoder, made["ch_names"], round(window * encoder.settings.sfreq), str(report)).eval()
    latents.seen = seen_of(made)
    return latents
