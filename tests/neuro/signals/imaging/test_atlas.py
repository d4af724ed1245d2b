"""The real Schaefer atlas, and means over it against brute force."""

import numpy as np
import pytest

from nbkit.neuro.signals.imaging.atlas import Atlas, schaefer

NETWORKS = {"Vis", "SomMot", "DorsAttn", "SalVentAttn", "Limbic", "Cont", "Default"}


@pytest.fixture(scope="module")
def folder(shared_data):
    if not (shared_data / "schaefer_fsaverage5").is_dir():
        pytest.skip("the Schaefer annotations (../shared/data/schaefer_fsaverage5) are not here")
    return shared_data / "schaefer_fsaverage5"


@pytest.mark.parametrize("parcels", [100, 400, 1000])
def test_it_has_its_parcels_on_both_surfaces(folder, parcels):
    atlas = schaefer(parcels, folder)
    assert len(atlas.parcels) == parcels and set(atlas.networks) == NETWORKS
    assert atlas.parcels[0] == "7Networks_LH_Vis_1" and atlas.parcels[parcels // 2] == "7Networks_RH_Vis_1"
    left, right = atlas.labels[:10242], atlas.labels[10242:]
    assert left.max() == parcels // 2 and right[right > 0].min() == parcels // 2 + 1
    coarse = atlas.on("fsaverage4")
    assert coarse.surface == "fsaverage4" and np.array_equal(coarse.labels[2562:], right[:2562])
    if parcels == 400:
        assert len(np.unique(coarse.labels)) == 401  # every parcel is hit


def test_means_leave_the_medial_wall_and_what_is_told_out(folder):
    atlas = schaefer(400, folder)
    values = np.random.default_rng(0).normal(size=(3, 20484)) + 50 * (atlas.labels == 0)
    keep = np.random.default_rng(1).random(20484) > 0.2
    keep[atlas.labels == 7] = False
    means = atlas.means(values, keep)
    for parcel in (1, 200, 201, 400):
        assert np.allclose(means[:, parcel - 1], values[:, (atlas.labels == parcel) & keep].mean(axis=1))
    assert np.isnan(means[:, 6]).all() and np.isfinite(np.delete(means, 6, axis=1)).all()
    assert np.abs(means[:, 0]).max() < 5


def test_spread_is_the_inverse_of_means_and_networks_average(folder):
    atlas = schaefer(100, folder)
    values = np.arange(100.0)
    spread = atlas.spread(values)
    assert np.isnan(spread[atlas.labels == 0]).all()
    assert np.allclose(atlas.means(np.nan_to_num(spread)), values)
    own = values[np.array(atlas.networks) == "Vis"]
    assert atlas.network_means(values)["Vis"] == pytest.approx(own.mean())


def test_nothing_stands_in_for_the_real_atlas(tmp_path, monkeypatch):
    import pooch

    with pytest.raises(FileNotFoundError, match="lh.Schaefer2018_400Parcels"):
        schaefer(400, tmp_path)
    with pytest.raises(ValueError, match="no 360 parcels; it has 100"):
        schaefer(360)

    def offline(*_, **__):
        raise ConnectionError("no network")

    monkeypatch.setattr(pooch, "retrieve", offline)
    with pytest.raises(FileNotFoundError, match="Nothing replaces the real atlas"):
        schaefer(400)


def test_values_of_another_surface_are_refused():
    atlas = Atlas("toy", np.ones(20484, int), ("a",), ("n",))
    with pytest.raises(ValueError, match="5124 vertices, but toy has 20484"):
        atlas.means(np.zeros(5124))
    with pytest.raises(ValueError, match="3 values for the 1 parcels"):
        atlas.spread(np.zeros(3))
