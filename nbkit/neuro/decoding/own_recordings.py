"""From a folder of recordings to a score and a map of the head, in one call or one recording at a time.

`embed_windows` is what a notebook does with each recording; `decode_recordings` is the whole way in plain Python.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nbkit.neuro.decoding.cache import EmbeddingCache
from nbkit.neuro.decoding.compare import CompareSettings, run_all
from nbkit.neuro.decoding.decoding_task import DecodingTask
from nbkit.neuro.decoding.frozen import FrozenEmbedding, embed_row, embed_task
from nbkit.neuro.decoding.judging.comparison import in_words, subject_table
from nbkit.neuro.decoding.models.registry import check_weights
from nbkit.neuro.decoding.recorded import recorded_of
from nbkit.neuro.decoding.rivals.scalp import ScalpScores, scalp_scores
from nbkit.neuro.decoding.training import FineTuneSettings
from nbkit.neuro.decoding.window_task import window_task
from nbkit.neuro.signals import eeg
from nbkit.neuro.signals.intake.cleaning import Cleaning
from nbkit.neuro.signals.windows.shards import WindowShards

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure

RIVALS = ("band_power", "riemann", "xdawn")


@dataclass(frozen=True)
class OwnDecoding:
    """What was decoded from recordings; printed, it is a line for each decoder and each of the best channels.

    Attributes
    ----------
    task : DecodingTask
        All windows with their targets.
    table : DataFrame
        Scores with intervals over people, see `subject_table`.
    scalp, shuffled : ScalpScores
        Scores of each channel alone, and the same with targets shuffled within people.
    embeddings : DataFrame
        A row for each window: subject, target, and the model's embedding.
    """

    task: DecodingTask
    table: pandas.DataFrame
    scalp: ScalpScores
    shuffled: ScalpScores
    embeddings: pandas.DataFrame

    def __str__(self) -> str:
        return "\n".join([self.task.describe(), *in_words(self.table), *self.scalp.words()])

    @property
    def figure(self) -> Figure:
        """The map of the head."""
        from nbkit.neuro.plots.scalp.scores import plot_scalp

        return plot_scalp(self.scalp, self.shuffled, stand_in=self.task.data)


def embed_windows(
    windows: Mapping[str, Path],
    model: str,
    cache: EmbeddingCache,
    *,
    weights: str = "hub",
    seed: int = 2025,
    mains: float | None = None,
) -> dict[str, Path]:
    """Embed the windows of one recording and return the files that hold them, by name, for an item to store.

    They are the cache's own files, and `embeddings.csv` for other programs: a row a window, with its subject, columns
    and embedding.

    Parameters
    ----------
    windows : mapping of str to path
        What `eeg.make_windows` returns.
    model : str
        A key of `list_foundation_models`. It gets the recording as its authors cleaned theirs.
    cache : EmbeddingCache
    weights, seed, mains
        See `load_model` and `window_task`.
    """
    shards = WindowShards([windows["windows"]], columns=(), purpose="pretrain")
    every = np.arange(len(shards))
    task = DecodingTask(
        "windows", "classification", shards.stack().astype(np.float32), np.zeros(len(shards), int),
        np.full(len(shards), "all"), shards.sfreq, tuple(shards.ch_names), recorded=recorded_of(shards, every),
        mains=mains,
    )  # fmt: skip
    embedding = FrozenEmbedding(model, task.ch_names, task.sfreq, weights, seed, cache)
    packs = embed_row({"model": model, "group": "all"}, task, embedding)
    found = embed_task(task, [model], embedding)[model]
    path = windows["windows"].with_name("embeddings.csv")
    columns = {name: shards.column(name) for name in shards.column_names}
    embedding_table(found, subject=shards.subjects, **columns).to_csv(path, index=False)
    return {**packs, "embeddings": path}


def embedding_table(embeddings: np.ndarray, **columns: np.ndarray) -> pandas.DataFrame:
    """Return a table with a row for each window: the columns, then its embedding as e0000, e0001 and so on.

    Parameters
    ----------
    embeddings : ndarray of shape (windows, dim)
    **columns : array of shape (windows,)
    """
    import pandas

    known = pandas.DataFrame({name: np.asarray(values) for name, values in columns.items()})
    names = [f"e{number:04d}" for number in range(embeddings.shape[1])]
    return pandas.concat([known, pandas.DataFrame(embeddings, columns=names)], axis=1)


def score_windows(
    task: DecodingTask,
    model: str,
    cache: EmbeddingCache,
    folder: str | Path,
    *,
    weights: str = "hub",
    n_splits: int = 5,
    seed: int = 2025,
) -> list[dict[str, Any]]:
    """Return the records of a frozen model and of band powers, Riemann and xDAWN on the same windows and folds.

    Parameters
    ----------
    task : DecodingTask
    model : str
    cache : EmbeddingCache
        Embeddings that it lacks are computed.
    folder : path
        Where to write the records of the folds.
    weights, n_splits, seed
        See `CompareSettings`.
    """
    splits = min(n_splits or 5, len(np.unique(task.groups)))
    compared = CompareSettings((model,), ("frozen",), n_splits=splits, rivals=RIVALS, weights=weights, seed=seed)
    return run_all(task, compared, FineTuneSettings.smoke(), folder, cache)


def decode_recordings(
    path: str | Path,
    labels: str | Path | None = None,
    *,
    model: str = "labram",
    weights: str = "hub",
    target: str = "label",
    group: str = "subject",
    classes: Sequence[str] | None = (),
    subject_from: str | None = None,
    table: str | Path | None = None,
    window_s: float = 4.0,
    n_splits: int = 5,
    sfreq: float = 200.0,
    mains: float | None = None,
    folder: str | Path | None = None,
    seed: int = 2025,
    source: str = "folder",
) -> OwnDecoding:
    """Decode a target from recordings, on people who were held out, with a frozen model beside simple rivals.

    Parameters
    ----------
    path : path
        A folder of recordings of any formats that MNE reads, or a BIDS data set.
    labels : path, optional
        Table with the columns recording, label and, if needed, start_s and stop_s.
    model : str
        Key of `list_foundation_models`.
    weights : {"hub", "random"}
        Weights that the model's authors published, or random ones.
    target, group : str
        Names of what is decoded, and of what no fold has on both sides; see `window_task`.
    classes : sequence of str
        The labels to tell apart; all of them if it is empty.
    subject_from : str, optional
        Regular expression whose group is the subject in the name of a recording; see `eeg.recordings`.
    table : path, optional
        Table of recordings and their subjects; see `eeg.recordings`.
    window_s : float
        Length of a window, in s.
    n_splits : int
        Number of outer folds; 0 leaves one group out.
    sfreq : float
        Sampling frequency of the windows, in Hz.
    mains : float, optional
        Frequency of the mains to remove, in Hz.
    folder : path, optional
        Where windows and embeddings are kept; by default a temporary folder.
    seed : int
        Seed of folds, models and draws of chance.
    source : str
        See `eeg.recordings`.

    Returns
    -------
    found : OwnDecoding
        Scores of each decoder with intervals over subjects, a map of channels, and the figure of both.
    """
    kept = tempfile.TemporaryDirectory() if folder is None else None
    where = Path(folder if kept is None else kept.name)
    try:
        rows = eeg.recordings(source, str(path), subject_from=subject_from, table=table and str(table), where=where)
        settings = eeg.window_settings(
            source, sfreq, window_s, window_s, labels=labels and str(labels), cleaning=Cleaning(notch=mains)
        )
        check_weights(model, weights)
        cache, stored = EmbeddingCache(where / "embeddings"), []
        for row in rows:
            try:
                windows = eeg.make_windows(row, where / "windows", **settings)
            except ValueError as error:  # one that cannot be used does not keep the others from being used
                print(f"{row['key']} cannot be used: {error}")
                continue
            stored += [windows["windows"]]
        task = window_task(stored, target, group, classes=classes, leave_one_out=n_splits == 0)
        records = score_windows(task, model, cache, where / "folds", weights=weights, n_splits=n_splits, seed=seed)
        maps = [scalp_scores(one, n_splits or 5, seed=seed) for one in (task, task.permuted(seed))]
        embedding = FrozenEmbedding(model, task.ch_names, task.sfreq, weights, seed, cache)
        said = np.array(task.classes)[task.target] if task.classes else task.target
        vectors = embed_task(task, [model], embedding)[model]
        rows_of = embedding_table(vectors, subject=task.people, **{target: said})
        return OwnDecoding(task, subject_table(records), *maps, rows_of)
    finally:
        if kept is not None:
            kept.cleanup()
