"""Open a recording of any format that MNE reads, with everything that its file and its tables say.

Nothing is decided here: units, kinds of channels, marks and warnings are collected as they were declared.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from nbkit.neuro.signals.intake.companions import BRAINVISION, brainvision_units, check_companions, check_content
from nbkit.neuro.signals.intake.edf_header import EDFHeader, read_header, record_onsets
from nbkit.neuro.signals.intake.facts import RecordingError
from nbkit.neuro.signals.intake.heard import heard
from nbkit.neuro.signals.intake.opened import Mark, Opened, is_break, is_quality
from nbkit.neuro.signals.intake.tables import event_rows, take_channels_table
from nbkit.neuro.signals.intake.units import volts_per

EDF = (".edf", ".bdf", ".rec")
SUFFIXES = (".edf", ".bdf", ".rec", ".gdf", ".vhdr", ".ahdr", ".set", ".fif", ".fif.gz", ".cnt", ".mff", ".egi", ".lay",
            ".nedf", ".npz")  # fmt: skip
_MNE_MICRO = ("μV", "µV", "\x83\xcaV", "uV")  # what MNE reads as microvolts in EDF and GDF files
_MOST_PER_S = 5.0  # events of a stimulus channel; one that changes more often holds something else
_MNE_BRAINVISION = {"V": 1.0, "mV": 1e-3, "µV": 1e-6, "uV": 1e-6, "nV": 1e-9}  # other units are read as they are


def suffix_of(path: str | Path) -> str:
    """Return the suffix of a recording's file in lower case; ``.fif.gz`` is one."""
    name = Path(path).name.lower()
    return ".fif.gz" if name.endswith(".fif.gz") else Path(name).suffix


def open_recording(source: Any, *, bids: bool = False, accept_cut: bool = False) -> Opened:
    """Open a file, an `mne.io.Raw`, an `mne.Epochs`, or arrays with ``sfreq`` and ``ch_names``.

    Parameters
    ----------
    source : path, mne.io.BaseRaw, mne.BaseEpochs or mapping
        A mapping (and an npz file) has ``signal`` of shape (channels, time), ``sfreq`` in Hz, ``ch_names``, and may
        have ``unit``.
    bids : bool
        Read the tables of a BIDS data set that belong to the file.
    accept_cut : bool
        Use what is there of a file that is shorter than its header says.

    Raises
    ------
    RecordingError
        If it cannot be read; the message says why.
    FileNotFoundError
        If there is no such file, or its content was not fetched.
    """
    import mne

    if isinstance(source, mne.io.BaseRaw):
        names = source.ch_names
        opened = Opened(source, _name_of(source), type(source).__name__, dict.fromkeys(names, "V"))
        opened.said_by = dict.fromkeys(names, "mne")
        opened.kinds = _declared(source)
        return _finished(opened, _marks_of(source))
    if isinstance(source, mne.BaseEpochs):
        return _of_epochs(source, "Epochs", type(source).__name__)
    if isinstance(source, Mapping):
        return _of_arrays(source, "arrays")
    path = Path(source)
    check_content(path)
    suffix = suffix_of(path)
    said: list[str] = []
    header = _edf_header(path, said, accept_cut) if suffix in EDF else None
    check_companions(path, suffix, said, accept_cut)
    try:
        with heard(said):
            if suffix == ".npz":
                with np.load(path, allow_pickle=False) as file:
                    return _of_arrays({name: file[name] for name in file.files}, path.name)
            if suffix in (".fif", ".fif.gz") and "epo" in path.name.lower().split(".fif")[0][-4:]:
                return _of_epochs(mne.read_epochs(path, verbose="warning"), path.name, suffix, said)
            raw = _read_bids(path) if bids else mne.io.read_raw(path, preload=False, verbose="warning")
    except Exception as error:
        if suffix == ".set" and "number of trials" in str(error):
            with heard(said):
                return _of_epochs(mne.read_epochs_eeglab(path, verbose="warning"), path.name, suffix, said)
        if isinstance(error, RecordingError):
            raise
        if isinstance(error, FileNotFoundError):
            raise RecordingError(f"{path.name}: {_part_missing(path, error)}") from error
        raise RecordingError(
            f"{path.name} cannot be read as {suffix or 'a recording'}: {_short(error)}. Nothing of it was used. Open "
            "it with mne.io.read_raw, repair it, or leave it out."
        ) from error
    opened = Opened(raw, path.name, suffix, said=said)
    marks = _marks_of(raw)
    if bids:
        take_channels_table(opened.raw.ch_names, path, opened)
        rows = event_rows(path, said)
        marks = marks if rows is None else rows
        marks += [m for m in _marks_in_file(path, said) if is_quality(m.text) or is_break(m.text)]
    if header is not None:
        marks = _take_edf(opened, path, header, marks)
    elif suffix in BRAINVISION:
        for name, unit in zip(raw.ch_names, brainvision_units(path), strict=False):
            opened.declare(name, unit, "header")
            opened.read_as[name] = _MNE_BRAINVISION.get(unit, 1.0)
    elif suffix == ".gdf":
        for name, unit in (getattr(raw, "_orig_units", {}) or {}).items():
            opened.declare(name, unit, "header")
            opened.read_as[name] = volts_per(unit) or 1.0
    elif suffix == ".set":
        opened.read_as = dict.fromkeys(raw.ch_names, 1e-6)
        for name in raw.ch_names:
            opened.declare(name, "uV", "EEGLAB")
    elif suffix in (".fif", ".fif.gz"):
        opened.kinds = {**_declared(raw), **opened.kinds}
        # a FIF file is in volts, whatever a table repeats
        opened.units, opened.said_by = dict.fromkeys(raw.ch_names, "V"), dict.fromkeys(raw.ch_names, "format")
    return _finished(opened, marks)


