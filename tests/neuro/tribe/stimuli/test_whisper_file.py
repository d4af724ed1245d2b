"""Whisper's encoder from a file of weights alone: against the model it was saved from, and the real file."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from transformers import WhisperConfig, WhisperModel

from nbkit.neuro.tribe.stimuli.encoders import AudioEncoder, EncoderSettings
from nbkit.neuro.tribe.stimuli.whisper_file import whisper_encoder


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    config = WhisperConfig(
        d_model=128, encoder_layers=2, encoder_attention_heads=2, encoder_ffn_dim=96, max_source_positions=50,
        decoder_layers=1, decoder_attention_heads=2, decoder_ffn_dim=8,
    )  # fmt: skip
    encoder = WhisperModel(config).encoder.eval()
    path = tmp_path_factory.mktemp("whisper") / "encoder.safetensors"
    save_file({name: value.contiguous() for name, value in encoder.state_dict().items()}, path)
    return encoder, path


def test_a_file_gives_the_encoder_that_it_was_saved_from(saved):
    encoder, path = saved
    mel = torch.randn(1, 80, 100)
    with torch.inference_mode():
        assert torch.equal(whisper_encoder(path).eval()(mel).last_hidden_state, encoder(mel).last_hidden_state)


@pytest.mark.parametrize("fault", ["empty", "cut", "text", "missing", "other"])
def test_another_file_is_refused_with_what_is_allowed(saved, tmp_path, fault):
    encoder, path = saved
    weights, other = {k: v.contiguous() for k, v in encoder.state_dict().items()}, tmp_path / "other.safetensors"
    if fault == "missing":
        save_file({k: v for k, v in weights.items() if k != "layers.1.fc2.bias"}, other)
    elif fault == "other":
        save_file({"head.weight": torch.zeros(2, 2)}, other)
    else:
        held = {"empty": b"", "cut": path.read_bytes()[:5000], "text": b"not weights at all"}[fault]
        other.write_bytes(held)
    with pytest.raises(ValueError, match="Allowed is a safetensors file"):
        whisper_encoder(other)


def test_the_published_encoder_tells_sounds_apart(shared_data):
    path = shared_data / "weights_whisper_tiny_en" / "encoder_fp16.safetensors"
    encode = AudioEncoder(EncoderSettings(audio=str(path)))
    assert encode.weights == "weights_whisper_tiny_en/encoder_fp16.safetensors"
    t = np.arange(32_000) / 16_000
    tone, same, noise = (
        np.sin(2 * np.pi * 440 * t), 0.5 * np.sin(2 * np.pi * 440 * t), np.random.default_rng(0).normal(size=t.size)
    )  # fmt: skip
    tone, same, noise = (encode(x.astype("float32")) for x in (tone, same, noise))
    assert tone.shape == (4, 384) and np.isfinite(tone).all()

    def distance(one, other):
        return np.linalg.norm(one - other)

    assert distance(tone, same) < 0.5 * distance(tone, noise), "half as loud is nearer than noise"
