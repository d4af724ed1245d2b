"""One recording written in many ways is one recording, or is refused in words."""

from __future__ import annotations

import ast
import warnings

import mne
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nbkit.neuro.signals.intake.ch_names import electrode
from nbkit.neuro.signals.intake.cleaning import Cleaning
from nbkit.neuro.signals.intake.facts import RecordingError
from nbkit.neuro.signals.intake.reading import read_recording
from tests.neuro.signals.intake.edf_files import brain_waves, write_edf

NAMES = ["Fp1", "F7", "T3", "C3", "Cz", "Pz", "O2"]
SIGNAL = brain_waves(len(NAMES), 20, 200)
UNITS = {
    1e-6: ["uV", b"\xb5V", b"\xc2\xb5V", b"\xce\xbcV", "UV", "microV", "uVolt", b"\x83\xcaV", "microvol"],
    1e-3: ["mV", "millivol"],
    1.0: ["V", "Volt"],
}
SPELLINGS = ["{}", "EEG {}", "EEG_{}", "RAW_{}", "{}-REF", "EEG {}-LE", "{}-A1", "{}-M2", "{}..", "{} (uV)", "{}-AVG"]


def usual(folder):
    return read_recording(write_edf(folder / "usual.edf", SIGNAL, NAMES, ["uV"] * len(NAMES)))


@pytest.fixture(scope="module")
def known(tmp_path_factory):
    return usual(tmp_path_factory.mktemp("known"))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_order_spelling_case_and_unit_change_nothing(tmp_path, known, data):
    order = data.draw(st.permutations(range(len(NAMES))))
    form = data.draw(st.sampled_from(SPELLINGS))
    change = data.draw(st.sampled_from([str, str.upper, str.lower]))
    labels = [change(form.format(NAMES[n])) for n in order]
    volts = data.draw(st.sampled_from(sorted(UNITS)))
    unit = data.draw(st.sampled_from(UNITS[volts]))
    path = write_edf(
        tmp_path / "other.edf", SIGNAL[order], labels, [unit] * len(order), volts_per_unit=[volts] * len(order)
    )
    try:
        found = read_recording(path)
    except RecordingError as error:
        assert "other.edf" in str(error) and "UNIT" in str(error)
        assert unit in ("microvol", "millivol")
        return
    assert found.ch_names == known.ch_names
    # each way of writing rounds to 16 bits of another range; nothing beyond that may differ
    np.testing.assert_allclose(found.signal, known.signal, atol=0.01)