def _declared(of: Any) -> dict[str, str]:
    """Return the types of channels that somebody set: ``eeg`` is what MNE makes of every channel of most formats."""
    return {name: kind for name, kind in zip(of.ch_names, of.get_channel_types(), strict=True) if kind != "eeg"}


# -- formats ----------------------------------------------------------------------------------------------------------


def _read_bids(path: Path) -> Any:
    from mne_bids import get_bids_path_from_fname, read_raw_bids

    place = get_bids_path_from_fname(path, check=False, verbose="warning")
    # a table that names other channels than the file is said, and counts for those it names
    names = inspect.signature(read_raw_bids).parameters
    more = {"on_ch_mismatch": "warn"} if "on_ch_mismatch" in names else {}
    return read_raw_bids(place, verbose="warning", **more)


def _edf_header(path: Path, said: list[str], accept_cut: bool) -> EDFHeader:
    try:
        header = read_header(path)
    except ValueError as error:
        raise RecordingError(f"{error} Nothing of it was used. Export it again, or leave it out.") from error
    if header.only_annotations:
        raise RecordingError(
            f"{path.name} holds annotations only, no signal. It belongs to a recording beside it (a hypnogram to its "
            "PSG), which takes its marks from there."
        )
    if header.is_cut:
        cut = (
            f"{path.name} is cut short: its header promises {header.records} records of {header.record_s:g} s, and "
            f"{header.held:.1f} are there."
        )
        if not accept_cut:
            raise RecordingError(f"{cut} Fetch it again; to use what is there, set ACCEPT_CUT = True.")
        said.append(cut)
    if header.records < 0:
        said.append(f"{path.name}: the recording was never closed; its length is that of the file.")
    return header


