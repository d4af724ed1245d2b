"""Extract the features of a stimulus from a manifest row.

Decoding runs in a separate thread, ahead of the backbones. A modality that the row does not ask for is marked as
absent. If the file lacks a modality that the row asks for, an error names the item.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from nbkit.neuro.tribe.stimuli.decode import (
    WORDS,
    Piece,
    Word,
    ahead,
    decode,
    has_times,
    told_seconds,
    wanted_modalities,
    words_of,
)
from nbkit.neuro.tribe.stimuli.encoders import AudioEncoder, EncoderSettings, TextEncoder, VideoEncoder
from nbkit.neuro.tribe.stimuli.features import FEATURE_DIMS, feature_steps, pack_features
from nbkit.neuro.tribe.stimuli.low_level import SOUND_NAMES, WORD_NAMES, sound_regressors, word_regressors
from nbkit.neuro.tribe.stimuli.speech import Recognizer, timed_words
from nbkit.neuro.tribe.stimuli.stimuli import media_seconds
from nbkit.neuro.tribe.stimuli.synthetic import SyntheticSettings, synthetic_stimulus


class Extractor:
    """Extract features; each backbone is loaded on first use.

    Parameters
    ----------
    settings : EncoderSettings
    device : str, optional
        By default CUDA if available.
    synthetic : SyntheticSettings, optional
        World of the rows without a file, which have synthetic features.
    speech : str, optional
        Model that recognises words with times where a file's transcript lacks them (see `Recognizer`).
    """

    def __init__(
        self,
        settings: EncoderSettings,
        device: str | None = None,
        synthetic: SyntheticSettings | None = None,
        speech: str | None = None,
    ) -> None:
        import torch

        self.settings, self.synthetic, self.speech = settings, synthetic, speech
        self.device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        self._encoders: dict[str, Any] = {}

    def __call__(self, row: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Return the arrays of a row's features file (see `pack_features`).

        Raises
        ------
        ValueError, FileNotFoundError
            If the file or a track is missing or damaged, has no length, or a feature is not finite. The message names
            the item.
        """
        if not row["path"]:
            return synthetic_stimulus(self.synthetic or SyntheticSettings.free(), int(row["index"]))
        told = str(row["path"]).endswith(WORDS)  # a story of which only the words are at hand
        duration = told_seconds(row["path"]) if told else media_seconds(row["path"])
        modalities = () if told else wanted_modalities(row)
        words = words_of(row, duration)
        steps = feature_steps(duration)
        low = np.zeros((steps, len(SOUND_NAMES)), np.float32)
        recognise = bool(self.speech) and "audio" in modalities and not has_times(row)
        heard: list[np.ndarray] = []
        made = {name: np.zeros((steps, FEATURE_DIMS[name]), np.float32) for name in modalities}
        settings = self.settings
        pieces = decode(row["path"], modalities, duration, settings.image_size, settings.frames_at_once)
        for piece in ahead(pieces, settings.decode_ahead) if modalities else ():
            self._fill(made[piece.kind], piece)
            if piece.kind == "audio":
                found = sound_regressors(piece.values, self.encoder("audio").mel(piece.values))
                part = low[piece.step : piece.step + len(found)]
                part[:] = found[: len(part)]
                heard.extend([piece.values] if recognise else ())
        if recognise:
            spoken = self.encoder("speech")(np.concatenate(heard))
            words = timed_words([] if words is None else [word.text for word in words], spoken, duration)
        if words is not None:
            made["text"] = self.encoder("text")(words, steps)
        weights = "; ".join(f"{name}: {self.encoder(name).weights}" for name in FEATURE_DIMS if name in made)
        weights += f"; times of words: {self.speech}" if recognise else ""
        try:
            return pack_features(
                row["video_id"], duration, made.get("text"), made.get("audio"), made.get("video"), weights=weights,
                low=_named(low if "audio" in made else None, words, steps),
            )  # fmt: skip
        except ValueError as error:
            raise ValueError(f"{row['key']}: {error}") from error

    def asked(self) -> dict[str, Any]:
        """Return the settings that features depend on, for the record of a session."""
        return asdict(self.settings) | ({"speech": self.speech} if self.speech else {})

    def _fill(self, features: np.ndarray, piece: Piece) -> None:
        found = self.encoder(piece.kind)(piece.values)
        room = features[piece.step : piece.step + len(found)]
        room[:] = found[: len(room)]

    def encoder(self, modality: str) -> Any:
        """Return the backbone of a modality, or the recogniser of "speech"; it is loaded on first use."""
        if modality not in self._encoders:
            if modality == "speech":
                self._encoders[modality] = Recognizer(str(self.speech), self.device)
                return self._encoders[modality]
            kind = {"text": TextEncoder, "audio": AudioEncoder, "video": VideoEncoder}[modality]
            self._encoders[modality] = kind(self.settings, self.device)
        return self._encoders[modality]


def _named(sound: np.ndarray | None, words: Sequence[Word] | None, steps: int) -> dict[str, np.ndarray]:
    """Return the low-level regressors that the stimulus has, by name."""
    made = {}
    if words is not None:
        made |= dict(zip(WORD_NAMES, word_regressors(words, steps).T, strict=True))
    if sound is not None:
        made |= dict(zip(SOUND_NAMES, sound.T, strict=True))
    return made
