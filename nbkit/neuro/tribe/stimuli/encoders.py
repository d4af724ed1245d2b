"""The three small frozen backbones: MiniLM-L6 for words, Whisper-tiny's encoder for sound, MobileViT-S for frames.

Weights come from the hub or a folder. Random weights are used only if the name "random" is given; they are then
reported in ``weights``, which every features file stores.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nbkit.ground.fields import checked
from nbkit.neuro.tribe.stimuli.decode import AUDIO_PIECE_S, AUDIO_RATE, Word
from nbkit.neuro.tribe.stimuli.features import FEATURE_HZ
from nbkit.neuro.tribe.stimuli.whisper_file import whisper_encoder

RANDOM = "random"


@checked
@dataclass(frozen=True)
class EncoderSettings:
    """Settings of the backbones: for each, a name on the hub, a folder, or "random".

    `audio` may also be a safetensors file of Whisper's encoder alone.
    """

    text: str = "sentence-transformers/all-MiniLM-L6-v2"
    audio: str = "openai/whisper-tiny"
    video: str = "apple/mobilevit-small"
    image_size: int = 256  # pixels; a multiple of 32
    frames_at_once: int = 16
    context_words: int = 21  # words per embedding: the word itself and those before it
    hold_s: float = 1.0  # s that a word's features last after its end, before zeros for silence
    decode_ahead: int = 4  # pieces decoded ahead
    seed: int = 2025  # of random weights

    @classmethod
    def free(cls) -> EncoderSettings:
        """Return the pretrained backbones from the hub."""
        return cls()

    @classmethod
    def smoke(cls) -> EncoderSettings:
        """Return random weights and small frames; nothing is downloaded."""
        return cls(text=RANDOM, audio=RANDOM, video=RANDOM, image_size=64, context_words=4)


class TextEncoder:
    """Compute features of words at 2 Hz: the embedding of the last word is held, silence is zeros."""

    def __init__(self, settings: EncoderSettings, device: str = "cpu") -> None:
        from transformers import AutoModel, AutoTokenizer, BertConfig, BertModel

        self.settings, self.device = settings, device
        self._tokenizer = None
        if settings.text == RANDOM:
            config = BertConfig(hidden_size=384, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1536)
            self.model = _seeded(BertModel, config, settings.seed)
        else:
            self._tokenizer = _load(AutoTokenizer, settings.text, "text")
            self.model = _load(AutoModel, settings.text, "text")
        self.model = self.model.to(device).eval()
        self.weights = _label(settings.text)

    @torch.inference_mode()
    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """Return sentence embeddings of unit length, averaged over tokens, shape (texts, 384)."""
        made = []
        for start in range(0, len(texts), 64):
            tokens = self._tokens(list(texts[start : start + 64]))
            hidden = self.model(**tokens).last_hidden_state.float()
            mask = tokens["attention_mask"].unsqueeze(-1).float()
            mean = (hidden * mask).sum(1) / mask.sum(1).clamp(min=1)
            made.append(torch.nn.functional.normalize(mean, dim=-1).cpu().numpy())
        return np.concatenate(made)

    def __call__(self, words: Sequence[Word], steps: int) -> np.ndarray:
        """Return features of shape (steps, 384)."""
        features = np.zeros((steps, 384), np.float32)
        if not words:
            return features
        words = sorted(words, key=lambda word: word.start_s)
        spoken = [word.text for word in words]
        width = max(1, self.settings.context_words)
        vectors = self.embed([" ".join(spoken[max(0, i + 1 - width) : i + 1]) for i in range(len(words))])
        starts = np.array([word.start_s for word in words])
        for step in range(steps):
            last = int(np.searchsorted(starts, (step + 1) / FEATURE_HZ, side="left")) - 1
            if last >= 0 and words[last].end_s + self.settings.hold_s > step / FEATURE_HZ:
                features[step] = vectors[last]
        return features

    def _tokens(self, texts: list[str]) -> dict[str, Tensor]:
        if self._tokenizer is not None:
            tokens = self._tokenizer(texts, padding=True, truncation=True, max_length=256, return_tensors="pt")
            return {name: value.to(self.device) for name, value in tokens.items()}
        # random weights have no vocabulary: use a checksum as a word's number
        numbers = [[101, *(1000 + zlib.crc32(w.lower().encode()) % 29000 for w in t.split()), 102] for t in texts]
        longest = max(map(len, numbers))
        ids = torch.tensor([n + [0] * (longest - len(n)) for n in numbers], device=self.device)
        return {"input_ids": ids, "attention_mask": (ids > 0).long()}


class AudioEncoder:
    """Compute features of up to 30 s of sound at 2 Hz: the mean of Whisper's 25 states of each half second."""

    def __init__(self, settings: EncoderSettings, device: str = "cpu") -> None:
        from transformers import WhisperConfig, WhisperFeatureExtractor, WhisperModel

        self.device = device
        self._mel = WhisperFeatureExtractor(feature_size=80)
        if settings.audio == RANDOM:
            config = WhisperConfig(
                d_model=384, encoder_layers=4, encoder_attention_heads=6, encoder_ffn_dim=1536, decoder_layers=1,
                decoder_attention_heads=6, decoder_ffn_dim=64,
            )  # fmt: skip
            encoder = _seeded(WhisperModel, config, settings.seed).encoder
        elif Path(settings.audio).suffix == ".safetensors":
            encoder = whisper_encoder(settings.audio)
        else:
            encoder = _load(WhisperModel, settings.audio, "audio").encoder
        self.model = encoder.to(device).eval()
        self.weights = _label(settings.audio)

    def mel(self, samples: np.ndarray) -> np.ndarray:
        """Return the log-mel spectrogram of up to 30 s of sound, padded to 30 s, shape (80, 3000)."""
        return self._mel(samples, sampling_rate=AUDIO_RATE, return_tensors="np").input_features[0]

    @torch.inference_mode()
    def __call__(self, samples: np.ndarray) -> np.ndarray:
        """Return features of shape (steps, 384), for all steps that the samples begin."""
        mel = torch.from_numpy(self.mel(samples))[None].to(self.device)
        with _half(self.device):
            states = self.model(mel).last_hidden_state[0]
        steps = min(int(AUDIO_PIECE_S * FEATURE_HZ), int(np.ceil(len(samples) / AUDIO_RATE * FEATURE_HZ - 1e-3)))
        return states.float().reshape(-1, 25, states.shape[-1]).mean(dim=1)[:steps].cpu().numpy()


