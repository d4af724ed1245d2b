"""Manifest rows of stimuli: video files, sound files and synthetic stimuli, whole or cut into segments.

No time is dropped: the last segment holds the rest. A file of unknown length stays in the list and fails when its turn
comes, so that the error is recorded for that item and all others are processed.
"""

from __future__ import annotations

import csv
import json
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nbkit.neuro.tribe.stimuli.segments import SEGMENT_TRS, segment_name
from nbkit.neuro.tribe.stimuli.synthetic import SyntheticSettings, stimulus_name, teacher_trs

VIDEO_SUFFIXES = (".mp4", ".mkv", ".mov", ".avi", ".webm", ".mpg", ".mpeg", ".m4v")
AUDIO_SUFFIXES = (".wav", ".flac", ".mp3", ".ogg", ".m4a", ".opus")
COLUMNS = ("key", "dataset", "video_id", "path", "index", "transcript", "modalities")


def synthetic_rows(settings: SyntheticSettings, dataset: str = "synthetic") -> list[dict[str, str]]:
    """Return one row per synthetic stimulus, with an index and without a file."""
    return [
        dict(
            zip(COLUMNS, (f"{dataset}_{stimulus_name(i)}", dataset, stimulus_name(i), "", str(i), "", ""), strict=True)
        )
        for i in range(settings.stimuli)
    ]


def clip_rows(folder: str | Path, dataset: str = "clips", modalities: str = "") -> list[dict[str, str]]:
    """Return one row per video or sound file of a folder, in the order of names.

    Words come from ``<stem>.words.tsv`` (word, start_s, end_s; for example from a speech recogniser), or else from the
    folder's ``transcripts.tsv`` (file, transcript), whose words are spread evenly over the clip.

    Parameters
    ----------
    folder : str or Path
    dataset : str
        Letters, digits and '-'.
    modalities : str
        Modalities that every clip must have, such as "audio+video"; if empty, determined by the suffix.

    Returns
    -------
    rows : list of dict
        With the columns `COLUMNS`.

    Raises
    ------
    FileNotFoundError
        If the folder has no such file.
    """
    folder = Path(folder)
    files = sorted(f for f in folder.glob("*") if f.suffix.lower() in VIDEO_SUFFIXES + AUDIO_SUFFIXES)
    if not files:
        raise FileNotFoundError(
            f"{folder} holds no video or sound file ({', '.join(VIDEO_SUFFIXES + AUDIO_SUFFIXES)}). Set another."
        )
    told: dict[str, str] = {}
    if (folder / "transcripts.tsv").is_file():
        with open(folder / "transcripts.tsv", encoding="utf-8", newline="") as file:
            told = {row["file"]: row["transcript"] for row in csv.DictReader(file, delimiter="\t")}
    rows = []
    for path in files:
        name = re.sub(r"[^A-Za-z0-9._-]", "-", path.stem)
        values = (f"{dataset}_{name}", dataset, name, str(path), "", told.get(path.name, ""), modalities)
        rows.append(dict(zip(COLUMNS, values, strict=True)))
    return rows


def list_stimuli(
    clips: str | Path | None,
    settings: SyntheticSettings,
    folder: str | Path,
    dataset: str = "clips",
    modalities: str = "",
    made_clips: int = 0,
) -> list[dict[str, str]]:
    """Return the rows of a folder of clips, or of synthetic stimuli if there is none.

    Parameters
    ----------
    clips : str or Path or None
    settings : SyntheticSettings
        Sets the number of synthetic stimuli.
    folder : str or Path
        Where to write small synthetic clips, which test decoding.
    dataset, modalities : str
        See `clip_rows`.
    made_clips : int
        Number of synthetic clips; they are always the same.

    Returns
    -------
    rows : list of dict
    """
    if clips is not None:
        return clip_rows(clips, dataset, modalities)
    rows = synthetic_rows(settings)
    if made_clips:
        made = Path(folder, "made-clips")
        for number in range(made_clips):
            write_clip(made / f"made{number}.mpg", seed=number)
        told = ["a bright square", "goes round and round"]
        rows += [{**row, "transcript": told[i % 2]} for i, row in enumerate(clip_rows(made, "made"))]
    return rows


