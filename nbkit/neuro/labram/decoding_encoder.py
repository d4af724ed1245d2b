"""Pretrained or finetuned LaBraM as an encoder of windows: the mean of its tokens.

The encoder describes itself (channel names, sampling rate, length, target layers of LoRA), so that decoding can use it
without knowing this package.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from nbkit.neuro.labram.backbone import NeuralTransformer
from nbkit.neuro.labram.channels import channel_rows
from nbkit.neuro.labram.finetune import FinetuneSettings, mean_token
from nbkit.neuro.labram.pretrain import PretrainSettings, make_backbone
from nbkit.neuro.signals.seen import seen_of
from nbkit.neuro.training.weights import held, load_strictly, part_of, settings_from

# Kind of checkpoint: class of its settings, and prefix of the network's weights.
_KINDS = {"labram_pretrain": (PretrainSettings, "student."), "labram_finetune": (FinetuneSettings, "backbone.")}


class MeanToken(nn.Module):
    """Encoder that returns the mean of a network's tokens.

    Parameters
    ----------
    backbone : NeuralTransformer
    ch_names : tuple of str
        Channels of the windows, in order.
    sfreq : float
        Sampling rate, in Hz.
    n_times : int
        Samples of a window.
    weights : str
        Description of the loaded weights.
    """

    key = "our_labram"
    lora_layers = ("attn.qkv", "attn.proj")
    seen: tuple[str, ...] | None = None  # subjects of its training; None: not known

    def __init__(
        self, backbone: NeuralTransformer, ch_names: tuple[str, ...], sfreq: float, n_times: int, weights: str
    ) -> None:
        super().__init__()
        self.ch_names, self.sfreq, self.n_times, self.weights = tuple(ch_names), float(sfreq), n_times, weights
        self.backbone, self.dim = backbone, backbone.dim
        self.register_buffer("rows", torch.tensor(channel_rows(ch_names, backbone.table)), persistent=False)

    def forward(self, windows: Tensor) -> Tensor:
        """Return vectors of shape (batch, dim) for windows of shape (batch, channels, time), in uV."""
        return mean_token(self.backbone, windows, self.rows)


def encoder_for_decoding(path: str | Path, window: float) -> MeanToken:
    """Load the encoder of a pretraining or finetuning checkpoint; all its weights must match.

    Parameters
    ----------
    path : str or Path
        The checkpoint.
    window : float
        Length of the windows, in s; a multiple of the patch length.

    Returns
    -------
    encoder : MeanToken
        In evaluation mode.

    Raises
    ------
    FileNotFoundError
        If there is no checkpoint.
    ValueError
        If the file holds something else, or the window is not a multiple of the patch length.
    """
    kind = _kind_of(path)
    made, weights = held(path, kind)
    settings, prefix = settings_from(_KINDS[kind][0], made, path), _KINDS[kind][1]
    n_times = round(window * made["sfreq"])
    if n_times < settings.patch or n_times % settings.patch:
        raise ValueError(
            f"Windows of {window:g} s are {n_times} samples at {made['sfreq']:g} Hz, patches have {settings.patch}; "
            f"choose a multiple of {settings.patch / made['sfreq']:g} s."
        )
    backbone = make_backbone(settings, made["table"])
    report = load_strictly(backbone, part_of(weights, prefix), path)
    encoder = MeanToken(backbone, tuple(made["ch_names"]), made["sfreq"], n_times, str(report)).eval()
    encoder.seen = seen_of(made)
    return encoder


def _kind_of(path: str | Path) -> str:
    for kind in _KINDS:
        try:
            held(path, kind)
        except ValueError:
            continue
        return kind
    return "labram_pretrain"  # loading it as this kind then raises and reports what the file holds
