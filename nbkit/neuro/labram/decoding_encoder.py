"""A pretrained or finetuned LaBraM as an encoder of windows: the mean of its tokens.

Says of itself what a decoder has to know (names, rate, length, what LoRA goes into), so that decoding can take it
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
from nbkit.neuro.training.weights import held, load_strictly, part_of, settings_from

# Whose checkpoint: its settings, and the network's name in it.
_KINDS = {"labram_pretrain": (PretrainSettings, "student."), "labram_finetune": (FinetuneSettings, "backbone.")}


class MeanToken(nn.Module):
    """Give the mean of a network's tokens.

    Parameters
    ----------
    backbone : NeuralTransformer
    ch_names : tuple of str
    sfreq : float
        In Hz.
    n_times : int
        Samples of a window.
    weights : str
        Where they come from.
    """

    key = "our_labram"
    lora_layers = ("attn.qkv", "attn.proj")

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
    """Build the encoder that a pretraining's or a finetuning's checkpoint holds, every weight of it.

    Parameters
    ----------
    path : str or Path
    window : float
        Length of the windows it will be given, in s; a multiple of its patches.

    Raises
    ------
    FileNotFoundError
        If there is no checkpoint.
    ValueError
        If it holds something else, or windows are no multiple of patches.
    """
    kind = _kind_of(path)
    made, weights = held(path, kind)
    settings, prefix = settings_from(_KINDS[kind][0], made, path), _KINDS[kind][1]
    n_times = round(window * made["sfreq"])
    if n_times < settings.patch or n_times % settings.patch:
        raise ValueError(
            f"Windows of {window:g} s are {n_times} samples at {made['sfreq']:g} Hz, patches have {settings.patch}; "
            f"give a multiple of {settings.patch / made['sfreq']:g} s."
        )
    backbone = make_backbone(settings, made["table"])
    report = load_strictly(backbone, part_of(weights, prefix), path)
    return MeanToken(backbone, tuple(made["ch_names"]), made["sfreq"], n_times, str(report)).eval()


def _kind_of(path: str | Path) -> str:
    for kind in _KINDS:
        try:
            held(path, kind)
        except ValueError:
            continue
        return kind
    return "labram_pretrain"  # whose loading then says what the file holds
