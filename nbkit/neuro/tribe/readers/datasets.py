"""Data sets by name: which stimuli a folder holds, and which fMRI runs.

A reader turns a foreign layout into the two forms that the phases use: rows of a manifest, each with a file of words
with times or a film, and `FmriRun`s. The stimulus of a run is named by ``video_id``.
"""

from __future__ import annotations

import csv
import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from nbkit.neuro.tribe.runs.targets import FmriRun, read_run
from nbkit.neuro.tribe.stimuli.decode import WORDS, Word
from nbkit.neuro.tribe.stimuli.stimuli import COLUMNS, list_stimuli
from nbkit.neuro.tribe.stimuli.synthetic import SyntheticSettings

# the module of each reader; it has read_<name>(folder) -> Dataset
READERS = {
    "alice": "alice",
    "algonauts": "algonauts",
    "lebel": "stories",
    "bold_moments": "bold_moments",
    "haxby": "haxby",
    "development": "film",
    "images": "images",
    "librispeech": "heard",
    "tedlium": "heard",
    "vggsound": "heard",
    "howto100m": "heard",
}
# size, licence and place of the stimuli that no scanner saw: said before anybody fetches them
ABOUT = {
    "librispeech": "LibriSpeech: 960 h, about 60 GB, CC BY 4.0, https://www.openslr.org/12 (parts from 6 GB).",
    "tedlium": "TED-LIUM 3: 452 h, about 50 GB, CC BY-NC-ND 3.0, https://www.openslr.org/51.",
    "vggsound": "VGGSound: 200,000 clips of 10 s, some 550 h and 300 GB; the list is CC BY 4.0, the videos stay under "
    "their owners' terms, https://www.robots.ox.ac.uk/~vgg/data/vggsound.",
    "howto100m": "HowTo100M: 1.2 million videos, 134,000 h; a subset of 200 to 500 h has 100 GB and more; the list is "
    "for research, the videos stay under their owners' terms, https://www.di.ens.fr/willow/research/howto100m.",
}


@dataclass(frozen=True)
class Stimulus:
    """A stimulus of a data set.

    Attributes
    ----------
    video_id : str
    words : tuple of Word, or None
        Words with times, in s from the start of the stimulus; None if it has no transcript.
    path : Path or None
        Film or sound, if the folder holds it.
    modalities : str
        Modalities that it has for a subject, such as "audio+text"; if empty, they follow from the file.
    transcript : str
        What is said, without times.
    """

    video_id: str
    words: tuple[Word, ...] | None = field(default=None, repr=False)
    path: Path | None = None
    modalities: str = ""
    transcript: str = ""


@dataclass(frozen=True)
class Dataset:
    """Stimuli and fMRI runs of a folder.

    Attributes
    ----------
    name : str
    stimuli : sequence of Stimulus
    runs : callable
        Returns the fMRI runs; they are read when it is called.
    licence : str
        Licence and citation, as the data set states them.
    """

    name: str
    stimuli: Sequence[Stimulus] = field(repr=False)
    runs: Callable[[], list[FmriRun]] = field(repr=False)
    licence: str = ""


def open_dataset(reader: str, folder: str | Path) -> Dataset:
    """Return the data set in a folder.

    Parameters
    ----------
    reader : str
        A name in `READERS`.
    folder : str or Path

    Raises
    ------
    ValueError
        If the reader is unknown.
    FileNotFoundError
        If there is no such folder, or it lacks the files of this data set.
    """
    if reader not in READERS:
        raise ValueError(f"There is no reader {reader!r}; it may be {', '.join(READERS)}, or '' for plain files.")
    folder = Path(folder)
    if not folder.is_dir():
        words = f"There is no folder {folder}; give the one that holds the data set {reader!r}."
        raise FileNotFoundError(f"{words} {ABOUT.get(reader, '')}".strip())
    module = importlib.import_module(f"nbkit.neuro.tribe.readers.{READERS[reader]}")
    return getattr(module, f"read_{reader}")(folder)


def fmri_runs(reader: str, folder: str | Path | Sequence[str | Path]) -> list[FmriRun]:
    """Return the fMRI runs of a folder: those of a data set, or without a reader those of npz files.

    Raises
    ------
    FileNotFoundError
        If there is no run.
    """
    if reader:
        return open_dataset(reader, str(folder)).runs()
    paths = sorted(Path(folder).glob("*.npz")) if isinstance(folder, str | Path) else [Path(path) for path in folder]
    if not paths:
        raise FileNotFoundError(
            f"{folder} holds no npz file of an fMRI run. Give the folder that does, or the reader of its data set "
            f"({', '.join(READERS)})."
        )
    return [read_run(path) for path in paths]


def stimulus_rows(
    reader: str,
    folder: str | Path | None,
    settings: SyntheticSettings,
    own_folder: str | Path,
    dataset: str = "clips",
    modalities: str = "",
    made_clips: int = 0,
) -> list[dict[str, str]]:
    """Return the manifest rows of a folder's stimuli: of a data set, of clips, or without one synthetic ones.

    Parameters
    ----------
    reader : str
        A name in `READERS`, or "" (see `list_stimuli`).
    folder : str or Path or None
    settings : SyntheticSettings
    own_folder : str or Path
        Where to write the words of a data set's stimuli, or synthetic clips.
    dataset, modalities, made_clips
        See `list_stimuli`.

    Raises
    ------
    ValueError
        If a reader has no folder.
    FileNotFoundError
        If no stimulus has words or a file.
    """
    if not reader or made_clips:
        return list_stimuli(folder, settings, own_folder, dataset, modalities, made_clips)
    if folder is None:
        raise ValueError(f"The reader {reader!r} needs the folder of its data set; set CLIPS to it.")
    rows, found = [], open_dataset(reader, folder)
    print(f"{reader}: {len(found.stimuli)} stimuli; {found.licence}")
    for stimulus in found.stimuli:
        path = stimulus.path
        if stimulus.words is not None:
            path = write_words(Path(own_folder, reader), stimulus, path)
        if path is not None:
            key = f"{reader}_{stimulus.video_id}"
            values = (
                key,
                reader,
                stimulus.video_id,
                str(path),
                "",
                stimulus.transcript,
                modalities or stimulus.modalities,
            )
            rows.append(dict(zip(COLUMNS, values, strict=True)))
    if not rows:
        raise FileNotFoundError(f"No stimulus of {reader!r} in {folder} has words or a film; nothing can be extracted.")
    return rows


def write_words(folder: Path, stimulus: Stimulus, media: Path | None) -> Path:
    """Write a stimulus's words and return the path of its row: of the words file, or of a link to its film or sound.

    A film's words are looked for beside it (see `words_of`), so a film gets a link beside the words.
    """
    folder.mkdir(parents=True, exist_ok=True)
    table = folder / f"{stimulus.video_id}{WORDS}"
    with open(table, "w", encoding="utf-8", newline="") as file:
        out = csv.writer(file, delimiter="\t", lineterminator="\n")
        out.writerow(("word", "start_s", "end_s"))
        out.writerows((w.text, f"{w.start_s:.4f}", f"{w.end_s:.4f}") for w in stimulus.words or ())
    if media is None:
        return table
    link = folder / f"{stimulus.video_id}{media.suffix}"
    link.unlink(missing_ok=True)
    link.symlink_to(media.resolve())
    return link
