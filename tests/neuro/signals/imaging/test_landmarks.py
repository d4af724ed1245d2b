"""Named regions: where they lie on the real atlas, and that no parcel is in two."""

from __future__ import annotations

import numpy as np
import pytest

from nbkit.neuro.signals.imaging.atlas import schaefer
from nbkit.neuro.signals.imaging.landmarks import named_regions
from nbkit.neuro.signals.imaging.surfaces import curvature, mesh


@pytest.mark.parametrize("parcels", [400, 1000])
def test_regions_lie_where_textbooks_say(shared_data, parcels):
    folder = shared_data / "schaefer_fsaverage5"
    if not folder.is_dir():
        pytest.skip("the atlas (../shared/data/schaefer_fsaverage5) is not here")
    atlas = schaefer(parcels, folder)
    names, region = named_regions(atlas)
    assert names == ("early visual", "auditory", "language", "default mode")
    share = [np.mean(region == number) for number in range(4)]
    assert all(0.02 < one < 0.25 for one in share)
    points = np.concatenate([mesh("fsaverage5", "pial", side)[0] for side in ("left", "right")])
    centre = np.stack([points[atlas.labels == number + 1].mean(0) for number in range(parcels)])
    assert (centre[region == 0, 1] < -65).all()  # early vision is at the back,
    assert (np.abs(centre[region == 1, 0]) > 30).all()  # hearing at the sides,
    assert (centre[region == 2, 0] < 0).all()  # language on the left,
    assert {"Default"} == {atlas.networks[k] for k in np.flatnonzero(region == 3)}


def test_curvature_is_that_of_the_folds():
    fine, coarse = curvature("fsaverage5"), curvature("fsaverage4")
    assert fine.shape == (20484,) and np.array_equal(coarse[:2562], fine[:2562])
    assert 0.35 < (fine > 0).mean() < 0.65
    # a sulcus is deeper: nearer to the middle of the white surface than the gyri around it
    points = np.concatenate([mesh("fsaverage5", "white", side)[0] for side in ("left", "right")])
    depth = np.linalg.norm(points - points.mean(0), axis=1)
    assert depth[fine < 0].mean() > depth[fine > 0].mean()
