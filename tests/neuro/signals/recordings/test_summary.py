"""The summary counts what the facts of the recordings say."""

from __future__ import annotations

from nbkit.neuro.signals.intake.reading import read_recording
from nbkit.neuro.signals.recordings.summary import summarize_intake
from tests.neuro.signals.intake.edf_files import brain_waves, write_edf

NAMES = ["Fp1", "C3", "C4", "O1"]


def test_what_was_left_out_bad_and_said_is_counted(tmp_path):
    signal = brain_waves(5, 20, 200)
    facts = []
    for number in range(3):
        these = signal.copy()
        these[1] *= 0.0 if number == 2 else 1.0
        path = write_edf(tmp_path / f"{number}.edf", these, [*NAMES, "ECG"], ["uV"] * 5, marks=[(5.0, 1.0, "BAD_x")])
        facts.append({"intake": read_recording(path).facts.as_json()})
    lines = summarize_intake(facts, ["a", "a", "b"])
    assert lines[0] == "3 recordings of 2 people, 0.02 h, 3 to 4 EEG channels, in uV (header) (3)"
    assert lines[1].startswith("3 recordings have gaps") and lines[2] == "left out: ECG (3)"
    assert lines[3] == "bad channels: C3 (1)"
    assert any(line.startswith("said of 1 recordings: C3 cannot be interpolated") for line in lines)
    assert summarize_intake([{"data": "real"}], ["x"]) == ["1 recordings of 1 people"]
