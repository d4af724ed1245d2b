"""TRIBE v2 as a teacher, through its own API (https://github.com/facebookresearch/tribev2, CC-BY-NC).

``TribeModel`` is a pydantic object around the network ``model._model``. ``predict`` returns numpy arrays and segments,
drops seconds without an event unless told otherwise, and processes whole videos in windows of 100 s at 1 Hz. The
encoder's ``layers`` alternate attention and feed-forward, each a list of [norms, block, residual]. The list itself is
never called, so hooks are set on the residual, which is. Row t is BOLD at t + 5 s.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from nbkit.neuro.tribe.stimuli.segments import FUSION_DIM, N_VERTICES, SEGMENT_TRS, TEACHER_TR

HOOKS = {"fusion_l4": 7, "fusion_l6": 11}  # the feed-forward layers that end blocks 4 and 6
_RESIDUAL = 2  # index in [norms, block, residual]
_VIDEO = (".mp4", ".avi", ".mkv", ".mov", ".webm")
_AUDIO = (".wav", ".mp3", ".flac", ".ogg")


class TribeV2Teacher:
    """Predict responses to videos with TRIBE v2's average subject.

    Parameters
    ----------
    model : tribev2.TribeModel
        Result of ``from_pretrained``. It is changed: seconds without an event are kept, and its network gets hooks.

    Raises
    ------
    ValueError
        If the object holds no loaded TRIBE v2, or its TR is not 1 s.
    """

    name = "TRIBE v2 (facebook/tribev2)"

    def __init__(self, model: Any) -> None:
        net = getattr(model, "_model", None)
        if net is None or not hasattr(net, "encoder"):
            raise ValueError(
                f"The object {type(model).__name__} holds no loaded net; give TribeModel.from_pretrained(...)."
            )
        if float(model.data.TR) != TEACHER_TR:
            raise ValueError(f"This TRIBE v2 has a TR of {model.data.TR} s; segment files need {TEACHER_TR:g} s.")
        model.remove_empty_segments = False  # else rows are dropped, and the fusion features no longer match them
        self.model = model
        self._seen: dict[str, list[Tensor]] = {name: [] for name in HOOKS}
        self._handles = [
            net.encoder.layers[place][_RESIDUAL].register_forward_hook(self._keeper(name))
            for name, place in HOOKS.items()
        ]

    @classmethod
    def from_pretrained(cls, cache: str | Path, checkpoint: str = "facebook/tribev2") -> TribeV2Teacher:
        """Load the pretrained teacher.

        It needs an environment of its own with Python 3.11 or newer, torch below 2.7, and access to the gated
        Llama-3.2-3B.

        Raises
        ------
        FileNotFoundError
            If tribev2 is not installed.
        """
        try:
            from tribev2 import TribeModel
        except ImportError as error:
            raise FileNotFoundError(
                "The package tribev2 is not installed, and is on no package index. In an environment of its own (torch "
                "< 2.7): pip install git+https://github.com/facebookresearch/tribev2, and log in to the hub with an "
                "account that may use meta-llama/Llama-3.2-3B. Or use teacher='synthetic' for a rehearsal."
            ) from error
        return cls(TribeModel.from_pretrained(checkpoint, cache_folder=str(cache)))

    def watch(self, row: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Return predictions (trs, 20484), fusion_l4 and fusion_l6 (trs, 1152) for a whole file, at 1 Hz.

        Raises
        ------
        ValueError
            If TRIBE v2 does not support the file type, or rows do not follow each other second by second. The message
            has the row's key.
        """
        for kept in self._seen.values():
            kept.clear()
        events = self.model.get_events_dataframe(**_source(row))
        predictions, segments = self.model.predict(events=events)
        predictions = np.asarray(predictions, np.float32)
        fusion = {name: self._joined(name) for name in HOOKS}
        self._check(row["key"], predictions, segments, fusion)
        return {"predictions": predictions, **fusion}

    def close(self) -> None:
        """Remove the hooks."""
        for handle in self._handles:
            handle.remove()

    def _keeper(self, name: str):  # noqa: ANN202 - a hook
        def keep(module: nn.Module, inputs: Any, output: Tensor) -> None:
            steps_first = output.detach().float().transpose(1, 2)
            pooled = nn.functional.adaptive_avg_pool1d(steps_first, SEGMENT_TRS)  # 200 steps at 2 Hz to 100 TRs
            self._seen[name].append(pooled.transpose(1, 2).flatten(0, 1).cpu())

        return keep

    def _joined(self, name: str) -> np.ndarray:
        if not self._seen[name]:
            raise ValueError(
                f"The hook for {name} never fired: this tribev2 has other layers than encoder.layers[{HOOKS[name]}]"
                f"[{_RESIDUAL}]. Nothing was written."
            )
        return torch.cat(self._seen[name]).numpy()

    @staticmethod
    def _check(key: str, predictions: np.ndarray, segments: list[Any], fusion: Mapping[str, np.ndarray]) -> None:
        if predictions.ndim != 2 or predictions.shape[1] != N_VERTICES:
            raise ValueError(
                f"{key}: predictions have the shape {predictions.shape}; expected (seconds, {N_VERTICES})."
            )
        starts = np.array([float(segment.start) for segment in segments])
        if len(starts) != len(predictions) or not np.allclose(np.diff(starts), TEACHER_TR, atol=1e-3):
            raise ValueError(
                f"{key}: {len(predictions)} rows for {len(starts)} segments that do not follow each other second by "
                "second; empty seconds were dropped, so the fusion features do not match the rows."
            )
        for name, values in fusion.items():
            if values.shape != (len(predictions), FUSION_DIM):
                raise ValueError(f"{key}: {name} has shape {values.shape} for {len(predictions)} rows of predictions.")


def _source(row: Mapping[str, Any]) -> dict[str, str]:
    suffix = Path(row["path"]).suffix.lower()
    if suffix in _VIDEO:
        return {"video_path": row["path"]}
    if suffix in _AUDIO:
        return {"audio_path": row["path"]}
    raise ValueError(
        f"{row['key']}: TRIBE v2 takes {', '.join(_VIDEO + _AUDIO)}, and not {suffix!r}; convert the file "
        "(ffmpeg -i IN -c copy OUT.mkv)."
    )
