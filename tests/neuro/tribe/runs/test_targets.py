"""Targets: real fMRI on fsaverage5 against its own parcel series, and outputs of every kind."""

import numpy as np
import pytest

from nbkit.neuro.signals.imaging.atlas import schaefer
from nbkit.neuro.tribe.runs.targets import make_run, read_run, run_of, to_outputs
from nbkit.neuro.tribe.stimuli.synthetic import SyntheticSettings, synthetic_fmri, synthetic_stimulus

pytestmark = pytest.mark.filterwarnings("ignore:.*outputs never change")


@pytest.fixture(scope="module")
def lemon(shared_data):
    folder = shared_data / "fmri_fsa5_lemon"
    if not folder.is_dir() or not (shared_data / "schaefer_fsaverage5").is_dir():
        pytest.skip("the real fMRI (../shared/data/fmri_fsa5_lemon) or the atlas is not here")
    return next(folder.glob("*300vol.npz")), np.load(next(folder.glob("*652vol.npz")))


@pytest.mark.parametrize("parcels", [100, 400, 1000])
def test_schaefer_means_of_real_fmri_are_the_files_own(lemon, shared_data, parcels):
    path, series = lemon
    arrays = np.load(path)
    values = (arrays["data_int16"] * arrays["scale"][:, None]).T
    theirs = series[f"schaefer{parcels}"].T[:300]
    atlas = schaefer(parcels, shared_data / "schaefer_fsaverage5")
    assert np.abs(atlas.means(values, arrays["valid"]) - theirs).max() < 1e-4
    assert np.abs(atlas.means(values) - theirs).max() > 0.01  # with the constant vertices they are not


def test_a_real_run_is_clean_and_says_what_is_constant(lemon, shared_data):
    run = read_run(lemon[0], subject="sub-010188")
    assert run.fmri.shape == (300, 20484) and run.tr == 1.4 and run.video_id == "rest" and run.data == "real"
    assert (~run.keep).sum() == 1769 and not run.fmri[:, ~run.keep].any()
    assert np.allclose(run.fmri[:, run.keep].std(axis=0), 1, atol=1e-4)
    coarse = run.to_outputs(5124)
    assert coarse.fmri.shape == (300, 5124) and np.array_equal(coarse.keep, run.keep[np.r_[:2562, 10242:12804]])
    parcels = run.to_outputs(400, schaefer(400, shared_data / "schaefer_fsaverage5"))
    assert parcels.keep.all() and np.allclose(parcels.fmri.std(axis=0), 1, atol=1e-4)


def test_made_up_fmri_is_a_run_too(tmp_path):
    world = SyntheticSettings.smoke()
    arrays = synthetic_fmri(world, 1, synthetic_stimulus(world, 0))
    np.savez(tmp_path / "run.npz", **arrays)
    for run in (run_of(arrays), read_run(tmp_path / "run.npz")):
        assert run.fmri.shape == (80, 400) and run.subject == "1" and run.video_id == "stim0000"
        assert run.ceiling == 0.8 and "synthetic" in run.data and run.tr == 1.49


def test_bad_runs_and_outputs_are_refused(tmp_path):
    values = np.random.default_rng(0).normal(size=(10, 20484))
    with pytest.raises(ValueError, match="777 outputs: .* no atlas was given"):
        to_outputs(values, 777)
    with pytest.raises(ValueError, match="sub x: TR 0.0 s"):
        make_run(values, 0.0, "sub", "x")
    values[2, 2] = np.nan
    with pytest.raises(ValueError, match="1 of 204840 BOLD values are NaN"):
        make_run(values, 1.5, "sub", "x")
    np.savez(tmp_path / "odd.npz", bold=values)
    with pytest.raises(ValueError, match="has bold; an fMRI run has fmri and tr"):
        read_run(tmp_path / "odd.npz")
