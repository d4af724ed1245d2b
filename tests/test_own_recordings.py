"""The README's walks with own recordings: a folder of files and a table of labels, by notebooks alone, to a score."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys

import numpy as np
import pytest

from tests.neuro.signals.intake.edf_files import brain_waves, write_edf
from tests.readme import blocks, commands

NAMES = ["EEG Fp1-REF", "EEG Fp2-REF", "EEG F7-REF", "EEG F3-REF", "EEG F4-REF", "EEG F8-REF", "EEG T3-REF",
         "EEG C3-REF", "EEG C4-REF", "EEG T4-REF", "EEG T5-REF", "EEG P3-REF", "EEG P4-REF", "EEG T6-REF", "EEG O1-REF",
         "EEG O2-REF", "ECG ECG"]  # fmt: skip


def write_recordings(folder) -> None:
    """Write two runs of four people: a rhythm at the back of the head in one of them. One more file is cut short."""
    lines = ["recording\tlabel"]
    time = np.arange(20 * 200) / 200
    for person in range(4):
        for run in ("rest", "task"):
            signal = brain_waves(len(NAMES), 20, 200, seed=10 * person + (run == "task"))
            if run == "rest":
                signal[10:16] += 30 * np.sin(2 * np.pi * 10 * time + person)
            write_edf(folder / "recordings" / f"P{person:02d}_{run}.edf", signal, NAMES, ["uV"] * len(NAMES))
            lines.append(f"P{person:02d}_{run}\t{run}")
    whole = folder / "recordings" / "P09_rest.edf"
    write_edf(whole, brain_waves(len(NAMES), 20, 200), NAMES, ["uV"] * len(NAMES))
    whole.write_bytes(whole.read_bytes()[:-20_000])
    (folder / "labels.tsv").write_text("\n".join(lines) + "\n")


@pytest.mark.notebook
@pytest.mark.timeout(600)  # a guard against hanging; about a minute on a quiet machine
def test_a_folder_of_recordings_becomes_a_score(root, tmp_path):
    write_recordings(tmp_path)
    page = (root / "docs/recordings.md").read_text("utf-8")
    walk = [c for c in commands(page) if "--store eeg-store" in c and (" 10_eeg" in c or " 70_decoding" in c)]
    assert len(walk) == 2
    said = []
    for command in walk:
        words = shlex.split(command)
        assert words[:2] == [".venv/bin/python", "-m"]
        run = subprocess.run(
            [sys.executable, *words[1:]], cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(root)}, capture_output=True,
            text=True, timeout=300,
        )  # fmt: skip
        said.append(run.stdout + run.stderr)
    assert (
        "P09_rest.edf is cut short: its header promises 20 records" in said[0]
        and "ECG ECG (ECG by its name)" in said[0]
    )
    results = json.loads((tmp_path / "eeg-store" / "decoding_frozen" / "results.json").read_text())
    score = results["metrics"]["balanced_accuracy_band_power_baseline"]
    assert score["value"] > 0.9 and score["baseline"] == 0.5  # the planted rhythm, people held out
    assert "random" in results["weights"]


def test_the_three_lines_of_the_readme_give_a_score_and_a_map(root, tmp_path, monkeypatch, capsys):
    write_recordings(tmp_path)
    (lines,) = [block.text for block in blocks((root / "README.md").read_text("utf-8")) if "decode_rec" in block.text]
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    exec(lines, names)
    said, found = capsys.readouterr().out, names["found"]
    assert "cut short" in said and "random, seed" in said
    rows = {(row["model"], row["mode"]): row for row in found.table.to_dict("records")}
    assert rows["band_power", "baseline"]["score"] > 0.9  # the planted rhythm at the back, people held out
    best = {found.scalp.ch_names[channel] for _, channel in found.scalp.best[:3]}
    assert best <= {"P7", "P3", "P4", "P8", "O1", "O2", "T5", "T6"}
    assert (tmp_path / "where.png").stat().st_size > 20_000
