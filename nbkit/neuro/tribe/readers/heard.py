"""Stimuli of phase 1 that nobody was scanned with, from folders: LibriSpeech, TED-LIUM 3, VGGSound, HowTo100M.

Each reader lists what its folder holds, one item a clip. Nothing is fetched: `ABOUT` says how large each set is, under
which licence it stands and where it is published, before anybody fetches it. Words of an utterance or a caption are
spread evenly over it; with ``SPEECH`` in 61, clips without a table of words get their times by speech recognition.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable
from pathlib import Path

from nbkit.neuro.tribe.readers.datasets import ABOUT, Dataset, Stimulus
from nbkit.neuro.tribe.stimuli.decode import Word
from nbkit.neuro.tribe.stimuli.stimuli import VIDEO_SUFFIXES


def read_librispeech(folder: str | Path) -> Dataset:
    """Return the utterances of LibriSpeech: ``<speaker>/<chapter>/<utterance>.flac`` with ``*.trans.txt`` beside them.

    Raises
    ------
    FileNotFoundError
        If there is no utterance with a transcript.
    """
    stimuli = []
    for table in sorted(Path(folder).rglob("*.trans.txt")):
        for line in table.read_text("utf-8").splitlines():
            name, _, text = line.partition(" ")
            path = table.parent / f"{name}.flac"
            if path.is_file():
                stimuli.append(Stimulus(name, None, path, "audio+text", text.strip()))
    return _found("librispeech", folder, stimuli, "<speaker>/<chapter>/*.flac with *.trans.txt")


def read_tedlium(folder: str | Path) -> Dataset:
    """Return the talks of TED-LIUM: ``sph/<talk>.sph`` and ``stm/<talk>.stm``, whose segments have times.

    Raises
    ------
    FileNotFoundError
        If there is no talk with a transcript.
    ValueError
        If a line of a transcript has another form.
    """
    stimuli = []
    sounds = {path.stem: path for path in sorted(Path(folder).rglob("*")) if path.suffix in (".sph", ".wav", ".flac")}
    for table in sorted(Path(folder).rglob("*.stm")):
        if table.stem not in sounds:
            continue
        words: list[Word] = []
        for number, line in enumerate(table.read_text("utf-8").splitlines(), 1):
            cells = line.split(maxsplit=6)
            if len(cells) < 7 or cells[6].strip() == "ignore_time_segment_in_scoring":
                continue
            try:
                words += spread(cells[6], float(cells[3]), float(cells[4]))
            except ValueError as error:
                raise ValueError(f"{table.name}, line {number}, has no times ({error}); unpack it again.") from error
        stimuli.append(Stimulus(table.stem, tuple(words), sounds[table.stem], "audio+text"))
    return _found("tedlium", folder, stimuli, "sph/<talk>.sph with stm/<talk>.stm")


def read_vggsound(folder: str | Path) -> Dataset:
    """Return the clips of 10 s that ``vggsound.csv`` lists and the folder holds, as ``<id>_<start, 6 digits>.mp4``.

    Raises
    ------
    FileNotFoundError
        If there is no list, or none of its clips.
    """
    lists = sorted(Path(folder).rglob("vggsound*.csv"))
    files = _videos(folder)
    stimuli, listed = [], 0
    for table in lists[:1]:
        with open(table, encoding="utf-8", newline="") as file:
            for row in csv.reader(file):
                name = f"{row[0]}_{int(row[1]):06d}" if len(row) >= 3 and row[1].isdigit() else ""
                listed += bool(name)
                if name in files:
                    stimuli.append(Stimulus(name, None, files[name], "audio+video"))
    return _found("vggsound", folder, stimuli, "vggsound.csv and <id>_<start>.mp4", listed)


def read_howto100m(folder: str | Path) -> Dataset:
    """Return the videos that ``HowTo100M_v1.csv`` lists and the folder holds, with ``raw_caption.json`` if it is there.

    Raises
    ------
    FileNotFoundError
        If there is no list, or none of its videos.
    """
    lists, captions = (sorted(Path(folder).rglob(name)) for name in ("HowTo100M*.csv", "raw_caption*.json"))
    told = json.loads(captions[0].read_text("utf-8")) if captions else {}
    files = _videos(folder)
    stimuli, listed = [], 0
    for table in lists[:1]:
        with open(table, encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                name = str(row.get("video_id", ""))
                listed += bool(name)
                if name not in files:
                    continue
                own = told.get(name, {"text": [], "start": [], "end": []})
                lines = zip(own["text"], own["start"], own["end"], strict=True)
                words = tuple(word for text, start, end in lines for word in spread(text, float(start), float(end)))
                kind = "audio+text+video" if words else "audio+video"
                stimuli.append(Stimulus(name, words or None, files[name], kind))
    return _found("howto100m", folder, stimuli, "HowTo100M_v1.csv and <id>.mp4", listed)


def spread(text: str, start_s: float, end_s: float) -> list[Word]:
    """Return the words of a passage, spread evenly over its time."""
    words = text.split()
    each = (end_s - start_s) / max(1, len(words))
    return [Word(word, start_s + k * each, start_s + (k + 1) * each) for k, word in enumerate(words)]


def _videos(folder: str | Path) -> dict[str, Path]:
    return {path.stem: path for path in sorted(Path(folder).rglob("*")) if path.suffix.lower() in VIDEO_SUFFIXES}


def _found(name: str, folder: str | Path, stimuli: Iterable[Stimulus], layout: str, listed: int = 0) -> Dataset:
    stimuli = list(stimuli)
    if not stimuli:
        more = f" ({listed} are listed)" if listed else ""
        raise FileNotFoundError(f"{folder} holds no clip of {name}{more}: {layout}. {ABOUT[name]} Nothing was fetched.")
    if listed:
        print(f"{name}: {len(stimuli)} of {listed} listed clips are here; the others are left out")
    return Dataset(name, stimuli, lambda: [], ABOUT[name])
