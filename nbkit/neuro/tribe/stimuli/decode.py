"""Decode a stimulus file for the backbones: 30 s pieces of sound, frames at 2 Hz, and words with times.

Pieces come in order of time and are decoded in a separate thread, ahead of the computation; PyAV releases the
interpreter lock while it decodes. Errors name the file.
"""

from __future__ import annotations

import csv
import queue
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from nbkit.neuro.tribe.stimuli.features import FEATURE_HZ, feature_steps
from nbkit.neuro.tribe.stimuli.stimuli import AUDIO_SUFFIXES

AUDIO_RATE = 16000  # Hz, the rate of Whisper
WORDS = ".words.tsv"  # end of the name of a table of words with times
AUDIO_PIECE_S = 30.0  # s, the input length of Whisper
_HOLD_FRAMES_S = 1.0  # s that a video track may end before the sound


class Word(NamedTuple):
    """A word with its start and end, in s from the start of the stimulus."""

    text: str
    start_s: float
    end_s: float


@dataclass(frozen=True)
class Piece:
    """A decoded piece: sound (samples,) at 16 kHz, or frames (n, height, width, 3) in RGB.

    Attributes
    ----------
    kind : {"audio", "video"}
    step : int
        First step of the piece, in steps of 0.5 s.
    values : ndarray
    """

    kind: str
    step: int
    values: np.ndarray


def wanted_modalities(row: Mapping[str, Any]) -> tuple[str, ...]:
    """Return which of audio and video a row's file must have: from its ``modalities`` column, else from its suffix."""
    said = str(row["modalities"]) if "modalities" in row else ""
    if said:
        names = tuple(name for name in said.split("+") if name)
        unknown = sorted(set(names) - {"text", "audio", "video"})
        if unknown:
            raise ValueError(f"{row['key']}: modalities={said!r} names {unknown}; allowed are text, audio, video.")
        return tuple(name for name in names if name != "text")
    return ("audio",) if Path(row["path"]).suffix.lower() in AUDIO_SUFFIXES else ("audio", "video")


def decode(
    path: str | Path, modalities: tuple[str, ...], duration_s: float, image_size: int = 256, frames_at_once: int = 16
) -> Iterator[Piece]:
    """Decode a file piece by piece.

    Parameters
    ----------
    path : str or Path
    modalities : tuple of {"audio", "video"}
        Tracks that the file must have.
    duration_s : float
        Length of the stimulus, in s.
    image_size : int
        Width and height of the frames, in pixels. The shorter side is scaled to 9/8 of it, then the centre is cropped.
    frames_at_once : int
        Frames of a piece.

    Yields
    ------
    piece : Piece

    Raises
    ------
    ValueError
        If a track is missing, is damaged, or ends more than a second early. The message names the file.
    """
    import av

    path, steps = Path(path), feature_steps(duration_s)
    try:
        with av.open(str(path)) as container:
            streams = {"audio": container.streams.best("audio"), "video": container.streams.best("video")}
            for name in modalities:
                if streams[name] is None:
                    others = [kind for kind, stream in streams.items() if stream is not None]
                    raise ValueError(
                        f"{path.name} has no {name} track (it has {' and '.join(others) or 'none'}). If that is right, "
                        f"set modalities={'+'.join(others)!r} in its row; else download it again."
                    )
            start = (container.start_time or 0) / 1e6
            sound = _Sound() if "audio" in modalities else None
            frames = _Frames(steps, image_size, frames_at_once) if "video" in modalities else None
            if streams["video"] is not None:
                streams["video"].thread_type = "AUTO"
            for frame in container.decode(*(streams[name] for name in modalities)):
                taker = sound if isinstance(frame, av.AudioFrame) else frames
                yield from taker.take(frame, start)
            for name, taker in (("audio", sound), ("video", frames)):
                if taker is not None:
                    yield from taker.rest()
                    if taker.ends_s == 0:
                        raise ValueError(f"{path.name}: nothing in its {name} track can be decoded.")
                    if name == "video" and taker.ends_s < duration_s - _HOLD_FRAMES_S:
                        raise ValueError(
                            f"{path.name}: its pictures end at {taker.ends_s:.1f} s of {duration_s:.1f} s; cut the "
                            "file there, or download it again."
                        )
    except av.FFmpegError as error:
        raise ValueError(f"{path.name} cannot be decoded ({error}); download it again, or drop its row.") from error


class _Sound:
    """Collect sound samples into pieces of 30 s."""

    def __init__(self) -> None:
        import av

        self._to_mono = av.AudioResampler(format="flt", layout="mono", rate=AUDIO_RATE)
        self._parts: list[np.ndarray] = []
        self._length, self._step, self.ends_s = 0, 0, 0.0

    def take(self, frame: Any, start: float) -> Iterator[Piece]:
        self._add(frame)
        while self._length >= AUDIO_PIECE_S * AUDIO_RATE:
            whole = np.concatenate(self._parts)
            cut = int(AUDIO_PIECE_S * AUDIO_RATE)
            self._parts, self._length = [whole[cut:]], len(whole) - cut
            yield self._piece(whole[:cut])

    def rest(self) -> Iterator[Piece]:
        self._add(None)
        if self._length:
            yield self._piece(np.concatenate(self._parts))

    def _add(self, frame: Any) -> None:
        for made in self._to_mono.resample(frame):
            samples = made.to_ndarray()[0]
            self._parts.append(samples)
            self._length += len(samples)

    def _piece(self, samples: np.ndarray) -> Piece:
        piece = Piece("audio", self._step, samples)
        self._step += int(AUDIO_PIECE_S * FEATURE_HZ)
        self.ends_s += len(samples) / AUDIO_RATE
        return piece


