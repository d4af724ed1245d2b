"""The summary counts what the facts of the recordings say."""

from __future__ import annotations

from nbkit.neuro.plots.intake import plot_recordings
from nbkit.neuro.signals import eeg
from nbkit.neuro.signals.intake.reading import read_recording
from nbkit.neuro.signals.recordings.summary import StoredIntake, summarize_intake
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
    assert lines[0] == "3 recordings of 2 people, 0.02 h, 3 to 4 EEG channels, unit uV (header)"
    assert lines[1].startswith("3 recordings have gaps") and lines[2] == "left out: ECG (3)"
    assert lines[3] == "bad channels: C3 (1)"
    assert any(line.startswith("said of 1 recordings: C3 cannot be interpolated") for line in lines)
    of_tables = [{"intake": {**one["intake"], "unit": f"uV (sub-{n}_channels.tsv)"}} for n, one in enumerate(facts)]
    assert summarize_intake(of_tables, "abc")[0].endswith("unit uV (channels.tsv)")
    assert summarize_intake([{"data": "real"}], ["x"]) == ["1 recording of 1 person"]


def test_every_recording_has_a_row_with_what_was_left_out_and_why(tmp_path):
    signal = brain_waves(5, 20, 200)
    for number, names in enumerate([[*NAMES, "ECG"], [*NAMES[:3], "Oz", "Resp"], [*NAMES, "Pz"]]):
        these = signal.copy()
        these[1] *= 0.0 if number == 1 else 1.0
        write_edf(tmp_path / "in" / f"P{number}.edf", these, names, ["uV"] * 5, marks=[(5.0, 1.0, "BAD_x")])
    rows = eeg.recordings("folder", str(tmp_path / "in"), subject_from="(P.)")
    settings = eeg.window_settings("folder", 100.0, 2.0, 2.0)
    for row in rows:
        eeg.make_windows(row, tmp_path / "items", **settings)
    stored = StoredIntake(tmp_path / "items", "pretrain")
    table = {row["file"]: row for row in stored.rows()}
    assert [table[f"P{n}.edf"]["EEG channels"] for n in range(3)] == [4, 3, 5]
    assert "ECG (ECG by its name)" in table["P0.edf"]["left out"] and table["P2.edf"]["left out"] == ""
    assert table["P1.edf"]["bad channels"].startswith("C3 (") and table["P1.edf"]["bad channels"].endswith("left out)")
    first = table["P0.edf"]
    assert first["unit"] == "uV (header)" and first["rate of the file (Hz)"] == "200" and first["length (s)"] == "19"
    assert first["parts without a gap (s)"] == "0 to 5, 6 to 20" and 1 < float(first["median amplitude (uV)"]) < 100
    lines = stored.lines()
    assert sum(" samples at 100 Hz, " in line for line in lines) == 3, "three montages"
    assert lines[-1] == "data: real; columns of each window: start_s, label"
    figure = plot_recordings(stored.facts)
    upper, lower = figure.axes
    drawn = upper.get_lines()[0].get_ydata()
    assert [f"{value:.3g}" for value in drawn] == [row["median amplitude (uV)"] for row in stored.rows()]
    heights = [[bar.get_height() for bar in kind] for kind in lower.containers]
    assert [sum(column) for column in zip(*heights, strict=True)] == [5, 5, 5]
    assert plot_recordings([{"data": "synthetic"}])._suptitle.get_text() == "1 recordings (synthetic)"
