"""Encoders that were pretrained here, as foundation models.

A system hands over any module that says of itself what `WindowEncoder` names; this package knows none of them.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

from torch import Tensor, nn

from nbkit.neuro.decoding.models.channels import FARTHEST
from nbkit.neuro.decoding.models.foundation import FoundationModel
from nbkit.neuro.nn.open_attention import open_attention


@runtime_checkable
class WindowEncoder(Protocol):
    """A module that gives one vector a window, and says what windows have to be.

    Attributes
    ----------
    key : str
        Its name, such as "our_labram".
    ch_names : tuple of str
        Of the windows it takes.
    sfreq : float
        Theirs, in Hz.
    n_times : int
        Their samples.
    dim : int
        Of a vector.
    weights : str
        Where they come from; begins with "random" where nothing was learned.
    lora_layers : tuple of str
        Linear layers, by their whole names or the ends of them, that LoRA goes into. Attention of torch's own class is
        opened: its layers are called q_proj, k_proj, v_proj and out_proj.
    """

    key: str
    ch_names: tuple[str, ...]
    sfreq: float
    n_times: int
    dim: int
    weights: str
    lora_layers: tuple[str, ...]

    def __call__(self, windows: Tensor) -> Tensor:
        """Return vectors of shape (batch, dim) for windows of shape (batch, channels, time), in uV."""
        ...


def own_model(
    encoder: nn.Module,
    *,
    positions: Mapping[str, Sequence[float]] | None = None,
    template: str | None = None,
    device: str = "cpu",
    farthest: float = FARTHEST,
) -> FoundationModel:
    """Take an encoder of our own as a foundation model; the encoder itself is left as it is.

    Parameters
    ----------
    encoder : torch.nn.Module
        With the attributes of `WindowEncoder`.
    positions, template
        Of the channels of recordings that it will be given, see `directions`.
    device : str
    farthest : float
        From a channel that is interpolated to the nearest recorded one, in degrees; a net that covers the face needs 60
        to be guessed from a cap.

    Raises
    ------
    ValueError
        If it does not say what windows it takes.
    """
    lacking = [name for name in WindowEncoder.__annotations__ if not hasattr(encoder, name)]
    if lacking or not isinstance(encoder, nn.Module):
        raise ValueError(
            f"{type(encoder).__name__} is not known to be an encoder of windows: it has no {', '.join(lacking)}. A "
            "checkpoint becomes one by the encoder_for_decoding of its system."
        )
    backbone = copy.deepcopy(encoder)
    open_attention(backbone)
    layers = [name for name, layer in backbone.named_modules() if isinstance(layer, nn.Linear)]
    targets = [name for name in layers if f".{name}".endswith(tuple(f".{end}" for end in encoder.lora_layers))]
    return FoundationModel(
        encoder.key, backbone, encoder.ch_names, float(encoder.sfreq), int(encoder.n_times), int(encoder.dim),
        "microvolt", encoder.weights, targets, positions, template, device, farthest,
    )  # fmt: skip