def test_the_same_numbers_under_other_spellings_are_the_same_to_the_bit(tmp_path, known):
    for form in SPELLINGS:
        path = write_edf(tmp_path / "other.edf", SIGNAL, [form.format(n) for n in NAMES], ["uV"] * len(NAMES))
        np.testing.assert_allclose(read_recording(path).signal, known.signal, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("unit", ["", "n/a", "MV", "xV", "arb", "??", "DegC", "%"])
def test_a_unit_that_is_not_known_is_refused_with_what_to_set(tmp_path, unit):
    path = write_edf(tmp_path / "odd.edf", SIGNAL, NAMES, [unit] * len(NAMES))
    with pytest.raises(RecordingError, match="odd.edf"):
        read_recording(path)
    assert read_recording(path, unit="uV").signal.std() == pytest.approx(20, rel=0.3)


@pytest.mark.parametrize("size", [0.01, 1e4])
def test_amplitudes_that_no_head_has_are_refused_with_the_number(tmp_path, size):
    path = write_edf(tmp_path / "odd.edf", SIGNAL / 20 * size, NAMES, ["uV"] * len(NAMES))
    with pytest.raises(RecordingError, match=r"7 of 7 EEG channels have no amplitude of EEG.*uV.*UNIT"):
        read_recording(path)


def test_one_flat_or_wild_channel_is_bad_and_said(tmp_path):
    signal = SIGNAL.copy()
    signal[2], signal[5] = 0.0, signal[5] * 400
    found = read_recording(write_edf(tmp_path / "one.edf", signal, NAMES, ["uV"] * len(NAMES)))
    assert set(found.facts.bads) == {"T7", "Pz"} and "flat" in found.facts.bads["T7"]
    assert len(found.ch_names) == 5  # too few good ones to interpolate from, which is said
    assert "cannot be interpolated" in " ".join(found.facts.said)


OTHERS = {
    "ECG": "mV", "EKG1": "uV", "EOG left": "uV", "LOC": "uV", "EMG chin": "uV", "Resp oro-nasal": "", "Thor": "uV",
    "SpO2": "%", "SaO2": "%", "Temp rectal": "DegC", "Event marker": "", "Status": "", "A2-A1": "uV", "M1": "uV",
    "Pleth": "uV", "GSR": "uS", "DC1": "mV", "ACC X": "g", "TRIG": "", "Photic": "uV", "IBI": "", "PULSE": "bpm",
}  # fmt: skip


@pytest.mark.parametrize("name", list(OTHERS))
def test_channels_that_are_no_eeg_are_left_out_by_name(tmp_path, known, name):
    signal = np.vstack([SIGNAL, 50 * SIGNAL[:1]])
    path = write_edf(tmp_path / "more.edf", signal, [*NAMES, name], ["uV"] * len(NAMES) + [OTHERS[name]])
    found = read_recording(path)
    assert found.ch_names == known.ch_names and list(found.facts.left_out) == [name]
    np.testing.assert_allclose(found.signal, known.signal, atol=1e-6)


@pytest.mark.parametrize("gaps", [[10], [5, 10, 15], [1, 19]])
def test_cutting_at_a_gap_equals_cutting_the_parts(tmp_path, gaps):
    onsets = np.arange(20.0)
    for gap in gaps:
        onsets[gap:] += 100
    whole = read_recording(write_edf(tmp_path / "w.edf", SIGNAL, NAMES, ["uV"] * 7, record_onsets=onsets.tolist()))
    edges = [0, *gaps, 20]
    assert [s.start_s for s in whole.stretches] == [onsets[edge] for edge in edges[:-1]]
    cleaning = Cleaning()
    for first, stop, stretch in zip(edges[:-1], edges[1:], whole.stretches, strict=True):
        info = mne.create_info(NAMES, 200.0, "eeg")
        raw = mne.io.read_raw_edf(tmp_path / "w.edf", preload=True, verbose="error")
        part = mne.io.RawArray(raw.get_data()[:, first * 200 : stop * 200], info, verbose="error")
        alone = read_recording(part, cleaning)
        np.testing.assert_allclose(whole.signal[:, stretch.start : stretch.stop], alone.signal, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("kept", [0.4, 0.99])
def test_a_file_cut_short_is_refused_or_taken_on_the_users_word(tmp_path, kept):
    path = write_edf(tmp_path / "cut.edf", SIGNAL, NAMES, ["uV"] * 7)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * kept)])
    with pytest.raises(RecordingError, match=r"promises 20 records.*ACCEPT_CUT"):
        read_recording(path)
    found = read_recording(path, accept_cut=True)
    assert 0 < found.seconds <= 20 * kept + 1 and "cut short" in " ".join(found.facts.said)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.integers(0, 3000), byte=st.integers(0, 255), keep=st.floats(0.01, 1.0))
def test_damaged_bytes_are_read_or_refused_in_words(tmp_path, place, byte, keep):
    path = write_edf(tmp_path / "hurt.edf", SIGNAL[:, :1000], NAMES, ["uV"] * 7)
    data = bytearray(path.read_bytes())
    data[place % len(data)] = byte
    path.write_bytes(data[: max(1, int(len(data) * keep))])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            found = read_recording(path, accept_cut=True)
        except (RecordingError, FileNotFoundError) as error:
            assert "hurt.edf" in str(error)
        else:
            assert np.isfinite(found.signal).all() and np.abs(found.signal).max() < 1e5


def test_marks_of_quality_are_no_labels_and_their_spans_no_signal(tmp_path):
    marks = [(3.0, 2.0, "BAD_muscle"), (8.0, 0.0, "boundary"), (12.0, 1.0, "left"), (15.0, 1.0, "bad segment")]
    found = read_recording(write_edf(tmp_path / "m.edf", SIGNAL, NAMES, ["uV"] * 7, marks=marks))
    assert found.labels == ("left",)
    assert [(s.start_s, s.stop - s.start) for s in found.stretches] == [(0, 300), (5, 300), (8, 700), (16, 400)]


