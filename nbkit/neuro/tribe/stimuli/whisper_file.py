"""Whisper's encoder from one file of weights without a configuration: its sizes are those of the arrays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

HEAD = 64  # width of an attention head in every published size of Whisper


def whisper_encoder(path: str | Path) -> Any:
    """Return transformers' WhisperEncoder with the weights of a safetensors file, in 32-bit numbers.

    Parameters
    ----------
    path : str or Path
        With the names of transformers' WhisperEncoder (conv1 to layer_norm), of any published size.

    Raises
    ------
    ValueError
        If the file is damaged, or its names or shapes are not those of Whisper's encoder.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file
    from transformers import WhisperConfig
    from transformers.models.whisper.modeling_whisper import WhisperEncoder

    allowed = "Allowed is a safetensors file with the names of transformers' WhisperEncoder, or a model's folder."
    try:
        weights = load_file(path)
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path} cannot be read as safetensors ({error}). {allowed}") from None
    try:
        width, mels, _ = weights["conv1.weight"].shape
        places = len(weights["embed_positions.weight"])
        hidden = len(weights["layers.0.fc1.weight"])
        layers = 1 + max(int(name.split(".")[1]) for name in weights if name.startswith("layers."))
        config = WhisperConfig(
            d_model=width, num_mel_bins=mels, max_source_positions=places, encoder_layers=layers,
            encoder_attention_heads=max(1, width // HEAD), encoder_ffn_dim=hidden,
        )  # fmt: skip
        encoder = WhisperEncoder(config)
        encoder.load_state_dict({name: value.float() for name, value in weights.items()})
    except (KeyError, ValueError, IndexError, RuntimeError) as error:
        raise ValueError(f"{path} holds no encoder of Whisper ({type(error).__name__}: {error}). {allowed}") from None
    return encoder
