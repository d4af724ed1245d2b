"""Score a submission zip as the EEG Challenge 2025 does: in a separate process, one window at a time.

The process runs in isolated mode and cannot import this package. ``EEG2025_PYTHON`` may name an interpreter with the
scoring cluster's versions (see `CONTRACT`); by default the current interpreter is used.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nbkit.neuro.challenge import child as challenge_child
from nbkit.neuro.challenge.entry import N_CHANS, N_TIMES, RATE_HZ
from nbkit.neuro.challenge.metrics import CONSTANT, nrmse, overall, published_beside

FILES = ("submission.py", "weights_challenge_1.pt", "weights_challenge_2.pt")
CONTRACT_PYTHON = "EEG2025_PYTHON"
_LAST_WORDS = 1500  # characters of a failed process's error output that are shown


@dataclass(frozen=True)
class ZipScore:
    """Scores of a submission zip.

    Attributes
    ----------
    challenge1, challenge2, overall : float
        NRMSE of each challenge, and the overall score.
    predictions, targets : dict of {1, 2} to array of shape (windows,)
    facts : dict
        Facts about the process, such as torch, python, device and seconds.
    """

    challenge1: float
    challenge2: float
    overall: float
    predictions: dict[int, np.ndarray]
    targets: dict[int, np.ndarray]
    facts: dict[str, Any]

    def rows(self, prefix: str = "submission") -> list[dict[str, Any]]:
        """Return the result rows of a session: each score next to that of predicting the mean."""
        values = {"challenge1_nrmse": self.challenge1, "challenge2_nrmse": self.challenge2, "overall": self.overall}
        said = "constant: the scored targets' mean, and the median published score"
        return [
            {"name": f"{prefix}_{name}", "value": value, "unit": "standard deviations", "baseline": CONSTANT,
             "baseline_is": said, **published_beside(name)}
            for name, value in values.items()
        ]  # fmt: skip


def score_zip(
    path: str | Path,
    batches: Mapping[int, Iterable[Mapping[str, Any]]],
    *,
    columns: Mapping[int, str] | None = None,
    device: str = "cpu",
    python: str | None = None,
) -> ZipScore:
    """Run a submission zip on windows of both challenges and score it.

    Parameters
    ----------
    path : str or Path
        The zip.
    batches : mapping of {1, 2} to iterable of batches
        Batches with ``window`` in uV, shape (batch, 129, 200), and the target.
    columns : mapping of {1, 2} to str, optional
        Names of the target columns; ``target`` by default.
    device : str
        Device of the models.
    python : str, optional
        Interpreter for the process.

    Returns
    -------
    score : ZipScore

    Raises
    ------
    FileNotFoundError
        If there is no zip.
    ValueError
        If the zip does not hold exactly the expected files, or the process fails (with the end of its error output).
    """
    python = python or os.environ.get(CONTRACT_PYTHON) or sys.executable
    with tempfile.TemporaryDirectory(prefix="nbkit-submission-") as folder:
        unpacked = Path(folder, "zip")
        _unpack(path, unpacked)
        targets, windows = {}, {}
        for number in (1, 2):
            column = (columns or {}).get(number, "target")
            windows[number], targets[number] = _lay_out(batches[number], column, Path(folder, f"windows{number}.f32"))
        job, answer = Path(folder, "job.json"), Path(folder, "answer.json")
        job.write_text(json.dumps({"sfreq": RATE_HZ, "device": device, "windows": windows}), "utf-8")
        command = [python, "-I", challenge_child.__file__, str(unpacked), str(job), str(answer)]
        clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        done = subprocess.run(command, cwd=folder, env=clean, capture_output=True, text=True)
        if done.returncode or not answer.is_file():
            raise ValueError(
                f"{Path(path).name} does not run by itself (exit {done.returncode}, {python}). End of its output:\n"
                f"{done.stderr[-_LAST_WORDS:]}"
            )
        told = json.loads(answer.read_text("utf-8"))
    predictions = {number: np.array(told["predictions"][str(number)], float) for number in (1, 2)}
    first, second = (nrmse(targets[number], predictions[number]) for number in (1, 2))
    return ZipScore(first, second, overall(first, second), predictions, targets, told["facts"])


def _unpack(path: str | Path, folder: Path) -> None:
    if not Path(path).is_file():
        raise FileNotFoundError(f"There is no zip {path}; write it first.")
    try:
        with zipfile.ZipFile(path) as archive:
            names, broken = archive.namelist(), archive.testzip()
            if broken is None and sorted(names) == sorted(FILES):
                archive.extractall(folder)
                return
    except zipfile.BadZipFile as error:
        raise ValueError(f"{path} is not a complete zip ({error}). Write it again.") from error
    missing, extra = sorted(set(FILES) - set(names)), sorted(set(names) - set(FILES))
    wrong = [f"{broken} is damaged"] if broken else []
    wrong += [f"{name} is missing" for name in missing] + [f"{name} does not belong there" for name in extra]
    raise ValueError(
        f"{path}: {'; '.join(wrong)}. A submission has {', '.join(FILES)}, without a folder. Write it again."
    )


def _lay_out(batches: Iterable[Mapping[str, Any]], column: str, path: Path) -> tuple[dict[str, Any], np.ndarray]:
    """Write windows to a file in V, as the challenge's loader returns them, for the process to memory-map."""
    targets = []
    with path.open("wb") as file:
        for batch in batches:
            windows = np.asarray(batch["window"], np.float32)
            if windows.shape[1:] != (N_CHANS, N_TIMES):
                raise ValueError(f"Windows have the shape {windows.shape}; it must be (batch, {N_CHANS}, {N_TIMES}).")
            file.write((windows * np.float32(1e-6)).tobytes())
            targets.append(np.asarray(batch[column], float))
    if not targets:
        raise ValueError(f"There are no windows to score ({path.stem}).")
    every = np.concatenate(targets)
    return {"file": str(path), "count": len(every), "n_chans": N_CHANS, "n_times": N_TIMES}, every