def test_objects_and_arrays_are_read_as_files_are(tmp_path, known):
    raw = mne.io.read_raw_edf(tmp_path / "u.edf", preload=True, verbose="error") if usual(tmp_path) is None else None
    path = write_edf(tmp_path / "u.edf", SIGNAL, NAMES, ["uV"] * 7)
    raw = mne.io.read_raw_edf(path, preload=True, verbose="error")
    np.testing.assert_allclose(read_recording(raw).signal, known.signal, rtol=1e-6, atol=1e-9)
    arrays = {"signal": raw.get_data() * 1e3, "sfreq": 200.0, "ch_names": np.array(NAMES), "unit": "mV"}
    np.testing.assert_allclose(read_recording(arrays).signal, known.signal, rtol=1e-6, atol=1e-9)
    np.savez(tmp_path / "a.npz", **arrays)
    np.testing.assert_allclose(read_recording(tmp_path / "a.npz").signal, known.signal, rtol=1e-6, atol=1e-9)
    with pytest.raises(RecordingError, match="says no unit"):
        read_recording({**arrays, "unit": ""})
    raw.save(tmp_path / "f_raw.fif", verbose="error")
    np.testing.assert_allclose(read_recording(tmp_path / "f_raw.fif").signal, known.signal, rtol=1e-4, atol=1e-3)
    events = np.array([[400, 0, 1], [1600, 0, 2]])
    epochs = mne.Epochs(raw, events, {"go": 1, "stop": 2}, 0, 1, baseline=None, preload=True, verbose="error")
    made = read_recording(epochs)
    assert made.labels == ("go", "stop") and [s.start_s for s in made.stretches] == [2.0, 8.0]


def test_events_of_a_cropped_recording_count_from_its_first_sample():
    info = mne.create_info(["Cz"], 100.0, "eeg")
    for date in (None, 1_000_000_000):
        raw = mne.io.RawArray(brain_waves(1, 20, 100) * 1e-6, info, verbose="error")
        raw.set_meas_date(date)
        raw.set_annotations(mne.Annotations([12.0], [1.0], ["T1"], orig_time=raw.info["meas_date"]))
        raw.crop(tmin=10.0)
        assert read_recording(raw).onsets_s == pytest.approx((2.0,))


def test_a_recording_without_eeg_is_refused():
    raw = mne.io.RawArray(np.zeros((2, 500)), mne.create_info(2, 100.0, ["stim", "ecg"]), verbose="error")
    with pytest.raises(RecordingError, match="holds no EEG channel.*declared as stim.*declared as ecg"):
        read_recording(raw)


@pytest.mark.parametrize("mark", ["left", "BAD_x"])
def test_what_a_reader_warns_about_stays_with_the_recording(tmp_path, monkeypatch, mark):
    path = write_edf(tmp_path / "w.edf", SIGNAL, NAMES, ["uV"] * 7, marks=[(1.0, 0.5, mark)])
    usual_reader = mne.io.read_raw

    def doubting(*args, **more):
        warnings.warn("The header of this file looks odd", RuntimeWarning, stacklevel=2)
        return usual_reader(*args, **more)

    monkeypatch.setattr(mne.io, "read_raw", doubting)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = read_recording(path)
    assert "The header of this file looks odd" in found.facts.said


@pytest.mark.parametrize("name", ["EXG1", "HEO", "IO", "BIP1", "XFlow", "Therm", "CO2", "PG1", "LO1", "26", "Sum"])
def test_channels_without_an_electrodes_name_are_none_beside_electrodes(tmp_path, known, name):
    """In uV, and as large as EEG: only the name tells."""
    path = write_edf(tmp_path / "more.edf", np.vstack([SIGNAL, SIGNAL[:1]]), [*NAMES, name], ["uV"] * 8)
    found = read_recording(path)
    assert found.ch_names == known.ch_names and list(found.facts.left_out) == [name]


def test_a_series_of_inputs_is_none_although_two_have_the_names_of_electrodes(tmp_path, known):
    inputs = [f"I{number}" for number in range(1, 9)]  # I1 and I2 are electrodes of the 10-05 system
    signal = np.vstack([SIGNAL, *[SIGNAL[:1]] * 8])
    found = read_recording(write_edf(tmp_path / "a.edf", signal, [*NAMES, *inputs], ["uV"] * 15))
    assert found.ch_names == known.ch_names and list(found.facts.left_out) == inputs
    found = read_recording(write_edf(tmp_path / "b.edf", signal[:9], [*NAMES, "I1", "I2"], ["uV"] * 9))
    assert set(found.ch_names) - set(known.ch_names) == {"I1", "I2"}


