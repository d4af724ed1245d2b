"""A pretrained JEPA as an encoder of windows: its latents.

Says of itself what a decoder has to know (names, rate, length, what LoRA goes into), so that decoding can take it
without knowing this package.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor, nn

from nbkit.neuro.jepa.encoder import KIND, Encoder, pretrained_encoder
from nbkit.neuro.training.weights import held


class Latents(nn.Module):
    """Give the latents of windows.

    Parameters
    ----------
    encoder : Encoder
    ch_names : sequence of str
        Of its channels.
    n_times : int
        Samples of a window.
    weights : str
        Where they come from.
    """

    key = "our_jepa"
    lora_layers = ("in_proj", "out_proj", "q_proj", "k_proj", "v_proj")  # of the Mamba blocks and of the pooling

    def __init__(self, encoder: Encoder, ch_names: Sequence[str], n_times: int, weights: str) -> None:
        super().__init__()
        self.encoder, self.ch_names, self.n_times, self.weights = encoder, tuple(ch_names), n_times, weights
        self.sfreq, self.dim = float(encoder.settings.sfreq), encoder.dim

    def forward(self, windows: Tensor) -> Tensor:
        """Return vectors of shape (batch, dim) for windows of shape (batch, channels, time), in uV."""
        return self.encoder(windows)


def encoder_for_decoding(path: str | Path, window: float = 2.0) -> Latents:
    """Build the encoder that a pretraining's checkpoint holds, every weight of it.

    Parameters
    ----------
    path : str or Path
    window : float
        Length of the windows it will be given, in s.

    Raises
    ------
    FileNotFoundError
        If there is no checkpoint.
    ValueError
        If it holds something else.
    """
    encoder, report = pretrained_encoder(path)
    made, _ = held(path, KIND)
    return Latents(encoder, made["ch_names"], round(window * encoder.settings.sfreq), str(report)).eval()