class VideoEncoder:
    """Compute features of frames: MobileViT-S without its head, averaged over the image."""

    def __init__(self, settings: EncoderSettings, device: str = "cpu") -> None:
        from transformers import MobileViTConfig, MobileViTModel

        self.device = device
        if settings.video == RANDOM:
            self.model = _seeded(MobileViTModel, MobileViTConfig(image_size=256), settings.seed, lively=True)
        else:
            self.model = _load(MobileViTModel, settings.video, "video")
        self.model = self.model.to(device).eval()
        self.weights = _label(settings.video)

    @torch.inference_mode()
    def __call__(self, frames: np.ndarray) -> np.ndarray:
        """Return features of shape (frames, 640).

        Parameters
        ----------
        frames : uint8 array of shape (frames, height, width, 3)
            In RGB; the model was trained on BGR from 0 to 1.
        """
        pixels = torch.from_numpy(np.ascontiguousarray(frames[..., ::-1])).to(self.device)
        with _half(self.device):
            found = self.model(pixels.permute(0, 3, 1, 2).float() / 255).pooler_output
        return found.float().cpu().numpy()


def _half(device: str) -> Any:
    return torch.autocast("cuda", torch.float16, enabled=str(device).startswith("cuda"))


def _seeded(kind: Any, config: Any, seed: int, lively: bool = False) -> Any:
    """Return a model whose weights depend only on the seed, without changing the global random state."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = kind(config)
        for layer in model.modules() if lively else ():
            if isinstance(layer, torch.nn.BatchNorm2d):
                layer.reset_parameters()
            if isinstance(layer, torch.nn.Conv2d):  # the default initialisation fades to zero over thirty layers
                torch.nn.init.kaiming_normal_(layer.weight)
        return model


def _load(kind: Any, name: str, modality: str) -> Any:
    try:
        return kind.from_pretrained(name)
    except (OSError, ValueError) as error:
        wrong = "a folder without" if Path(name).is_dir() else "neither a folder nor available from the hub as"
        raise FileNotFoundError(
            f"Not found: the {modality} backbone {name!r} is {wrong} a model that transformers can load "
            f'({type(error).__name__}). Give a folder that holds it, or "random" for a rehearsal; the results are '
            "then labelled as such."
        ) from error


def _label(name: str) -> str:
    return "random weights" if name == RANDOM else "/".join(Path(name).parts[-2:])
