"""Windows at a stride and at events, with everything that is known of them."""

from __future__ import annotations

import mne
import numpy as np
import pytest

from nbkit.neuro.signals import eeg
from nbkit.neuro.signals.intake.facts import RecordingError, Stretch
from nbkit.neuro.signals.intake.reading import read_recording
from nbkit.neuro.signals.intake.recording import Recording
from nbkit.neuro.signals.windows.shards import WindowShards
from nbkit.neuro.signals.windows.windowing import Windowing, cut
from tests.neuro.signals.intake.edf_files import brain_waves, write_edf

SIGNAL = np.arange(3000.0)[None].repeat(2, axis=0)


def recording(**more):
    return Recording(SIGNAL, 100.0, ("C3", "C4"), **more)


@pytest.mark.parametrize("seed", range(5))
def test_no_window_leaves_its_stretch(seed):
    rng = np.random.default_rng(seed)
    edges = np.sort(rng.choice(np.arange(1, 3000), 6, replace=False)).tolist()
    bounds = list(zip([0, *edges], [*edges, 3000], strict=True))
    stretches = tuple(Stretch(a, b, 10.0 * n + a / 100) for n, (a, b) in enumerate(bounds))
    made = cut(recording(stretches=stretches), Windowing(0.5, 0.37))
    truth = [start for a, b in bounds for start in range(a, b - 49, 37)]
    assert made.starts.tolist() == truth and made.length == 50
    for start, time in zip(made.starts, made.columns["start_s"], strict=True):
        stretch = next(s for s in stretches if s.start <= start < s.stop)
        assert start + 50 <= stretch.stop and time == pytest.approx(stretch.start_s + (start - stretch.start) / 100)


def test_windows_at_events_lie_where_the_events_are():
    marks = dict(onsets_s=(1.0, 5.0, 9.99, 29.5), durations_s=(0.0,) * 4, labels=("S  1", "S  2", "S  1", "S  1"))
    columns = tuple({"rt": str(n / 10), "side": "left"} for n in range(4))
    made = cut(recording(**marks, columns=columns), Windowing(events=(("S  1", "go"),), tmin=-0.5, tmax=1.0))
    assert made.starts.tolist() == [50, 949] and made.length == 150 and made.dropped == 1
    assert made.columns["label"].tolist() == ["go", "go"] and made.columns["rt"].tolist() == [0.0, 0.2]
    assert made.columns["event"].tolist() == ["S  1", "S  1"] and made.columns["side"].tolist() == ["left", "left"]
    both = cut(recording(**marks), Windowing(events=(("S*", "any"),), tmin=0.0, tmax=0.2))
    assert both.starts.tolist() == [100, 500, 999, 2950]
    with pytest.raises(RecordingError, match=r"it has none of them. Its events are S  1, S  2"):
        cut(recording(**marks), Windowing(events=(("T1", "x"),)))
    with pytest.raises(RecordingError, match="too near to a gap or an end"):
        cut(recording(**marks), Windowing(events=(("S  2", "x"),), tmin=-6.0, tmax=30.0))


def test_labels_come_from_events_then_from_a_table(tmp_path):
    table = tmp_path / "labels.tsv"
    table.write_text(
        "recording\tstart_s\tstop_s\tlabel\tscore\nP1_rest\t0\t10\trest\t1.5\nP1_rest\t10\t20\twork\t2.5\nP2_rest\t\t\trest\tn/a\n"
    )
    signal = brain_waves(2, 30, 100)
    for name in ("P1", "P2"):
        write_edf(tmp_path / name / "rest.edf", signal, ["C3", "C4"], ["uV", "uV"], 100, marks=[(2.0, 1.0, "event")])
    settings = eeg.window_settings("folder", 100.0, 4.0, 4.0, labels=str(table))
    for row in eeg.recordings("folder", str(tmp_path)):
        eeg.make_windows(row, tmp_path / "made", **settings)
    made = WindowShards(tmp_path / "made", columns=())
    # the third window lies half in either span: it belongs to none; those after 20 s have no label
    assert made.column("label").tolist() == ["rest", "rest", "", "work", "work", "", ""] + ["rest"] * 7
    assert made.column("score")[[0, 3]].tolist() == [1.5, 2.5] and np.isnan(made.column("score")[[5, 8]]).all()
    table.write_text("recording\tstart_s\tstop_s\tlabel\nP1_rest\t5\t5\tx\n")
    with pytest.raises(RecordingError, match="line 2: the span from 5 to 5 s has no length"):
        eeg.make_windows(eeg.recordings("folder", str(tmp_path))[0], tmp_path / "m2", **settings)
    table.write_text("name\tlabel\nP1_rest\tx\n")
    with pytest.raises(RecordingError, match="needs recording and at least one column"):
        eeg.make_windows(eeg.recordings("folder", str(tmp_path))[0], tmp_path / "m3", **settings)


def test_a_real_stimulus_channel_gives_events(shared_data):
    path = shared_data / "eeg_mne_small" / "mne_sample_eeg60_raw.fif"
    if not path.is_file():
        pytest.skip("the recording of MNE (../shared/data/eeg_mne_small) is not here")
    found = read_recording(path)
    raw = mne.io.read_raw_fif(path, verbose="error")
    truth = mne.find_events(raw, shortest_event=1, verbose="error")
    assert found.labels == tuple(str(code) for code in truth[:, 2]) and len(truth) > 20
    made = cut(found, Windowing(events=(("1", "left"), ("2", "right")), tmin=-0.1, tmax=0.4))
    assert set(made.columns["label"]) == {"left", "right"} and made.length == 50


def test_columns_of_people_and_responses_reach_the_windows(shared_data, tmp_path):
    root = shared_data / "eeg_cueing_muse"
    if not root.is_dir():
        pytest.skip("the BIDS recordings (../shared/data/eeg_cueing_muse) are not here")
    row = eeg.recordings("bids", str(root), subjects=["106"])[0]
    settings = eeg.window_settings("bids", 100.0, events={"target*": "target"}, tmin=-1.0, tmax=1.0)
    eeg.make_windows(row, tmp_path, **settings)
    made = WindowShards(tmp_path, columns=("rt",))
    assert made[0]["rt"] == 0.5968 and {"validity", "correct", "session"} <= set(made.column_names)


@pytest.mark.parametrize(
    "wrong, words",
    [
        (dict(window_s=0.0), "must be above 0"),
        (dict(events=(("a", "b"),), tmin=1.0, tmax=1.0), "has no length"),
        (dict(events=(("a", "b"),), tmin=0.0, tmax=1.0, baseline=(-0.5, 0.0)), "must lie in the window"),
    ],
)
def test_settings_that_cannot_be_are_refused(wrong, words):
    with pytest.raises(ValueError, match=words):
        Windowing(**wrong)


def test_a_recording_without_room_for_a_window_says_what_would_fit():
    with pytest.raises(RecordingError, match="no window of 40 s fits.*30.00 s. Set WINDOW_S"):
        cut(recording(), Windowing(40.0, 40.0))
