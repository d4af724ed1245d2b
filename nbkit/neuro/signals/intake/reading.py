"""Read one recording: checked, cleaned and described.

This is the only way into the package for a signal, whatever its format: a file, a BIDS recording, an `mne.io.Raw`, an
`mne.Epochs`, or arrays.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

import numpy as np

from nbkit.neuro.signals.intake.amplitude import robust_amplitude
from nbkit.neuro.signals.intake.ch_names import TWINS, electrode, parts
from nbkit.neuro.signals.intake.cleaning import Cleaning, clean
from nbkit.neuro.signals.intake.facts import RecordingError, RecordingFacts
from nbkit.neuro.signals.intake.heard import heard
from nbkit.neuro.signals.intake.kinds import sort_channels
from nbkit.neuro.signals.intake.opened import Opened, is_break, is_quality
from nbkit.neuro.signals.intake.opening import open_recording
from nbkit.neuro.signals.intake.recording import Recording
from nbkit.neuro.signals.intake.scaling import check_amplitudes, check_units, factors
from nbkit.neuro.signals.intake.stretches import find_stretches


def read_recording(
    source: Any,
    cleaning: Cleaning | None = None,
    *,
    unit: str | None = None,
    bids: bool = False,
    accept_cut: bool = False,
    data: str = "real",
) -> Recording:
    """Read a recording in uV: EEG channels only, in a fixed order, cleaned, with its facts.

    Parameters
    ----------
    source : path, mne.io.BaseRaw, mne.BaseEpochs or mapping of arrays
        See `open_recording`.
    cleaning : Cleaning, optional
    unit : str, optional
        Unit of the EEG channels, if the file does not say it or says it wrongly: ``uV``, ``mV``, ``nV`` or ``V``.
    bids : bool
        Read the tables of a BIDS data set that belong to the file.
    accept_cut : bool
        Use what is there of a file that is shorter than its header says.
    data : str
        "real", or the description of synthetic data.

    Returns
    -------
    recording : Recording
        Its ``facts`` say what was left out, and why.

    Raises
    ------
    RecordingError
        If the file cannot be read, a unit is unknown, the amplitudes are not those of EEG, or no EEG channel or no
        good stretch is left.
    FileNotFoundError
        If there is no such file.
    """
    opened = open_recording(source, bids=bids, accept_cut=accept_cut)
    try:
        return _read(opened, cleaning or Cleaning(), unit, data)
    except RecordingError:
        raise
    except Exception as error:  # of whatever library meets a file that nobody foresaw
        raise RecordingError(
            f"{opened.file} cannot be used: {type(error).__name__}: {error} Nothing of it was used. Open it with "
            "mne.io.read_raw, repair it, or leave it out."
        ) from error


def _read(opened: Opened, cleaning: Cleaning, unit: str | None, data: str) -> Recording:
    with heard(opened.said):
        raw, sfreq = opened.raw.copy().load_data(verbose="warning"), float(opened.raw.info["sfreq"])
    if raw.n_times < 2:
        raise RecordingError(f"{opened.file} holds {raw.n_times} samples; there is nothing to read.")
    stretches = find_stretches(raw.n_times, sfreq, opened.marks, opened.breaks)
    if not stretches:
        raise RecordingError(f"{opened.file}: all of its {raw.n_times / sfreq:.1f} s are marked as bad.")
    known = factors(opened, unit)
    numbers = dict(zip(raw.ch_names, robust_amplitude(raw.get_data(), sfreq, stretches).tolist(), strict=True))
    in_uv = {name: numbers[name] * factor * 1e6 for name, factor in known.items()}
    eeg, left_out = sort_channels(opened, in_uv)
    if not eeg:
        reasons = "; ".join(f"{name}: {why}" for name, why in left_out.items())
        raise RecordingError(
            f"{opened.file} holds no EEG channel ({reasons}). Declare them in a channels.tsv (BIDS) or with "
            "raw.set_channel_types, or leave the file out."
        )
    held = {name: numbers[name] / opened.read_as.get(name, 1.0) for name in numbers}
    words = check_units(opened, eeg, known, held) if unit is None else f"{unit} (UNIT)"
    bads = check_amplitudes(opened.file, {name: in_uv[name] for name in eeg}, words)
    bads |= {name: "marked as bad" for name in raw.info["bads"] if name in eeg}
    if len(bads) == len(eeg):
        raise RecordingError(f"{opened.file}: all of its {len(eeg)} EEG channels are bad. Leave it out.")
    ours = {name: _spelled(name) for name in eeg}
    eeg.sort(key=lambda name: _place(ours[name]))
    raw.set_annotations(None)
    kinds = {kind: [name for name, why in left_out.items() if kind in why.upper().split()] for kind in ("EOG", "ECG")}
    beside = {kind: raw.get_data([raw.ch_names.index(name) for name in some]) for kind, some in kinds.items() if some}
    raw.pick([raw.ch_names.index(name) for name in eeg])  # by number: MNE does not find a name with odd characters
    lost = [name for name, row in zip(raw.ch_names, raw.get_data(), strict=True) if not np.isfinite(row).all()]
    if lost:
        raise RecordingError(
            f"{opened.file}: {', '.join(lost[:6])} have samples that are no numbers. Mark them as bad."
        )
    raw.set_channel_types(dict.fromkeys(eeg, "eeg"), on_unit_change="ignore", verbose="error")
    raw._data *= np.array([known[name] for name in eeg])[:, None]
    raw.info["bads"] = [name for name in eeg if name in bads]
    raw.rename_channels(ours, verbose="error")
    signal, cleaned, repaired, said = clean(raw, stretches, cleaning, beside)
    notes = [mark for mark in opened.marks if not is_quality(mark.text) and not is_break(mark.text)]
    facts = RecordingFacts(
        file=opened.file, format=opened.format, sfreq=sfreq,
        seconds=float(sum(s.stop - s.start for s in stretches) / sfreq), unit=words, ch_names=tuple(raw.ch_names),
        left_out=left_out, bads={ours[name]: why for name, why in bads.items()}, repaired=repaired,
        amplitude_uv={ours[name]: in_uv[name] for name in eeg},
        stretches_s=tuple((float(s.start_s), float(s.start_s + (s.stop - s.start) / sfreq)) for s in stretches),
        cleaning=cleaning.as_dict(), said=tuple(dict.fromkeys([*opened.said, *said])),
    )  # fmt: skip
    return Recording(
        signal=signal, sfreq=float(cleaning.sfreq or sfreq), ch_names=tuple(raw.ch_names),
        onsets_s=tuple(mark.onset_s for mark in notes), durations_s=tuple(mark.duration_s for mark in notes),
        labels=tuple(mark.text for mark in notes), columns=tuple(dict(mark.columns) for mark in notes), data=data,
        stretches=cleaned, facts=facts,
    )  # fmt: skip


@lru_cache
def _montage_order() -> dict[str, tuple[int, str]]:
    """Return the place and the spelling of each electrode of the 10-05 system, by its plain name."""
    import mne

    builtin = mne.channels.get_builtin_montages()
    name = next(m for m in ("standard_1005", "colin27_1005") if m in builtin)
    names = mne.channels.make_standard_montage(name).ch_names
    return {electrode(ch): (place, ch) for place, ch in enumerate(names)}


def _spelled(name: str) -> str:
    """Return a channel's name as the 10-05 system spells it, T3 as T7; names of other systems in upper case."""
    known = _montage_order()

    def one(part: str) -> str:
        newer = TWINS[part] if part in ("T3", "T4", "T5", "T6") else part
        return known[newer][1] if newer in known else newer

    return "-".join(one(part) for part in parts(name))


def _place(name: str) -> tuple[Any, ...]:
    """Return a key that sorts channels from front to back as the 10-05 system does, others by name and number."""
    known = _montage_order().get(electrode(name))
    pieces = [(0, int(piece), "") if piece.isdecimal() else (1, 0, piece) for piece in re.findall(r"\d+|\D+", name)]
    return (0, known[0], []) if known else (1, 0, pieces)