def test_a_numbered_cap_is_eeg(tmp_path):
    names = [f"EEG {number:03d}" for number in range(len(NAMES))]
    assert len(read_recording(write_edf(tmp_path / "a.edf", SIGNAL, names, ["uV"] * len(NAMES))).ch_names) == 7
    more = write_edf(tmp_path / "b.edf", np.vstack([SIGNAL, SIGNAL[:1]]), [*names, "Cz"], ["uV"] * 8)
    assert len(read_recording(more).ch_names) == 8


@pytest.mark.parametrize("kind", ["raw", "epo"])
def test_what_mne_takes_for_eeg_by_default_is_no_declaration(tmp_path, kind):
    """A FIF file that was made of an EDF file says "eeg" of its ECG, too."""
    info = mne.create_info([*NAMES, "ECG", "SpO2"], 200.0, "eeg")
    raw = mne.io.RawArray(np.vstack([SIGNAL, SIGNAL[:2]]) * 1e-6, info, verbose="error")
    path = tmp_path / f"a_{kind}.fif"
    if kind == "raw":
        raw.save(path, verbose="error")
    else:
        mne.make_fixed_length_epochs(raw, 2.0, preload=True, verbose="error").save(path, verbose="error")
    found = read_recording(path)
    assert len(found.ch_names) == len(NAMES) and set(found.facts.left_out) == {"ECG", "SpO2"}
    assert 15 < found.signal.std() < 25


def test_a_gap_of_a_file_that_says_it_has_none_is_found(tmp_path):
    onsets = [float(n) for n in range(10)] + [float(n + 100) for n in range(10, 20)]
    path = write_edf(tmp_path / "c.edf", SIGNAL, NAMES, ["uV"] * 7, record_onsets=onsets)
    path.write_bytes(path.read_bytes().replace(b"EDF+D", b"EDF+C", 1))
    found = read_recording(path)
    assert found.facts.stretches_s == ((0.0, 10.0), (110.0, 120.0))
    assert "says that it is continuous (EDF+C), but 1 records do not follow" in " ".join(found.facts.said)


@pytest.mark.parametrize(
    "name",
    ["FP1 - REF", "EEG Fp1-A1A2", "Fp1-(A1+A2)/2", "EEG Fp1-LINKED EARS", "FP1.REF", "EEGFp1", "Fp1:A2", "Fp1/M1",
     "Fp1A2", "EEG FP1-Org", "EEG Fp1[uV]"],
)  # fmt: skip
def test_laboratories_write_one_electrode_in_many_ways(name):
    assert electrode(name) == "FP1"


def write_brainvision(folder, unit="µV", volts=1e-6, marker_at=400, data_points=""):
    names = "".join(f"Ch{n}={name},,0.5,{unit}\n" for n, name in enumerate(NAMES, 1))
    (folder / "a.vhdr").write_text(
        "Brain Vision Data Exchange Header File Version 1.0\n[Common Infos]\nCodepage=UTF-8\nDataFile=a.eeg\n"
        f"MarkerFile=a.vmrk\nDataFormat=BINARY\nDataOrientation=MULTIPLEXED\nNumberOfChannels={len(NAMES)}\n"
        f"SamplingInterval=5000\n{data_points}[Binary Infos]\nBinaryFormat=IEEE_FLOAT_32\n[Channel Infos]\n{names}",
        "utf-8",
    )
    (folder / "a.vmrk").write_text(
        "Brain Vision Data Exchange Marker File, Version 1.0\n[Common Infos]\nDataFile=a.eeg\n[Marker Infos]\n"
        f"Mk1=New Segment,,1,1,0\nMk2=Stimulus,S  1,{marker_at},1,0\n"
    )
    (folder / "a.eeg").write_bytes((SIGNAL * 1e-6 / volts / 0.5).T.astype("<f4").tobytes())
    return folder / "a.vhdr"


@pytest.mark.parametrize(
    ("unit", "volts"),
    [("uV", 1e-6), ("UV", 1e-6), ("microV", 1e-6), ("", 1e-6), ("mV", 1e-3), ("V", 1.0), ("nV", 1e-9)],
)
def test_units_of_brainvision_files_are_read(tmp_path, unit, volts):
    found = read_recording(write_brainvision(tmp_path, unit, volts))
    assert 15 < found.signal.std() < 25 and found.labels == ("Stimulus/S  1",)


