"""Where electrodes are: MNE's own montages are the oracle, across the nets and the 10-20 system."""

from __future__ import annotations

import mne
import numpy as np
import pytest

from nbkit.neuro.signals.intake.ch_names import electrode
from nbkit.neuro.signals.positions import TEN_FIVE, angle, directions, head_places

EGI = [f"E{number}" for number in range(1, 129)]
# EGI's own table of the sites nearest to its electrodes (HydroCel 128).
NAMED = {"E24": "F3", "E124": "F4", "E36": "C3", "E104": "C4", "E62": "Pz", "E70": "O1", "E83": "O2", "E75": "Oz",
         "E58": "P7", "E96": "P8", "E33": "F7", "E122": "F8", "E11": "Fz", "E22": "Fp1", "E9": "Fp2"}  # fmt: skip


def _ten_twenty() -> mne.channels.DigMontage:
    renamed = "colin27_1020" in mne.channels.get_builtin_montages()
    return mne.channels.make_standard_montage("colin27_1020" if renamed else "standard_1020")


@pytest.mark.parametrize(
    ("written", "meant"), [("Fc5.", "FC5"), ("Cz..", "CZ"), ("EEG T3-REF", "T3"), ("EEG FP1-LE", "FP1"), (" Oz ", "OZ")]
)
def test_plain_names(written, meant):
    assert electrode(written) == meant


@pytest.mark.parametrize("last", ([], ["Cz"], ["E129"]))
def test_an_egi_net_lies_where_its_sites_of_the_ten_twenty_are(last):
    net, usual = directions(EGI + last), directions(list(NAMED.values()))
    assert set(net) == set(EGI + last)
    off = [angle(net[egi], usual[site]) for egi, site in NAMED.items()]
    assert np.mean(off) < 7 and max(off) < 13  # measured: 5.7 and 11.6
    if last:
        assert angle(net[last[0]], directions(["Cz"])["Cz"]) < 3


def test_a_few_of_a_nets_names_are_of_no_net_for_certain():
    assert directions(EGI[:20]) == {}  # a 32 net has them elsewhere than a 128 one
    assert len(directions(EGI[:20], template="GSN-HydroCel-128")) == 20
    of_32, of_128 = directions(["E20"], template="GSN-HydroCel-32"), directions(EGI)
    assert angle(of_32["E20"], of_128["E20"]) > 30


def test_given_positions_stand_before_names_and_have_any_unit():
    montage = mne.channels.transform_to_head(mne.channels.make_standard_montage("GSN-HydroCel-128"))
    places = montage.get_positions()["ch_pos"]
    by_name = directions(EGI)
    for unit in (1.0, 100.0):
        given = directions([f"X{name}" for name in EGI], {f"X{n}": unit * at for n, at in places.items()})
        assert max(angle(given[f"X{name}"], by_name[name]) for name in EGI) < 1.0
    moved = directions(["C3", "C4"], {"C3": places["E75"], **{f"X{n}": at for n, at in places.items()}})
    assert angle(moved["C3"], by_name["E75"]) < 1.0 and angle(moved["C4"], directions(["C4"])["C4"]) < 1e-3


def test_few_given_positions_take_the_middle_of_a_usual_head():
    montage = mne.channels.transform_to_head(_ten_twenty())
    places = {f"X{n}": montage.get_positions()["ch_pos"][n] for n in ("Fp1", "Fp2", "C3", "C4", "O1", "O2")}
    found, truth = directions(list(places), places), directions([name[1:] for name in places])
    assert max(angle(found[name], truth[name[1:]]) for name in places) < 10


def test_places_on_the_head_are_the_templates():
    montage = _ten_twenty().get_positions()["ch_pos"]
    found = head_places(directions(["C3", *EGI]))
    np.testing.assert_allclose(found["C3"], montage["C3"])
    assert np.linalg.norm(np.subtract(found["E36"], montage["C3"])) < 0.02  # m
    assert 0.05 < min(found[name][2] for name in ("E7", "E106", "E55")) < 0.13  # the top of the head is up


def test_refuses_what_is_no_position_and_no_montage():
    with pytest.raises(ValueError, match="positions of C3 are not three finite numbers"):
        directions(["C3"], {"C3": (0.0, np.nan, 0.1)})
    with pytest.raises(ValueError, match=r"no montage 'hydrocel'; it has .*GSN-HydroCel-128"):
        directions(["C3"], template="hydrocel")
    assert directions(["nowhere"], template=TEN_FIVE) == {}
