"""From a stimulus's row to its features file.

Decoding runs in a thread of its own, ahead of the backbones, so that neither waits for the other. A modality that a row
does not ask for is absent and marked so; one that it asks for and its file has not is an error with the item's name.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from nbkit.neuro.tribe.stimuli.decode import Piece, ahead, decode, wanted_modalities, words_of
from nbkit.neuro.tribe.stimuli.encoders import AudioEncoder, EncoderSettings, TextEncoder, VideoEncoder
from nbkit.neuro.tribe.stimuli.features import FEATURE_DIMS, feature_steps, pack_features
from nbkit.neuro.tribe.stimuli.stimuli import media_seconds
from nbkit.neuro.tribe.stimuli.synthetic import SyntheticSettings, synthetic_stimulus


class Extractor:
    """Extract features; the backbones are loaded when first needed.

    Parameters
    ----------
    settings : EncoderSettings
    device : str, optional
        CUDA where there is one.
    synthetic : SyntheticSettings, optional
        Of the rows without a file, whose features are planted.
    """

    def __init__(
        self, settings: EncoderSettings, device: str | None = None, synthetic: SyntheticSettings | None = None
    ) -> None:
        import torch

        self.settings, self.synthetic = settings, synthetic
        self.device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        self._encoders: dict[str, Any] = {}

    def __call__(self, row: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Return the arrays of a row's features file (see `pack_features`).

        Raises
        ------
        ValueError, FileNotFoundError
            With the item's name: no such file or track, no length, damaged, or features that are not finite.
        """
        if not row["path"]:
            return synthetic_stimulus(self.synthetic or SyntheticSettings.free(), int(row["index"]))
        duration = media_seconds(row["path"])
        modalities = wanted_modalities(row)
        words = words_of(row, duration)
        steps = feature_steps(duration)
        made = {name: np.zeros((steps, FEATURE_DIMS[name]), np.float32) for name in modalities}
        settings = self.settings
        pieces = decode(row["path"], modalities, duration, settings.image_size, settings.frames_at_once)
        for piece in ahead(pieces, settings.decode_ahead):
            self._fill(made[piece.kind], piece)
        if words is not None:
            made["text"] = self.encoder("text")(words, steps)
        weights = "; ".join(f"{name}: {self.encoder(name).weights}" for name in FEATURE_DIMS if name in made)
        try:
            return pack_features(
                row["video_id"], duration, made.get("text"), made.get("audio"), made.get("video"), weights=weights
            )
        except ValueError as error:
            raise ValueError(f"{row['key']}: {error}") from error

    def _fill(self, features: np.ndarray, piece: Piece) -> None:
        found = self.encoder(piece.kind)(piece.values)
        room = features[piece.step : piece.step + len(found)]
        room[:] = found[: len(room)]

    def encoder(self, modality: str) -> Any:
        """Return the backbone of a modality."""
        if modality not in self._encoders:
            kind = {"text": TextEncoder, "audio": AudioEncoder, "video": VideoEncoder}[modality]
            self._encoders[modality] = kind(self.settings, self.device)
        return self._encoders[modality]