def _take_edf(opened: Opened, path: Path, header: EDFHeader, marks: list[Mark]) -> list[Mark]:
    signals = [
        (label, unit) for label, unit in zip(header.labels, header.units, strict=True)
        if label not in ("EDF Annotations", "BDF Annotations")
    ]  # fmt: skip
    for name, (_, unit) in zip(opened.raw.ch_names, signals, strict=False):
        opened.declare(name, unit, "header")
        opened.read_as[name] = 1e-6 if unit in _MNE_MICRO else 1e-3 if unit == "mV" else 1.0
    onsets = _record_onsets(path, header)
    if onsets is not None:
        onsets = onsets - onsets[0]
        per_record = int(round(header.record_s * opened.raw.info["sfreq"]))
        jumps = np.flatnonzero(np.abs(np.diff(onsets) - header.record_s) > 1.5 / opened.raw.info["sfreq"]) + 1
        opened.breaks = [(int(record * per_record), float(onsets[record])) for record in (0, *jumps)]
        if len(jumps) and not header.interrupted:
            opened.said.append(
                f"{path.name} says that it is continuous (EDF+C), but {len(jumps)} records do not follow."
            )
        if len(jumps) and (np.diff(onsets) < 0).any():
            opened.said.append(f"{path.name}: some of its records begin before the one in front of them ends.")
        if len(jumps):
            # MNE's raw knows no time beyond the joined signal, so it has lost the marks after the first gap
            marks = [m for m in marks if m.columns] + _marks_in_file(path, opened.said)
    if table := _annotations_beside(path):
        marks = marks + _marks_in_file(table, opened.said)
        opened.said.append(f"The marks of {table.name} were joined.")
    return marks


def _record_onsets(path: Path, header: EDFHeader) -> np.ndarray | None:
    """Return the start of each record, in s; None for a file that does not tell it, and need not."""
    try:
        return record_onsets(path, header)
    except ValueError:
        if header.interrupted:
            raise
        return None  # plain EDF, whose records follow each other by definition


def _annotations_beside(path: Path) -> Path | None:
    """Return the file of annotations that belongs to a recording, as a hypnogram to its PSG, if there is just one.

    The names agree up to the last two characters before a hyphen: ``SC4001E0-PSG.edf``, ``SC4001EC-Hypnogram.edf``.
    """
    own = path.stem.split("-")[0]
    found = []
    for other in path.parent.iterdir():
        name = other.stem.split("-")[0]
        alike = len(name) == len(own) >= 4 and name[:-2] == own[:-2]
        if other != path and other.suffix.lower() in EDF and alike and not other.name.startswith("."):
            try:
                found += [other] if read_header(other).only_annotations else []
            except (OSError, ValueError):
                continue  # a recording of its own, with a fault of its own
    return found[0] if len(found) == 1 else None


def _of_epochs(epochs: Any, file: str, kind: str, said: list[str] | None = None) -> Opened:
    """Return epochs as one signal in which every epoch is a part by itself, marked by its event."""
    import mne

    data = epochs.get_data(copy=True)
    count, _, length = data.shape
    info = epochs.info.copy()
    with info._unlock():
        info["highpass"], info["lowpass"] = 0.0, info["sfreq"] / 2
    raw = mne.io.RawArray(np.concatenate(list(data), axis=1), info, verbose="error")
    names = {number: name for name, number in epochs.event_id.items()}
    sfreq = float(epochs.info["sfreq"])
    begins = epochs.events[:, 0] / sfreq + epochs.tmin
    begins = begins - min(0.0, float(begins.min()))
    apart = np.all(np.diff(epochs.events[:, 0]) >= 1)
    starts = begins if apart else np.arange(count) * length / sfreq
    opened = Opened(raw, file, kind, said=list(said or ()))
    opened.kinds = _declared(epochs)
    opened.units, opened.said_by = dict.fromkeys(raw.ch_names, "V"), dict.fromkeys(raw.ch_names, "format")
    opened.breaks = [(n * length, float(starts[n])) for n in range(count)]
    opened.marks = [
        Mark(float(starts[n]), length / sfreq, names.get(event, str(event)))
        for n, event in enumerate(epochs.events[:, 2])
    ]
    opened.said.append(f"{file}: {count} epochs of {length / sfreq:g} s, each a part of its own.")
    return opened