class _Frames:
    """Select the frame that is shown in the middle of each step of 0.5 s."""

    def __init__(self, steps: int, image_size: int, at_once: int) -> None:
        self._steps, self._size, self._at_once = steps, image_size, at_once
        self._next, self._first, self._kept, self._last = 0, 0, [], None
        self.ends_s = 0.0

    def take(self, frame: Any, start: float) -> Iterator[Piece]:
        shown = float(frame.time or 0.0) - start
        while self._last is not None and self._next < self._steps and self._middle() < shown:
            yield from self._keep(self._last)
        self._last, self.ends_s = frame, max(self.ends_s, shown + 1e-3)

    def rest(self) -> Iterator[Piece]:
        while self._last is not None and self._next < self._steps:
            yield from self._keep(self._last)
        if self._kept:
            yield self._piece()

    def _middle(self) -> float:
        return (self._next + 0.5) / FEATURE_HZ

    def _keep(self, frame: Any) -> Iterator[Piece]:
        self._kept.append(self._cut(frame))
        self._next += 1
        if len(self._kept) == self._at_once:
            yield self._piece()

    def _piece(self) -> Piece:
        piece = Piece("video", self._first, np.stack(self._kept))
        self._first, self._kept = self._next, []
        return piece

    def _cut(self, frame: Any) -> np.ndarray:
        short = round(self._size * 9 / 8)  # 288 for 256, as in MobileViT's preprocessing
        grow = short / min(frame.width, frame.height)
        width, height = (max(short, round(side * grow)) for side in (frame.width, frame.height))
        image = frame.to_ndarray(format="rgb24", width=width, height=height, interpolation="BILINEAR")
        top, left = (height - self._size) // 2, (width - self._size) // 2
        return image[top : top + self._size, left : left + self._size]


def has_times(row: Mapping[str, Any]) -> bool:
    """Return whether a table of words with times lies beside a row's file, or is the file."""
    path = Path(row["path"])
    return path.name.endswith(WORDS) or path.with_suffix(WORDS).is_file()


def words_of(row: Mapping[str, Any], duration_s: float) -> list[Word] | None:
    """Return the words of a row's stimulus, or None if there is no transcript.

    Raises
    ------
    ValueError
        If the words file has another format.
    """
    path = Path(row["path"])
    timed = path if path.name.endswith(WORDS) else path.with_suffix(WORDS)
    if timed.is_file():
        return read_words(timed)
    text = str(row["transcript"]).split() if "transcript" in row else []
    if not text:
        return None
    each = duration_s / len(text)
    return [Word(word, i * each, (i + 1) * each) for i, word in enumerate(text)]


def read_words(path: Path) -> list[Word]:
    """Return the words of a table with the columns word, start_s and end_s.

    Raises
    ------
    ValueError
        If it has another format.
    """
    with open(path, encoding="utf-8", newline="") as file:
        try:
            rows = csv.DictReader(file, delimiter="\t")
            return [Word(w["word"], float(w["start_s"]), float(w["end_s"])) for w in rows]
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path.name} needs the columns word, start_s, end_s with numbers ({error}).") from error


def told_seconds(path: str | Path) -> float:
    """Return the length of a story of which only the words are known: the end of its last word, in s.

    Raises
    ------
    FileNotFoundError, ValueError
        If the table is missing or holds no word.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path.name} is not there ({path}); list the stimuli again.")
    words = read_words(path)
    if not words:
        raise ValueError(f"{path.name} holds no word, so the stimulus has no length. Give a table with words.")
    return max(word.end_s for word in words)


def ahead(pieces: Iterator[Any], depth: int = 4) -> Iterator[Any]:
    """Yield ``pieces`` from a thread that is at most ``depth`` of them ahead.

    Errors of the thread are raised here, in order. Closing the iterator ends the thread.
    """
    waiting: queue.Queue[tuple[str, Any]] = queue.Queue(depth)
    stopped = threading.Event()

    def put(kind: str, value: Any) -> bool:
        while not stopped.is_set():
            try:
                waiting.put((kind, value), timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def work() -> None:
        try:
            for piece in pieces:
                if not put("piece", piece):
                    return
            put("end", None)
        except BaseException as error:  # pass on every error: the other thread waits for an answer
            put("error", error)

    thread = threading.Thread(target=work, name="decode-ahead", daemon=True)
    thread.start()
    try:
        while True:
            kind, value = waiting.get()
            if kind == "end":
                return
            if kind == "error":
                raise value
            yield value
    finally:
        stopped.set()
        thread.join(timeout=5)
