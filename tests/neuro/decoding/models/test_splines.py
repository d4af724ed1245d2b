"""Splines: MNE's own interpolation of a bad channel is the oracle."""

from __future__ import annotations

import mne
import numpy as np

from nbkit.neuro.decoding.models.splines import spline_weights
from nbkit.neuro.signals.positions import directions
from tests.neuro.decoding.models.test_channels import TEN_TWENTY, windows_of


def test_splines_are_those_of_mnes_bad_channels():
    """A bad channel of a recording, as MNE itself interpolates it, on a sphere."""
    names = TEN_TWENTY
    laid = directions(names)
    info = mne.create_info(names, 100.0, "eeg")
    data = windows_of(names)[0] * 1e-6
    raw = mne.io.RawArray(data, info, verbose="error")
    places = {name: 0.095 * place for name, place in laid.items()}
    fiducials = {"nasion": [0, 0.095, 0], "lpa": [-0.095, 0, 0], "rpa": [0.095, 0, 0], "coord_frame": "head"}
    raw.set_montage(mne.channels.make_dig_montage(places, **fiducials))
    raw.info["bads"] = ["C3"]
    truth = raw.interpolate_bads(origin=(0.0, 0.0, 0.0), verbose="error").get_data(["C3"])[0]
    others = [name for name in names if name != "C3"]
    weights = spline_weights([laid[name] for name in others], [laid["C3"]])
    found = weights @ data[[names.index(name) for name in others]]
    np.testing.assert_allclose(found[0], truth, rtol=1e-6, atol=1e-12)


def test_two_sensors_at_one_place_share_it():
    laid = list(directions(TEN_TWENTY).values())
    weights = spline_weights([*laid, laid[9]], [laid[9], laid[0]])
    np.testing.assert_allclose(weights[0, 9], weights[0, 19], rtol=1e-6)
    assert weights[0, 9] + weights[0, 19] > 0.9 and np.abs(weights).max() < 1.01
    np.testing.assert_allclose(weights.sum(1), 1, atol=1e-6)  # a constant stays one