def test_a_brainvision_unit_that_is_none_is_refused_by_name(tmp_path):
    with pytest.raises(RecordingError, match="says the unit 'C', which is not known for Fp1.*UNIT"):
        read_recording(write_brainvision(tmp_path, "C"))


@pytest.mark.parametrize("how", ["points", "marker", "frame"])
def test_a_brainvision_signal_cut_short_is_refused_or_taken_on_the_users_word(tmp_path, how):
    path = write_brainvision(
        tmp_path, marker_at=3900 if how == "marker" else 400, data_points="DataPoints=4000\n" if how == "points" else ""
    )
    whole = (tmp_path / "a.eeg").read_bytes()
    (tmp_path / "a.eeg").write_bytes(whole[:-5] if how == "frame" else whole[: len(whole) // 2])
    with pytest.raises(RecordingError, match="a.eeg is cut short.*ACCEPT_CUT"):
        read_recording(path)
    assert "cut short" in " ".join(read_recording(path, accept_cut=True).facts.said)


@pytest.mark.parametrize("part", ["a.eeg", "a.vmrk"])
@pytest.mark.parametrize("kind", ["link", "pointer", "lfs"])
def test_a_part_that_was_not_fetched_is_never_signal(tmp_path, part, kind):
    path = write_brainvision(tmp_path)
    (tmp_path / part).unlink()
    if kind == "link":
        (tmp_path / part).symlink_to(f"../.git/annex/objects/xx/{part}")
    else:
        (tmp_path / part).write_text("/annex/objects/MD5E-s9\n" if kind == "pointer" else "version https://git-lfs\n")
    with pytest.raises(FileNotFoundError, match=f"{part}: the content was not fetched.*datalad get {part}"):
        read_recording(path)


@pytest.mark.parametrize("place", ["sub-01", "", "other"])
def test_tables_of_the_folders_above_count(tmp_path, place):
    (tmp_path / "dataset_description.json").write_text('{"Name": "x", "BIDSVersion": "1.8.0"}')
    path = write_edf(tmp_path / "sub-01" / "eeg" / "sub-01_task-rest_eeg.edf", SIGNAL, NAMES, ["uV"] * 7)
    rows = "".join(f"{name}\t{'EOG' if name == 'F7' else 'EEG'}\tuV\n" for name in NAMES)
    folder = tmp_path if place == "other" else tmp_path / place
    table = "task-odd_channels.tsv" if place == "other" else f"{place + '_' if place else ''}task-rest_channels.tsv"
    (folder / table).write_text("name\ttype\tunits\n" + rows)
    (folder / table.replace("channels", "events")).write_text(
        "onset\tduration\ttrial_type\tvalue\n1.0\t0\tn/a\t7\n3.0\t0\tn/a\tn/a\n"
    )
    found = read_recording(path, bids=True)
    assert found.facts.left_out == ({} if place == "other" else {"F7": "declared as eog"})
    assert found.labels == (() if place == "other" else ("7",))


READERS = ("read_", "load_data", "find_events", "filter", "notch_filter", "interpolate_bads", "set_eeg_reference")


def silenced(source: str) -> list[str]:
    """Return the calls of readers and filters whose warnings nobody would hear."""
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    found = []
    for call in calls:
        name = ast.unparse(call.func).rsplit(".", 1)[-1]
        words = {k.arg: ast.unparse(k.value).strip("'\"").lower() for k in call.keywords}
        if name.startswith(READERS) and words.get("verbose") in ("error", "critical", "false"):
            found.append(ast.unparse(call))
        if name in ("simplefilter", "filterwarnings") and call.args and ast.unparse(call.args[0]) == "'ignore'":
            about_code = any(ast.unparse(arg).endswith(("DeprecationWarning", "FutureWarning")) for arg in call.args)
            found += [] if about_code else [ast.unparse(call)]
    return found


def test_no_warning_of_a_reader_is_swallowed(root):
    assert silenced("mne.io.read_raw(path, verbose='error')") and silenced("warnings.simplefilter('ignore')")
    for path in sorted((root / "nbkit" / "neuro" / "signals").rglob("*.py")):
        found = [call for call in silenced(path.read_text("utf-8")) if "eegbci.load_data" not in call]  # a download
        # a stretch shorter than the filters of bands is told by the intake already, whose filters are longer
        assert found == [] or path.name == "bands.py", f"{path.name}: {found}"