def segment_rows(
    stimuli: Sequence[Mapping[str, Any]], settings: SyntheticSettings | None = None
) -> list[dict[str, str]]:
    """Cut stimuli into segments of 100 TRs of 1 s; the last one holds the rest.

    Parameters
    ----------
    stimuli : sequence of mapping
        Rows of `synthetic_rows` or `clip_rows`.
    settings : SyntheticSettings, optional
        Sets the length of synthetic stimuli.

    Returns
    -------
    rows : list of dict
        The columns of the stimulus with ``key`` (file name of the segment without suffix), ``tr_start``, ``tr_end`` and
        ``together`` (of several parallel sessions, one does all segments of a video);
        one row without ``tr_end`` for a file of unknown length.
    """
    rows = []
    for stimulus in stimuli:
        try:
            n_trs = teacher_trs(stimulus_seconds(stimulus, settings))
        except (ValueError, FileNotFoundError):
            n_trs = 0  # `stimulus_seconds` raises the same error when the row is processed
        for start in range(0, max(1, n_trs), SEGMENT_TRS):
            name = segment_name(stimulus["dataset"], stimulus["video_id"], start).removesuffix(".pt")
            end = str(min(start + SEGMENT_TRS, n_trs)) if n_trs else ""
            video = f"{stimulus['dataset']}_{stimulus['video_id']}"  # one session does all segments of a video
            rows.append({**stimulus, "key": name, "tr_start": str(start), "tr_end": end, "together": video})
    return rows


def stimulus_seconds(row: Mapping[str, Any], settings: SyntheticSettings | None = None) -> float:
    """Return the length of a row's stimulus, in s.

    Raises
    ------
    ValueError, FileNotFoundError
        See `media_seconds`.
    """
    if row["path"]:
        return media_seconds(row["path"])
    return (settings or SyntheticSettings.free()).duration_s


def media_seconds(path: str | Path) -> float:
    """Return the length of a video or sound file, in s, from ffprobe if installed, else from PyAV.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it cannot be read, or has no length.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path.name} is not there ({path}); mount its data set, or drop its row.")
    if path.stat().st_size == 0:
        raise ValueError(f"{path.name} has 0 bytes; download it again, or drop its row.")
    seconds = _probed_seconds(path) if shutil.which("ffprobe") else None
    if seconds is None:
        seconds = _decoded_seconds(path)
    if not seconds > 0:
        raise ValueError(
            f"{path.name} lasts {seconds:g} s; the length must be above 0. Drop its row, or download it again."
        )
    return seconds


def _probed_seconds(path: Path) -> float | None:
    command = ["ffprobe", "-v", "error", "-show_entries", "format=duration", "-of", "json", str(path)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        return float(json.loads(done.stdout)["format"]["duration"])
    except (subprocess.SubprocessError, ValueError, KeyError, OSError):
        return None  # ffprobe failed: use PyAV


def _decoded_seconds(path: Path) -> float:
    import av

    try:
        with av.open(str(path)) as container:
            if container.duration:
                return container.duration / 1e6
            last = 0.0
            for frame in container.decode(container.streams.best("video") or container.streams.best("audio")):
                last = max(last, float(frame.time or 0.0))
            return last
    except (OSError, ValueError, TypeError) as error:  # PyAV's errors derive from OSError or ValueError
        raise ValueError(f"{path.name} cannot be read as video or sound ({error}); download it again.") from error


def write_clip(path: str | Path, seconds: float = 4.0, size: int = 64, seed: int = 0) -> Path:
    """Write a small synthetic clip: a square that moves over noise, and a tone of varying pitch.

    Parameters
    ----------
    path : str or Path
        With a video suffix such as ``.mpg``.
    seconds : float
        Length, in s.
    size : int
        Width and height, in pixels.
    seed : int
        Seed of the noise.

    Returns
    -------
    path : Path
    """
    import av

    path, draws, rate, fps = Path(path), np.random.default_rng(seed), 16000, 25
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as out:
        video = out.add_stream("mpeg1video", rate=fps)
        video.width = video.height = size
        video.pix_fmt = "yuv420p"
        audio = out.add_stream("mp2", rate=rate, layout="mono")
        for t in range(round(seconds * fps)):
            image = draws.integers(0, 60, (size, size, 3), dtype=np.uint8)
            x, y = (int((0.5 + 0.4 * f(2 * np.pi * (t / fps + seed) / 5)) * (size - 12)) for f in (np.sin, np.cos))
            image[y : y + 12, x : x + 12] = 255
            out.mux(video.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        out.mux(video.encode())
        time = np.arange(round(seconds * rate)) / rate
        tone = 0.3 * np.sin(2 * np.pi * (220 * time + 40 * np.sin(time + seed)))
        for start in range(0, len(time) - 1151, 1152):
            block = (tone[None, start : start + 1152] * 32767).astype(np.int16)
            frame = av.AudioFrame.from_ndarray(block, format="s16", layout="mono")
            frame.sample_rate, frame.pts = rate, start
            out.mux(audio.encode(frame))
        out.mux(audio.encode())
    return path