def _of_arrays(arrays: Mapping[str, Any], file: str) -> Opened:
    import mne

    signal = next((np.asarray(arrays[n]) for n in ("signal", "data", "eeg", "X", "raw") if n in arrays), None)
    missing = [name for name in ("sfreq", "ch_names") if name not in arrays]
    if signal is None or missing:
        raise RecordingError(
            f"{file} has the arrays {', '.join(arrays) or 'none'}; a recording needs signal (channels, time), sfreq in "
            "Hz and ch_names, and may have unit."
        )
    names = [str(name) for name in np.asarray(arrays["ch_names"]).ravel()]
    if signal.ndim != 2 or len(names) != len(signal) or len(set(names)) != len(names):
        raise RecordingError(
            f"{file}: signal has shape {signal.shape} and there are {len(names)} ch_names; it must be (channels, time) "
            "with names that differ."
        )
    unit = str(arrays["unit"]) if "unit" in arrays else ""
    raw = mne.io.RawArray(signal.astype(float), mne.create_info(names, float(arrays["sfreq"]), "eeg"), verbose="error")
    return Opened(raw, file, ".npz", dict.fromkeys(names, unit), dict.fromkeys(names, "file"))


# -- marks ------------------------------------------------------------------------------------------------------------


def _marks_of(raw: Any) -> list[Mark]:
    begins, notes = raw.first_time, raw.annotations  # annotations count from the first sample before any crop
    return [
        Mark(float(onset - begins), float(duration), str(text))
        for onset, duration, text in zip(notes.onset, notes.duration, notes.description, strict=True)
    ]


def _marks_in_file(path: Path, said: list[str]) -> list[Mark]:
    """Return the marks that the file itself holds."""
    import mne

    place = path.with_suffix(".vmrk") if path.suffix.lower() == ".vhdr" else path
    try:
        with heard(said):
            notes = mne.read_annotations(place)
    except (OSError, ValueError, RuntimeError, TypeError, AttributeError, KeyError):
        return []  # formats that keep no marks in the file
    return [
        Mark(float(o), float(d), str(t)) for o, d, t in zip(notes.onset, notes.duration, notes.description, strict=True)
    ]


def _finished(opened: Opened, marks: list[Mark]) -> Opened:
    marks = [*marks, *_marks_of_stim(opened)]
    opened.marks = sorted(set(marks), key=lambda mark: (mark.onset_s, mark.text, mark.duration_s))
    folder = str(Path(getattr(opened.raw, "filenames", [None])[0] or ".").parent)
    opened.said = list(dict.fromkeys(_shortened(text, folder) for text in opened.said))
    return opened


def _marks_of_stim(opened: Opened) -> list[Mark]:
    """Return the events of the stimulus channels, named by their codes."""
    import mne

    raw = opened.raw
    stim = [name for name, kind in zip(raw.ch_names, raw.get_channel_types(), strict=True) if kind == "stim"]
    if not stim or opened.breaks:
        return []
    mask = {"mask": 0xFFFF, "mask_type": "and"} if opened.format == ".bdf" else {}  # the upper bits are the amplifier's
    try:
        with heard(opened.said):
            found = mne.find_events(raw, stim[:1], shortest_event=1, verbose="warning", **mask)
    except (ValueError, RuntimeError) as error:
        opened.said.append(f"{stim[0]} has no events that can be told apart ({_short(error)}).")
        return []
    if len(found) > 20 + _MOST_PER_S * raw.times[-1]:
        opened.said.append(f"{stim[0]} changes {len(found)} times, too often for events; none was taken from it.")
        return []
    sfreq = raw.info["sfreq"]
    return [Mark(float((sample - raw.first_samp) / sfreq), 0.0, str(code)) for sample, _, code in found]


def _shortened(text: str, folder: str) -> str:
    """Return a message without the folder of the recording, at most 240 characters long."""
    text = text.replace(folder + "/", "").replace(folder, "its folder")
    return text if len(text) <= 240 else text[:237] + "..."


def _part_missing(path: Path, error: BaseException) -> str:
    return (
        f"a part of the recording is missing ({_short(error)}). Put it beside {path.name}, or leave the recording out"
    )


def _name_of(raw: Any) -> str:
    names = [Path(name).name for name in getattr(raw, "filenames", ()) if name]
    return names[0] if names else type(raw).__name__


def _short(error: BaseException) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 300 else text[:297] + "..."
