"""Whisper's encoder and MobileViT trained along with the student in phase 3, from raw clips.

The windows then hold log-mel frames and pictures beside the features, one piece for each repetition time, and the two
networks compute their features inside the training step. MiniLM stays frozen, and so do Whisper's table of positions
and MobileViT's running statistics. Activations are computed again in the backward pass, which saves memory.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from nbkit.ground.fields import checked
from nbkit.neuro.tribe.readers.datasets import stimulus_rows
from nbkit.neuro.tribe.runs.runs import StimulusRun, stimulus_of
from nbkit.neuro.tribe.stimuli.decode import decode
from nbkit.neuro.tribe.stimuli.encoders import AudioEncoder, EncoderSettings, VideoEncoder
from nbkit.neuro.tribe.stimuli.features import FEATURE_HZ, MODALITIES
from nbkit.neuro.tribe.stimuli.stimuli import media_seconds, write_clip
from nbkit.neuro.tribe.stimuli.synthetic import SyntheticSettings

TRAINABLE = ("audio", "video")
_MEL_HZ, _MEL_BINS = 100, 80
_PIECE = 3000  # mel frames of Whisper's input, 30 s
_FRAMES_AT_ONCE = 32


class _Still(nn.Module):
    """A network in evaluation mode whatever the trainer says: no dropout, and fixed running statistics."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model.eval()

    def train(self, mode: bool = True) -> _Still:
        return super().train(False)


