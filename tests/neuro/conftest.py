"""Where the real recordings are, and small data sets."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    """Models of a few thousand weights are slower on more, above all beside other work."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def eegbci_folder(shared_data, monkeypatch) -> Path:
    if not (shared_data / "MNE-eegbci-data").is_dir():
        pytest.skip("the eegbci recordings (../shared/data/MNE-eegbci-data) are not here")
    monkeypatch.setenv("MNE_DATASETS_EEGBCI_PATH", str(shared_data))
    return shared_data


@pytest.fixture
def write_recording(tmp_path):
    """Write one recording's windows as a runtime item does, and give the path."""

    def write(subject="1", run="3", windows=4, levels=None, seed=0, **more) -> Path:
        if levels is None:
            steps = np.random.default_rng(seed).normal(size=(windows, 3, 4, 32))
            levels = np.cumsum(steps, axis=1)
        path = tmp_path / f"sub-{subject}_run-{run}.npz"
        arrays = {
            "signal": levels[:, -1].astype(np.float32),
            "cumulative_bands": levels.astype(np.float32),
            "bands": np.array([(1, 4), (4, 8), (8, 13)][: levels.shape[1]], np.float32),
            "sfreq": np.float32(100),
            "subject": np.array(subject),
            "run": np.array(run),
        }
        np.savez(path, **{**arrays, **more})
        return path

    return write
