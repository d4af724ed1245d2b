"""Trials and windows by purpose, on real events of release 3 and against eegdash's own reading."""

from __future__ import annotations

import gzip
import io
from dataclasses import replace

import numpy as np
import pytest

from nbkit.neuro.signals.hbn.windows import HBNRecording, HBNWindows, contrast_trials, cut, write_windows
from nbkit.neuro.signals.intake.recording import Recording
from nbkit.neuro.signals.windows.shards import WindowShards


@pytest.fixture(scope="module")
def real_runs(shared_data):
    """Release 3's contrast change detection runs: {(subject, run): table of events}."""
    pandas = pytest.importorskip("pandas")
    file = shared_data / "hbn_r3_behaviour" / "ccd_events.tsv.gz"
    if not file.is_file():
        pytest.skip("HBN's events (../shared/data/hbn_r3_behaviour) are not here")
    events = pandas.read_csv(io.StringIO(gzip.decompress(file.read_bytes()).decode()), sep="\t", keep_default_na=False)
    return {key: table for key, table in events.groupby(["participant_id", "run"])}


def test_trials_are_those_that_eegdash_reads(real_runs):
    windows = pytest.importorskip("eegdash.hbn.windows")
    answered = 0
    for table in list(real_runs.values())[::8]:
        ours = contrast_trials(table["onset"], table["value"].tolist(), table["feedback"].tolist())
        theirs = windows.build_trial_table(table)
        if theirs.empty:
            assert not len(ours["start_s"])
            continue
        for mine, its in (
            ("start_s", "trial_start_onset"), ("stimulus_s", "stimulus_onset"), ("response_s", "response_onset"),
            ("response_time_s", "rt_from_stimulus"),
        ):  # fmt: skip
            np.testing.assert_allclose(ours[mine], theirs[its].astype(float), err_msg=mine)
        expected = [np.nan if c is None else float(c) for c in theirs["correct"]]
        np.testing.assert_array_equal(ours["correct"], expected)
        answered += np.isfinite(ours["response_time_s"]).sum()
    assert answered > 1000


def test_release_3s_response_times_are_plausible(real_runs):
    times = np.concatenate(
        [contrast_trials(t["onset"], t["value"].tolist())["response_time_s"] for t in real_runs.values()]
    )
    times = times[np.isfinite(times)]
    # its provenance counts 9,595 answered trials of 1.577 s (0.409 s), the last trial of each run with them
    assert 8800 < len(times) <= 9595 and times.mean() == pytest.approx(1.577, abs=0.03)
    assert times.std() == pytest.approx(0.409, abs=0.03)


def recording(real_runs, seconds=300.0, **changes) -> HBNRecording:
    table = real_runs["sub-NDARAA948VFH", 1]
    signal = np.random.default_rng(0).normal(scale=10, size=(4, int(seconds * 100)))
    signal[-1] = 0
    source = Recording(signal, 100.0, ("E1", "E2", "E3", "Cz"), tuple(table["onset"].astype(float)),
                       (0.0,) * len(table), tuple(table["value"]))  # fmt: skip
    made = HBNRecording(source, "NDARAA948VFH", "contrastChangeDetection", "1", "R3",
                        {"age": 7.98, "externalizing": -0.387}, tuple(table["feedback"]))  # fmt: skip
    return replace(made, **changes)


def test_stimulus_locked_windows_of_real_events(real_runs):
    made = recording(real_runs)
    windows, columns = cut(made, HBNWindows.challenge1())
    assert columns["stimulus_s"][0] == 41.728 and columns["target"][0] == pytest.approx(1.958)
    start = 4173 + 50  # 0.5 s after the sample next to the stimulus
    np.testing.assert_array_equal(windows[0], made.recording.signal[:, start : start + 200])
    assert columns["correct"][0] == 1 and (windows[:, -1] == 0).all()  # the flat reference goes through


def test_one_shard_serves_all_purposes(real_runs, tmp_path):
    made = recording(real_runs)
    paths = write_windows(made, tmp_path)
    assert set(paths) == {"signal", "pretrain", "challenge1", "challenge2"}
    for purpose, length in (("pretrain", 200), ("challenge1", 200), ("challenge2", 400)):
        data = WindowShards(tmp_path, columns=(), purpose=purpose)
        windows, columns = cut(made, HBNWindows.of(purpose))
        assert data.n_times == length
        np.testing.assert_array_equal(data.stack(), windows.astype(np.float32))
        np.testing.assert_array_equal(data.column("event"), columns["event"])
    assert WindowShards(tmp_path, purpose="challenge2").column("target")[0] == -0.387
    passive = replace(made, task="RestingState")
    assert set(write_windows(passive, tmp_path / "passive")) == {
        "signal",
        "pretrain",
        "challenge2",
    }  # any task


def test_what_cannot_be_cut_is_named(real_runs, tmp_path):
    name = "sub-NDARAA948VFH_task-contrastChangeDetection_run-1"
    with pytest.raises(ValueError, match=f"{name}: it has 150 samples.*no window fits"):
        cut(recording(real_runs, seconds=1.5), HBNWindows.pretrain())
    with pytest.raises(ValueError, match=f"{name}: none of its .* trials gives a window"):
        cut(recording(real_runs, seconds=40.0), HBNWindows.challenge1())
    missing = recording(real_runs, participant={"externalizing": np.nan})
    with pytest.raises(ValueError, match=f"{name}: subject NDARAA948VFH has no externalizing"):
        cut(missing, HBNWindows.challenge2())
    paths = write_windows(missing, tmp_path)
    assert set(paths) == {"signal", "pretrain", "challenge1"}
    assert "no externalizing" in WindowShards(tmp_path, (), "pretrain").fact("without")
    bad = recording(real_runs)
    bad.recording.signal[2, 50] = np.nan
    with pytest.raises(ValueError, match=f"{name}: 1 of 4 channels hold NaN.*E3"):
        write_windows(bad, tmp_path / "bad")
    with pytest.raises(ValueError, match="may be pretrain"):
        HBNWindows.of("challenge3")
