"""Channels of a recording to a model's: hand-made differences, smooth fields, and refusals that say why."""

from __future__ import annotations

import mne
import numpy as np
import pytest

from nbkit.neuro.decoding.models.channels import choose_channels, plan_channels, reachable
from nbkit.neuro.signals.positions import directions
from tests.neuro.signals.test_positions import EGI

TEN_TWENTY = "Fp1 Fp2 F7 F3 Fz F4 F8 T7 C3 Cz C4 T8 P7 P3 Pz P4 P8 O1 O2".split()
KNOWN = [*(name.upper() for name in TEN_TWENTY), "FC5", "CPZ", "OZ", "AF7", "T3", "FP1-F7"]
BIPOLAR = "FP1-F7 F7-T7 T7-P7 P7-O1 FP2-F8 F8-T8 T8-P8 P8-O2 FP1-F3 F3-C3 C3-P3 P3-O1 FP2-F4 F4-C4 C4-P4 P4-O2".split()


def windows_of(names, seed=0):
    return 30 * np.random.default_rng(seed).normal(size=(3, len(names), 50))


def smooth(place):
    """A field as slow over the head as a deep source's: terms of second order at most."""
    x, y, z = place
    return 20 * x + 10 * y - 5 * z + 8 * x * y - 4 * x * z


def test_channels_of_the_same_name_are_copied_bit_for_bit_in_the_models_order():
    windows = windows_of(TEN_TWENTY)
    plan = plan_channels([f"{name}." for name in TEN_TWENTY], ["O2", "CZ", "fp1"])
    assert np.array_equal(plan.apply(windows), windows[:, [18, 9, 0]])
    assert plan.said[0] == "3 of 3 channels by name" and "16 of the recording not used (Fp2., F7." in plan.said[1]


def test_the_same_site_under_its_other_name_is_taken_and_said():
    for old, new in zip("T3 T4 T5 T6".split(), "T7 T8 P7 P8".split(), strict=True):
        for there, wanted in ((old, new), (new, old)):
            plan = plan_channels(["Cz", there], [wanted, "Cz"])
            windows = windows_of(["Cz", there])
            assert np.array_equal(plan.apply(windows), windows[:, [1, 0]])
            assert [t.how for t in plan.treatments] == ["alias", "same"]
            assert f"1 under another name ({wanted} = {there})" in plan.said
    both = plan_channels(["T3", "T7", "Cz"], ["T7", "T3"])  # a model with both names, a recording with both
    assert both.treatments[0].source == "T7" and both.treatments[1].source == "T3"


def test_bipolar_derivations_are_differences_by_hand():
    old = [{"T7": "T3", "T8": "T4", "P7": "T5", "P8": "T6"}.get(name, name) for name in TEN_TWENTY]
    for names in (TEN_TWENTY, old):
        windows = windows_of(names)
        found = plan_channels(names, BIPOLAR).apply(windows)
        by_name = dict(zip((name.upper() for name in TEN_TWENTY), windows.transpose(1, 0, 2), strict=True))
        by_hand = [by_name[pair.split("-")[0]] - by_name[pair.split("-")[1]] for pair in BIPOLAR]
        np.testing.assert_allclose(found, np.stack(by_hand, 1), atol=1e-12)
    ready = plan_channels(["FP1-F7", "C3", "P3"], ["Fp1-F7", "C3-P3"])  # one was recorded as a difference
    assert [t.how for t in ready.treatments] == ["same", "bipolar"]


@pytest.mark.parametrize("names", [TEN_TWENTY, EGI, [*EGI, "Cz"]])
def test_a_smooth_field_is_interpolated_near_its_truth(names):
    targets = [name for name in ("FC5", "FC2", "CPz", "Oz", "P3", "AF3", "F4", "C3", "PO8") if name not in names]
    field = np.array([smooth(place) for place in directions(names).values()])
    plan = plan_channels(names, targets)
    found = plan.apply(np.tile(field[None, :, None], (2, 1, 5)))[0, :, 0]
    truth = np.array([smooth(place) for place in directions(targets).values()])
    how = np.array([treatment.how for treatment in plan.treatments])
    assert (how == "interpolated").sum() >= 6
    assert np.abs(found - truth).max() < 0.05 * field.std()
    nearest = field[[list(names).index(t.source) for t in plan.treatments]]
    assert np.abs(found - truth).max() < 0.3 * np.abs(nearest - truth).max()  # and better than the neighbour


