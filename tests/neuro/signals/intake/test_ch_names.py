"""Names and units as files spell them."""

from __future__ import annotations

import mne
import pytest

from nbkit.neuro.labram.channels import find_table
from nbkit.neuro.signals.intake.ch_names import electrode, is_between_references, is_scalp
from nbkit.neuro.signals.intake.units import volts_per
from nbkit.neuro.signals.positions import directions

FORMS = ["{}", "EEG {}", "EEG_{}", "RAW_{}", "{}-REF", "{}-LE", "{}-AVG", "{}-A1", "{}-A2", "{}-M1", "{}-M2", "{}..",
         "{} (uV)", "{} [uV]", "EEG {}-REF", "POL {}"]  # fmt: skip


@pytest.mark.parametrize("montage", ["standard_1005", "GSN-HydroCel-129", "biosemi64", "standard_alphabetic"])
def test_every_electrode_is_found_in_every_form(montage):
    builtin = mne.channels.get_builtin_montages()
    name = montage if montage in builtin else montage.replace("standard_", "colin27_")
    for site in mne.channels.make_standard_montage(name).ch_names:
        if site in ("A1", "A2", "M1", "M2", "Nz"):
            continue
        for form in FORMS:
            for change in (str, str.upper, str.lower):
                written = change(form.format(site))
                assert electrode(written) == site.upper().rstrip("."), written
        assert is_scalp(site, mne.channels.make_standard_montage(name).ch_names), site


def test_reading_a_name_twice_changes_nothing():
    for name in ["EEG Fp1-REF", "EEG A2-A1", "Fp1-F7", "EEG 001", "C3-0", "E01", "A1", "ECG ECG", "EEG", "", "EEG EEG"]:
        assert electrode(electrode(name)) == electrode(name)


def test_ears_and_references_are_no_scalp():
    for name in ("A2-A1", "EEG A2-A1", "M1", "A1", "M2-M1", "REF"):
        assert is_between_references(name) and not is_scalp(name, ["Fp1", name])
    assert is_scalp("A1", ["A1", "A2", "A3"])  # BioSemi's net
    assert is_scalp("C3-M2") and is_scalp("Fpz-Cz") and not is_scalp("SpO2") and not is_scalp("C3-EMG")


def test_all_of_the_package_reads_names_alike():
    written = ["EEG FP1-REF", "EEG T3-LE", "cz..", "EEG_O2"]
    assert find_table(written) == "ten_twenty" and len(directions(written)) == 4


@pytest.mark.parametrize(
    "units, volts",
    [
        (["uV", "UV", "µV", "μV", "Âµv", "Î¼V", "microV", "microvolts", "uVolt", " uV ", "[uV]", "MicroV"], 1e-6),
        (["mV", "milliV", "millivolt"], 1e-3),
        (["nV", "nanovolts"], 1e-9),
        (["V", "Volt", "volts", "v"], 1.0),
        (["", "n/a", "MV", "%", "DegC", "uS", "V/s", "xV", "ohm", "uVolts per s", "k", "u"], None),
    ],
)
def test_units_have_their_factor_or_none(units, volts):
    for unit in units:
        assert volts_per(unit) == volts, unit
