"""Calcium: RoiResponseSeries of NWB files in bins, with what was not imaged masked."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pytest

from nbkit.neuro.signals.intake.facts import RecordingError
from nbkit.neuro.signals.spikes.imaging import load_imaging, trials_recording
from nbkit.neuro.signals.spikes.recordings import SpikeWindowSettings, make_windows


def write_imaging(path, names=("DfOverF",), rate=10.0, frames=600, cells=None, invalid=(), nan_from=None):
    """Write a file with three ROIs whose traces are known, in one series for each name."""
    from pynwb import NWBHDF5IO, NWBFile
    from pynwb.ophys import DfOverF, ImageSegmentation, OpticalChannel, RoiResponseSeries

    file = NWBFile("made for a test", "id", datetime(2026, 1, 1, tzinfo=UTC))
    plane = file.create_imaging_plane(
        name="plane", optical_channel=OpticalChannel("c", "c", 500.0), description="d", device=file.create_device("m"),
        excitation_lambda=900.0, indicator="GCaMP6", location="VISp", imaging_rate=rate,
    )  # fmt: skip
    module = file.create_processing_module("ophys", "traces")
    segmentation = ImageSegmentation()
    module.add(segmentation)
    rois = segmentation.create_plane_segmentation("rois", plane, "planes")
    if cells is not None:
        rois.add_column("iscell", "1 for a cell")
    for number in range(3):
        more = {} if cells is None else {"iscell": float(cells[number])}
        rois.add_roi(image_mask=np.eye(4), **more)
    region = rois.create_roi_table_region("all", region=[0, 1, 2])
    traces = np.arange(frames)[:, None] * np.array([1.0, -2.0, 0.5])
    if nan_from is not None:
        traces[nan_from:, 2] = np.nan
    for name in names:
        series = RoiResponseSeries(name=name, data=traces, rois=region, unit="1", rate=rate)
        if name == "DfOverF":
            module.add(DfOverF(name="ratio", roi_response_series=series))
        else:
            module.add(series)
    for start, stop in invalid:
        file.add_invalid_time_interval(start_time=start, stop_time=stop)
    with NWBHDF5IO(str(path), "w") as io:
        io.write(file)
    return path, traces


def test_frames_are_averaged_in_bins_and_what_was_not_imaged_is_masked(tmp_path):
    path, traces = write_imaging(tmp_path / "a.nwb", invalid=[(20.0, 30.0)], nan_from=500)
    found = load_imaging(path, 0.2)
    assert found.activity == "trace" and found.modality == "two-photon" and found.counts.shape == (300, 3)
    assert np.allclose(found.counts[:100], traces[:200].reshape(100, 2, 3).mean(axis=1))
    assert not found.seen[100:150].any() and found.seen[150:250].all() and found.seen[:100].all()
    assert not found.seen[250:, 2].any() and found.seen[250:, :2].all()


def test_events_are_added_up_and_rois_that_are_no_cells_left_out(tmp_path):
    path, traces = write_imaging(tmp_path / "a.nwb", names=("Deconvolved",), cells=(1, 0, 1))
    notes: list[str] = []
    found = load_imaging(path, 0.2, notes=notes)
    assert found.activity == "events" and found.unit_ids == ("0", "2")
    assert np.allclose(found.counts, traces[:, [0, 2]].reshape(300, 2, 2).sum(axis=1))
    assert notes == ["left out 1 of 3 ROIs that are no cells (iscell)"]


def test_a_file_without_units_is_imaging_and_dff_goes_before_raw_fluorescence(tmp_path):
    path, _ = write_imaging(tmp_path / "a.nwb", names=("Fluorescence", "DfOverF"))
    row = {"key": "a", "source": "folder", "path": str(path)}
    arrays = make_windows(row, SpikeWindowSettings(bin_s=0.2, window_s=4.0))
    assert arrays["counts"].shape == (15, 20, 3) and str(arrays["activity"]) == "trace"
    with pytest.raises(RecordingError, match=r"a frame takes 0\.1 s, a bin has 0\.02 s"):
        make_windows(row, SpikeWindowSettings())
    path, _ = write_imaging(tmp_path / "b.nwb", names=("one", "two"))
    with pytest.raises(RecordingError, match=r"has 2 RoiResponseSeries: /ophys/one, /ophys/two\. Name one"):
        load_imaging(path, 0.2)
    assert load_imaging(path, 0.2, series="two").counts.shape == (300, 3)


def test_bins_between_trials_are_not_observed_and_no_window_crosses_them():
    draws = np.random.default_rng(0)
    data = draws.normal(size=(5, 3, 11))
    times = np.arange(11) * 0.1 - 0.3
    found = trials_recording("t", data, times, ["a", "b", "a", "b", "b"], task="side")
    arrays = found.windows(11)
    assert np.allclose(arrays["counts"], data.transpose(0, 2, 1), atol=1e-6) and arrays["observed"].all()
    assert arrays["classes"].tolist() == ["a", "b"] and np.isnan(arrays["behaviour"][:, :3]).all()
    assert np.nansum(arrays["behaviour"], axis=1).argmax(axis=1).tolist() == [0, 1, 0, 1, 1]
    assert len(found.windows(4)["counts"]) == 10, "two in each trial"
    with pytest.raises(ValueError, match="11 bins of 0.1 s in its longest trial, a window 12"):
        found.windows(12)
