"""TRIBE v2 as a teacher, through its own API (https://github.com/facebookresearch/tribev2, CC-BY-NC).

``TribeModel`` is a pydantic object around the net ``model._model``; ``predict`` gives numpy and segments, drops seconds
without an event unless told not to, and answers for whole videos in windows of 100 s at 1 Hz. Its encoder's ``layers``
alternate attention and feed-forward, each a list of [norms, block, residual] that is never called itself: a hook fires
only on what is, the residual. Row t is BOLD at t + 5 s.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from nbkit.neuro.tribe.stimuli.segments import FUSION_DIM, N_VERTICES, SEGMENT_TRS, TEACHER_TR

HOOKS = {"fusion_l4": 7, "fusion_l6": 11}  # the feed-forward that ends block 4, block 6
_RESIDUAL = 2  # of [norms, block, residual]
_VIDEO = (".mp4", ".avi", ".mkv", ".mov", ".webm")
_AUDIO = (".wav", ".mp3", ".flac", ".ogg")


class TribeV2Teacher:
    """Watch videos as TRIBE v2's average subject.

    Parameters
    ----------
    model : tribev2.TribeModel
        As ``from_pretrained`` gives it. Its seconds without an event are kept from here on, and its net is hooked.

    Raises
    ------
    ValueError
        If the object is no loaded TRIBE v2, or its TR is not 1 s.
    """

    name = "TRIBE v2 (facebook/tribev2)"

    def __init__(self, model: Any) -> None:
        net = getattr(model, "_model", None)
        if net is None or not hasattr(net, "encoder"):
            raise ValueError(f"{type(model).__name__} holds no loaded net; give TribeModel.from_pretrained(...).")
        if float(model.data.TR) != TEACHER_TR:
            raise ValueError(f"this TRIBE v2 has a TR of {model.data.TR} s; segment files are at {TEACHER_TR:g} s.")
        model.remove_empty_segments = False  # else rows vanish and the fusion features no longer belong to them
        self.model = model
        self._seen: dict[str, list[Tensor]] = {name: [] for name in HOOKS}
        self._handles = [
            net.encoder.layers[place][_RESIDUAL].register_forward_hook(self._keeper(name))
            for name, place in HOOKS.items()
        ]

    @classmethod
    def from_pretrained(cls, cache: str | Path, checkpoint: str = "facebook/tribev2") -> TribeV2Teacher:
        """Load the real teacher.

        It needs Python 3.11 or newer, torch below 2.7 and access to the gated Llama-3.2-3B: an environment of its own.

        Raises
        ------
        FileNotFoundError
            If tribev2 is not installed.
        """
        try:
            from tribev2 import TribeModel
        except ImportError as error:
            raise FileNotFoundError(
                "tribev2 is not installed, and is on no package index. In an environment of its own (torch < 2.7): "
                "pip install git+https://github.com/facebookresearch/tribev2, and log in to the hub with an account "
                "that may use meta-llama/Llama-3.2-3B. Or take teacher='synthetic' for a rehearsal."
            ) from error
        return cls(TribeModel.from_pretrained(checkpoint, cache_folder=str(cache)))

    def watch(self, row: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Return predictions (trs, 20484), fusion_l4 and fusion_l6 (trs, 1152) of a whole file, at 1 Hz.

        Raises
        ------
        ValueError
            With the row's key: a kind of file that TRIBE v2 refuses, or rows that do not follow each other second by
            second.
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
        """Take the hooks off."""
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
                f"the hook for {name} never fired: this tribev2 has other layers than encoder.layers[{HOOKS[name]}]"
                f"[{_RESIDUAL}]. Nothing was kept."
            )
        return torch.cat(self._seen[name]).numpy()

    @staticmethod
    def _check(key: str, predictions: np.ndarray, segments: list[Any], fusion: Mapping[str, np.ndarray]) -> None:
        if predictions.ndim != 2 or predictions.shape[1] != N_VERTICES:
            raise ValueError(
                f"{key}: predictions of shape {predictions.shape}; TRIBE v2 gives (seconds, {N_VERTICES})."
            )
        starts = np.array([float(segment.start) for segment in segments])
        if len(starts) != len(predictions) or not np.allclose(np.diff(starts), TEACHER_TR, atol=1e-3):
            raise ValueError(
                f"{key}: {len(predictions)} rows for {len(starts)} segments that do not follow each other second by "
                "second; empty seconds were dropped, and the fusion features would belong to others."
            )
        for name, values in fusion.items():
            if values.shape != (len(predictions), FUSION_DIM):
                raise ValueError(
                    f"{key}: {name} has shape {values.shape} beside {len(predictions)} rows of predictions."
                )


def _source(row: Mapping[str, Any]) -> dict[str, str]:
    suffix = Path(row["path"]).suffix.lower()
    if suffix in _VIDEO:
        return {"video_path": row["path"]}
    if suffix in _AUDIO:
        return {"audio_path": row["path"]}
    raise ValueError(
        f"{row['key']}: TRIBE v2 takes {', '.join(_VIDEO + _AUDIO)}, and not {suffix!r}; rewrap the file "
        "(ffmpeg -i IN -c copy OUT.mkv)."
    )
