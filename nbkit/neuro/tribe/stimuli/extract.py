"""Extract the features of a stimulus from a manifest row.

Decoding runs in a separate thread, ahead of the backbones. A modality that the row does not ask for is marked as
absent. If the file lacks a modality that the row asks for, an error names the item.
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
    """Extract features; each backbone is loaded on first use.

    Parameters
    ----------
    settings : EncoderSettings
    device : str, optional
        By default CUDA if available.
    synthetic : SyntheticSettings, optional
        World of the rows without a file, which have synthetic features.
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
            If the file or a track is missing or damaged, has no length, or a feature is not finite. The message names
            the item.
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
        """Return the backbone of a modality; it is loaded on first use."""
        if modality not in self._encoders:
            kind = {"text": TextEncoder, "audio": AudioEncoder, "video": VideoEncoder}[modality]
            self._encoders[modality] = kind(self.settings, self.device)
        return self._encoders[modality]