def test_each_channel_of_a_real_recording_is_interpolated_from_all_others(eegbci_folder):
    from nbkit.neuro.signals import eeg

    recording = eeg.load_recording(eeg.recordings("eegbci", runs=[3])[0])
    signal = recording.signal[:, 1000:5000] - recording.signal[:, 1000:5000].mean(1, keepdims=True)
    scores = {}
    for place, name in list(enumerate(recording.ch_names))[2::3]:
        others = [n for n in recording.ch_names if n != name]
        plan = plan_channels(others, [name], farthest=60.0)
        assert plan.treatments[0].how == "interpolated"
        found = plan.apply(np.delete(signal, place, axis=0)[None])[0, 0]
        scores[name] = np.corrcoef(found, signal[place])[0, 1]
    assert np.median(list(scores.values())) > 0.95 and len(scores) == 21


def test_a_204_sensor_net_with_measured_positions_is_shown_as_the_ten_twenty(shared_data):
    held = np.load(shared_data / "eeg_hd204_rt" / "hd204_epochs_rt.npz")
    names = [str(name) for name in held["sensors"]]
    places = dict(zip(names, held["xyz"], strict=True))  # in cm
    assert choose_channels(names, KNOWN, TEN_TWENTY, positions=places) == TEN_TWENTY
    plan = plan_channels(names, TEN_TWENTY, positions=places)
    assert plan.apply(held["X_uV"]).shape == (29, 19, 50) and max(t.degrees for t in plan.treatments) < 15
    field = np.array([smooth(place) for place in directions(names, places).values()])
    truth = np.array([smooth(place) for place in directions(TEN_TWENTY).values()])
    assert np.abs(plan.matrix @ field - truth).max() < 0.05 * field.std()


def test_too_far_too_few_and_unknown_places_are_refused_in_words():
    front = ["Fp1", "Fp2", "F7", "F3", "Fz", "F4", "F8", "AF3", "AF4"]
    with pytest.raises(ValueError, match=r"biot needs 2 channels and 1 of them are missing \(O1: .* is nearest, \d+"):
        plan_channels(front, ["F3", "O1"], model="biot")
    with pytest.raises(
        ValueError, match=r"Cz: splines need 8 channels with positions, there are 4.*TP9, AF7, AF8, TP10"
    ):
        plan_channels(["TP9", "AF7", "AF8", "TP10"], ["AF7", "Cz"])
    with pytest.raises(ValueError, match=r"Q1: its position on the head is not known.*no position is known of X1"):
        plan_channels([*TEN_TWENTY, "X1"], ["C3", "Q1"])
    with pytest.raises(ValueError, match="C3 more than once"):
        plan_channels(["C3", "C3.", "C4"], ["C3"])
    with pytest.raises(ValueError, match="no channel"):
        plan_channels([], ["C3"])
    with pytest.raises(ValueError, match=r"T9-P9: F7 is nearest, \d+ degrees"):
        plan_channels(front, ["T9-P9"])


def test_names_of_another_scheme_are_not_taken_for_the_ten_twenty():
    biosemi = mne.channels.make_standard_montage("biosemi128").ch_names
    plan = plan_channels(biosemi, ["A1", "C3", "Oz"], template="biosemi128", farthest=60.0)
    assert {treatment.how for treatment in plan.treatments} == {"interpolated"}  # its A1 is at the vertex
    with pytest.raises(ValueError, match="By the positions given, Fp1 .*MNE.s head frame"):
        turned = {name: (y, -x, z) for name, (x, y, z) in directions(TEN_TWENTY).items()}
        plan_channels(TEN_TWENTY, ["C3"], positions=turned)


def test_channels_a_model_is_shown():
    assert choose_channels(["Cz..", "T3", "Fp1."], KNOWN, TEN_TWENTY) == ["CZ", "T3", "FP1"]
    assert choose_channels(["Cz", "T4", "Fp1"], KNOWN, TEN_TWENTY) == ["CZ", "T8", "FP1"]
    assert (
        choose_channels([*TEN_TWENTY, "FFT7h"], KNOWN, TEN_TWENTY) == KNOWN[:19]
    )  # its place is known: said as unused
    assert choose_channels(EGI, KNOWN, TEN_TWENTY) == TEN_TWENTY
    front = [f"E{number}" for number in range(1, 129)][:30]
    near = choose_channels(front, KNOWN, TEN_TWENTY, template="GSN-HydroCel-128")
    assert (
        set(near) < set(TEN_TWENTY)
        and "O1" not in near
        and near == reachable(front, TEN_TWENTY, template="GSN-HydroCel-128")
    )
    with pytest.raises(
        ValueError, match=r"labram does not know the channels ECG, EMG1, and their positions are not known"
    ):
        choose_channels([*TEN_TWENTY, "ECG", "EMG1"], KNOWN, TEN_TWENTY, model="labram")
    with pytest.raises(ValueError, match="knows 0 of the recording's 9 channels by name, and 0 of its 19"):
        where = {f"X{n}": (0.1 * n, -9.0, -3.0) for n in range(9)}
        choose_channels(list(where), KNOWN, TEN_TWENTY, positions=where)