class Hearing(_Still):
    """Whisper's encoder over log-mel frames of shape (batch, time, frames of a step, 80)."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__(encoder)
        table = encoder.embed_positions
        fixed = table.weight.detach().clone()
        del table.weight
        table.register_buffer("weight", fixed)  # sines, which are no weights

    def forward(self, mel: Tensor) -> Tensor:
        """Return features of shape (batch, time, 384): the mean of Whisper's states in each step."""
        made = []
        for part in mel.split(max(1, _PIECE // mel.shape[2]), dim=1):
            steps, frames = part.shape[1], part.shape[1] * part.shape[2]
            flat = part.flatten(1, 2).transpose(1, 2)
            low = flat.amin((1, 2), keepdim=True)
            padded = torch.cat([flat, low.expand(-1, flat.shape[1], _PIECE - frames)], dim=2)
            states = checkpoint(self._states, padded, use_reentrant=False)
            made.append(_means(steps, part.shape[2]).to(states) @ states)
        return torch.cat(made, dim=1)

    def _states(self, mel: Tensor) -> Tensor:
        return self.model(mel).last_hidden_state


class Seeing(_Still):
    """MobileViT over pictures of shape (batch, time, height, width, 3), uint8 in RGB."""

    def forward(self, frames: Tensor) -> Tensor:
        """Return features of shape (batch, time, 640)."""
        pixels = frames.flatten(0, 1).flip(-1).permute(0, 3, 1, 2).float() / 255  # it was trained on BGR
        made = [checkpoint(self._pooled, part, use_reentrant=False) for part in pixels.split(_FRAMES_AT_ONCE)]
        return torch.cat(made).unflatten(0, frames.shape[:2])

    def _pooled(self, pixels: Tensor) -> Tensor:
        return self.model(pixels).pooler_output


def _means(steps: int, frames: int) -> Tensor:
    """Return the matrix that averages 1500 states (two mel frames each) over steps of some mel frames."""
    begin = torch.arange(_PIECE // 2) * 2.0
    first = torch.arange(steps)[:, None] * float(frames)
    shared = (torch.minimum(begin + 2, first + frames) - torch.maximum(begin, first)).clamp(min=0)
    return shared / shared.sum(1, keepdim=True)


@checked
@dataclass(frozen=True)
class Unfrozen:
    """Backbones to train.

    Attributes
    ----------
    modules : dict of str to Module
        For `FmriTribe`; empty for none.
    mel : callable or None
        Log-mel spectrogram of up to 30 s of sound.
    image_size : int
        Of the pictures, in pixels.
    said : str
        Origin of their first weights, for a note; "" for none.
    """

    modules: dict[str, nn.Module] = field(default_factory=dict)
    mel: Callable[[np.ndarray], np.ndarray] | None = None
    image_size: int = 256
    said: str = ""


def unfreeze(which: str | None, encoders: EncoderSettings) -> Unfrozen:
    """Return the backbones that phase 3 trains.

    Parameters
    ----------
    which : str or None
        "audio", "video" or "audio+video"; None for none.
    encoders : EncoderSettings
        Those of 61_tribe_features.

    Raises
    ------
    ValueError
        If another name is given.
    """
    names = [name for name in (which or "").split("+") if name]
    if set(names) - set(TRAINABLE):
        raise ValueError(f"unfreeze={which!r}; allowed are None, 'audio', 'video', 'audio+video': MiniLM stays frozen.")
    modules: dict[str, nn.Module] = {}
    mel, said = None, []
    if "audio" in names:
        hearing = AudioEncoder(encoders)
        modules["audio"], mel = Hearing(hearing.model), hearing.mel
        said.append(f"audio: {hearing.weights}")
    if "video" in names:
        seeing = VideoEncoder(encoders)
        modules["video"] = Seeing(seeing.model)
        said.append(f"video: {seeing.weights}")
    return Unfrozen(modules, mel, encoders.image_size, "".join(f"; {one} at first, trained along" for one in said))


def with_clips(
    runs: Sequence[StimulusRun], rows: Sequence[Mapping[str, Any]], unfrozen: Unfrozen, folder: str | Path
) -> list[StimulusRun]:
    """Return the runs with the raw clips that the backbones need; the runs themselves if there are none.

    Parameters
    ----------
    runs : sequence of StimulusRun
    rows : sequence of mapping
        Manifest rows of 61_tribe_features, with video_id and path.
    unfrozen : Unfrozen
    folder : str or Path
        Where to write the pictures, which are read from there: 197 kB for each step at 256 pixels.

    Raises
    ------
    ValueError
        If a run is a block of a stimulus, or its stimulus has no clip.
    """
    if not unfrozen.modules:
        return list(runs)
    paths = {str(row["video_id"]): str(row["path"]) for row in rows}
    longest: dict[str, int] = {}
    for run in runs:
        if stimulus_of(run.name) != run.name:
            raise ValueError(f"{run.name} is a block of a stimulus; set blocks to 1 to train on raw clips.")
        longest[run.name] = max(len(run), longest.get(run.name, 0))
    absent = sorted(name for name in longest if not paths.get(name))
    if absent:
        raise ValueError(
            f"Of {len(longest)} stimuli, {len(absent)} have no clip ({', '.join(absent[:3])}); there are clips of "
            f"{sorted(paths)[:3]}. Set CLIPS to the folder that 61_tribe_features read, or unfreeze to None."
        )
    raw: dict[str, dict[str, np.ndarray]] = {}
    for run in runs:
        if run.name not in raw:
            has = dict(zip(MODALITIES, run.present, strict=True))
            there = tuple(name for name in unfrozen.modules if has[name])
            steps = longest[run.name]
            raw[run.name] = _decoded(run.name, Path(paths[run.name]), there, run.step_s, steps, unfrozen, Path(folder))
    return [replace(run, raw={name: values[: len(run)] for name, values in raw[run.name].items()}) for run in runs]


def _decoded(
    name: str, path: Path, there: tuple[str, ...], step_s: float, steps: int, unfrozen: Unfrozen, folder: Path
) -> dict[str, np.ndarray]:
    """Return log-mel frames (steps, frames, 80) and pictures (steps, size, size, 3), around the time of each step."""
    if not there:
        return {}
    size, sounds = unfrozen.image_size, []
    shown = np.floor(np.arange(steps) * step_s * FEATURE_HZ + 1e-6).astype(int)
    made: dict[str, np.ndarray] = {}
    if "video" in there:
        folder.mkdir(parents=True, exist_ok=True)
        shape = (steps, size, size, 3)
        made["video"] = np.lib.format.open_memmap(folder / f"{name}.npy", "w+", np.uint8, shape)
    for piece in decode(path, there, media_seconds(path), size):
        if piece.kind == "audio":
            sounds.append(unfrozen.mel(piece.values)[:, : -(-len(piece.values) // 160)].T)  # type: ignore[misc]
            continue
        last = piece.step + len(piece.values) - 1
        mine = np.flatnonzero(shown >= piece.step)  # those after the piece are written again by the next one
        made["video"][mine] = piece.values[np.minimum(shown[mine], last) - piece.step]
    if "audio" in there:
        mel, frames = np.concatenate(sounds), max(1, round(step_s * _MEL_HZ))
        first = np.round((np.arange(steps) - 0.5) * step_s * _MEL_HZ).astype(int)[:, None] + np.arange(frames)
        inside = (first >= 0) & (first < len(mel))
        made["audio"] = np.where(inside[..., None], mel[np.clip(first, 0, len(mel) - 1)], mel.min()).astype(np.float16)
    return made


def clips_of(
    unfrozen: Unfrozen,
    source: str,
    reader: str,
    folder: str | Path | None,
    runs: Sequence[StimulusRun],
    own_folder: str | Path,
) -> list[dict[str, str]]:
    """Return the manifest rows of the clips that the backbones need; none if no backbone is trained.

    Parameters
    ----------
    unfrozen : Unfrozen
    source : {"store", "planted"}
        A synthetic world has no clips, so small ones are made up, which are not what its responses follow.
    reader, folder
        See `stimulus_rows`.
    runs : sequence of StimulusRun
    own_folder : str or Path
        Where to write words of a data set or made-up clips.

    Raises
    ------
    ValueError
        If there is no folder.
    """
    if not unfrozen.modules:
        return []
    if source == "planted":
        return made_clips(runs, own_folder)
    if folder is None:
        raise ValueError("unfreeze needs the raw clips: set CLIPS to the folder that 61_tribe_features read.")
    return stimulus_rows(reader, folder, SyntheticSettings.smoke(), own_folder)


def made_clips(runs: Sequence[StimulusRun], folder: str | Path) -> list[dict[str, str]]:
    """Write a small made-up clip for each stimulus of a synthetic world, which has none; return their rows."""
    rows = []
    for number, name in enumerate(sorted({run.name for run in runs})):
        length = max(len(run) * run.step_s for run in runs if run.name == name)
        rows.append({"video_id": name, "path": str(write_clip(Path(folder, f"{name}.mpg"), length, seed=number))})
    return rows
