"""Use encoders that were pretrained with nbkit as foundation models.

A system passes any module with the attributes of `WindowEncoder`; this package does not import the systems.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from torch import Tensor, nn

from nbkit.neuro.decoding.models.channels import FARTHEST
from nbkit.neuro.decoding.models.foundation import FoundationModel
from nbkit.neuro.nn.open_attention import open_attention


@runtime_checkable
class WindowEncoder(Protocol):
    """Interface of a module that returns one vector per window and describes the windows that it takes.

    Attributes
    ----------
    key : str
        Name of the model, such as "our_labram".
    ch_names : tuple of str
        Channel names of the windows.
    sfreq : float
        Sampling frequency of the windows, in Hz.
    n_times : int
        Number of samples per window.
    dim : int
        Length of a vector.
    weights : str
        Description of their source; begins with "random" for untrained weights.
    lora_layers : tuple of str
        Linear layers to which LoRA is applied, given by their full names or the ends of these. Attention of torch's own
        class is split into layers named q_proj, k_proj, v_proj and out_proj.
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
    """Return an encoder as a foundation model; the encoder itself is not changed.

    Parameters
    ----------
    encoder : torch.nn.Module
        With the attributes of `WindowEncoder`.
    positions, template
        Positions of the channels of future recordings, see `directions`.
    device : str
    farthest : float
        Largest angle between an interpolated channel and the nearest recorded one, in degrees; a net that covers the
        face needs 60 if it is interpolated from a cap.

    Raises
    ------
    ValueError
        If the encoder does not describe the windows that it takes.
    """
    lacking = [name for name in WindowEncoder.__annotations__ if not hasattr(encoder, name)]
    if lacking or not isinstance(encoder, nn.Module):
        raise ValueError(
            f"{type(encoder).__name__} is not an encoder of windows: it has no {', '.join(lacking)}. To get an encoder "
            "from a checkpoint, call encoder_for_decoding of its system."
        )
    backbone = copy.deepcopy(encoder)
    open_attention(backbone)
    layers = [name for name, layer in backbone.named_modules() if isinstance(layer, nn.Linear)]
    targets = [name for name in layers if f".{name}".endswith(tuple(f".{end}" for end in encoder.lora_layers))]
    return FoundationModel(
        encoder.key, backbone, encoder.ch_names, float(encoder.sfreq), int(encoder.n_times), int(encoder.dim),
        "microvolt", encoder.weights, targets, positions, template, device, farthest, getattr(encoder, "seen", None),
    )  # fmt: skip


def own_models(
    systems: Mapping[str, Any], paths: Mapping[str, str | Path], seconds: float
) -> dict[str, FoundationModel]:
    """Return the models of checkpoints for windows of a length, by their names.

    Parameters
    ----------
    systems : mapping of str to module
        By phase, the module with ``encoder_for_decoding``.
    paths : mapping of str to path
        By phase, its checkpoint.
    seconds : float
        Length of the windows, in s; the encoders get whole seconds of it.
    """
    encoders = [systems[slug].encoder_for_decoding(path, int(seconds)) for slug, path in paths.items()]
    return {encoder.key: own_model(encoder) for encoder in encoders}
